"""What makes masked autoencoders work: MAE's Table 1 and its masking ratios, one change at a time.

Ours: every row pretrains the encoder anew and asks a closed-form ridge regression on its frozen, averaged patch tokens.
The base is MAE's for these tables: pixels as targets, three quarters removed at random, no mask tokens in the encoder.
Command: python launch.py table mae --scale=cpu --seeds=3
"""

from configs.tables._columns import PERCENT

TABLE = "MAE, table 1 and section 4.1"
RATIOS = (0.25, 0.5, 0.75, 0.9)
# Every cell of the paper's table 1 that has a like here; ViT-L/16, ImageNet-1K, 800 epochs, top-1 accuracy in percent.
BASE = "base (random 75)"
ROWS = {
    BASE: ({}, (84.9, 73.5)),
    "mask tokens in the encoder": ({"model.encode_mask_tokens": True}, (84.2, 59.6)),
    "normalized pixels": ({"model.target": "patch_normalized"}, (85.4, 73.9)),
    "principal components": ({"model.target": "pca"}, (84.6, 72.3)),
    "block 75": ({"model.masking": "block"}, (82.8, 63.9)),
    "block 50": ({"model.masking": "block", "model.mask_ratio": 0.5}, (83.9, 72.3)),
    "grid 75": ({"model.masking": "grid"}, (84.0, 66.0)),
    "decoder of 1 block": ({"model.decoder.depth": 1}, (84.8, 65.5)),
    "crops": ({"augment.crop_scale": (0.2, 1.0)}, ()),
    "random 25": ({"model.mask_ratio": 0.25}, ()),
    "random 50": ({"model.mask_ratio": 0.5}, ()),
    "random 90": ({"model.mask_ratio": 0.9}, ()),
}


def get_table() -> dict:
    """The table."""
    rows = {}
    for name, (overrides, numbers) in ROWS.items():
        rows[name] = {"overrides": overrides}
        if numbers:
            rows[name] |= {"published": dict(zip(("fine_tuned", "linear"), numbers)), "source": TABLE}
    test = {"episodes": ("eval/ridge/num_test",), **PERCENT}
    baseline = "the same probe on {}, which needs no pretraining"
    beats = lambda one, other: lambda rows: rows[one]["probe"] > rows[other]["probe"]
    at_least = lambda one, other: lambda rows: rows[one]["probe"] >= rows[other]["probe"]
    return {
        "title": "What makes masked autoencoders work",
        "paper": "MAE, He et al. 2021, arXiv 2111.06377",
        "number": "Table 1 and Figure 5",
        "question": "Which parts of the recipe does the quality of the encoder depend on?",
        "about": "One change at a time to masks, targets and decoder; the encoder's features are judged frozen.",
        "setting": "ViT-L/16 on ImageNet-1K, 800 epochs; top-1 accuracy after fine-tuning and of a linear probe",
        "command": "eval",
        "published_columns": {
            "fine_tuned": {"title": "fine-tuned", "unit": "%", "better": "higher"},
            "linear": {"title": "linear probe", "unit": "%", "better": "higher"},
        },
        "columns": {
            "probe": {
                "title": "ridge probe",
                "about": "test accuracy of ridge regression on the frozen encoder's mean patch token",
                "path": ("eval/ridge/accuracy",),
                "published": ("linear",),
                **test,
            },
            **{
                name: {
                    "title": title,
                    "about": baseline.format(what),
                    "path": (f"eval/ridge/{name}",),
                    "baseline_for": "probe",
                    **test,
                }
                for name, title, what in (
                    ("random_init", "untrained encoder", "the encoder with its initial weights"),
                    ("random_features", "random features", "as many random features of the pixels"),
                    ("raw_pixels", "pixels", "the pixels"),
                )
            },
        },
        "rows": rows,
        "conclusions": [
            {
                "text": "an encoder without mask tokens beats one with them",
                "kind": "paper",
                "source": "MAE, table 1c",
                "holds": beats(BASE, "mask tokens in the encoder"),
            },
            {
                "text": "random masking beats block-wise masking at 75 %",
                "kind": "paper",
                "source": "MAE, table 1f",
                "holds": beats(BASE, "block 75"),
            },
            {
                "text": "random masking beats grid-wise masking at 75 %",
                "kind": "paper",
                "source": "MAE, table 1f",
                "holds": beats(BASE, "grid 75"),
            },
            {
                "text": "normalized pixels are at least as good a target as pixels",
                "kind": "paper",
                "source": "MAE, table 1d",
                "holds": at_least("normalized pixels", BASE),
            },
            {
                "text": "principal components are a worse target than pixels",
                "kind": "paper",
                "source": "MAE, table 1d",
                "holds": beats(BASE, "principal components"),
            },
            {
                "text": "a deeper decoder makes better frozen features than one block",
                "kind": "paper",
                "source": "MAE, table 1a",
                "holds": beats(BASE, "decoder of 1 block"),
            },
            {
                "text": "frozen features get better with the ratio up to 75 %, and worse beyond",
                "kind": "paper",
                "source": "MAE, figure 5",
                "holds": lambda rows: (
                    rows["random 25"]["probe"] < rows["random 50"]["probe"] < rows[BASE]["probe"]
                    and rows[BASE]["probe"] > rows["random 90"]["probe"]
                ),
            },
        ],
        "headline": lambda rows: ", ".join(
            f"{name} {rows[name]['probe']:.1f} %" for name in (BASE, "random 25", "block 75")
        ),
        "scales": SCALES,
    }


COMMON = {"model.target": "pixels", "eval.every": 0}
SCALES = {
    "smoke": {
        "about": "Fashion-MNIST, 200 images, two training steps of a tiny encoder: only shows that the table runs",
        "config": "configs/fashion_mae.py:debug",
        "overrides": {**COMMON, "record.num_episodes": 200, "eval.probes.names": ("ridge",), "model.decoder.depth": 2},
    },
    "cpu": {
        "about": "Fashion-MNIST, 28x28, patches of 4x4, encoder 96 wide with 6 blocks, decoder 64 wide with 2, "
        "one epoch of 60,000 images in batches of 64; the probe sees 10,000 labels",
        "config": "configs/fashion_mae.py",
        "overrides": {
            **COMMON,
            "model.encoder.width": 96,
            "augment.flip": False,
            "train.batch_size": 64,
            "train.num_steps": 938,
            "train.optimizer.warmup_steps": 50,
            "runtime.checkpoint_every": 938,
            "eval.probes.num_train": 10_000,
            "eval.num_pictures": 0,
        },
    },
    "gpu": {
        "about": "Fashion-MNIST, 28x28, patches of 4x4, encoder 192 wide with 12 blocks, decoder 96 wide with 2, 200 "
        "epochs; the probe sees all labels",
        "config": "configs/fashion_mae.py",
        "overrides": {
            **COMMON,
            "model.encoder.depth": 12,
            "model.decoder.width": 96,
            "train.batch_size": 1024,
            "train.num_steps": 11_720,
            "train.optimizer.warmup_steps": 580,
            "eval.probes.num_train": 0,
        },
    },
    "paper": {"about": "ImageNet-1K with ViT-L/16 for 800 epochs: 42 hours of 64 V100s a row"},
}
