"""Do imagined worlds last? Futures of 1,000 frames in three simulators, beside the frame-stacked U-Net.

Ours: in every simulator both models see the same frames. The transformer, in the latents of a tokenizer that is trained
here as well, is trained on clips of 32 frames; the U-Net, DIAMOND's made small and on patches of 2x2 pixels, from four
past frames. It is trained for as many floating-point operations as tokenizer and transformer together, encoding
included (a test counts them). In the maze, where a point of a few dozen pixels is all that moves, the tokenizer's loss
is weighted by motion, and at scale cpu both models are trained for more operations than in the other simulators.
Command: python launch.py table stability --scale=cpu --seeds=3
"""

import dataclasses
import math

from configs import atari_tokenizer, car_tokenizer
from configs.tables._car_world import columns
from experiments.evaluation.options import LongRolloutOptions
from world_models.core.options import to_dict
from world_models.data.options import RECORDING, PointMazeRecording

CAR = dataclasses.replace(
    car_tokenizer.DATA,
    num_episodes=80,
    max_episode_steps=600,
    splits={"train": 0.8, "validation": 0.075, "test": 0.125},
)
BOXING = dataclasses.replace(
    atari_tokenizer.DATA, num_episodes=30, splits={"train": 0.8, "validation": 0.1, "test": 0.1}
)
MAZE = PointMazeRecording(
    num_episodes=80, num_frames=601, image_size=(64, 64), splits={"train": 0.8, "validation": 0.075, "test": 0.125}
)
WORLDS = {"CarRacing": CAR, "Boxing": BOXING, "point maze": MAZE}
KINDS = ("transformer", "U-Net")
HORIZONS = (10, 100, 500, 1_000)
FRAMES = HORIZONS[-1]

# Training steps of the tokenizer, the transformer and the U-Net, by scale.
STEPS = {"cpu": (600, 750, 860), "gpu": (10_000, 20_000, 13_500)}
MAZE_STEPS = {**STEPS, "cpu": (1_800, 3_000, 3_115)}
# The share of the loss of the maze's tokenizer that is weighted by motion.
MOTION_WEIGHT = 0.9
# By scale: of the tokenizer, of the transformer and of the U-Net.
TOKENIZER = {"cpu": {}, "gpu": {"train.batch_size": 32, "model.dtype": "bfloat16"}}
TRANSFORMER = {
    "cpu": {
        "model.network.depth": 4,
        "train.batch_size": 4,
        "train.ema_decay": 0.99,
        "train.optimizer.warmup_steps": 100,
    },
    "gpu": {
        "train.batch_size": 32,
        "train.ema_decay": 0.999,
        "train.optimizer.warmup_steps": 1_000,
        "model.dtype": "bfloat16",
    },
}
UNET = {
    "cpu": {"model.patch": 2, "train.optimizer.warmup_steps": 100},
    "gpu": {
        "model.network.channels": (64, 64, 64, 64),
        "model.network.blocks": 2,
        "model.condition": 256,
        "train.optimizer.warmup_steps": 1_000,
        "train.ema_decay": 0.999,
        "model.dtype": "bfloat16",
    },
}
LONG_CLIPS = {"data.clip_length": 32, "model.window": 32, "init_from.under": "tokenizer"}
COMMON = {
    "eval.every": 0,
    "eval.features.size": 32,
    "eval.open_loop.num_context": 8,
    "eval.imagine.num_context": 8,
    "eval.imagine.num_contexts": 32,
    "eval.imagine.horizon": 32,
}


def get_table() -> dict:
    """The table."""
    rows, configs, overrides = {}, {}, {"smoke": {}, "cpu": {}, "gpu": {}}
    for world, record in WORLDS.items():
        small = record is MAZE
        for kind in KINDS:
            row = f"{world} {kind}"
            rows[row] = {"overrides": {}, "group": world}
            for scale in ("cpu", "gpu"):
                own = {**LONG_CLIPS, **TRANSFORMER[scale]} if kind == "transformer" else UNET[scale]
                steps = (MAZE_STEPS if small else STEPS)[scale][1 + KINDS.index(kind)]
                last = {"train.num_steps": steps, "runtime.checkpoint_every": steps}
                if small and kind == "transformer":
                    last["model.tokenizer.motion_weight"] = MOTION_WEIGHT
                overrides[scale][row] = {"record": to_dict(record, RECORDING), **own, **last}
            configs[row] = "configs/car_world.py" if kind == "transformer" else "configs/car_unet.py"
            if kind == "transformer":
                rows[row]["init_from"] = "maze tokenizer" if small else "tokenizer"
            few = {"splits": {"train": 0.5, "validation": 0.2, "test": 0.3}}
            few |= {"num_episodes": 20, "num_frames": 40} if small else {"num_episodes": 6, "max_episode_steps": 40}
            overrides["smoke"][row] = {"record": to_dict(dataclasses.replace(record, **few), RECORDING)}
            if kind == "transformer":
                tiny = car_tokenizer.get_config("debug").model.to_dict()
                overrides["smoke"][row] |= {"model.tokenizer": tiny, "init_from.under": "tokenizer"}
            else:
                overrides["smoke"][row] |= {"model.patch": 8}
    long = to_dict(LongRolloutOptions(FRAMES, num_contexts=8, window=16, num_reference=256, horizons=HORIZONS[:-1]))
    found = columns(1, 32)
    for name in ("following", "frechet_clips", "frechet_clips_real"):
        del found[name]
    value = {"unit": "", "better": "lower", "digits": 3}
    for horizon in HORIZONS:
        found[f"drift_{horizon}"] = {
            "title": f"drift {horizon}",
            "about": f"kernel distance from real clips of the 16 frames around frame {horizon} of 8 futures, in the "
            "feature space of the config",
            "path": ("long_rollout", "at", str(horizon), "drift")
            if horizon < FRAMES
            else ("long_rollout", "last", "drift"),
            **value,
        }
    for name, title in (("real", "of other real clips"), ("noise", "of noise, the control")):
        found[f"drift_{name}"] = {
            "title": f"drift {title}",
            "about": f"the same distance {title}",
            "path": ("long_rollout", "baselines", name, "distance"),
            "baseline_for": f"drift_{FRAMES}",
            **value,
        }
    moved = {"unit": "%", "better": "lower", "digits": 2, "scale": 100.0, "range": (0.0, 100.0)}
    found["motion_gap"] = {
        "title": f"motion gap {FRAMES}",
        "about": "share of pixels that change by more than 8 of 255 from a frame to the next, in the last 16 frames: "
        "how far from that in the true futures",
        "path": ("long_rollout", "last", "motion_gap"),
        **moved,
    }
    found["motion_still"] = {
        "title": "motion gap of a still frame",
        "about": "the share in the true futures",
        "path": ("long_rollout", "motion", "real"),
        "baseline_for": "motion_gap",
        **moved,
    }
    for before, horizon in zip((0, *HORIZONS), HORIZONS[:-1]):
        found[f"following_{horizon}"] = {
            "title": f"action following {before + 1}–{horizon}",
            "unit": "1/1000",
            "about": "mean squared error over changed pixels under another window's actions minus that under the true "
            "ones, in thousandths, over these frames",
            "better": "higher",
            "path": ("long_rollout", "at", str(horizon), "action_following"),
            "scale": 1000.0,
            "range": (-1000.0, 1000.0),
        }
    found["frame"] = {
        "title": "imagined frame",
        "about": "matrix products and convolutions of all denoising steps and decoding, counted",
        "path": ("cost", "frame_flops"),
        "unit": "GFLOP",
        "better": "lower",
        "scale": 1e-9,
        "range": (0.0, math.inf),
    }
    ours = lambda rows, world, column: [rows[f"{world} {kind}"][column] for kind in KINDS]
    less = lambda world, column: lambda rows: ours(rows, world, column)[0] < ours(rows, world, column)[1]
    more = lambda world, column: lambda rows: ours(rows, world, column)[0] > ours(rows, world, column)[1]
    tokenizers = lambda config, plain, maze: {
        "tokenizer": {"config": config, "overrides": plain},
        "maze tokenizer": {"config": config, "overrides": {**maze, "model.motion_weight": MOTION_WEIGHT}},
    }
    trained = lambda scale, steps: {**TOKENIZER[scale], "train.num_steps": steps[scale][0], "eval.every": 0}
    setting = "at 64x64, 48,000 frames a simulator: CarRacing driven by configs/car_tokenizer.py:follow_road, Boxing "
    setting += "under a sticky random policy, OGBench's medium point maze by its noisy expert"
    return {
        "title": "Futures of 1,000 frames in three simulators",
        "paper": "Diffusion Forcing, Chen et al. 2024, arXiv 2407.01392; DIAMOND, Alonso et al. 2024, arXiv 2405.12399",
        "number": "long rollouts",
        "question": "For how long do imagined frames look like real ones and follow actions?",
        "about": "A video transformer that streams with a window of 32 frames, and a U-Net that sees the last four, "
        "after as much training on the same data. Drift alone can mislead: an imagined world in which nothing moves "
        "hardly drifts either. Whether a model sees what moves shows one frame ahead, beside copying; whether "
        "imagined worlds come to rest, or flicker, in the motion gap.",
        "setting": "Both papers show long rollouts in pictures only",
        "command": "imagine",
        "published_columns": {},
        "columns": found,
        "rows": rows,
        "conclusions": [
            conclusion
            for world in WORLDS
            for conclusion in (
                {
                    "text": f"{world}: after 1,000 frames the transformer's are nearer to real ones than the U-Net's, "
                    "and one frame ahead it is better than copying",
                    "kind": "ours",
                    "holds": lambda rows, world=world: (
                        less(world, f"drift_{FRAMES}")(rows)
                        and ours(rows, world, "psnr_1")[0] > ours(rows, world, "copy_1")[0]
                    ),
                },
                {
                    "text": f"{world}: 32 frames ahead the transformer has the higher PSNR",
                    "kind": "ours",
                    "holds": more(world, "psnr_32"),
                },
                {
                    "text": f"{world}: from frame 101 to 500 the transformer follows actions",
                    "kind": "ours",
                    "holds": lambda rows, world=world: ours(rows, world, "following_500")[0] > 0,
                },
            )
        ],
        "headline": lambda rows: (
            "drift after 1,000 frames: "
            + ", ".join(f"{row} {values[f'drift_{FRAMES}']:.2f}" for row, values in rows.items())
        ),
        "panels": ("psnr_32", f"drift_{FRAMES}", "following_500"),
        "curve": ("long_rollout", "drift", "imagined"),
        "curve_at": ("long_rollout", "frame"),
        "curve_title": "drift",
        "scales": {
            "smoke": {
                "about": "the three simulators, 6 or 20 short episodes each, two training steps of tiny models: only "
                "shows that the table runs",
                "config": "configs/car_world.py:debug",
                "configs": {row: f"{config}:debug" for row, config in configs.items()},
                "overrides": {
                    **COMMON,
                    "eval.open_loop.num_context": 4,
                    "eval.imagine.num_context": 4,
                    "eval.imagine.num_contexts": 2,
                    "eval.cost": True,
                    "eval.long_rollout": {
                        **long,
                        "frames": 32,
                        "num_contexts": 4,
                        "num_reference": 8,
                        "horizons": (10,),
                    },
                },
                "rows": overrides["smoke"],
                "pretraining": tokenizers("configs/car_tokenizer.py:debug", {}, {}),
            },
            **{
                scale: {
                    "about": f"{setting}; {sizes}",
                    "config": "configs/car_world.py",
                    "configs": configs,
                    "overrides": {**COMMON, "eval.cost": True, "eval.long_rollout": {**long, "num_contexts": futures}},
                    "rows": overrides[scale],
                    "pretraining": tokenizers(
                        "configs/car_tokenizer.py", trained(scale, STEPS), trained(scale, MAZE_STEPS)
                    ),
                }
                for scale, futures, sizes in (
                    ("cpu", 8, "transformer 128 wide with 4 blocks, U-Net of 1.3 M parameters"),
                    ("gpu", 64, "transformer 128 wide with 8 blocks, U-Net of DIAMOND's size"),
                )
            },
            "paper": {"about": "DMLab and Minecraft: no such data here"},
        },
    }
