"""Goals behind two doors: how many levels does a planner need, and is it their costs or their plans that help?

Ours: one model of three levels a seed. Level 1 is trained first, those above on it when it is done: trained together,
they may settle on latents that still change. The rows differ in which levels plan and whose latents the cost is
measured in.
One level is judged by where its plan ends, or by the sum of distances along it, as the highest of more levels is.
Published levels step every 5, 10 and 20 actions and are trained on a million frames of 224x224; ours every 1, 4 and 16.
Number to expect: results/four_rooms/.
Command: python launch.py table four_rooms --scale=cpu --seeds=3
"""

from configs.tables._columns import COMPUTE, FINAL_STEP, SPEARMAN, STRAIGHT_LINE, SUCCESS

# Searches that reach 80 steps ahead, past every goal; the third level reaches 128.
ONE = {"eval.plan.num_levels": 1, "eval.search.bottom.horizon": 80, "eval.search.bottom.replan": 4}
TWO = {"eval.plan.num_levels": 2, "eval.search.middle.horizon": 20}
# Level 1 alone, and then those above on it.
FIRST = {"model.levels": ("bottom",)}
ABOVE = {"model.encoder.frozen": True, "model.level.bottom.weight": 0.0}
LARGE = {
    "record.image_size": (112, 112),
    "record.num_episodes": 4_000,
    "record.num_frames": 401,
    "model.encoder.patch": 14,
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
}
DEPTH = "H-JEPA, FourRooms by depth"
LADDER = "H-JEPA, cost ladder of three levels, which has 43.3 for one level"


def get_table() -> dict:
    """The table."""
    done = lambda rows, row: rows[row]["success"]
    return {
        "title": "Four rooms by the number of levels",
        "paper": "H-JEPA, arXiv 2610.06805",
        "number": "FourRooms by depth, and the cost ladder",
        "question": "In FourRooms with a distractor, does success rise from one level to three at no more planning "
        "compute than the flat planner's, and how much of that comes from the upper levels' costs alone (the paper's "
        "cost ladder)?",
        "about": "Tasks with goals behind two doors, solved by planning with one to three levels.",
        "setting": "50 tasks across two doors, at most 75 steps away, within 210 steps; three models. Success of HWM's "
        "form: 75.3 with two levels, 99.3 with three",
        "command": "plan",
        "published_columns": {"success": {"title": "H-JEPA", "unit": "%", "better": "higher"}},
        "columns": {
            "success": {
                **SUCCESS,
                "about": "share of the tasks whose goal was reached within 210 steps",
                "published": ("success",),
            },
            "terminal": FINAL_STEP,
            "straight": STRAIGHT_LINE,
            "spearman": SPEARMAN,
            "flops": COMPUTE,
        },
        "rows": {
            name: {"init_from": "level 1", **row}
            for name, row in {
                "one level": {"overrides": ONE, "published": {"success": 40.7}, "source": DEPTH},
                "one level by the sum of distances": {"overrides": {**ONE, "eval.search.bottom.cost": "sum"}},
                "one level and the cost of level 2": {
                    "overrides": {**ONE, "eval.plan.cost_level": 2},
                    "published": {"success": 65.3},
                    "source": LADDER,
                },
                "one level and the cost of level 3": {
                    "overrides": {**ONE, "eval.plan.cost_level": 3},
                    "published": {"success": 71.3},
                    "source": LADDER,
                },
                "two levels": {"overrides": TWO, "published": {"success": 81.3}, "source": DEPTH},
                "two levels and the cost of level 3": {"overrides": {**TWO, "eval.plan.cost_level": 3}},
                "three levels": {"overrides": {}, "published": {"success": 96.0}, "source": DEPTH},
            }.items()
        },
        "conclusions": [
            {
                "text": "two levels have a higher success rate than one",
                "kind": "paper",
                "source": "H-JEPA, by depth",
                "holds": lambda rows: done(rows, "two levels") > done(rows, "one level"),
            },
            {
                "text": "two levels have a higher success rate than one whose planning cost is the sum of distances",
                "kind": "ours",
                "source": "plans of the upper levels have that cost",
                "holds": lambda rows: done(rows, "two levels") > done(rows, "one level by the sum of distances"),
            },
            {
                "text": "three levels have a higher success rate than two",
                "kind": "paper",
                "source": "H-JEPA, by depth",
                "holds": lambda rows: done(rows, "three levels") > done(rows, "two levels"),
            },
            {
                "text": "three levels take no more compute than one",
                "kind": "paper",
                "source": "H-JEPA, by depth",
                "holds": lambda rows: rows["three levels"]["flops"] <= rows["one level"]["flops"],
            },
            {
                "text": "one level does better with the cost of a level above, the higher the better",
                "kind": "paper",
                "source": "H-JEPA, cost ladder",
                "holds": lambda rows: (
                    done(rows, "one level")
                    < done(rows, "one level and the cost of level 2")
                    < done(rows, "one level and the cost of level 3")
                ),
            },
            {
                "text": "plans of three levels help beyond the cost of the third",
                "kind": "paper",
                "source": "H-JEPA, cost ladder",
                "holds": lambda rows: done(rows, "three levels") > done(rows, "one level and the cost of level 3"),
            },
        ],
        "headline": lambda rows: (
            "/".join(f"{done(rows, row):.0f}" for row in ("one level", "two levels", "three levels"))
            + " % with 1/2/3 levels (H-JEPA 41/81/96 %)"
        ),
        "scales": {
            "smoke": {
                "about": "two training steps of a tiny model: only shows that the table runs",
                "config": "configs/four_rooms.py:debug",
                "overrides": {**ABOVE, "eval.every": 0},
                "pretraining": {
                    "level 1": {"config": "configs/four_rooms.py:debug", "overrides": {**FIRST, "eval.every": 0}}
                },
            },
            "cpu": {
                "about": "frames of 32x32, 1,000 episodes of 128 frames, three levels of 64 numbers, 3,000 steps of 16 "
                "clips of 64 frames for level 1 and as many for those above; 50 tasks a seed",
                "config": "configs/four_rooms.py",
                "overrides": {
                    **ABOVE,
                    "eval.every": 0,
                    "runtime.checkpoint_every": 3_000,
                    "eval.plan.num_tasks": 50,
                    "eval.plan.num_shown": 0,
                },
                "pretraining": {
                    "level 1": {
                        "config": "configs/four_rooms.py",
                        "overrides": {**FIRST, "eval.every": 0, "runtime.checkpoint_every": 3_000},
                    }
                },
            },
            "gpu": {
                "about": "frames of 112x112, 4,000 episodes of 401 frames, a ViT of 192 x 12, three levels of 192 "
                "numbers, 50,000 steps of 64 clips for level 1 and as many for those above; 500 tasks a seed",
                "config": "configs/four_rooms.py",
                "overrides": {
                    **LARGE,
                    **ABOVE,
                    "eval.plan.num_tasks": 500,
                    "eval.plan.batch": 100,
                    "eval.plan.num_shown": 0,
                },
                "pretraining": {"level 1": {"config": "configs/four_rooms.py", "overrides": {**LARGE, **FIRST}}},
            },
            "paper": {"about": "H-JEPA: frames of 224x224, a million of them, ViT-tiny, levels of history 3"},
        },
    }
