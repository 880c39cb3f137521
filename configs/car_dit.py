"""CarRacing-v3 at 64x64 with a diffusion transformer, DiT-S (Peebles & Xie 2022), for one GPU or a mesh of many.

Model: next-frame diffusion from 4 past frames and actions as in configs/atari_diamond.py, with a transformer over 4x4
patches in place of the U-Net: 33 M parameters, scanned over depth, split over `tensor` (heads, MLP) and `fsdp`.
Data: CarRacing-v3 driven by configs/demo.py:drive, 400 episodes of 300 steps.
Number to expect: not run; it is the config of docs/scaling.md and of the benchmarks `scaling` and `throughput`.
Command: python launch.py train --config=configs/car_dit.py --workdir=runs/dit --config.mesh='(-1, 4, 2)'
"""

from ml_collections import ConfigDict


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
    config.xla_flags = ""  # on GPUs, say --xla_gpu_enable_latency_hiding_scheduler=true
    config.profile = False
    config.wandb = False

    config.record = ConfigDict(
        {
            "source": "gymnasium",
            "environment": "CarRacing-v3",
            "environment_kwargs": {"continuous": False},  # actions: coast, steer right, steer left, gas, brake
            "modules": (),
            "observation": "observation",
            "image_size": (64, 64),
            "action_repeat": 3,
            "policy": "configs.demo:drive",
            "repeat_probability": 0.0,
            "num_episodes": 400,
            "max_episode_steps": 300,
            "skip_steps": 20,  # the first second only zooms in
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
            "clip_length": 5,
            "stride": 1,
            "across_episodes": False,
            "max_damaged": 0,
            "cache_gb": 2.0,
            "num_threads": 8,
        }
    )
    config.model = ConfigDict(
        {
            "context_offsets": (4, 3, 2, 1),
            "condition": 384,
            "patch": 4,
            "target": "change",
            "context_noise": 0.1,
            "dtype": "bfloat16",
        }
    )
    config.network = ConfigDict(
        {
            "kind": "transformer",
            "width": 384,
            "depth": 12,
            "heads": 6,
            "mlp_ratio": 4.0,
            "remat": "none",
            "unroll": 1,
            "attention": "cudnn",  # "xla" where there is no NVIDIA GPU
        }
    )
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
            "batch_size": 64,
            "accumulate": 1,
            "num_steps": 50_000,
            "learning_rate": 3e-4,
            "schedule": "cosine",
            "warmup_steps": 1_000,
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
        config.network.update({"width": 32, "depth": 2, "heads": 4, "attention": "xla"})
        config.model.update({"condition": 32, "patch": 4, "dtype": "float32"})
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.train.schedule = "constant"  # num_steps is then no part of the compiled step
        config.eval.update({"num_examples": 4, "num_contexts": 2, "horizon": 2})
        config.imagine.update({"num_contexts": 4, "horizon": 3, "num_branches": 2, "num_samples": 2, "num_shown": 2})
    elif variant:
        raise ValueError(f"configs/car_dit.py has no variant {variant!r}; it has 'debug'.")
    return config
