"""Paths through a maze by their length: where does a flat planner fail, and what do levels above add?

Ours: OGBench's large maze, which planners have seen in training; one model of three levels a seed, and planners that
differ in levels, cost and samples. The published mazes are others, and new to the planner: the shape is to be compared,
not the digits.
Number to expect: results/maze_distance/.
Command: python launch.py table maze_distance --scale=cpu --seeds=3
"""

from configs.tables._columns import COMPUTE, FINAL_STEP, SHARE, SPEARMAN, STRAIGHT_LINE

# A search of level 1 alone that reaches past the farthest goal, 16 cells of 4 steps away.
FLAT = {"eval.plan.num_levels": 1, "eval.search.bottom.horizon": 80, "eval.search.bottom.replan": 4}
TWO = {"eval.plan.num_levels": 2, "eval.search.middle.horizon": 24, "eval.search.middle.cost": "sum"}
# With so many samples, three levels take a third of one level's compute.
THREE = {"eval.search.bottom.samples": 48}
BINS = {"near": "cells_5_8", "middle": "cells_9_12", "far": "cells_13_16"}
SOURCE = "HWM, diverse mazes"


def get_table() -> dict:
    """The table."""
    cells = {name: bin_.removeprefix("cells_").replace("_", " to ") for name, bin_ in BINS.items()}
    flat, upper = "one level", "three levels"
    gain = lambda rows, column, row=upper: rows[row][column] - rows[flat][column]
    grows = lambda rows, row: (
        gain(rows, "near", row) <= gain(rows, "middle", row) <= gain(rows, "far", row)
        and gain(rows, "far", row) > gain(rows, "near", row)
    )
    third = lambda rows: 3 * rows[upper]["flops"] <= rows[flat]["flops"]
    return {
        "title": "Success rate in a maze by the distance of the goal",
        "paper": "HWM, arXiv 2604.03208",
        "number": "diverse mazes by distance",
        "question": "The farther the goal, the more does a second level help, and at a third of the planning compute?",
        "about": "Goals at three ranges of shortest-path length, and planning with one to three levels.",
        "setting": "mazes that the planner has not seen, 40 of them, within 500 steps that are repeated four times",
        "command": "plan",
        "published_columns": {
            name: {"title": f"HWM, {text} cells", "unit": "%", "better": "higher"} for name, text in cells.items()
        },
        "columns": {
            **{
                name: {
                    "title": f"success rate, {cells[name]} cells",
                    "about": "share of the tasks with goals that far away, a third of all, solved within 125 steps",
                    "path": ("bins", bin_, "success"),
                    "episodes": ("bins", bin_, "episodes"),
                    "published": (name,),
                    **SHARE,
                }
                for name, bin_ in BINS.items()
            },
            "terminal": {**FINAL_STEP, "about": "share of all tasks that are at the goal after the last step"},
            "straight": {**STRAIGHT_LINE, "baseline_for": "terminal"},
            "spearman": SPEARMAN,
            "flops": COMPUTE,
        },
        "rows": {
            flat: {
                "overrides": FLAT,
                "published": {"near": 100.0, "middle": 63.0, "far": 44.0},
                "source": f"{SOURCE}: PLDM, flat",
            },
            "one level by the sum of distances": {"overrides": {**FLAT, "eval.search.bottom.cost": "sum"}},
            "one level with twice the samples": {
                "overrides": {**FLAT, "eval.search.bottom.samples": 128, "eval.search.bottom.elites": 16}
            },
            "one level and the cost of level 3": {"overrides": {**FLAT, "eval.plan.cost_level": 3}},
            "two levels": {
                "overrides": TWO,
                "published": {"near": 100.0, "middle": 95.0, "far": 83.0},
                "source": f"{SOURCE}: two levels",
            },
            upper: {"overrides": THREE},
        },
        "conclusions": [
            {
                "text": "the farther the goal, the more two levels add to one",
                "kind": "paper",
                "source": "HWM, diverse mazes by distance",
                "holds": lambda rows: grows(rows, "two levels"),
            },
            {
                "text": "two levels have a higher success rate than one at the farthest goals",
                "kind": "paper",
                "source": "HWM, diverse mazes by distance",
                "holds": lambda rows: rows["two levels"]["far"] > rows[flat]["far"],
            },
            {
                "text": "the farther the goal, the more three levels add to one",
                "kind": "ours",
                "source": "HWM's conclusion on two levels",
                "holds": lambda rows: grows(rows, upper),
            },
            {
                "text": "three levels add at least 35 points to the farthest goals of one with three times the compute",
                "kind": "ours",
                "source": "HWM's two levels add 39 at a third to a quarter of the compute",
                "holds": lambda rows: gain(rows, "far") >= 35 and third(rows),
            },
        ],
        "headline": lambda rows: (
            "farthest goals: "
            + "/".join(f"{rows[row]['far']:.0f}" for row in (flat, "two levels", upper))
            + " % with 1/2/3 levels (HWM 44/83 % with 1/2)"
        ),
        "scales": {
            "smoke": {
                "about": "two training steps of a tiny model: only shows that the table runs",
                "config": "configs/point_maze.py:debug",
                "overrides": {
                    "record.maze": "large",
                    "record.image_size": (40, 48),
                    "eval.every": 0,
                    "eval.plan.tasks": "cells_5_16",
                },
            },
            "cpu": {
                "about": "OGBench's large maze in frames of 40x48, 1,000 episodes of 201 frames, three levels of 64 "
                "numbers, 3,000 steps of 16 clips of 64 frames; 60 tasks a seed",
                "config": "configs/point_maze.py",
                "overrides": {
                    "record.maze": "large",
                    "record.image_size": (40, 48),
                    "eval.every": 0,
                    "runtime.checkpoint_every": 3_000,
                    "eval.plan.tasks": "cells_5_16",
                    "eval.plan.num_tasks": 60,
                    "eval.plan.num_steps": 125,
                    "eval.plan.batch": 30,
                    "eval.plan.num_shown": 0,
                },
            },
            "gpu": {
                "about": "OGBench's large maze in frames of 72x96, 1,000 episodes of 201 frames, a ViT of 192 x 12, "
                "three levels of 192 numbers, 50,000 steps of 64 clips; 600 tasks a seed",
                "config": "configs/point_maze.py",
                "overrides": {
                    "record.maze": "large",
                    "record.image_size": (72, 96),
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
                    "eval.plan.tasks": "cells_5_16",
                    "eval.plan.num_tasks": 600,
                    "eval.plan.num_steps": 125,
                    "eval.plan.batch": 100,
                    "eval.plan.num_shown": 0,
                },
            },
            "paper": {"about": "HWM: 25 mazes for training, 40 others for planning, in d4rl's simulator"},
        },
    }
