"""CarRacing-v3 at 32x32 with a small frame-stacked U-Net, trained on two CPU cores in a few minutes.

Model: next-frame diffusion from 4 past frames and actions (Alonso et al. 2024, "DIAMOND"; Karras et al. 2022),
made small and set to diffuse the change from the last frame, which learns faster in a small budget.
Data: gymnasium's CarRacing-v3 at 32x32, driven by a random policy.
Command: python launch.py record --config=configs/car_unet.py --workdir=runs/unet, then train and imagine.
"""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs.common import make_config
from experiments.evaluation.options import HeldOutOptions, OpenLoopOptions
from experiments.families.options import DiffusionEval
from experiments.families.video_diffusion.options import VideoDiffusionConfig
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import GymnasiumRecording
from world_models.diffusion.options import EDMOptions, EDMSamplerOptions
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.nn.options import UNetOptions


def drive(environment: Any, rng: np.random.Generator) -> Any:
    """A policy for recording: random, but with enough gas to get somewhere, and each choice held for a while.

    Uniform random actions brake most of the time: the car stands still and there is nothing to learn.
    """
    choice = None

    def act(observation: Any) -> int:
        nonlocal choice
        if choice is None or rng.random() < 0.25:
            choice = int(rng.choice(5, p=[0.1, 0.25, 0.25, 0.38, 0.02]))
        return choice

    return act


# Actions: coast, steer right, steer left, gas, brake. The first second of an episode only zooms in.
RECORD = GymnasiumRecording(
    environment="CarRacing-v3",
    environment_kwargs={"continuous": False},
    observation="observation",
    image_size=(32, 32),
    action_repeat=3,
    policy="configs.car_unet:drive",
    num_episodes=44,
    max_episode_steps=100,
    skip_steps=20,
    splits={"train": 0.73, "validation": 0.09, "test": 0.18},
)
# Changes from frame to frame are smaller than frames, and so is their noise.
DIFFUSION = EDMOptions(sigma_data=0.2, offset_noise=0.1, sigma_mean=-1.0, sigma_high=10.0)
SAMPLER = EDMSamplerOptions(sigma_max=2.0)


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = VideoDiffusionConfig(
        record=RECORD,
        model=VideoDiffusionOptions(
            network=UNetOptions(channels=(32, 64, 64), blocks=1), condition=128, target="change", context_noise=0.1
        ),
        diffusion=DIFFUSION,
        train=TrainOptions(
            num_steps=300, ema_decay=0.99, optimizer=OptimizerOptions(learning_rate=5e-4, warmup_steps=50)
        ),
        eval=DiffusionEval(every=150, held_out=HeldOutOptions(256), open_loop=OpenLoopOptions(), sampler=SAMPLER),
        runtime=RuntimeOptions(log_every=10, checkpoint_every=150),
    )
    return make_config(options, variant)


def get_sweep() -> dict:
    """What `train --sweep` varies: the learning rate and the noise on the context."""
    return {
        "vary": {"train.optimizer.learning_rate": [2e-4, 5e-4, 1e-3], "model.context_noise": [0.0, 0.1]},
        "metric": "eval/open_loop/psnr_changed_imagined_8",
        "better": "higher",
    }
