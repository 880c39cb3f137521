"""Tube or spacetime-agnostic masks: two papers disagree, so how much redundancy in time does each need?

Ours: moving digits whose speed sets the redundancy between frames; every row pretrains the encoder anew and fine-tunes
it, as both papers do, here on few labels of the motion's direction.
Command: python launch.py table video_masks --scale=cpu --seeds=3
"""

from configs.tables._columns import PERCENT

SPEEDS = {"slow": 1.0, "fast": 4.0}  # pixels a frame; at half a pixel few labels teach nothing
MASKS = {"tube": "tube", "agnostic": "random"}
FEW = {"eval.every": 0, "eval.probes.names": ("fine_tune",), "eval.probes.shots": (25,)}


def get_table() -> dict:
    """The table."""
    rows = {
        f"{mask} {speed}": {"overrides": {"model.masking": kind, "record.speed": pixels}, "group": speed}
        for speed, pixels in SPEEDS.items()
        for mask, kind in MASKS.items()
    }
    rows["frame slow"] = {"overrides": {"model.masking": "frame", "record.speed": SPEEDS["slow"]}, "group": "slow"}
    test = {"episodes": ("eval/fine_tune/num_test",), **PERCENT}
    gap = lambda rows, speed: rows[f"tube {speed}"]["fine_tuned"] - rows[f"agnostic {speed}"]["fine_tuned"]
    return {
        "title": "Tube or spacetime-agnostic masks",
        "paper": "VideoMAE, Tong et al. 2022, arXiv 2203.12602; MAE-ST, Feichtenhofer et al. 2022, arXiv 2205.09113",
        "number": "Table 1b and Table 2a",
        "question": "VideoMAE finds tubes better than spacetime-agnostic masks, MAE-ST the contrary, and both for the "
        "same reason: how much of a patch its neighbouring frames show. Does the speed of motion decide which is "
        "better?",
        "about": "Three quarters of the patches removed by tubes, at random over space and time, or by whole slices of "
        "time, at two speeds of motion.",
        "setting": "VideoMAE, ViT-B on Something-Something V2: tube 69.6, agnostic 68.3, frame 61.5; MAE-ST, ViT-L on "
        "Kinetics-400: agnostic 84.4, tube 83.5, frame 79.1",
        "command": "eval",
        "published_columns": {},
        "columns": {
            "fine_tuned": {
                "title": "pretrained",
                "about": "test accuracy of the motion's direction, one of eight, after fine-tuning on 25 clips each",
                "path": ("eval/fine_tune/accuracy_25",),
                **test,
            },
            "scratch": {
                "title": "from scratch",
                "about": "the same network trained on the same 200 clips without pretraining",
                "path": ("eval/fine_tune/scratch_25",),
                "baseline_for": "fine_tuned",
                **test,
            },
        },
        "rows": rows,
        "conclusions": [
            {
                "text": "tubes beat agnostic masks",
                "kind": "paper",
                "source": "VideoMAE, table 1b; MAE-ST finds the contrary",
                "holds": lambda rows: all(gap(rows, speed) > 0 for speed in SPEEDS),
            },
            {
                "text": "agnostic masks beat tubes",
                "kind": "paper",
                "source": "MAE-ST, table 2a; VideoMAE finds the contrary",
                "holds": lambda rows: all(gap(rows, speed) < 0 for speed in SPEEDS),
            },
            {
                "text": "whole slices of time are a worse mask than tubes",
                "kind": "paper",
                "source": "VideoMAE, table 1b, and MAE-ST, table 2a",
                "holds": lambda rows: rows["frame slow"]["fine_tuned"] < rows["tube slow"]["fine_tuned"],
            },
            {
                "text": "tubes beat agnostic masks where motion is slow, and agnostic masks tubes where it is fast",
                "kind": "ours",
                "source": "how both papers might be right",
                "holds": lambda rows: gap(rows, "slow") > 0 > gap(rows, "fast"),
            },
            {
                "text": "the slower the motion, the more tubes are worth",
                "kind": "ours",
                "source": "the reason that both papers give",
                "holds": lambda rows: gap(rows, "slow") > gap(rows, "fast"),
            },
        ],
        "headline": lambda rows: ", ".join(
            f"{speed}: tubes {rows[f'tube {speed}']['fine_tuned']:.1f} %, agnostic "
            f"{rows[f'agnostic {speed}']['fine_tuned']:.1f} %"
            for speed in SPEEDS
        ),
        "scales": {
            "smoke": {
                "about": "moving digits, two training steps of a tiny encoder: only shows that the table runs",
                "config": "configs/moving_mae.py:debug",
                "overrides": {**FEW, "record.num_episodes": 600},
            },
            "cpu": {
                "about": "one moving MNIST digit, 1 or 4 pixels a frame, 4,000 clips of 8 frames of 32x32, "
                "tubelets of 2x8x8; encoder 96 wide with 4 blocks, decoder 64 wide with 2; 4,000 steps of 64 clips "
                "without labels, 200 with",
                "config": "configs/moving_mae.py",
                "overrides": {
                    **FEW,
                    "runtime.checkpoint_every": 4000,
                    "eval.num_pictures": 0,
                    "eval.fine_tune.num_steps": 200,
                },
            },
            "gpu": {
                "about": "two moving MNIST digits, 20,000 clips of 16 frames of 64x64, tubelets of 2x8x8; encoder 384 "
                "wide with 12 blocks, decoder 192 wide with 4, 20,000 steps of 256 clips",
                "config": "configs/moving_mae.py",
                "overrides": {
                    "record.num_objects": 2,
                    "record.num_frames": 16,
                    "record.image_size": (64, 64),
                    "record.num_episodes": 25_000,
                    "record.splits": {"train": 0.8, "test": 0.2},
                    "data.clip_length": 16,
                    "model.encoder.width": 384,
                    "model.encoder.heads": 6,
                    "model.encoder.depth": 12,
                    "model.decoder.width": 192,
                    "model.decoder.depth": 4,
                    "train.batch_size": 256,
                    "train.num_steps": 20_000,
                    "train.optimizer.warmup_steps": 1000,
                    **FEW,
                    "eval.fine_tune.num_steps": 1000,
                },
            },
            "paper": {
                "about": "Kinetics-400 and Something-Something V2, ViT-B and ViT-L, 800 epochs on 64 or 128 GPUs"
            },
        },
    }
