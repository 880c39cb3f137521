"""Masked autoencoders of video on little data: what does pretraining on the very same clips add to training on them?

Ours: moving digits; every row pretrains on all its clips without labels, then fine-tunes on the same clips with labels,
beside the same network trained on them from scratch.
Command: python launch.py table video_data --scale=cpu --seeds=3
"""

from configs.tables._columns import PERCENT

CLIPS = {"250 clips": 250, "1000 clips": 1000, "4000 clips": 4000}
NUM_TEST = 2000


def sized(count: int) -> dict:
    """Overrides that give `count` clips for training and as many tests whatever that is."""
    total = count + NUM_TEST
    return {"record.num_episodes": total, "record.splits": {"train": count / total, "test": NUM_TEST / total}}


def get_table() -> dict:
    """The table."""
    test = {"episodes": ("eval/fine_tune/num_test",), **PERCENT}
    gain = lambda row: row["fine_tuned"] - row["scratch"]
    few, some, many = CLIPS
    return {
        "title": "Pretraining on the labelled clips themselves",
        "paper": "VideoMAE, Tong et al. 2022, arXiv 2203.12602",
        "number": "Table 2",
        "question": "What does pretraining on the very same clips add to training on them, and does it add more where "
        "they are fewer?",
        "about": "The same clips with and without masked pretraining on them.",
        "setting": "ViT-B, top-1 accuracy from scratch and after pretraining on the same clips: Kinetics-400 (240,000) "
        "68.8 and 80.0, Something-Something V2 (169,000) 32.6 and 69.6, UCF101 (9,500) 51.4 and 91.3, HMDB51 (3,500) "
        "18.0 and 62.6",
        "command": "eval",
        "published_columns": {},
        "columns": {
            "fine_tuned": {
                "title": "pretrained",
                "about": "test accuracy of the motion's direction, one of eight, after pretraining on the clips and "
                "fine-tuning on the same clips",
                "path": ("eval/fine_tune/accuracy_all",),
                **test,
            },
            "scratch": {
                "title": "from scratch",
                "about": "the same network and steps of training with labels, without pretraining",
                "path": ("eval/fine_tune/scratch_all",),
                "baseline_for": "fine_tuned",
                **test,
            },
        },
        "rows": {name: {"overrides": sized(count), "group": name} for name, count in CLIPS.items()},
        "conclusions": [
            {
                "text": "pretraining on the same clips beats training from scratch, however few they are",
                "kind": "paper",
                "source": "VideoMAE, table 2",
                "holds": lambda rows: all(gain(row) > 0 for row in rows.values()),
            },
            {
                "text": "the fewer the clips, the more pretraining on them is worth",
                "kind": "paper",
                "source": "VideoMAE, table 2",
                "holds": lambda rows: gain(rows[few]) > gain(rows[some]) > gain(rows[many]),
            },
        ],
        "headline": lambda rows: (
            f"{'/'.join(format(row['fine_tuned'], '.0f') for row in rows.values())} % pretrained, "
            f"{'/'.join(format(row['scratch'], '.0f') for row in rows.values())} % from scratch"
        ),
        "scales": {
            "smoke": {
                "about": "moving digits, two training steps of a tiny encoder: only shows that the table runs",
                "config": "configs/moving_mae.py:debug",
                "overrides": {"eval.every": 0, "eval.probes.names": ("fine_tune",), "eval.probes.shots": (0,)},
            },
            "cpu": {
                "about": "one moving MNIST digit, 1 pixel a frame, clips of 8 frames of 32x32, tubelets of 2x8x8; "
                "encoder 96 wide with 4 blocks, decoder 64 wide with 2; 4,000 steps of 64 without labels, 300 with",
                "config": "configs/moving_mae.py",
                "overrides": {
                    "eval.every": 0,
                    "runtime.checkpoint_every": 4000,
                    "eval.num_pictures": 0,
                    "eval.probes.names": ("fine_tune",),
                    "eval.fine_tune.num_steps": 300,
                },
            },
            "gpu": {
                "about": "two moving MNIST digits, clips of 16 frames of 64x64, tubelets of 2x8x8; encoder 384 wide "
                "with 12 blocks, decoder 192 wide with 4; 20,000 steps of 256 clips without labels, 2,000 with",
                "config": "configs/moving_mae.py",
                "overrides": {
                    "record.num_objects": 2,
                    "record.num_frames": 16,
                    "record.image_size": (64, 64),
                    "data.clip_length": 16,
                    "model.encoder.width": 384,
                    "model.encoder.heads": 6,
                    "model.encoder.depth": 12,
                    "model.decoder.width": 192,
                    "model.decoder.depth": 4,
                    "train.batch_size": 256,
                    "train.num_steps": 20_000,
                    "train.optimizer.warmup_steps": 1000,
                    "eval.every": 0,
                    "eval.probes.names": ("fine_tune",),
                    "eval.fine_tune.num_steps": 2000,
                },
            },
            "paper": {
                "about": "Kinetics-400, Something-Something V2, UCF101 and HMDB51 with ViT-B, up to 4,800 epochs"
            },
        },
    }
