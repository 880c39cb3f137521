"""Boxing at 64x64 in the latents of a tokenizer: the streaming video world model of configs/car_world.py in Atari.

Data: the recording of configs/atari_tokenizer.py.
Judged by: futures of 32 frames from 8, over changed pixels, beside the last frame and the mean frame.
Command: python launch.py train --config=configs/atari_world.py --workdir=runs/atari_world
  --config.data.dataset=runs/atari_tokenizer/data --config.init_from.checkpoints=runs/atari_tokenizer/checkpoints
"""

import dataclasses

from ml_collections import ConfigDict

from configs.atari_tokenizer import DATA
from configs.car_world import WORLD, on_pixels
from configs.common import make_config


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    world = dataclasses.replace(WORLD, record=DATA)
    return make_config(on_pixels(world) if variant == "debug" else world, variant)
