"""DIAMOND's world model of an Atari game at its published size (Alonso et al. 2024, arXiv 2405.12399).

Model: 4,405,955 parameters for 4 actions at 64x64; EDM with offset noise 0.3, 3 Euler steps; the optimizer, noise
levels and network of the paper. Two things differ on purpose: sampling starts from σ_max·N(0, 1), which gives samples
their full spread (config.sampler.initial_noise = "unit" is what the released code does), and the data are a fixed
recording instead of an agent's growing memory.
Data: Breakout under a sticky random policy, frame skip 4 by the environment itself, no sticky actions.
Cost: made for a GPU; not yet run to the end by us. On two CPU cores it is slow beyond use.
Number to expect: not run.
Command: pip install -e '.[atari]'
    python launch.py record --config=configs/atari_diamond.py --workdir=runs/breakout
    python launch.py train --config=configs/atari_diamond.py --workdir=runs/breakout
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The config; variant "debug" is a few steps of a tiny network."""
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
            "environment": "ALE/Breakout-v5",
            "environment_kwargs": {"repeat_action_probability": 0.0, "frameskip": 4},
            "modules": (),
            "observation": "observation",
            "image_size": (64, 64),
            "action_repeat": 1,
            "policy": "sticky",
            "repeat_probability": 0.8,
            "num_episodes": 500,
            "max_episode_steps": 1000,
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
            "clip_length": 6,  # two predicted frames: the second sees the model's own first one
            "stride": 1,
            "across_episodes": False,
            "max_damaged": 0,
            "cache_gb": 8.0,
            "num_threads": 8,
        }
    )
    config.model = ConfigDict(
        {
            "context_offsets": (4, 3, 2, 1),
            "condition": 256,
            "patch": 1,
            "target": "frame",
            "context_noise": 0.0,
            "dtype": "bfloat16",
        }
    )
    config.network = ConfigDict({"kind": "unet", "channels": (64, 64, 64, 64), "blocks": 2})
    config.diffusion = ConfigDict(
        {
            "process": "edm",
            "sigma_data": 0.5,
            "offset_noise": 0.3,
            "sigma_mean": -0.4,
            "sigma_std": 1.2,
            "sigma_low": 2e-3,
            "sigma_high": 20.0,
        }
    )
    config.sampler = ConfigDict(
        {
            "num_steps": 3,
            "order": 1,
            "sigma_min": 2e-3,
            "sigma_max": 5.0,
            "rho": 7.0,
            "initial_noise": "sigma_max",
        }
    )
    config.train = ConfigDict(
        {
            "batch_size": 32,
            "accumulate": 1,
            "num_steps": 100_000,
            "learning_rate": 1e-4,
            "schedule": "constant",
            "warmup_steps": 100,
            "weight_decay": 1e-2,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "clip_norm": 1.0,
            "max_nonfinite": 3,
            "spike_sigmas": 6.0,
            "watchdog_seconds": 600.0,
            "ema_decay": 0.999,
            "log_every": 100,
            "eval_every": 5_000,
            "checkpoint_every": 5_000,
            "keep": 2,
            "keep_every": 0,
            "best": "eval/held_out/loss",
            "better": "lower",
        }
    )
    config.eval = ConfigDict(
        {"num_examples": 512, "num_contexts": 64, "num_context": 4, "horizon": 16, "changed_threshold": 8}
    )
    config.imagine = ConfigDict(
        {
            "num_contexts": 64,
            "num_context": 4,
            "horizon": 48,
            "changed_threshold": 8,
            "num_branches": 4,
            "num_samples": 4,
            "num_shown": 4,
            "fps": 15,
        }
    )
    if variant == "debug":
        config.network.update({"channels": (8,), "blocks": 1})
        config.model.update({"condition": 16, "dtype": "float32"})
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.eval.update({"num_examples": 4, "num_contexts": 2, "horizon": 2})
    elif variant:
        raise ValueError(f"configs/atari_diamond.py has no variant {variant!r}; it has 'debug'.")
    return config
