"""What is each term against collapse good for? Flat planning in two rooms, without one of them at a time.

Question: without variance, covariance, time similarity or inverse dynamics, eb_jepa's flat planner fell from 96 % to 47,
46, 61 and 1 % (there after 200 steps, random walls).
Ours: level 1 of the model of the table two_rooms, trained alone without each, and planned in as its flat row is.
Command: python launch.py table two_rooms_terms --scale=cpu --seeds=3
"""

FLAT = {  # as in two_rooms
    "plan.num_levels": 1,
    "search.bottom.horizon": 48,
    "search.bottom.samples": 64,
    "search.bottom.iterations": 4,
    "search.bottom.elites": 8,
    "search.bottom.replan": 4,
}
TERMS = {  # published success at the end, %
    "variance": ("std", 47.0),
    "covariance": ("cov", 46.0),
    "time similarity": ("time", 61.0),
    "inverse dynamics": ("inverse", 1.0),
}


def get_table() -> dict:
    """The table."""
    percent = {"unit": "%", "better": "higher", "digits": 1, "scale": 100.0}
    ablations = {
        f"without {term}": {
            "overrides": {**FLAT, "levels": ("bottom",), f"bottom.{field}": 0.0},
            "published": {"terminal": published},
            "source": "eb_jepa, ablations",
        }
        for term, (field, published) in TERMS.items()
    }
    return {
        "title": "Two rooms without a term of the loss",
        "paper": "eb_jepa (facebookresearch/eb_jepa, 2026)",
        "number": "its ablations",
        "about": "Goals in the other room, reached by flat planning in latents learned without one of the terms.",
        "setting": "random walls, there after 200 steps, by CEM",
        "verb": "plan",
        "published_columns": {"terminal": {"title": "eb_jepa (%)", "better": "higher", "digits": 0}},
        "columns": {
            "terminal": {
                "title": "there at the end",
                "about": "share of 100 tasks whose goal was reached, after the last of 200 steps",
                "path": ("terminal_success",),
                "published": "terminal",
                **percent,
            },
            "far": {
                "title": "farthest quarter",
                "about": "goals reached at any time, of the 25 whose shortest way is longest",
                "path": ("farthest", "success"),
                **percent,
            },
            "order": {
                "title": "order",
                "about": "rank correlation of the shortest way's length from start to goal with the latent distance",
                "path": ("cost_rank_correlation",),
                "unit": "",
                "better": "higher",
                "digits": 2,
            },
        },
        "rows": {
            "all terms": {"overrides": FLAT, "published": {"terminal": 96.0}, "source": "eb_jepa, CEM"},
            **ablations,
        },
        "conclusions": [
            {
                "text": f"the planner is worse without {term}",
                "source": "eb_jepa, ablations",
                "holds": lambda rows, term=term: rows["all terms"]["terminal"] > rows[f"without {term}"]["terminal"],
            }
            for term in TERMS
        ],
        "scales": {
            "smoke": {
                "about": "two training steps of a tiny model: only shows that the table runs",
                "config": "configs/two_rooms.py:debug",
                "overrides": {"train.eval_every": 0},
            },
            "cpu": {
                "about": "frames of 32x32, fixed wall, 2,000 walks of 64 frames, latents of 64 numbers, 2,500 steps of 32 "
                "clips; 100 tasks a seed",
                "config": "configs/two_rooms.py",
                "overrides": {"train.eval_every": 0, "train.checkpoint_every": 2_500, "plan.num_shown": 0},
            },
            "gpu": {
                "about": "frames of 65x65, random walls, 20,000 walks of 91 frames, latents of 512 numbers, 50,000 "
                "steps of 128 clips; 500 tasks a seed",
                "config": "configs/two_rooms.py",
                "overrides": {
                    "record.wall": "random",
                    "record.image_size": (65, 65),
                    "record.num_frames": 91,
                    "record.num_episodes": 20_000,
                    "encoder.patch": 5,
                    "encoder.width": 192,
                    "encoder.heads": 3,
                    "encoder.depth": 6,
                    "encoder.unroll": 1,
                    "bottom.width": 512,
                    "bottom.hidden": 512,
                    "upper.width": 512,
                    "upper.hidden": 512,
                    "train.batch_size": 128,
                    "train.num_steps": 50_000,
                    "train.warmup_steps": 2_500,
                    "train.eval_every": 0,
                    "model.dtype": "bfloat16",
                    "plan.tasks": "random_wall",
                    "plan.num_tasks": 500,
                    "plan.batch": 100,
                    "plan.num_shown": 0,
                },
            },
            "paper": {
                "about": "eb_jepa: frames of 65x65, random walls, 1.2 M walks, an IMPALA encoder and a GRU of 512"
            },
        },
    }
