"""OGBench's giant maze on learned maps: do they help where ways are long?

Question: in the table ogbench_mazes three levels reach nearly all goals of two mazes, and fewer than QRL (arXiv
2304.01203, a learned distance with a policy) in the giant one. Do they reach more where levels learn such a distance
themselves, as a map on which the planner measures?
Ours: the data and searches of ogbench_mazes, its model with wider predictors and a longer training, and maps in levels
2 and 3 that know ways as long as the maze's longest; `near` is a tick there. One model a seed. What it gains over that
table need not be owed to maps.
Number to expect: results/giant_map/.
Command: python launch.py table giant_map --scale=cpu --seeds=3
"""

from configs.tables import ogbench_mazes

GIANT = {"record.maze": "giant", "record.image_size": ogbench_mazes.MAZES["giant"]}
MAPS = {
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
        scale["overrides"] = {**scale["overrides"], **GIANT, **MAPS}
    done = lambda rows, row: rows[row]["success"]
    upper = "three levels"
    return table | {
        "title": "OGBench's giant maze on learned maps",
        "about": "Goals of the benchmark's five tasks of its largest maze, reached by planning on maps of learned "
        "distances, beside offline RL.",
        "rows": {name: {**published, "overrides": overrides} for name, overrides in LEVELS.items()},
        "conclusions": [
            {
                "text": "planning with three levels reaches more goals than HIQL",
                "source": "our aim",
                "holds": lambda rows: done(rows, upper) > ogbench_mazes.HIQL["giant"],
            },
            {
                "text": "planning with three levels reaches more goals than QRL",
                "source": "our aim",
                "holds": lambda rows: done(rows, upper) > ogbench_mazes.QRL["giant"],
            },
            {
                "text": "more levels reach more goals",
                "source": "ours",
                "holds": lambda rows: done(rows, "one level") < done(rows, "two levels") <= done(rows, upper),
            },
            {
                "text": "plans of three levels help beyond the cost of the third",
                "source": "H-JEPA, cost ladder",
                "holds": lambda rows: done(rows, upper) > done(rows, "one level and the cost of level 3"),
            },
        ],
    }
