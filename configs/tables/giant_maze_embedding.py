"""OGBench's giant maze with temporal-distance embeddings: do they help where paths are long?

Ours: the data and searches of ogbench_mazes, its model with wider predictors and a longer training, and
temporal-distance embeddings (the QRL objective, arXiv 2304.01203) in levels 2 and 3, whose `max_distance` is the length
of the maze's longest path; `near` is one step of a level. One model a seed. What it gains over ogbench_mazes may also
be due to the longer training.
Number to expect: results/giant_maze_embedding/.
Command: python launch.py table giant_maze_embedding --scale=cpu --seeds=3
"""

from configs.tables import ogbench_mazes

GIANT = {"record.maze": "giant", "record.image_size": ogbench_mazes.MAZES["giant"]}
EMBEDDING = {
    "model.level.middle.distance": 1.0,
    "model.level.middle.max_distance": 48.0,
    "model.level.top.distance": 1.0,
    "model.level.top.max_distance": 12.0,
    "eval.search.middle.near": 1.0,
    "eval.search.top.near": 1.0,
}
LONGER = {
    **{f"model.level.{level}.hidden": 256 for level in ("bottom", "middle", "top")},
    "train.num_steps": 6_000,
    "train.optimizer.warmup_steps": 300,
    "runtime.checkpoint_every": 3_000,
}
LEVELS = {
    "one level": ogbench_mazes.FLAT,
    "one level and the cost of level 3": {**ogbench_mazes.FLAT, "eval.plan.cost_level": 3},
    "two levels": ogbench_mazes.TWO,
    "three levels": {},
}


def get_table() -> dict:
    """The table."""
    table = ogbench_mazes.get_table()
    published = table["rows"]["giant: three levels"]
    cpu = table["scales"]["cpu"]
    sizes = "frames with 4 pixels a cell, 1,000 episodes of 201 frames, three levels of 64 numbers, predictors 256 wide"
    for name, batch, threads in (("cpu", 16, 1), ("gpu", 64, 3)):
        table["scales"][name] = {
            "about": f"{sizes}, 6,000 steps of {batch} clips of 64 frames; 50 episodes a seed",
            "config": cpu["config"],
            "overrides": {**cpu["overrides"], **LONGER, "train.batch_size": batch, "runtime.data.num_threads": threads},
        }
    for name in ("smoke", "cpu", "gpu"):
        scale = table["scales"][name]
        scale["overrides"] = {**scale["overrides"], **GIANT, **EMBEDDING}
    done = lambda rows, row: rows[row]["success"]
    upper = "three levels"
    return table | {
        "title": "OGBench's giant maze with temporal-distance embeddings",
        "question": "In the table ogbench_mazes three levels have a lower success rate in the giant maze than QRL, a "
        "policy with a learned distance. Is it higher where the levels learn such a distance themselves?",
        "about": "The benchmark's five tasks in its largest maze, solved by planning with costs that are "
        "distances of a temporal-distance embedding, beside offline RL.",
        "rows": {name: {**published, "overrides": overrides, "group": ""} for name, overrides in LEVELS.items()},
        "conclusions": [
            {
                "text": "planning with three levels has a higher success rate than HIQL",
                "kind": "ours",
                "holds": lambda rows: done(rows, upper) > ogbench_mazes.HIQL["giant"],
            },
            {
                "text": "planning with three levels has a higher success rate than QRL",
                "kind": "ours",
                "holds": lambda rows: done(rows, upper) > ogbench_mazes.QRL["giant"],
            },
            {
                "text": "more levels have a higher success rate",
                "kind": "ours",
                "holds": lambda rows: done(rows, "one level") < done(rows, "two levels") <= done(rows, upper),
            },
            {
                "text": "plans of three levels help beyond the cost of the third",
                "kind": "ours",
                "source": "H-JEPA (arXiv 2610.06805) concludes it in FourRooms, cost ladder",
                "holds": lambda rows: done(rows, upper) > done(rows, "one level and the cost of level 3"),
            },
        ],
        "headline": lambda rows: (
            "/".join(f"{done(rows, row):.0f}" for row in ("one level", "two levels", upper))
            + f" % with 1/2/3 levels (QRL {ogbench_mazes.QRL['giant']:.0f} %)"
        ),
    }
