"""A masked autoencoder of video: what does an encoder learn of things that move, from clips that it never saw whole?

Model: VideoMAE (Tong et al. 2022) with an encoder 96 wide and 4 blocks deep on tubelets of 2x8x8, a decoder of 2 blocks
64 wide, three quarters of the tubes removed, pixels as targets; joint attention over space and time.
Data: moving digits (procedural, from MNIST's images: `make data`), one object of 14 pixels in clips of 8 32x32 frames.
Judged by: ridge regression of the motion's direction on the frozen encoder's mean token, beside its baselines; `eval`
adds what `--config.eval.probes` names. `--config.eval.label_key=digit` asks what moves instead.
Command: python launch.py record --config=configs/moving_mae.py --workdir=runs/moving (after `make data`), then train,
eval and imagine.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The config; variant "debug" is two steps of a tiny model."""
    config = ConfigDict()
    config.experiment = "experiments.families.masked_autoencoder.experiment"
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
            "source": "moving_digits",
            "digits": "mnist",
            "num_objects": 1,
            "num_frames": 8,
            "speed": 1.0,  # pixels a frame: the slower, the more redundant in time
            "image_size": (32, 32),
            "num_episodes": 6000,
            "splits": {"train": 0.667, "test": 0.333},
            "seed": 0,
        }
    )
    config.init_from = ConfigDict({"checkpoints": "", "step": -1, "parts": ()})
    config.data = ConfigDict(
        {
            "dataset": "",  # empty: <workdir>/data
            "train_split": "train",
            "validation_split": "test",  # nothing is chosen by it
            "test_split": "test",
            "image_key": "observation/image",  # or image, where an example is an image
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
            "tubelet": 2,
            "masking": "tube",
            "mask_ratio": 0.75,
            "encode_mask_tokens": False,
            "target": "pixels",  # VideoMAE normalizes them by patch; here most patches are dark
            "pca_components": 12,
            "class_token": False,
            "positions": "grid",
            "decoder_input_bias": False,
            "pixel_mean": (0.05,),
            "pixel_std": (0.2,),
            "dtype": "float32",
        }
    )
    config.encoder = ConfigDict(
        {"width": 96, "depth": 4, "heads": 3, "mlp_ratio": 4.0, "remat": "none", "unroll": 4, "attention": "xla"}
    )
    config.decoder = ConfigDict(
        {"width": 64, "depth": 2, "heads": 4, "mlp_ratio": 4.0, "remat": "none", "unroll": 2, "attention": "xla"}
    )
    config.augment = ConfigDict({"crop_scale": (), "flip": False})
    config.train = ConfigDict(
        {
            "batch_size": 64,
            "accumulate": 1,
            "num_steps": 4000,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 100,
            "weight_decay": 0.05,
            "b1": 0.9,
            "b2": 0.95,
            "eps": 1e-8,
            "clip_norm": 1.0,
            "max_nonfinite": 3,
            "spike_sigmas": 6.0,
            "watchdog_seconds": 600.0,
            "ema_decay": 0.0,  # the weights themselves, as in MAE
            "log_every": 20,
            "eval_every": 500,
            "checkpoint_every": 500,
            "keep": 1,
            "keep_every": 0,
            "best": "",
            "better": "lower",
        }
    )
    config.eval = ConfigDict(
        {
            "num_examples": 2048,
            "num_pictures": 6,
            "probes": ("ridge",),
            "label_key": "motion",
            "pool": "mean",
            "num_train": 0,  # all
            "num_test": 0,
            "baselines": True,
            "shots": (0,),  # labels a class that the probe fine_tune trains on; 0: all
        }
    )
    config.linear_probe = ConfigDict(
        {
            "batch_size": 1024,
            "epochs": 100,
            "warmup_epochs": 5,
            "base_learning_rates": (0.25, 0.5, 1.0, 2.0, 4.0),  # a tenth of the training set chooses
        }
    )
    config.fine_tune = ConfigDict(
        {
            "batch_size": 64,
            "num_steps": 400,
            "learning_rate": 1e-3,
            "warmup_steps": 40,
            "weight_decay": 0.05,
            "layer_decay": 0.75,
            "trained_blocks": -1,  # all, and the embeddings; k: only the last k
            "drop_path": 0.1,
            "label_smoothing": 0.1,
            "mixup": 0.0,
            "cutmix": 0.0,
            "crop_scale": (),
            "flip": False,  # a mirrored motion has another label
            "randaugment_ops": 0,
            "randaugment_magnitude": 9,
        }
    )
    config.imagine = ConfigDict({"num_shown": 12, "fps": 8})
    if variant == "debug":
        config.record.update({"num_episodes": 90})
        config.encoder.update({"width": 16, "depth": 2, "heads": 2, "unroll": 1})
        config.decoder.update({"width": 16, "depth": 1, "heads": 2, "unroll": 1})
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.train.schedule = "constant"  # num_steps is then no part of the compiled step
        config.eval.update({"num_examples": 4, "num_pictures": 2, "probes": (), "num_train": 0, "shots": (1,)})
        config.linear_probe.update({"batch_size": 4, "epochs": 2, "warmup_epochs": 1})
        config.fine_tune.update({"batch_size": 4, "num_steps": 2})
        config.imagine.num_shown = 2
    elif variant:
        raise ValueError(f"configs/moving_mae.py has no variant {variant!r}; it has 'debug'.")
    return config
