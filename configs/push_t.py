"""PushT, a disc that pushes a T: two levels of latent dynamics that plan towards what was seen some steps later.

Model: that of configs/two_rooms.py, on larger frames.
Data: PushT with relative actions in frames of 48x48, played by a policy that pushes weakly
(world_models/environments/push_t.py). DINO-WM and LeWM learn from an expert, and planning then succeeds far more often.
Judged by: goals that the policy itself came to 10 steps after the start, in episodes that were not recorded (`plan`;
DINO-WM and LeWM have goals 25 steps away).
Command: python launch.py record --config=configs/push_t.py --workdir=runs/push_t, then train, eval, imagine and plan.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The config; variant "debug" is two steps of a tiny model."""
    config = ConfigDict()
    config.experiment = "experiments.families.latent_dynamics.experiment"
    config.seed = 0
    config.mesh = (-1, 1, 1)
    config.sharding = (  # (name of a parameter's axis, mesh axis to split it over), the more important first
        ("heads", "tensor"),
        ("mlp", "tensor"),
        ("width", "fsdp"),
        ("channels_out", "fsdp"),
    )
    config.xla_flags = ""
    config.profile = False
    config.wandb = False

    config.record = ConfigDict(
        {
            "source": "gymnasium",
            "environment": "PushT-relative-v0",
            "environment_kwargs": {"visualization_width": 96, "visualization_height": 96},
            "modules": ("world_models.environments.push_t",),
            "observation": "render",
            "image_size": (48, 48),
            "action_repeat": 1,
            "policy": "world_models.environments.push_t:push",
            "repeat_probability": 0.0,
            "num_episodes": 400,
            "max_episode_steps": 101,
            "skip_steps": 0,
            "num_workers": 0,
            "splits": {"train": 0.9, "validation": 0.05, "test": 0.05},
            "seed": 0,
            "videos": "",
            "frame_stride": 1,
        }
    )
    config.init_from = ConfigDict({"checkpoints": "", "step": -1, "parts": ()})
    config.data = ConfigDict(
        {
            "dataset": "",  # empty: <workdir>/data
            "train_split": "train",
            "validation_split": "validation",
            "test_split": "test",
            "image_key": "observation/image",
            "action_key": "action",
            "image_size": (),
            "num_actions": 0,
            "clip_length": 16,
            "stride": 4,
            "across_episodes": False,
            "max_damaged": 0,
            "cache_gb": 2.0,
            "num_threads": 1,
        }
    )
    config.levels = ("bottom", "upper")  # names of the blocks that say what each level is made of
    config.model = ConfigDict(
        {
            "detach_lower": True,
            "pixel_mean": (0.95,),
            "pixel_std": (0.15,),
            "color": "rgb",
            "dtype": "float32",
        }
    )
    config.encoder = ConfigDict(
        {
            "kind": "vit",
            "patch": 8,
            "class_token": False,
            "frozen": False,
            "width": 64,
            "depth": 1,
            "heads": 4,
            "mlp_ratio": 2.0,
            "remat": "none",
            "unroll": 1,
            "attention": "xla",
        }
    )
    config.bottom = ConfigDict(
        {
            "width": 64,
            "predictor": "mlp",
            "hidden": 128,
            "rollout": 8,
            "weight": 1.0,
            "std": 16.0,
            "cov": 8.0,
            "time": 12.0,
            "inverse": 6.0,
            "sigreg": 0.0,
        }
    )
    config.upper = ConfigDict(
        {
            "encoder": "mlp",
            "stride": 4,
            "width": 64,
            "action": 4,
            "predictor": "mlp",
            "hidden": 128,
            "rollout": 3,
            "weight": 1.0,
            "std": 16.0,
            "cov": 8.0,
            "time": 32.0,
            "inverse": 1.0,
            "sigreg": 0.0,
        }
    )
    config.decoder = ConfigDict({"channels": (32, 16, 8), "frames": 1, "weight": 1.0, "detach": True})
    config.train = ConfigDict(
        {
            "batch_size": 32,
            "accumulate": 1,
            "num_steps": 2_500,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 125,
            "weight_decay": 1e-5,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "clip_norm": 2.0,
            "max_nonfinite": 3,
            "spike_sigmas": 6.0,
            "watchdog_seconds": 600.0,
            "ema_decay": 0.99,
            "log_every": 50,
            "eval_every": 500,
            "checkpoint_every": 500,
            "keep": 2,
            "keep_every": 0,
            "best": "eval/held_out/loss",
            "better": "lower",
        }
    )
    config.eval = ConfigDict(
        {"num_examples": 128, "num_contexts": 32, "num_context": 4, "horizon": 16, "changed_threshold": 8}
    )
    config.imagine = ConfigDict(
        {
            "num_contexts": 32,
            "num_context": 4,
            "horizon": 32,
            "changed_threshold": 8,
            "num_branches": 4,
            "num_samples": 1,
            "num_shown": 4,
            "fps": 8,
        }
    )
    config.plan = ConfigDict(
        {
            "reached": "world_models.environments.push_t:reached",  # (observation, the goal's) -> whether it is reached
            "offset": 10,  # recorded steps from start to goal
            "task_seed": 0,
            "num_tasks": 50,
            "num_steps": 20,  # of an attempt
            "num_levels": 0,  # that plan, from the bottom; 0: all
            "cost_level": 0,  # in whose latents the highest of these measures how far the goal is; 0: its own
            "seed": 0,  # of the planner
            "num_shown": 4,
            "fps": 8,
        }
    )
    config.search = ConfigDict(
        {
            # Horizons are those of the highest level that plans; below another, a level looks no further than its tick.
            "bottom": {
                "method": "icem",
                "temperature": 2.0,  # of "mppi", in units of the cost
                "horizon": 12,
                "samples": 64,
                "iterations": 4,
                "elites": 8,
                "std": 0.5,
                "min_std": 0.05,
                "colour": 2.0,
                "choose": "best",
                "replan": 2,
                "cost": "last",
                "cost_space": "above",
            },
            "upper": {
                "method": "icem",
                "horizon": 5,
                "samples": 48,
                "iterations": 4,
                "elites": 6,
                "prior": True,
                "prior_weight": 0.0,  # of the negative log-likelihood of macro-actions in the cost
                "min_std": 0.05,
                "colour": 1.0,
                "choose": "best",
                "replan": 4,
                "cost": "sum",
            },
        }
    )
    if variant == "debug":
        config.record.update(
            {"num_episodes": 6, "max_episode_steps": 20, "splits": {"train": 0.5, "validation": 0.2, "test": 0.3}}
        )
        config.data.clip_length = 8
        config.encoder.update({"width": 8, "depth": 1, "heads": 2, "unroll": 1})
        config.bottom.update({"width": 8, "hidden": 8, "rollout": 2})
        config.upper.update({"width": 8, "hidden": 8, "rollout": 1})
        config.decoder.channels = (4,)
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.train.schedule = "constant"  # num_steps is then no part of the compiled step
        config.eval.update({"num_examples": 4, "num_contexts": 2, "horizon": 2})
        config.imagine.update({"num_contexts": 2, "horizon": 8, "num_branches": 2, "num_shown": 1})
        config.plan.update({"num_tasks": 3, "num_steps": 3, "offset": 5, "num_shown": 1})
        for name in config.search:
            config.search[name].update({"horizon": 2, "samples": 4, "iterations": 2, "elites": 2, "replan": 4})
        config.search.bottom.replan = 2
    elif variant:
        raise ValueError(f"configs/push_t.py has no variant {variant!r}; it has 'debug'.")
    return config
