"""A causal tokenizer of CarRacing-v3: how few numbers a frame does a model need to see the race through?

Model: a masked autoencoder that is causal in time and ends in 16 tokens of 8 numbers a frame (Hafner et al. 2025,
"Dreamer 4", section 3.1), made small; mask ratios from U(0, 0.9), squared error alone.
Data: that of configs/demo.py: CarRacing-v3 at 32x32, 44 episodes of 100 steps.
Judged by: PSNR of held-out frames after encoding and decoding, whole and with 75 % of the patches masked, beside the
mean frame and the frame before.
Command: python launch.py record --config=configs/car_tokenizer.py --workdir=runs/tokenizer, then train and imagine.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The config; variant "debug" is two steps of a tiny model."""
    config = ConfigDict()
    config.experiment = "experiments.families.tokenizer.experiment"
    config.seed = 0
    config.mesh = (-1, 1, 1)
    config.sharding = (  # (name of a parameter's axis, mesh axis to split it over), the more important first
        ("heads", "tensor"),
        ("mlp", "tensor"),
        ("width", "fsdp"),
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
            "clip_length": 8,
            "stride": 1,
            "across_episodes": False,
            "max_damaged": 0,
            "cache_gb": 2.0,
            "num_threads": 1,
        }
    )
    config.model = ConfigDict(
        {
            "patch": 8,
            "latents": 16,
            "latent_channels": 8,
            "time_every": 2,
            "window": 8,
            "mask_ratio_max": 0.9,
            "pixel_mean": (0.5,),
            "pixel_std": (0.25,),
            "dtype": "float32",
        }
    )
    config.encoder = ConfigDict(
        {"width": 96, "depth": 4, "heads": 3, "mlp_ratio": 4.0, "remat": "none", "unroll": 4, "attention": "xla"}
    )
    config.decoder = ConfigDict(
        {"width": 96, "depth": 4, "heads": 3, "mlp_ratio": 4.0, "remat": "none", "unroll": 4, "attention": "xla"}
    )
    config.train = ConfigDict(
        {
            "batch_size": 8,
            "accumulate": 1,
            "num_steps": 4000,
            "learning_rate": 7e-4,  # 2e-3 found no more than the mean frame in 600 steps
            "schedule": "cosine",
            "warmup_steps": 200,
            "weight_decay": 0.05,
            "b1": 0.9,
            "b2": 0.95,
            "eps": 1e-8,
            "clip_norm": 1.0,
            "max_nonfinite": 3,
            "spike_sigmas": 6.0,
            "watchdog_seconds": 600.0,
            "ema_decay": 0.99,
            "log_every": 10,
            "eval_every": 1000,
            "checkpoint_every": 1000,
            "keep": 2,
            "keep_every": 0,
            "best": "eval/fidelity/psnr",
            "better": "higher",
        }
    )
    config.eval = ConfigDict({"num_examples": 64, "num_pictures": 4})
    config.imagine = ConfigDict({"num_shown": 4, "fps": 8})
    if variant == "debug":
        config.record.update(
            {"num_episodes": 6, "max_episode_steps": 20, "splits": {"train": 0.5, "validation": 0.2, "test": 0.3}}
        )
        config.data.clip_length = 4
        config.model.update({"latents": 4, "latent_channels": 4, "window": 3})
        for network in (config.encoder, config.decoder):
            network.update({"width": 16, "depth": 2, "heads": 2, "unroll": 1})
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.train.schedule = "constant"  # num_steps is then no part of the compiled step
        config.eval.update({"num_examples": 4, "num_pictures": 2})
        config.imagine.num_shown = 2
    elif variant:
        raise ValueError(f"configs/car_tokenizer.py has no variant {variant!r}; it has 'debug'.")
    return config
