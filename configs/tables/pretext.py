"""Which prediction task teaches what? All pretext tasks, masked autoencoders and labels under one set of probes.

Ours: three groups of rows, each with one set of data. "fashion" and "emoji": one transformer on images, probed for what
is shown; "motion": one CNN on frames of moving objects (a transformer for the masked autoencoder), probed for where to
and how fast they move and what they are, and how well features carry masks along.
Command: python launch.py table pretext --scale=cpu --seeds=3
"""

from configs.moving_pretext import DATA as MOVING_DATA
from configs.tables._columns import PERCENT
from world_models.core.options import to_dict
from world_models.data.options import RECORDING, EmojiRecording

FASHION = "configs/fashion_pretext.py"
EMOJI = "configs/emoji_pretext.py"
MOVING = "configs/moving_pretext.py"
# Variant of its config by row; rows without one are masked autoencoders.
TASKS = {
    "fashion: relative position": (FASHION, "relative_position"),
    "fashion: exemplar": (FASHION, "exemplar"),
    "fashion: triplets": (FASHION, "triplet"),
    "fashion: masked autoencoder": ("configs/fashion_mae.py", ""),
    "fashion: supervised": (FASHION, "classification"),
    "emoji: relative position": (EMOJI, "relative_position"),
    "emoji: colorization": (EMOJI, "colorization"),
    "emoji: exemplar": (EMOJI, "exemplar"),
    "emoji: triplets": (EMOJI, "triplet"),
    "emoji: masked autoencoder": ("configs/fashion_mae.py", ""),
    "emoji: supervised": (EMOJI, "classification"),
    "motion: order": (MOVING, "order"),
    "motion: direction": (MOVING, "direction"),
    "motion: colour tracking": (MOVING, "color_tracking"),
    "motion: next frame": (MOVING, "next_frame"),
    "motion: masked autoencoder": ("configs/moving_mae.py", ""),
}
BASELINES = {
    "random_init": ("untrained", "the same encoder with its initial weights"),
    "raw_pixels": ("pixels", "the pixels"),
}


def get_table() -> dict:
    """The table."""
    group = lambda row: row.partition(":")[0]
    return {
        "title": "Which prediction task teaches what",
        "paper": "Doersch et al. 2015, arXiv 1505.05192; Zhang et al. 2016, arXiv 1603.08511; Dosovitskiy et al. 2014, "
        "arXiv 1406.6909; Misra et al. 2016, arXiv 1603.08561; Vondrick et al. 2018, arXiv 1806.09594",
        "number": "in kind",
        "question": "What does an encoder know after it was trained to predict one part of its data from another, and "
        "which task teaches what?",
        "about": "One encoder in each group of rows, trained on one task without labels (but for the supervised rows) "
        "and judged frozen.",
        "setting": "The papers have photographs and films, AlexNet and other encoders, and other probes",
        "command": "eval",
        "published_columns": {},
        "columns": _columns(),
        "rows": {row: {"overrides": {}, "group": group(row)} for row in TASKS},
        "conclusions": _conclusions(),
        "headline": lambda rows: "; ".join(
            f"{name} {rows[row]['ridge']:.0f} % ({rows[row]['ridge_random_init']:.0f} % untrained)"
            for name, row in (("exemplar", "fashion: exemplar"), ("colorization", "emoji: colorization"))
        ),
        "scales": _scales(),
    }


def _measure(title: str, about: str, *path: str, baseline_for: str = "", **more) -> dict:
    whole = "/".join(("eval", *path))
    return {"title": title, "about": about, "path": (whole,), "baseline_for": baseline_for, **PERCENT, **more}


def _columns() -> dict:
    share = {"scale": 100.0}
    columns = {
        "task": _measure("the task", "accuracy of the task on held-out data", "held_out", "accuracy", **share),
        "task_chance": _measure(
            "the task, chance", "of a guess", "held_out", "accuracy_chance", baseline_for="task", **share
        ),
    }
    probes = {
        "ridge": ("linear", "ridge regression on frozen features, of what is shown or the direction of motion"),
        "knn": ("nearest neighbours", "the same by nearest neighbours"),
        "few_labels_10": ("10 labels a class", "ridge regression on ten labels of every class"),
        "ridge_speed": ("speed", "ridge regression of the speed"),
        "ridge_digit": ("what moves", "ridge regression of what moves"),
    }
    for name, (title, about) in probes.items():
        columns[name] = _measure(title, f"test accuracy of {about}", name, "accuracy")
        for baseline, (short, of) in BASELINES.items():
            columns[f"{name}_{baseline}"] = _measure(
                f"{title}, {short}", f"the same of {of}", name, baseline, baseline_for=name
            )
    auc = "area under the cumulative distribution of colour errors, every colour alike"
    columns["colors"] = _measure("colours", auc, "colors", "auc_rebalanced")
    for name, title in (("grey", "no colour"), ("mean", "the mean colour")):
        columns[f"colors_{name}"] = _measure(
            f"colours, {title}", f"the same of {title}", "colors", f"{name}_auc_rebalanced", baseline_for="colors"
        )
    columns["tracking"] = _measure("J and F", "mean of J and F of masks that features carry", "tracking", "j_and_f")
    for name in ("identity", "optical_flow", "nearest_color", "random_init"):
        title = name.replace("_", " ")
        columns[f"tracking_{name}"] = _measure(
            f"J and F, {title}", f"the same of {title}", "tracking", f"{name}_j_and_f", baseline_for="tracking"
        )
    return columns


def _conclusions() -> list[dict]:
    better = lambda row, column, than, least=0.0: lambda rows: rows[row][column] - rows[row][than] > least
    learned = (
        ("relative position", "fashion: relative position", "Doersch et al. 2015, sections 4.2 and 5"),
        ("colorization", "emoji: colorization", "Zhang et al. 2016, section 3.2"),
        ("exemplar networks", "fashion: exemplar", "Dosovitskiy et al. 2014, table 1"),
        ("the order of frames", "motion: order", "Misra et al. 2016, table 2"),
        ("the direction of time", "motion: direction", "Wei et al. 2018, section 5"),
    )
    images = lambda group: [row for row in TASKS if row.startswith(f"{group}:") and "supervised" not in row]
    return [
        {
            "text": f"{name}: a linear probe finds more than in an untrained encoder",
            "kind": "paper",
            "source": source,
            "holds": better(row, "ridge", "ridge_random_init"),
        }
        for name, row, source in learned
    ] + [
        {
            "text": "predicted colours are nearer than grey, every colour alike",
            "kind": "paper",
            "source": "Zhang et al. 2016, table 1",
            "holds": better("emoji: colorization", "colors", "colors_grey"),
        },
        *(
            {
                "text": f"tracking by colorization carries masks better than {title}",
                "kind": "paper",
                "source": "Vondrick et al. 2018, table 2",
                "holds": better("motion: colour tracking", "tracking", f"tracking_{name}"),
            }
            for name, title in (("identity", "the first mask"), ("optical_flow", "optical flow"))
        ),
        {
            "text": "labels teach more about themselves than any pretext task",
            "kind": "paper",
            "source": "Doersch et al. 2015, table 1; Zhang et al. 2016, tables 2 and 3",
            "holds": lambda rows: all(
                rows[f"{group}: supervised"]["ridge"] > rows[row]["ridge"]
                for group in ("fashion", "emoji")
                for row in images(group)
            ),
        },
        {
            "text": "a masked autoencoder teaches more about what is shown than any older task on the same images",
            "kind": "ours",
            "source": "it is the task that came after them",
            "holds": lambda rows: all(
                rows[f"{group}: masked autoencoder"]["ridge"] >= rows[row]["ridge"]
                for group in ("fashion", "emoji")
                for row in images(group)
            ),
        },
        {
            "text": "tasks about time teach more about the direction of motion than tracking by colorization does",
            "kind": "ours",
            "source": "their targets depend on it",
            "holds": lambda rows: (
                min(rows["motion: order"]["ridge"], rows["motion: direction"]["ridge"])
                > rows["motion: colour tracking"]["ridge"]
            ),
        },
    ]


PROBES = {
    "eval.every": 0,
    "eval.num_pictures": 0,
    "eval.probes.names": ("ridge", "knn", "few_labels"),
    "eval.probes.shots": (10,),
}
MASKED = "masked autoencoder"
# What the config files of masked autoencoders have otherwise: the data of their group.
DATA = {
    f"emoji: {MASKED}": {
        "record": to_dict(EmojiRecording(), RECORDING),
        "model.patch": 8,
        "model.pixels.mean": (0.8,),
        "model.pixels.std": (0.3,),
        "augment.flip": False,
    },
    f"motion: {MASKED}": {
        "record": to_dict(MOVING_DATA, RECORDING),
        "model.pixels.mean": (0.5,),
        "model.pixels.std": (0.25,),
    },
}
MOTION = {"eval.probes.label_key": "motion", "eval.probes.more_label_keys": ("speed", "digit")}


def _rows(groups: dict[str, dict], own: dict[str, dict]) -> dict[str, dict]:
    """Overrides by row: of its data, then those of its group, then its `own`, by row or by task."""
    found = {}
    for row in TASKS:
        group, _, task = row.partition(": ")
        motion = MOTION if group == "motion" else {}
        found[row] = {**motion, **DATA.get(row, {}), **groups[group], **own.get(row, own.get(task, {}))}
    return found


def _configs(debug: bool) -> dict[str, str]:
    """The config file of each row with its variant."""
    variant = lambda name: "-".join(filter(None, (name, "debug" * debug)))
    return {row: f"{file}:{variant(name)}".removesuffix(":") for row, (file, name) in TASKS.items()}


def _scales() -> dict:
    few = lambda count, **more: {"record.num_episodes": count, **more}
    long = lambda steps: {"train.num_steps": steps, "train.optimizer.warmup_steps": steps // 20}
    encoder = {"model.encoder.width": 96, "model.encoder.depth": 4, "model.encoder.heads": 3}
    encoder["eval.probes.num_train"] = 10_000
    return {
        "smoke": {
            "about": "a few images and clips, two training steps of tiny encoders: only shows that the table runs",
            "config": f"{FASHION}:debug",
            "configs": _configs(True),
            "overrides": PROBES,
            "rows": _rows({"fashion": few(400), "emoji": few(400), "motion": few(600)}, {}),
        },
        "cpu": {
            "about": "Fashion-MNIST, 28x28, patches of 4x4; emoji, 64x64, patches of 8x8; an encoder 96 wide with 4 "
            "blocks; 1,500 steps of 64 images, 800 on emoji. 4,000 clips of 8 frames of two coloured objects, 48x48, "
            "a CNN with 16 and 32 channels, 500 steps of 32 clips. Exemplar networks tell 500 images apart, or 400 "
            "emoji. Probes on at most 10,000 labels",
            "config": FASHION,
            "configs": _configs(False),
            "overrides": {**PROBES, "runtime.checkpoint_every": 2_000},
            "rows": _rows(
                {"fashion": long(1_500), "emoji": long(800), "motion": long(500)},
                # Of more images each would be seen too rarely to be told apart.
                {
                    MASKED: encoder,
                    "fashion: exemplar": {"model.task.num_images": 500},
                    "emoji: exemplar": {"model.task.num_images": 400},
                },
            ),
        },
        "gpu": {
            "about": "the same data, encoders and tasks; 20,000 steps",
            "config": FASHION,
            "configs": _configs(False),
            "overrides": {**PROBES, "runtime.checkpoint_every": 20_000},
            "rows": _rows(
                {"fashion": long(20_000), "emoji": long(20_000), "motion": long(20_000)},
                {MASKED: encoder},
            ),
        },
        "paper": {"about": "ImageNet, UCF101 and Kinetics with AlexNet and ResNets for days on GPUs"},
    }
