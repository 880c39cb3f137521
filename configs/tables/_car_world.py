"""What the tables of configs/car_world.py share: their columns, and how large they are run."""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.tables._columns import FOLLOWING, FRECHET_CLIPS, FRECHET_CLIPS_REAL

PSNR = {"unit": "dB", "better": "higher"}
BASELINES = {
    "copy": ("copy-last-frame", "copy_last", "the same of repeating the last context frame, which needs no model"),
    "mean": ("mean frame", "mean_frame", "the same of the mean frame of the training data, which needs no model"),
}
# Distances are in few dimensions (twice the size for a clip), as there are few clips.
COMMON = {"eval.every": 0, "eval.features.size": 32, "eval.distances.num_samples": 0}
SHIPPED = {
    "init_from.checkpoints": "weights/car_racing/checkpoints",
    "init_from.parts": ("tokenizer",),
    "init_from.under": "",
}
SMOKE = {
    **COMMON,
    "record.max_episode_steps": 40,
    "eval.imagine.horizon": 16,
    "eval.distances.num_clips": 4,
    "eval.distances.length": 4,
}
CPU = {
    **COMMON,
    **SHIPPED,
    "record.num_episodes": 120,
    "record.max_episode_steps": 160,
    "record.splits": {"train": 0.75, "validation": 0.1, "test": 0.15},
    "model.network.depth": 4,
    "train.num_steps": 700,
    "train.ema_decay": 0.99,
    "train.optimizer.warmup_steps": 100,
    "runtime.checkpoint_every": 700,
    "eval.imagine.num_contexts": 32,
    "eval.imagine.horizon": 16,
    "eval.distances.num_clips": 128,
    "eval.distances.length": 16,
}
GPU = {
    **COMMON,
    **SHIPPED,
    "model.dtype": "bfloat16",
    "train.batch_size": 64,
    "train.num_steps": 20_000,
    "train.ema_decay": 0.999,
    "train.optimizer.warmup_steps": 1_000,
    "runtime.checkpoint_every": 5_000,
    "eval.imagine.num_contexts": 256,
    "eval.imagine.horizon": 16,
    "eval.distances.num_clips": 1_024,
    "eval.distances.length": 16,
}


def columns(*horizons: int) -> dict[str, dict]:
    """Columns of the command `imagine`: PSNR at some horizons, action following and a distance, beside baselines."""
    found = {}
    for h in horizons:
        ahead = "1 frame" if h == 1 else f"{h} frames"
        found[f"psnr_{h}"] = {
            "title": f"PSNR {h}",
            "about": f"PSNR over the pixels that changed since the context, {ahead} ahead, mean over held-out contexts",
            "path": ("psnr_changed", "imagined", h),
            **PSNR,
        }
        for name, (title, of, about) in BASELINES.items():
            found[f"{name}_{h}"] = {
                "title": f"{title} {h}",
                "about": about,
                "path": ("psnr_changed", of, h),
                "baseline_for": f"psnr_{h}",
                **PSNR,
            }
    return found | {
        "following": FOLLOWING,
        "frechet_clips": FRECHET_CLIPS,
        "frechet_clips_real": FRECHET_CLIPS_REAL,
    }


def cost(name: str, title: str, about: str) -> dict:
    """A column of floating-point operations, in billions; tables with one set `config.eval.cost`."""
    what = {"unit": "GFLOP", "better": "lower", "digits": 2, "scale": 1e-9, "range": (0.0, float("inf"))}
    return {"title": title, "about": f"{about}, counted", "path": ("cost", name), **what}


def scales(
    paper: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    smoke: Mapping[str, Any] | None = None,
    cpu: Mapping[str, Any] | None = None,
    gpu: Mapping[str, Any] | None = None,
    rows: Mapping[str, Mapping[str, Any]] | None = None,
    pretraining: Sequence[str] = (),
    sizes: str = "",
) -> dict[str, dict]:
    """All scales of a table.

    Args:
      paper: what the scale "paper" is, which cannot be run from here.
      overrides: of all scales; `smoke`, `cpu` and `gpu` of one, which win.
      rows: by scale, overrides of single rows.
      pretraining: rows without overrides whose training others are initialised from.
      sizes: what `about` says instead of the size of the model and of training.
    """
    settings = {
        "smoke": (
            "configs/car_world.py:debug",
            "CarRacing-v3 at 64x64, 6 short episodes, two training steps of a tiny model on pixels: only shows that "
            "the table runs",
            {**SMOKE, **(overrides or {}), **(smoke or {})},
        ),
        "cpu": (
            "configs/car_world.py",
            "CarRacing-v3 at 64x64 driven by configs/car_tokenizer.py:follow_road, 120 episodes of 160 frames, in the "
            f"latents of the shipped tokenizer; {sizes or '128 wide with 4 blocks'}, 700 steps of 8 clips of 16 frames",
            {**CPU, **(overrides or {}), **(cpu or {})},
        ),
        "gpu": (
            "configs/car_world.py",
            "CarRacing-v3 at 64x64 driven by configs/car_tokenizer.py:follow_road, 360 episodes of 220 frames, in the "
            f"latents of the shipped tokenizer; {sizes or '128 wide with 8 blocks'}, 20,000 steps of 64 clips of 16 "
            "frames",
            {**GPU, **(overrides or {}), **(gpu or {})},
        ),
    }
    found = {}
    for scale, (config, about, fields) in settings.items():
        found[scale] = {"about": about, "config": config, "overrides": fields, "rows": (rows or {}).get(scale, {})}
        found[scale]["pretraining"] = {name: {"config": config, "overrides": fields} for name in pretraining}
    return found | {"paper": {"about": paper}}
