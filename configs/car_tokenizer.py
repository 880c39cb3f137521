"""A causal tokenizer of CarRacing-v3: how few numbers a frame does a model need to see the race through?

Model: a masked autoencoder that is causal in time and ends in 16 tokens of 8 numbers a frame (Hafner et al. 2025,
"Dreamer 4", section 3.1), made small; mask ratios from U(0, 0.9), squared error alone.
Data: that of configs/demo.py: CarRacing-v3 at 32x32, 44 episodes of 100 steps.
Judged by: PSNR of held-out frames after encoding and decoding, whole and with 75 % of the patches masked, beside the
mean frame and the frame before.
Command: python launch.py record --config=configs/car_tokenizer.py --workdir=runs/tokenizer, then train and imagine.
"""

from ml_collections import ConfigDict

from configs.common import make_config
from configs.demo import RECORD
from experiments.evaluation.options import HeldOutOptions
from experiments.families.tokenizer.options import TokenizerConfig, TokenizerEval
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.models.tokenizer.options import TokenizerOptions
from world_models.nn.options import ComputeOptions, PixelOptions, TransformerOptions


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    network = TransformerOptions(width=96, depth=4, heads=3)
    options = TokenizerConfig(
        record=RECORD,
        model=TokenizerOptions(
            network,
            network,
            patch=8,
            latents=16,
            latent_channels=8,
            time_every=2,
            window=8,
            pixels=PixelOptions(std=(0.25,)),
        ),
        train=TrainOptions(
            batch_size=8,
            num_steps=4_000,
            ema_decay=0.99,
            # A learning rate of 2e-3 found no more than the mean frame in 600 steps.
            optimizer=OptimizerOptions(learning_rate=7e-4, warmup_steps=200, weight_decay=0.05, b2=0.95),
        ),
        eval=TokenizerEval(every=1_000, held_out=HeldOutOptions(64)),
        runtime=RuntimeOptions(log_every=10, checkpoint_every=1_000, compute=ComputeOptions(unroll=-1)),
    )
    return make_config(options, variant)
