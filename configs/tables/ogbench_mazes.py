"""OGBench's point mazes: how far does planning in a world model get, beside policies learned by offline RL?

OGBench (Park et al. 2024, arXiv 2410.20092), "navigate" data of three mazes and five tasks each. The published methods
learn policies and values from states; ours learns no policy and no value, sees frames instead of coordinates, and acts
every fifth step.
Number to expect: results/ogbench_mazes/.
Command: python launch.py table ogbench_mazes --scale=cpu --seeds=3
"""

from configs.tables._columns import COMPUTE, FINAL_STEP, STRAIGHT_LINE, SUCCESS

MAZES = {"medium": (32, 32), "large": (40, 48), "giant": (48, 64)}  # 4 pixels a cell
HIQL = {"medium": 79.0, "large": 58.0, "giant": 46.0}
QRL = {"medium": 82.0, "large": 86.0, "giant": 68.0}
FLAT = {"eval.plan.num_levels": 1, "eval.search.bottom.horizon": 120, "eval.search.bottom.replan": 8}
TWO = {"eval.plan.num_levels": 2, "eval.search.middle.horizon": 32, "eval.search.middle.cost": "sum"}
SOURCE = "OGBench, table 2, pointmaze-navigate"


def get_table() -> dict:
    """The table."""
    rows = {}
    for levels, overrides in {"one level": FLAT, "two levels": TWO, "three levels": {}}.items():
        for maze, size in MAZES.items():
            rows[f"{maze}: {levels}"] = {
                "overrides": {"record.maze": maze, "record.image_size": size, **overrides},
                "published": {"hiql": HIQL[maze], "qrl": QRL[maze]},
                "source": SOURCE,
                "unverified": True,
                "group": maze,
            }
    beats = lambda rows, column: all(rows[f"{m}: three levels"]["success"] > column[m] for m in MAZES)
    return {
        "title": "OGBench's point mazes",
        "paper": "OGBench, Park et al. 2024, arXiv 2410.20092",
        "number": "Table 2, pointmaze-navigate",
        "question": "How far does planning in a world model get, beside policies learned by offline RL?",
        "about": "The benchmark's five tasks of a maze, solved by planning alone, beside offline RL.",
        "setting": "states instead of frames, offline goal-conditioned RL, within 1,000 steps",
        "command": "plan",
        "published_columns": {
            "hiql": {"title": "HIQL", "unit": "%", "better": "higher"},
            "qrl": {"title": "QRL", "unit": "%", "better": "higher"},
        },
        "columns": {
            "success": {
                **SUCCESS,
                "about": "share of the episodes, as many of each task, that reached the goal within 200 of our steps, "
                "each five of the benchmark's; the goal is checked after each of ours",
                "published": ("hiql", "qrl"),
            },
            "terminal": FINAL_STEP,
            "straight": STRAIGHT_LINE,
            "flops": COMPUTE,
        },
        "rows": rows,
        "conclusions": [
            {
                "text": "planning with three levels has a higher success rate than HIQL in every maze",
                "kind": "ours",
                "holds": lambda rows: beats(rows, HIQL),
            },
            {
                "text": "planning with three levels has a higher success rate than QRL in every maze",
                "kind": "ours",
                "holds": lambda rows: beats(rows, QRL),
            },
            {
                "text": "in the giant maze, more levels have a higher success rate",
                "kind": "ours",
                "holds": lambda rows: (
                    rows["giant: one level"]["success"]
                    < rows["giant: two levels"]["success"]
                    <= rows["giant: three levels"]["success"]
                ),
            },
        ],
        "headline": lambda rows: (
            "/".join(f"{rows[f'{maze}: three levels']['success']:.0f}" for maze in MAZES)
            + " % in medium/large/giant (QRL 82/86/68 %)"
        ),
        "scales": {
            "smoke": {
                "about": "two training steps of a tiny model: only shows that the table runs",
                "config": "configs/point_maze.py:debug",
                "overrides": {"eval.every": 0},
            },
            "cpu": {
                "about": "frames with 4 pixels a cell, 1,000 episodes of 201 frames, three levels of 64 numbers, 3,000 "
                "steps of 16 clips of 64 frames; 50 episodes a seed",
                "config": "configs/point_maze.py",
                "overrides": {
                    "eval.every": 0,
                    "runtime.checkpoint_every": 3_000,
                    "eval.plan.num_tasks": 50,
                    "eval.plan.batch": 25,
                    "eval.plan.num_shown": 0,
                },
            },
            "gpu": {
                "about": "frames with 4 pixels a cell, 1,000 episodes of 201 frames, a ViT of 192 x 12, three levels "
                "of 192 numbers, 50,000 steps of 64 clips; 250 episodes a seed",
                "config": "configs/point_maze.py",
                "overrides": {
                    "model.encoder.width": 192,
                    "model.encoder.heads": 3,
                    "model.encoder.depth": 12,
                    "model.encoder.mlp_ratio": 4.0,
                    **{f"model.level.{level}.width": 192 for level in ("bottom", "middle", "top")},
                    **{f"model.level.{level}.hidden": 384 for level in ("bottom", "middle", "top")},
                    "model.dtype": "bfloat16",
                    "train.batch_size": 64,
                    "train.num_steps": 50_000,
                    "train.optimizer.warmup_steps": 2_500,
                    "eval.every": 0,
                    "eval.plan.num_tasks": 250,
                    "eval.plan.batch": 125,
                    "eval.plan.num_shown": 0,
                },
            },
            "paper": {"about": "OGBench: coordinates as observations, a million steps of offline RL"},
        },
    }
