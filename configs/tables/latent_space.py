"""How to learn a latent space for planning: which losses and encoders make one that a flat planner finds paths in?

Ours: the medium maze and its five tasks; level 1 of the model of the table ogbench_mazes, trained alone. The rows
differ in what shapes its latents. Frozen encoders keep a trained projection, which the default terms keep from
collapse; a masked autoencoder is first trained on the row's frames, as it sees them: in RGB.
Command: python launch.py table latent_space --scale=cpu --seeds=3
"""

from configs.tables._columns import FINAL_STEP, SPEARMAN, STRAIGHT_LINE, SUCCESS

NONE = {f"model.level.bottom.{term}": 0.0 for term in ("std", "cov", "time", "inverse", "sigreg")}
RGB = {"model.pixels.color": "rgb", "model.pixels.mean": (0.3,), "model.pixels.std": (0.25,)}
SOURCE = "a reproduction of JEPA regularizers on visual pointmaze-medium, n = 125"
FLAT = {
    "model.levels": ("bottom",),
    "data.clip_length": 16,
    "eval.plan.num_levels": 1,
    "eval.search.bottom.horizon": 48,
    "eval.search.bottom.replan": 4,
}
MASKED = {  # over configs/fashion_mae.py: the encoder of configs/point_maze.py, on its frames
    "data.train_split": "train",
    "data.validation_split": "validation",
    "data.test_split": "test",
    "model.patch": 8,
    "model.class_token": False,
    "model.pixels.mean": (0.3,),
    "model.pixels.std": (0.25,),
    "model.encoder.mlp_ratio": 2.0,
    "model.encoder.heads": 4,
    "augment.flip": False,
    "eval.every": 0,
    "eval.probes.names": (),
}


def get_table() -> dict:
    """The table."""
    published = lambda value: {"published": {"success": value}, "source": SOURCE, "unverified": True}
    success = lambda rows, row: rows[row]["success"]
    return {
        "title": "How to learn a latent space for planning",
        "paper": "a reproduction of JEPA regularizers, beside EB-JEPA and LeWM",
        "number": "regularizers by planning success",
        "question": "On OGBench's visual point maze, a reproduction found inverse dynamics better than SIGReg and "
        "VICReg, with one planner. Is it so here, and how good are reconstruction or features of a masked autoencoder?",
        "about": "Tasks of the medium point maze, solved by one flat planner in latents learned in different ways.",
        "setting": "OGBench's visual pointmaze-medium, 125 episodes",
        "command": "plan",
        "published_columns": {"success": {"title": "reproduction", "unit": "%", "better": "higher"}},
        "columns": {
            "success": {
                **SUCCESS,
                "about": "share of the episodes of the benchmark's five tasks that reached the goal within 200 steps",
                "published": ("success",),
            },
            "terminal": FINAL_STEP,
            "straight": STRAIGHT_LINE,
            "spearman": SPEARMAN,
        },
        "rows": {
            "all terms": {"overrides": {}},
            "variance and covariance": {
                "overrides": {"model.level.bottom.time": 0.0, "model.level.bottom.inverse": 0.0},
                **published(21.6),
            },
            "inverse dynamics": {"overrides": {**NONE, "model.level.bottom.inverse": 6.0}, **published(63.2)},
            "SIGReg": {"overrides": {**NONE, "model.level.bottom.sigreg": 0.1}, **published(36.8)},
            "SIGReg and inverse dynamics": {
                "overrides": {**NONE, "model.level.bottom.sigreg": 0.1, "model.level.bottom.inverse": 6.0}
            },
            "reconstruction": {"overrides": {**NONE, "model.decoder.detach": False}},
            "masked autoencoder": {
                "overrides": {**RGB, "model.encoder.frozen": True, "init_from.parts": ("encoder",)},
                "init_from": "masked autoencoder",
            },
            "random encoder": {"overrides": {**RGB, "model.encoder.frozen": True}},
        },
        "conclusions": [
            {
                "text": "inverse dynamics is better than SIGReg",
                "kind": "ours",
                "source": f"{SOURCE}; not a paper, and not verified",
                "holds": lambda rows: success(rows, "inverse dynamics") > success(rows, "SIGReg"),
            },
            {
                "text": "SIGReg is better than variance and covariance",
                "kind": "ours",
                "source": f"{SOURCE}; not a paper, and not verified",
                "holds": lambda rows: success(rows, "SIGReg") > success(rows, "variance and covariance"),
            },
            {
                "text": "features of a masked autoencoder are better than those of a random encoder",
                "kind": "ours",
                "holds": lambda rows: success(rows, "masked autoencoder") > success(rows, "random encoder"),
            },
        ],
        "headline": lambda rows: ", ".join(
            f"{row} {success(rows, row):.0f} %" for row in ("SIGReg", "all terms", "inverse dynamics")
        ),
        "scales": {
            "smoke": {
                "about": "two training steps of a tiny model: only shows that the table runs",
                "config": "configs/point_maze.py:debug",
                "overrides": {
                    "eval.every": 0,
                    **{**FLAT, "data.clip_length": 8, "eval.search.bottom.horizon": 2, "eval.search.bottom.replan": 2},
                },
                "pretraining": {
                    "masked autoencoder": {
                        "config": "configs/fashion_mae.py:debug",
                        "overrides": {
                            **MASKED,
                            "model.encoder.width": 16,
                            "model.encoder.heads": 2,
                            "model.encoder.depth": 2,
                        },
                    }
                },
            },
            "cpu": {
                "about": "frames of 32x32, 1,000 episodes of 201 frames, one level of 64 numbers, 3,000 steps of 32 "
                "clips of 16 frames; masked autoencoder: 3,000 steps of 64 frames; 50 episodes a seed",
                "config": "configs/point_maze.py",
                "overrides": {
                    **FLAT,
                    "train.batch_size": 32,
                    "eval.every": 0,
                    "runtime.checkpoint_every": 3_000,
                    "eval.plan.num_tasks": 50,
                    "eval.plan.num_shown": 0,
                },
                "pretraining": {
                    "masked autoencoder": {
                        "config": "configs/fashion_mae.py",
                        "overrides": {
                            **MASKED,
                            "model.encoder.width": 64,
                            "model.encoder.depth": 1,
                            "train.num_steps": 3_000,
                            "train.optimizer.warmup_steps": 150,
                            "runtime.checkpoint_every": 3_000,
                        },
                    }
                },
            },
            "gpu": {
                "about": "frames of 64x64, 1,000 episodes of 201 frames, a ViT of 192 x 12, one level of 192 numbers, "
                "50,000 steps of 128 clips of 16 frames; masked autoencoder: 50,000 steps of 256 frames; 250 episodes "
                "a seed",
                "config": "configs/point_maze.py",
                "overrides": {
                    **FLAT,
                    "record.image_size": (64, 64),
                    "model.encoder.width": 192,
                    "model.encoder.depth": 12,
                    "model.level.bottom.width": 192,
                    "model.level.bottom.hidden": 384,
                    "model.dtype": "bfloat16",
                    "train.batch_size": 128,
                    "train.num_steps": 50_000,
                    "train.optimizer.warmup_steps": 2_500,
                    "eval.every": 0,
                    "eval.plan.num_tasks": 250,
                    "eval.plan.batch": 125,
                    "eval.plan.num_shown": 0,
                },
                "pretraining": {
                    "masked autoencoder": {
                        "config": "configs/fashion_mae.py",
                        "overrides": {
                            **MASKED,
                            "model.encoder.depth": 12,
                            "model.dtype": "bfloat16",
                            "train.batch_size": 256,
                            "train.num_steps": 50_000,
                            "train.optimizer.warmup_steps": 2_500,
                        },
                    }
                },
            },
            "paper": {"about": "OGBench's visual pointmaze-medium, LeWM's encoder"},
        },
    }
