"""LeWM in two rooms: a predictor that looks back, and two terms in the loss, small enough for two CPU cores.

Model: LeWM (LeWorldModel, 2026): a ViT, a causal transformer over the three latest latents that the actions modulate
(adaLN-zero), the error one tick on from true latents, and SIGReg. Published are frames of 224x224, ViT-tiny, a latent
of 192 numbers, a predictor of 6 blocks with 16 heads, actions in blocks of 5 steps, batches of 128. Otherwise than
there, latents end in layer norm for batch norm, all patches are read for the class token, and what is predicted is
added to the latent.
Data: random walks in TwoRooms, as in configs/two_rooms.py, whose upper levels may be set on this one: H-JEPA has such.
Judged by: goals in the other room reached by planning (`plan`), which goes on from the latest latents that were seen;
errors of predictions over those of latents that stay as they are (eval/rollout).
Command: python launch.py record --config=configs/lewm.py --workdir=runs/lewm, then train, eval, imagine and plan.
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
            "source": "two_rooms",
            "seed": 0,
            "image_size": (32, 32),
            "num_episodes": 2000,
            "splits": {"train": 0.9, "validation": 0.05, "test": 0.05},
            "num_frames": 64,
            "cross_rate": 0.35,
            "wall": "fixed",  # "random", as published, takes a larger model and a longer training
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
    config.levels = ("bottom",)  # names of the blocks that say what each level is made of
    config.model = ConfigDict(
        {
            "detach_lower": True,
            "pixel_mean": (0.0026, 0.0989, 0.0),  # of the dot, the walls and nothing, as in eb_jepa
            "pixel_std": (0.0369, 0.2986, 1.0),
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
            "predictor": "transformer",
            "history": 3,
            "depth": 2,
            "heads": 4,
            "hidden": 128,
            "rollout": 1,
            "weight": 1.0,
            "std": 0.0,
            "cov": 0.0,
            "time": 0.0,
            "inverse": 0.0,
            "sigreg": 0.09,
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
            "tasks": "fixed_wall",
            "task_file": "",  # tasks of a file instead of drawn ones
            "task_seed": 0,
            "num_tasks": 100,
            "num_steps": 0,  # of an episode; 0: as published
            "num_levels": 0,
            "cost_level": 0,
            "seed": 0,  # of episodes: the world's noise and the planner's
            "repeats": 1,  # of all tasks, with other noise of the planner alone, to see what is owed to it
            "batch": 25,  # episodes played at once
            "pareto": (),  # shares of the samples; success is then measured for each, with one level and more
            "num_shown": 4,
            "fps": 12,
        }
    )
    config.search = ConfigDict(
        {
            "bottom": {
                "method": "icem",
                "temperature": 2.0,  # of "mppi", in units of the cost
                "horizon": 48,
                "samples": 64,
                "iterations": 4,
                "elites": 8,
                "std": 1.0,
                "min_std": 0.1,
                "colour": 2.0,
                "choose": "best",
                "max_norm": 2.45,
                "replan": 4,
                "cost": "last",
            },
        }
    )
    if variant == "debug":
        config.record.update(
            {"num_episodes": 20, "num_frames": 20, "splits": {"train": 0.5, "validation": 0.2, "test": 0.3}}
        )
        config.data.clip_length = 8
        config.encoder.update({"width": 8, "depth": 1, "heads": 2, "unroll": 1})
        config.bottom.update({"width": 8, "hidden": 8, "depth": 1, "heads": 2})
        config.decoder.channels = (4,)
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.train.schedule = "constant"  # num_steps is then no part of the compiled step
        config.eval.update({"num_examples": 4, "num_contexts": 2, "horizon": 2})
        config.imagine.update({"num_contexts": 2, "horizon": 8, "num_branches": 2, "num_shown": 1})
        config.plan.update({"num_tasks": 3, "num_steps": 3, "batch": 2, "num_shown": 1})
        config.search.bottom.update({"horizon": 2, "samples": 4, "iterations": 2, "elites": 2, "replan": 2})
    elif variant:
        raise ValueError(f"configs/lewm.py has no variant {variant!r}; it has 'debug'.")
    return config
