"""A ball in a maze, seen from above: three levels of latent dynamics that find ways through it by planning alone.

Model: that of configs/four_rooms.py; levels tick with every frame, every 4 and every 16.
Data: OGBench's "navigate" data of point mazes (arXiv 2410.20092) from this project's simulator: a noisy expert goes
from goal to goal. Five steps of the benchmark are one here, and frames are drawn flat: 32x32 for the maze "medium". For
the others: --config.record.maze=large --config.record.image_size="(40,48)", or giant and "(48,64)": 4 pixels a cell.
Judged by: the benchmark's five tasks of the maze, reached within its 1000 steps (200 here) by planning (`plan`), or,
with --config.plan.tasks=cells_5_16, goals 5 to 16 cells away; errors of rollouts by level.
Command: python launch.py record --config=configs/point_maze.py --workdir=runs/maze, then train, eval, imagine and plan.
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
            "source": "point_maze",
            "maze": "medium",
            "policy": "navigate",
            "noise": 0.5,
            "action_repeat": 5,
            "seed": 0,
            "image_size": (32, 32),
            "num_episodes": 1000,
            "splits": {"train": 0.9, "validation": 0.05, "test": 0.05},
            "num_frames": 201,
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
            "clip_length": 64,
            "stride": 8,
            "across_episodes": False,
            "max_damaged": 0,
            "cache_gb": 2.0,
            "num_threads": 1,
        }
    )
    config.levels = ("bottom", "middle", "top")  # names of the blocks that say what each level is made of
    config.model = ConfigDict(
        {
            "detach_lower": True,
            "pixel_mean": (0.3, 0.0, 0.0),
            "pixel_std": (0.25, 0.02, 0.02),
            "color": "opponent",  # walls are gray: as they are, the channels show them and hide the dots
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
            "distance": 0.0,  # 1, say: a map on which distances are ticks, to plan on instead of latents
            "max_distance": 128.0,
        }
    )
    config.middle = ConfigDict(
        {
            "encoder": "mlp",
            "stride": 4,
            "width": 64,
            "action": 4,
            "predictor": "mlp",
            "hidden": 128,
            "rollout": 4,
            "weight": 1.0,
            "std": 16.0,
            "cov": 8.0,
            "time": 32.0,
            "inverse": 1.0,
            "sigreg": 0.0,
            "distance": 0.0,
            "max_distance": 32.0,
        }
    )
    config.top = ConfigDict(
        {
            "encoder": "mlp",
            "stride": 4,
            "width": 64,
            "action": 4,
            "predictor": "mlp",
            "hidden": 128,
            "rollout": 2,
            "weight": 1.0,
            "std": 16.0,
            "cov": 8.0,
            "time": 8.0,  # a tick is four of the middle: steps are that much longer
            "inverse": 1.0,
            "sigreg": 0.0,
            "distance": 0.0,
            "max_distance": 8.0,
        }
    )
    config.decoder = ConfigDict({"channels": (32, 16, 8), "frames": 1, "weight": 1.0, "detach": True})
    config.train = ConfigDict(
        {
            "batch_size": 16,
            "accumulate": 1,
            "num_steps": 3_000,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 150,
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
            "eval_every": 1_000,
            "checkpoint_every": 1_000,
            "keep": 2,
            "keep_every": 0,
            "best": "eval/held_out/loss",
            "better": "lower",
        }
    )
    config.eval = ConfigDict(
        {"num_examples": 128, "num_contexts": 32, "num_context": 4, "horizon": 32, "changed_threshold": 8}
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
            "tasks": "navigate",
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
            # `near` is far below 2, the distance of two latents that have nothing in common (a latent's variance is 1).
            # On a map it is the square of ticks.
            "bottom": {
                "method": "icem",
                "horizon": 80,
                "samples": 64,
                "iterations": 4,
                "elites": 8,
                "std": 0.6,
                "min_std": 0.05,
                "colour": 2.0,
                "choose": "best",
                "replan": 2,
                "cost": "last",
                "cost_space": "above",
            },
            "middle": {
                "method": "icem",
                "horizon": 24,
                "samples": 128,
                "iterations": 4,
                "elites": 8,
                "prior": True,
                "prior_weight": 0.0,  # of the negative log-likelihood of macro-actions in the cost
                "min_std": 0.05,
                "colour": 1.0,
                "choose": "best",
                "replan": 4,
                "cost": "last",
                "cost_space": "above",
                "near": 0.3,
            },
            "top": {
                "method": "icem",
                "horizon": 8,
                "samples": 128,
                "iterations": 6,
                "elites": 8,
                "prior": True,
                "prior_weight": 0.0,  # of the negative log-likelihood of macro-actions in the cost
                "min_std": 0.05,
                "colour": 1.0,
                "choose": "best",
                "replan": 8,
                "cost": "sum",
                "near": 0.3,
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
        for level in (config.middle, config.top):
            level.update({"stride": 2, "width": 8, "hidden": 8, "rollout": 1})
        config.decoder.channels = (4,)
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.train.schedule = "constant"  # num_steps is then no part of the compiled step
        config.eval.update({"num_examples": 4, "num_contexts": 2, "horizon": 2})
        config.imagine.update({"num_contexts": 2, "horizon": 8, "num_branches": 2, "num_shown": 1})
        config.plan.update({"num_tasks": 3, "num_steps": 3, "batch": 2, "num_shown": 1})
        for name in config.search:
            config.search[name].update({"horizon": 2, "samples": 4, "iterations": 2, "elites": 2, "replan": 8})
        config.search.bottom.replan = 2
        config.search.middle.replan = 4
    elif variant:
        raise ValueError(f"configs/point_maze.py has no variant {variant!r}; it has 'debug'.")
    return config
