"""A causal tokenizer of CarRacing-v3 at 64x64: 16 tokens of 16 numbers a frame, for configs/car_world.py.

Model: a masked autoencoder that is causal in time and ends in a few bounded tokens a frame (Hafner et al. 2025,
"Dreamer 4", section 3.1), made small: 1.6 M parameters; mask ratios from U(0, 0.9), squared error alone.
Data: CarRacing-v3 at 64x64, 360 episodes of 220 frames, driven by a policy that follows the road with some noise.
Judged by: PSNR of held-out frames after encoding and decoding, whole and with 75 % of the patches masked, beside the
mean frame and the frame before.
Command: python launch.py record --config=configs/car_tokenizer.py --workdir=runs/tokenizer, then train and imagine.
"""

import dataclasses
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs.car_unet import RECORD
from configs.common import make_config
from experiments.evaluation.options import HeldOutOptions
from experiments.families.tokenizer.options import TokenizerConfig, TokenizerEval
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.models.tokenizer.options import TokenizerOptions
from world_models.nn.options import ComputeOptions, PixelOptions, TransformerOptions


def follow_road(environment: Any, rng: np.random.Generator) -> Any:
    """A policy for recording: follows the road, but for random decisions that are held for up to three steps.

    Their share is of the episode, 10 to 60 %, so that the road is kept, left and found again. Uniform random actions
    brake most of the time, and random driving soon loses the road: there is little to learn.
    """
    world = environment.unwrapped
    wander = rng.uniform(0.1, 0.6)
    action = held = 0

    def act(observation: Any) -> int:
        nonlocal action, held
        if held:
            held -= 1
            return action
        if rng.random() < wander:
            action, held = int(rng.choice(5, p=[0.15, 0.3, 0.3, 0.2, 0.05])), int(rng.integers(0, 3))
            return action
        track = np.array([tile[2:4] for tile in world.track])
        car = world.car.hull
        nearest = np.argmin(((track - car.position) ** 2).sum(axis=1))
        ahead = track[(nearest + 4) % len(track)] - car.position
        forward = np.array([-np.sin(car.angle), np.cos(car.angle)])
        left = np.arctan2(forward[0] * ahead[1] - forward[1] * ahead[0], forward @ ahead)
        speed = np.hypot(*car.linearVelocity)
        action = (2 if left > 0 else 1) if abs(left) > 0.15 else 3 if speed < 35 else 0
        return action

    return act


def keep_to_road(environment: Any, rng: np.random.Generator) -> Any:
    """A policy that reads frames alone, of the simulator or of a model: steers to where the road is ahead."""
    side = 0.0

    def act(frame: np.ndarray) -> int:
        nonlocal side
        height, width = frame.shape[:2]
        ahead = frame[height // 3 : (2 * height) // 3].astype(int)  # above the car
        road = (np.ptp(ahead, axis=-1) < 16) & (abs(ahead.mean(axis=-1) - 103) < 24)  # grey
        if road.sum() > width // 4:
            side = np.nonzero(road)[1].mean() / (width - 1) - 0.5
        if abs(side) > 0.06 and rng.random() < 0.8:
            return 2 if side < 0 else 1
        return 3 if rng.random() < 0.3 else 0

    return act


DATA = dataclasses.replace(
    RECORD,
    environment="CarRacing-held-v0",
    environment_kwargs={"continuous": False, "hold": 3},
    action_repeat=1,
    policy="configs.car_tokenizer:follow_road",
    image_size=(64, 64),
    num_episodes=360,
    max_episode_steps=220,
    splits={"train": 0.9, "validation": 0.04, "test": 0.06},
)
NETWORK = TransformerOptions(width=128, depth=4, heads=4, mlp_ratio=8 / 3, norm="rms", qk_norm=True, mlp="swiglu")
TOKENIZER = TokenizerOptions(
    NETWORK,
    NETWORK,
    latents=16,
    latent_channels=16,
    layout="grid",
    time_every=2,
    window=8,
    pixels=PixelOptions(std=(0.25,)),
)
TRAIN = TrainOptions(
    batch_size=4,
    num_steps=4_000,
    ema_decay=0.995,
    optimizer=OptimizerOptions(learning_rate=1e-3, warmup_steps=300, weight_decay=0.05, b2=0.95),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = TokenizerConfig(
        record=DATA,
        model=TOKENIZER,
        train=TRAIN,
        eval=TokenizerEval(every=1_000, held_out=HeldOutOptions(64)),
        runtime=RuntimeOptions(log_every=50, checkpoint_every=1_000, compute=ComputeOptions(unroll=-1)),
    )
    return make_config(options, variant)
