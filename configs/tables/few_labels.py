"""What masked pretraining saves in labels: frozen features and fine-tuning on 100 and 1,000 labels, and baselines.

Ours: Fashion-MNIST, whose training images are all seen without labels. A closed-form ridge regression on the frozen
encoder's mean patch token, and MAE's linear probe, beside the same on the untrained encoder, random features and
pixels; then fine-tuning on 10 and 100 labels a class beside the same network trained on them from scratch.
Command: python launch.py table few_labels --scale=cpu --seeds=3
"""

from configs.tables._columns import PERCENT


def get_table() -> dict:
    """The table."""
    measure = lambda title, about, *path, baseline_for="": {
        "title": title,
        "about": about,
        "path": ("/".join(("eval", *path)),),
        "episodes": (f"eval/{path[0]}/num_test",),
        "baseline_for": baseline_for,
        **PERCENT,
    }
    probes = {
        "ridge": measure("ridge", "test accuracy of ridge regression on the mean patch token", "ridge", "accuracy"),
        "linear": measure("linear", "test accuracy of MAE's linear probe on the same", "linear", "accuracy"),
    }
    baselines = {
        "random_init": ("untrained", "the initial weights"),
        "random_features": ("random", "192 random features"),
        "raw_pixels": ("pixels", "the pixels"),
    }
    baseline = "the {} probe on {}, which needs no pretraining"
    scratch = {shots: ("fine_tune", f"scratch_{shots}") for shots in (10, 100)}
    frozen = {}
    for probe, column in probes.items():
        frozen[probe] = column
        for name, (title, of) in baselines.items():
            frozen[f"{probe}_{name}"] = measure(
                f"{probe}, {title}", baseline.format(probe, of), probe, name, baseline_for=probe
            )
    return {
        "title": "What masked pretraining saves in labels",
        "paper": "MAE, He et al. 2021, arXiv 2111.06377",
        "number": "sections 4.1 and 4.2, in kind",
        "question": "Does an encoder that was only trained to fill in patches know classes, and does it need fewer "
        "labels than a new one?",
        "about": "One encoder 192 wide, pretrained without labels, judged frozen and fine-tuned on few labels.",
        "setting": "The paper has no such small data",
        "command": "eval",
        "published_columns": {},
        "columns": {
            **frozen,
            "tuned_100": measure(
                "100 labels, fine-tuned", "test accuracy fine-tuned on 100 labels", "fine_tune", "accuracy_10"
            ),
            "scratch_100": measure(
                "100 labels, from scratch", "trained on the same 100 labels", *scratch[10], baseline_for="tuned_100"
            ),
            "tuned_1000": measure(
                "1,000 labels, fine-tuned", "test accuracy fine-tuned on 1,000 labels", "fine_tune", "accuracy_100"
            ),
            "scratch_1000": measure(
                "1,000 labels, from scratch",
                "trained on the same 1,000 labels",
                *scratch[100],
                baseline_for="tuned_1000",
            ),
        },
        "rows": {"masked autoencoder": {"overrides": {}}},
        "conclusions": [
            {
                "text": f"{text} by at least {least} points",
                "kind": "ours",
                "holds": lambda rows, over=over, under=under, least=least: all(
                    row[over] - row[under] >= least for row in rows.values()
                ),
            }
            for text, over, under, least in (
                ("in ridge, frozen features beat the untrained encoder's", "ridge", "ridge_random_init", 6),
                ("in a linear probe, frozen features beat the untrained encoder's", "linear", "linear_random_init", 6),
                ("on 100 labels pretraining beats training from scratch", "tuned_100", "scratch_100", 8),
                ("on 1,000 labels pretraining beats training from scratch", "tuned_1000", "scratch_1000", 5),
            )
        ]
        + [
            {
                "text": f"in {words}, frozen features reach 86 %",
                "kind": "ours",
                "holds": lambda rows, probe=probe: all(row[probe] >= 86 for row in rows.values()),
            }
            for probe, words in (("ridge", "ridge"), ("linear", "a linear probe"))
        ],
        "headline": lambda rows: "; ".join(
            f"linear probe {row['linear']:.0f} %; 100 labels {row['tuned_100']:.0f} % ({row['scratch_100']:.0f} % from "
            "scratch)"
            for row in rows.values()
        ),
        "scales": SCALES,
    }


PROBES = {"eval.every": 0, "eval.probes.names": ("ridge", "linear", "fine_tune"), "eval.probes.shots": (10, 100)}
SCALES = {
    "smoke": {
        "about": "Fashion-MNIST, 2,000 images, two training steps of a tiny encoder: only shows that the table runs",
        "config": "configs/fashion_mae.py:debug",
        "overrides": {**PROBES, "record.num_episodes": 2000},
    },
    "cpu": {
        "about": "Fashion-MNIST, 28x28, patches of 7x7 (an epoch takes less than half the time of 4x4), encoder 192 "
        "wide with 6 blocks, decoder 64 wide with 2; 25 epochs of 60,000 images; the probe sees all labels, "
        "fine-tuning 100 or 1,000 for 150 steps of 64",
        "config": "configs/fashion_mae.py",
        "overrides": {
            **PROBES,
            "model.patch": 7,
            "train.num_steps": 23_450,
            "train.optimizer.warmup_steps": 1_175,
            "eval.probes.num_train": 0,
            "eval.num_pictures": 0,
            "eval.fine_tune.num_steps": 150,
        },
    },
    "gpu": {
        "about": "Fashion-MNIST, 28x28, patches of 4x4, encoder 192 wide with 12 blocks, decoder 96 wide with 2; 400 "
        "epochs without labels; the probe sees all labels, fine-tuning 100 or 1,000 for 1,000 steps of 64",
        "config": "configs/fashion_mae.py",
        "overrides": {
            **PROBES,
            "model.encoder.depth": 12,
            "model.decoder.width": 96,
            "train.batch_size": 1024,
            "train.num_steps": 23_440,
            "train.optimizer.warmup_steps": 1160,
            "eval.probes.num_train": 0,
            "eval.fine_tune.num_steps": 1000,
        },
    },
    "paper": {"about": "ImageNet-1K with ViT-L/16 for 800 epochs: 42 hours of 64 V100s"},
}
