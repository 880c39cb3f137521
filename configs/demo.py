"""The demo: a small video diffusion world model of CarRacing-v3, trained on two CPU cores in a few minutes.

Model: next-frame diffusion from 4 past frames and actions (Alonso et al. 2024, "DIAMOND"; Karras et al. 2022),
made small and set to diffuse the change from the last frame, which learns faster in a small budget.
Data: gymnasium's CarRacing-v3 at 32x32, driven by a random policy, recorded by the demo itself.
Command: make demo
"""

from typing import Any

import numpy as np
from ml_collections import ConfigDict


def drive(environment: Any, rng: np.random.Generator) -> Any:
    """A policy for recording: random, but with enough gas to get somewhere, and each choice held for a while.

    Uniform random actions brake most of the time: the car stands still and there is nothing to learn.
    """
    choice = None

    def act(observation: Any) -> int:
        nonlocal choice
        if choice is None or rng.random() < 0.25:
            choice = int(rng.choice(5, p=[0.1, 0.25, 0.25, 0.38, 0.02]))
        return choice

    return act


def get_config(variant: str = "") -> ConfigDict:
    """The config; variant "debug" is a few steps on a few frames."""
    config = ConfigDict()
    config.experiment = "experiments.families.video_diffusion.experiment"
    config.seed = 0
    config.mesh = (-1, 1, 1)
    config.sharding = (  # (name of a parameter's axis, mesh axis to split it over), the more important first
        ("heads", "tensor"),
        ("mlp", "tensor"),
        ("width", "fsdp"),
        ("condition", "fsdp"),
        ("channels_out", "fsdp"),
        ("channels_in", "fsdp"),
    )
    config.xla_flags = ""
    config.profile = False
    config.wandb = False

    config.record = ConfigDict(
        {
            "source": "gymnasium",
            "environment": "CarRacing-v3",
            "environment_kwargs": {"continuous": False},  # actions: coast, steer right, steer left, gas, brake
            "modules": (),
            "observation": "observation",
            "image_size": (32, 32),
            "action_repeat": 3,
            "policy": "configs.demo:drive",
            "repeat_probability": 0.0,
            "num_episodes": 44,
            "max_episode_steps": 100,
            "skip_steps": 20,  # the first second only zooms in
            "num_workers": 0,
            "splits": {"train": 0.73, "validation": 0.09, "test": 0.18},
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
            "clip_length": 5,
            "stride": 1,
            "across_episodes": False,
            "max_damaged": 0,
            "cache_gb": 2.0,
            "num_threads": 1,
        }
    )
    config.model = ConfigDict(
        {
            "context_offsets": (4, 3, 2, 1),
            "condition": 128,
            "patch": 1,
            "target": "change",
            "context_noise": 0.1,
            "dtype": "float32",
        }
    )
    config.network = ConfigDict({"kind": "unet", "channels": (32, 64, 64), "blocks": 1})
    config.diffusion = ConfigDict(
        {
            "process": "edm",
            "sigma_data": 0.2,
            "offset_noise": 0.1,
            "sigma_mean": -1.0,
            "sigma_std": 1.2,
            "sigma_low": 2e-3,
            "sigma_high": 10.0,
        }
    )
    config.sampler = ConfigDict(
        {
            "num_steps": 3,
            "order": 1,
            "sigma_min": 2e-3,
            "sigma_max": 2.0,
            "rho": 7.0,
            "initial_noise": "sigma_max",
        }
    )
    config.train = ConfigDict(
        {
            "batch_size": 32,
            "accumulate": 1,
            "num_steps": 300,
            "learning_rate": 5e-4,
            "schedule": "cosine",
            "warmup_steps": 50,
            "weight_decay": 1e-2,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "clip_norm": 1.0,
            "max_nonfinite": 3,
            "spike_sigmas": 6.0,
            "watchdog_seconds": 600.0,
            "ema_decay": 0.99,
            "log_every": 10,
            "eval_every": 150,
            "checkpoint_every": 150,
            "keep": 2,
            "keep_every": 0,
            "best": "eval/held_out/loss",
            "better": "lower",
        }
    )
    config.eval = ConfigDict(
        {"num_examples": 256, "num_contexts": 32, "num_context": 4, "horizon": 8, "changed_threshold": 8}
    )
    config.imagine = ConfigDict(
        {
            "num_contexts": 64,
            "num_context": 4,
            "horizon": 16,
            "changed_threshold": 8,
            "num_branches": 4,
            "num_samples": 4,
            "num_shown": 4,
            "fps": 12,
        }
    )
    if variant == "debug":
        config.record.update(
            {"num_episodes": 6, "max_episode_steps": 20, "splits": {"train": 0.5, "validation": 0.2, "test": 0.3}}
        )
        config.network.channels = (8,)
        config.model.condition = 16
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.train.schedule = "constant"  # num_steps is then no part of the compiled step
        config.eval.update({"num_examples": 4, "num_contexts": 2, "horizon": 2})
        config.imagine.update({"num_contexts": 4, "horizon": 3, "num_branches": 2, "num_samples": 2, "num_shown": 2})
    elif variant:
        raise ValueError(f"configs/demo.py has no variant {variant!r}; it has 'debug'.")
    return config


def get_sweep() -> dict:
    """What `train --sweep` varies: how fast to learn, and how noisy to make the context."""
    return {
        "vary": {"train.learning_rate": [2e-4, 5e-4, 1e-3], "model.context_noise": [0.0, 0.1]},
        "metric": "eval/open_loop/psnr_changed_imagined_8",
        "better": "higher",
    }
