"""Two rooms and a door, seen from above: two levels of latent dynamics to plan in, small enough for two CPU cores.

Model: level 1 as in the TwoRooms model of eb_jepa (variance, covariance, time similarity and inverse dynamics against
collapse), made small and with an MLP that actions modulate as predictor, for its GRU; level 2 ticks four times slower,
with an MLP encoder on level 1 and macro-actions of four numbers (H-JEPA, arXiv 2610.06805). Its latents are slow: the
heavy "time" makes distances in them grow with the way that is left to go, past walls; those of level 1 do so for near
goals alone.
config.levels names the blocks from the bottom up: ("bottom",) is the flat model; ("bottom", "upper", "upper") has three
levels and needs clips of 64 frames, so that the third, which ticks every 16, has as many ticks as its rollout of 3
asks for.
Data: random walks in TwoRooms, rendered at 32x32, the wall and its door always in the same place; a third is built to
lead through the door, and the data set's metadata says how many really do.
Judged by: goals in the other room reached by planning (`plan`), errors of rollouts over those of latents that stay as
they are, by level (eval/rollout), and imagined frames of the probe decoder. Number to expect: results/two_rooms/.
Command: python launch.py record --config=configs/two_rooms.py --workdir=runs/rooms, then train, eval, imagine and plan.
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
    config.levels = ("bottom", "upper")  # names of the blocks that say what each level is made of
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
            "predictor": "mlp",
            "hidden": 128,
            "rollout": 8,
            "weight": 1.0,
            "std": 16.0,
            "cov": 8.0,
            "time": 12.0,
            "inverse": 6.0,  # 1 for actions in pixels: here they are divided by 2.45
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
            "tasks": "fixed_wall",
            "task_file": "",  # tasks of a file instead of drawn ones
            "task_seed": 0,
            "num_tasks": 100,
            "num_steps": 0,  # of an episode; 0: as published
            "num_levels": 0,  # that plan, from the bottom; 0: all
            "cost_level": 0,  # in whose latents the highest of these measures how far the goal is; 0: its own
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
            # Horizons are those of the highest level that plans; below another, a level looks no further than its tick.
            "bottom": {
                "method": "icem",
                "temperature": 2.0,  # of "mppi", in units of the cost
                "horizon": 48,
                "samples": 32,
                "iterations": 3,
                "elites": 4,
                "std": 1.0,
                "min_std": 0.1,
                "colour": 2.0,
                "choose": "best",
                "max_norm": 2.45,
                "replan": 2,
                "cost": "last",
                "cost_space": "above",
            },
            "upper": {
                "method": "icem",
                "horizon": 12,
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
            {"num_episodes": 20, "num_frames": 20, "splits": {"train": 0.5, "validation": 0.2, "test": 0.3}}
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
        config.plan.update({"num_tasks": 3, "num_steps": 3, "batch": 2, "num_shown": 1})
        for name in config.search:
            config.search[name].update({"horizon": 2, "samples": 4, "iterations": 2, "elites": 2, "replan": 4})
        config.search.bottom.replan = 2
    elif variant:
        raise ValueError(f"configs/two_rooms.py has no variant {variant!r}; it has 'debug'.")
    return config
