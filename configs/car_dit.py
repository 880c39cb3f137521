"""CarRacing-v3 at 64x64 with a diffusion transformer, DiT-S (Peebles & Xie 2022), for one GPU or a mesh of many.

Model: next-frame diffusion from 4 past frames and actions as in configs/atari_diamond.py, with a transformer over 4x4
patches in place of the U-Net: 33 M parameters, scanned over depth, split over `tensor` (heads, MLP) and `fsdp`.
Data: CarRacing-v3 driven by configs/car_unet.py:drive, 400 episodes of 300 steps.
Number to expect: not run; it is the config of docs/scaling.md and of the benchmarks `scaling` and `throughput`.
Command: python launch.py train --config=configs/car_dit.py --workdir=runs/dit --config.mesh='(-1, 4, 2)'
"""

import dataclasses

from ml_collections import ConfigDict

from configs.car_unet import DIFFUSION, RECORD, SAMPLER
from configs.common import make_config
from experiments.evaluation.options import HeldOutOptions, OpenLoopOptions
from experiments.families.options import DiffusionEval
from experiments.families.video_diffusion.options import VideoDiffusionConfig
from experiments.training.options import OptimizerOptions, RuntimeDataOptions, RuntimeOptions, TrainOptions
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.nn.options import ComputeOptions, TransformerOptions


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = VideoDiffusionConfig(
        record=dataclasses.replace(
            RECORD,
            image_size=(64, 64),
            num_episodes=400,
            max_episode_steps=300,
            splits={"train": 0.9, "validation": 0.05, "test": 0.05},
        ),
        model=VideoDiffusionOptions(
            network=TransformerOptions(width=384, depth=12, heads=6),
            condition=384,
            patch=4,
            target="change",
            context_noise=0.1,
            dtype="bfloat16",
        ),
        diffusion=DIFFUSION,
        train=TrainOptions(
            batch_size=64, num_steps=50_000, optimizer=OptimizerOptions(learning_rate=3e-4, warmup_steps=1_000)
        ),
        eval=DiffusionEval(every=5_000, held_out=HeldOutOptions(256), open_loop=OpenLoopOptions(), sampler=SAMPLER),
        runtime=RuntimeOptions(
            log_every=100,
            checkpoint_every=5_000,
            data=RuntimeDataOptions(num_threads=8),
            compute=ComputeOptions(attention="cudnn"),  # "xla" where there is no NVIDIA GPU
        ),
    )
    return make_config(options, variant)
