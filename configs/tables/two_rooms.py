"""From one room to the other: slower levels above, and the same model flat.

Ours: one model a seed. Level 1 alone plans by iCEM for the last state, as levels of hierarchies do, by CEM and MPPI for
the sum of distances, or by the distance in level 2; beside it both levels, and a model whose upper latents are no
slower than those below. Published is the sum of distances too, but otherwise other searches: the published flat
planners search in latents of 512 numbers, with 20 iterations of 200 samples of 90 steps at every step and without a
warm start, over 100 times our model evaluations; ours draw noise in long waves, and our MPPI is bounded and sharp. The
published MPPI ignores the bound of 2.45 that the published CEM has (the environment takes steps of any length), starts
with a standard deviation of 2, and its "temperature" 0.005 multiplies costs, which is 200 in our form and weighs elites
almost alike: the row "flat by MPPI with the published settings" has these, at our horizon and number of samples.
The terms of the loss: table two_rooms_terms.
Number to expect: results/two_rooms/.
Command: python launch.py table two_rooms --scale=cpu --seeds=3
"""

from configs.tables._columns import COMPUTE, FARTHEST, FINAL_STEP, SPEARMAN, STRAIGHT_LINE, SUCCESS

FLAT = {  # at more compute than two levels
    "eval.plan.num_levels": 1,
    "eval.search.bottom.horizon": 48,
    "eval.search.bottom.samples": 64,
    "eval.search.bottom.iterations": 4,
    "eval.search.bottom.elites": 8,
    "eval.search.bottom.replan": 4,
}
PUBLISHED_MPPI = {
    "eval.search.bottom.method": "mppi",
    "eval.search.bottom.choose": "sample",
    "eval.search.bottom.bounded": False,
    "eval.search.bottom.max_norm": 0.0,
    "eval.search.bottom.std": 2.0,
    "eval.search.bottom.min_std": 0.0,
    "eval.search.bottom.temperature": 200.0,
    "eval.search.bottom.colour": 0.0,
    "eval.search.bottom.warm_start": False,
    "eval.search.bottom.replan": 1,
}
SUM = {"eval.search.bottom.cost": "sum"}
FLATS = ("flat", "flat by CEM and the sum of distances", "flat by MPPI and the sum of distances")
SCALES = {
    "smoke": {
        "about": "two training steps of a tiny model: only shows that the table runs",
        "config": "configs/two_rooms.py:debug",
        "overrides": {"eval.every": 0},
    },
    "cpu": {
        "about": "frames of 32x32, fixed wall, 2,000 episodes of 64 frames, latents of 64 numbers, 2,500 steps "
        "of 32 clips; 100 tasks a seed",
        "config": "configs/two_rooms.py",
        "overrides": {"eval.every": 0, "runtime.checkpoint_every": 2_500, "eval.plan.num_shown": 0},
    },
    "gpu": {
        "about": "frames of 65x65, random walls, 20,000 episodes of 91 frames, latents of 512 numbers, 50,000 "
        "steps of 128 clips; 500 tasks a seed",
        "config": "configs/two_rooms.py",
        "overrides": {
            "record.wall": "random",
            "record.image_size": (65, 65),
            "record.num_frames": 91,
            "record.num_episodes": 20_000,
            "model.encoder.patch": 5,
            "model.encoder.width": 192,
            "model.encoder.heads": 3,
            "model.encoder.depth": 6,
            "model.level.bottom.width": 512,
            "model.level.bottom.hidden": 512,
            "model.level.upper.width": 512,
            "model.level.upper.hidden": 512,
            "train.batch_size": 128,
            "train.num_steps": 50_000,
            "train.optimizer.warmup_steps": 2_500,
            "eval.every": 0,
            "model.dtype": "bfloat16",
            "eval.plan.tasks": "random_wall",
            "eval.plan.num_tasks": 500,
            "eval.plan.batch": 100,
            "eval.plan.num_shown": 0,
        },
    },
    "paper": {"about": "eb_jepa: frames of 65x65, random walls, 1.2 M episodes, an IMPALA encoder and a GRU of 512"},
}


def get_table() -> dict:
    """The table."""
    done = lambda rows, row: rows[row]["success"]
    return {
        "title": "Two rooms: flat and hierarchical planning",
        "paper": "EB-JEPA, arXiv 2602.03604 (facebookresearch/eb_jepa); H-JEPA, arXiv 2610.06805",
        "number": "EB-JEPA's table of planners",
        "question": "Does hierarchical planning solve more tasks with far goals than flat planning, with less compute?",
        "about": "Tasks with goals in the other room, solved by planning in learned latents.",
        "setting": "flat planners, random walls, final-step success rate after 200 steps, +- 2 %",
        "command": "plan",
        "published_columns": {"terminal": {"title": "EB-JEPA", "unit": "%", "better": "higher"}},
        "columns": {
            "success": {**SUCCESS, "about": "share of the tasks whose goal was reached within 200 steps"},
            "terminal": {**FINAL_STEP, "published": ("terminal",)},
            "far": FARTHEST,
            "straight": STRAIGHT_LINE,
            "spearman": SPEARMAN,
            "flops": COMPUTE,
        },
        "rows": {
            "two levels": {"overrides": {}},
            "flat": {
                "overrides": FLAT,
                "published": {"terminal": 89.0},
                "source": "EB-JEPA, MPPI on the last state alone; ours is iCEM",
            },
            "flat by CEM and the sum of distances": {
                "overrides": {**FLAT, **SUM, "eval.search.bottom.method": "cem", "eval.search.bottom.choose": "mean"},
                "published": {"terminal": 96.0},
                "source": "EB-JEPA, CEM",
            },
            "flat by MPPI and the sum of distances": {
                "overrides": {
                    **FLAT,
                    **SUM,
                    "eval.search.bottom.method": "mppi",
                    "eval.search.bottom.choose": "sample",
                },
                "published": {"terminal": 97.0},
                "source": "EB-JEPA, MPPI; ours is bounded and weighs elites more sharply",
            },
            "flat by MPPI with the published settings": {
                "overrides": {**FLAT, **SUM, **PUBLISHED_MPPI},
                "published": {"terminal": 97.0},
                "source": "EB-JEPA, MPPI",
            },
            "flat with the cost of level 2": {"overrides": {**FLAT, "eval.plan.cost_level": 2}},
            "two levels as fast": {"overrides": {"model.level.upper.time": 2.0}},
        },
        "conclusions": [
            {
                "text": "two levels have a higher success rate than one, at less compute",
                "kind": "ours",
                "source": "H-JEPA concludes it in FourRooms, by depth",
                "holds": lambda rows: (
                    done(rows, "two levels") > done(rows, "flat")
                    and rows["two levels"]["flops"] < rows["flat"]["flops"]
                ),
            },
            {
                "text": "two levels have a higher success rate than one by any of the searches",
                "kind": "ours",
                "holds": lambda rows: done(rows, "two levels") > max(done(rows, row) for row in FLATS),
            },
            {
                "text": "the upper level's cost alone helps a flat planner",
                "kind": "ours",
                "source": "H-JEPA concludes it in FourRooms, cost ladder",
                "holds": lambda rows: done(rows, "flat with the cost of level 2") > done(rows, "flat"),
            },
            {
                "text": "planning in the upper level helps beyond its cost",
                "kind": "ours",
                "source": "H-JEPA concludes it in FourRooms, cost ladder",
                "holds": lambda rows: done(rows, "two levels") > done(rows, "flat with the cost of level 2"),
            },
            {
                "text": "the upper level is worth more where its latents are slower",
                "kind": "ours",
                "holds": lambda rows: done(rows, "two levels") > done(rows, "two levels as fast"),
            },
        ],
        "headline": lambda rows: (
            f"two levels {done(rows, 'two levels'):.0f} %, one {done(rows, 'flat'):.0f} % at "
            f"{rows['flat']['flops'] / rows['two levels']['flops']:.1f} times the compute"
        ),
        "scales": SCALES,
    }
