"""A masked autoencoder of Fashion-MNIST: what does an encoder learn about clothes that it never saw whole?

Model: MAE (He et al. 2021) with an encoder 192 wide and 6 blocks deep on patches of 4x4 pixels, a decoder of 2 blocks
64 wide, three quarters of the patches removed, pixels as targets: in so short a training they make better frozen
features than MAE's normalized pixels do (the table `mae` has both).
Data: the complete Fashion-MNIST, 60,000 and 10,000 images of 28x28 (MIT licence), from a Debian package: `make data`.
Judged by: ridge regression on the frozen encoder's mean patch token, beside raw pixels, random features and the same
encoder untrained; `launch.py eval` adds what `--config.eval.probes` names (ridge, knn, linear, fine_tune).
Cost: ten epochs of 60,000 images; not timed to the end. The table few_labels has 25 epochs of larger patches.
Command: python launch.py record --config=configs/fashion_mae.py --workdir=runs/fashion (after `make data`), then train,
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
            "source": "fashion_mnist",
            "seed": 0,
            "image_size": (28, 28),
            "num_episodes": 0,
            "splits": {"train": 0.9, "test": 0.1},  # of the sources "emoji" and "images"
            "images": "",  # folder of class folders, of the source "images"
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
            "clip_length": 1,
            "stride": 1,
            "across_episodes": False,
            "max_damaged": 0,
            "cache_gb": 2.0,
            "num_threads": 1,
        }
    )
    config.model = ConfigDict(
        {
            "patch": 4,
            "tubelet": 1,
            "masking": "random",
            "mask_ratio": 0.75,
            "encode_mask_tokens": False,
            "target": "pixels",
            "pca_components": 12,
            "class_token": True,
            "positions": "grid",
            "decoder_input_bias": True,
            "pixel_mean": (0.286,),
            "pixel_std": (0.353,),
            "dtype": "float32",
        }
    )
    config.encoder = ConfigDict(
        {"width": 192, "depth": 6, "heads": 3, "mlp_ratio": 4.0, "remat": "none", "unroll": 6, "attention": "xla"}
    )
    config.decoder = ConfigDict(
        {"width": 64, "depth": 2, "heads": 4, "mlp_ratio": 4.0, "remat": "none", "unroll": 2, "attention": "xla"}
    )
    config.augment = ConfigDict({"crop_scale": (), "flip": True})
    config.train = ConfigDict(
        {
            "batch_size": 64,
            "accumulate": 1,
            "num_steps": 9380,  # 10 epochs
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 470,
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
            "eval_every": 2345,
            "checkpoint_every": 2345,
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
            "label_key": "label",
            "pool": "mean",
            "num_train": 10_000,  # 0: all
            "num_test": 0,
            "baselines": True,
            "shots": (10, 100),  # labels a class that the probe fine_tune trains on; 0: all
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
            "flip": True,
            "randaugment_ops": 0,
            "randaugment_magnitude": 9,
        }
    )
    config.imagine = ConfigDict({"num_shown": 12, "fps": 8})
    if variant == "debug":
        config.encoder.update({"width": 16, "depth": 2, "heads": 2, "unroll": 1})
        config.decoder.update({"width": 16, "depth": 1, "heads": 2, "unroll": 1})
        config.train.update({"batch_size": 4, "num_steps": 2, "eval_every": 2, "log_every": 1, "checkpoint_every": 2})
        config.train.schedule = "constant"  # num_steps is then no part of the compiled step
        config.eval.update({"num_examples": 4, "num_pictures": 2, "probes": (), "num_train": 0, "shots": (1,)})
        config.linear_probe.update({"batch_size": 4, "epochs": 2, "warmup_epochs": 1})
        config.fine_tune.update({"batch_size": 4, "num_steps": 2})
        config.imagine.num_shown = 2
    elif variant:
        raise ValueError(f"configs/fashion_mae.py has no variant {variant!r}; it has 'debug'.")
    return config
