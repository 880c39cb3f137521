"""OGBench's giant maze on learned maps: do they help where ways are long?

Question: in the table ogbench_mazes three levels reach nearly all goals of two mazes, and fewer than QRL (arXiv
2304.01203, a learned distance with a policy) in the giant one. Do they reach more where levels learn such a distance
themselves, as a map on which the planner measures?
Ours: the model, data and searches of ogbench_mazes, with maps in levels 2 and 3 that know ways as long as the maze's
longest; `near` is a tick there. One model a seed.
Number to expect: results/giant_map/.
Command: python launch.py table giant_map --scale=cpu --seeds=3
"""

from configs.tables import ogbench_mazes

GIANT = {"record.maze": "giant", "record.image_size": ogbench_mazes.MAZES["giant"]}
MAPS = {
    "middle.distance": 1.0,
    "middle.farthest": 48.0,
    "top.distance": 1.0,
    "top.farthest": 12.0,
    "search.middle.near": 1.0,
    "search.top.near": 1.0,
}
LONGER = {
    **{f"{level}.hidden": 512 for level in ("bottom", "middle", "top")},
    "train.batch_size": 64,
    "train.num_steps": 6_000,
    "train.warmup_steps": 300,
    "train.eval_every": 0,
    "train.checkpoint_every": 6_000,
    "data.num_threads": 3,
    "plan.num_tasks": 50,
    "plan.batch": 25,
    "plan.num_shown": 0,
}
LEVELS = {
    "one level": ogbench_mazes.FLAT,
    "one level and the cost of level 3": {**ogbench_mazes.FLAT, "plan.cost_level": 3},
    "two levels": ogbench_mazes.TWO,
    "three levels": {},
}


def get_table() -> dict:
    """The table."""
    table = ogbench_mazes.get_table()
    published = table["rows"]["giant: three levels"]
    table["scales"]["gpu"] = {
        "about": "frames with 4 pixels a cell, 1,000 episodes of 201 frames, three levels of 64 numbers, predictors "
        "512 wide, 6,000 steps of 64 clips of 64 frames; 50 episodes a seed",
        "config": "configs/point_maze.py",
        "overrides": LONGER,
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
