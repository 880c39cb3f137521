"""UniSim's ablation of the history a video world model is conditioned on (Yang et al. 2023, Table 1).

Ours: the video diffusion world model, its `config.model.context_offsets` set to the newest frame, to four frames at
exponentially growing distances, or to the four most recent; everything else is the same in all rows.
Number to expect: results/frame_conditioning/.
Command: python launch.py table frame_conditioning --scale=cpu --seeds=3
"""

from configs.tables._columns import FOLLOWING

SOURCE = "Table 1 of the paper, read in two independent transcriptions"
TEXT = "UniSim, section 4.1 and Table 1"


def get_table() -> dict:
    """The table."""
    psnr = "PSNR over the pixels that changed since the context, {} ahead, mean over held-out contexts"
    cpu = {
        "eval.every": 1_000_000,
        "eval.open_loop.num_context": 8,
        "eval.imagine.num_context": 8,
        "eval.imagine.num_contexts": 64,
        "eval.imagine.horizon": 16,
    }
    return {
        "title": "Which past frames to condition on",
        "paper": "UniSim, Yang et al. 2023, arXiv 2310.06114",
        "number": "Table 1",
        "question": "Does it help to see more than one past frame, and should these be the most recent or spread out?",
        "about": "Conditioning a video world model on one past frame, four distant ones, or the four most recent.",
        "setting": "Ego4D validation clips under text actions, 5.6 B parameters, blocks of 16 frames at 192x320",
        "command": "imagine",
        "published_columns": {
            "fid": {"title": "FID", "unit": "Inception-v3", "better": "lower"},
            "fvd": {"title": "FVD", "unit": "I3D", "better": "lower"},
            "is": {"title": "IS", "better": "higher"},
            "clip": {"title": "CLIP", "better": "higher"},
        },
        "columns": {
            "psnr_1": {
                "title": "PSNR 1",
                "unit": "dB",
                "about": psnr.format("1 frame"),
                "better": "higher",
                "path": ("psnr_changed", "imagined", 1),
            },
            "psnr_8": {
                "title": "PSNR 8",
                "unit": "dB",
                "about": psnr.format("8 frames"),
                "better": "higher",
                "path": ("psnr_changed", "imagined", 8),
                "published": ("fvd",),
            },
            "drift_8": {
                "title": "drift 8",
                "unit": "1/1000",
                "about": "mean absolute error of all pixels in thousandths of the range, 8 frames ahead",
                "better": "lower",
                "path": ("drift", "imagined", 8),
                "scale": 1000.0,
                "published": ("fid",),
                "range": (0.0, 1000.0),
            },
            "following": FOLLOWING,
        },
        "rows": {
            "1 frame": {
                "overrides": {"model.context_offsets": (1,), "data.clip_length": 2},
                "published": {"fid": 59.47, "fvd": 315.69, "is": 3.03, "clip": 22.55},
                "source": SOURCE,
            },
            "4 distant": {
                "overrides": {"model.context_offsets": (8, 4, 2, 1), "data.clip_length": 9},
                "published": {"fid": 34.89, "fvd": 237.0, "is": 3.43, "clip": 22.62},
                "source": SOURCE,
            },
            "4 recent": {
                "overrides": {"model.context_offsets": (4, 3, 2, 1), "data.clip_length": 5},
                "published": {"fid": 34.63, "fvd": 211.3, "is": 3.52, "clip": 22.63},
                "source": SOURCE,
            },
        },
        "conclusions": [
            {
                "text": "four recent frames beat one, 8 frames ahead",
                "kind": "paper",
                "source": TEXT,
                "holds": lambda rows: rows["4 recent"]["psnr_8"] > rows["1 frame"]["psnr_8"],
            },
            {
                "text": "four distant frames beat one, 8 frames ahead",
                "kind": "paper",
                "source": TEXT,
                "holds": lambda rows: rows["4 distant"]["psnr_8"] > rows["1 frame"]["psnr_8"],
            },
            {
                "text": "recent frames beat distant ones, 8 frames ahead",
                "kind": "paper",
                "source": TEXT,
                "holds": lambda rows: rows["4 recent"]["psnr_8"] > rows["4 distant"]["psnr_8"],
            },
        ],
        "headline": lambda rows: (
            "PSNR at 8 frames: " + ", ".join(f"{row['psnr_8']:.1f} dB ({name})" for name, row in rows.items())
        ),
        "scales": {
            "smoke": {
                "about": "stand-in data, CarRacing at 32x32, 6 episodes of 40 steps, two training steps: only shows "
                "that the table runs",
                "config": "configs/car_unet.py:debug",
                "overrides": {
                    "record.max_episode_steps": 40,
                    "eval.open_loop.num_context": 8,
                    "eval.imagine.num_context": 8,
                    "eval.imagine.horizon": 8,
                },
            },
            "cpu": {
                "about": "stand-in data, CarRacing-v3 at 32x32 driven by configs/car_unet.py:drive, 1.3 M parameters, "
                "300 steps of 32, one frame at a time; 64 contexts of 8 held-out episodes",
                "config": "configs/car_unet.py",
                "overrides": cpu,
            },
            "gpu": {
                "about": "stand-in data, CarRacing-v3 at 64x64, 400 episodes of 300 steps, DIAMOND's published size "
                "(4.4 M parameters), 20,000 steps of 32",
                "config": "configs/atari_diamond.py",
                "overrides": {
                    "record.environment": "CarRacing-v3",
                    "record.environment_kwargs": {"continuous": False},
                    "record.action_repeat": 3,
                    "record.policy": "configs.car_unet:drive",
                    "record.num_episodes": 400,
                    "record.max_episode_steps": 300,
                    "record.skip_steps": 20,
                    "train.num_steps": 20_000,
                    "eval.every": 1_000_000,
                    "eval.open_loop.num_context": 8,
                    "eval.imagine.num_context": 8,
                    "eval.imagine.num_contexts": 256,
                    "eval.imagine.horizon": 16,
                },
            },
            "paper": {"about": "Ego4D with text actions at 5.6 B parameters: no such data or text encoder here"},
        },
    }
