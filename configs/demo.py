"""The demo: a video world model of CarRacing-v3 at 64x64 that begins with shipped weights and streams futures.

Model: that of configs/car_world.py, a causal space-time transformer on 16 tokens a frame, with the weights that
weights/car_racing holds, trained on for a minute under teacher forcing.
Data: CarRacing-v3, recorded by the demo itself, driven by a policy that follows the road with some noise.
Judged by: futures of 32 frames from 8, over changed pixels, beside the last frame and the mean frame, before and after.
Command: make demo
"""

import dataclasses

from ml_collections import ConfigDict

from configs.car_tokenizer import DATA
from configs.car_world import WORLD, on_pixels
from configs.common import make_config
from experiments.training.options import InitFromOptions

POLICY = "configs.car_tokenizer:keep_to_road"
DEMO = dataclasses.replace(
    WORLD,
    record=dataclasses.replace(
        DATA,
        seed=1,  # other episodes than those behind the weights
        num_episodes=32,
        max_episode_steps=320,
        splits={"train": 0.75, "validation": 0.0625, "test": 0.1875},
    ),
    init_from=InitFromOptions("weights/car_racing/checkpoints"),
    model=dataclasses.replace(WORLD.model, forcing="teacher"),
    train=dataclasses.replace(
        WORLD.train,
        num_steps=40,
        ema_decay=0.95,
        optimizer=dataclasses.replace(WORLD.train.optimizer, learning_rate=1e-4, warmup_steps=20),
    ),
    eval=dataclasses.replace(
        WORLD.eval,
        first=True,
        every=40,
        open_loop=dataclasses.replace(WORLD.eval.open_loop, num_contexts=16),
        imagine=dataclasses.replace(WORLD.eval.imagine, long=300, policy=POLICY),
    ),
    runtime=dataclasses.replace(WORLD.runtime, log_every=10, checkpoint_every=40),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    return make_config(on_pixels(DEMO) if variant == "debug" else DEMO, variant)
