"""CarRacing-v3 at 64x64 in the latents of a tokenizer: a streaming video world model for two CPU cores, or a GPU.

Model: a causal space-time transformer (Hafner et al. 2025, "Dreamer 4", section 3), 2 M parameters, on the 16 tokens of
configs/car_tokenizer.py; flow matching with a noise level per frame (Chen et al. 2024, "Diffusion Forcing").
Data: the recording of configs/car_tokenizer.py.
Judged by: futures of 32 frames from 8, over changed pixels, beside the last frame and the mean frame.
Command: python launch.py train --config=configs/car_world.py --workdir=runs/world
  --config.data.dataset=runs/tokenizer/data --config.init_from.checkpoints=runs/tokenizer/checkpoints
"""

import dataclasses

from ml_collections import ConfigDict

from configs.car_tokenizer import DATA, TOKENIZER
from configs.common import make_config
from experiments.evaluation.options import FuturesOptions, HeldOutOptions, OpenLoopOptions
from experiments.families.video_transformer.options import VideoTransformerConfig, VideoTransformerEval
from experiments.training.options import (
    InitFromOptions,
    OptimizerOptions,
    RuntimeDataOptions,
    RuntimeOptions,
    TrainOptions,
)
from world_models.data.options import ClipDataOptions
from world_models.diffusion.options import FlowOptions, FlowSamplerOptions
from world_models.models.video_transformer.options import VideoTransformerOptions
from world_models.nn.options import ComputeOptions, TransformerOptions

WORLD = VideoTransformerConfig(
    record=DATA,
    data=ClipDataOptions(clip_length=16),
    init_from=InitFromOptions(under="tokenizer"),
    model=VideoTransformerOptions(
        TransformerOptions(
            width=128, depth=8, heads=4, mlp_ratio=8 / 3, kv_heads=2, norm="rms", qk_norm=True, mlp="swiglu"
        ),
        time_every=2,
        condition=128,
        tokenizer=TOKENIZER,
    ),
    diffusion=FlowOptions(data_std=0.5, weight="uniform"),
    train=TrainOptions(
        batch_size=8,
        num_steps=8_000,
        ema_decay=0.998,
        optimizer=OptimizerOptions(learning_rate=1e-3, warmup_steps=300, weight_decay=0.01, b2=0.99),
    ),
    eval=VideoTransformerEval(
        every=2_000,
        held_out=HeldOutOptions(64),
        open_loop=OpenLoopOptions(num_context=8, horizon=32),
        imagine=FuturesOptions(num_context=8, horizon=32),
        sampler=FlowSamplerOptions(num_steps=2, temperature=0.5),
    ),
    runtime=RuntimeOptions(
        log_every=50,
        checkpoint_every=500,
        data=RuntimeDataOptions(cache_gb=4.0),
        compute=ComputeOptions(unroll=-1),
    ),
)


def on_pixels(options: VideoTransformerConfig) -> VideoTransformerConfig:
    """The same without a tokenizer, and begun anew: for the variant "debug", which shall not wait for weights."""
    return dataclasses.replace(
        options, init_from=InitFromOptions(), model=dataclasses.replace(options.model, tokenizer=None)
    )


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    return make_config(on_pixels(WORLD) if variant == "debug" else WORLD, variant)
