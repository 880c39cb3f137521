"""A masked autoencoder of video: what does an encoder learn of things that move, from clips that it never saw whole?

Model: VideoMAE (Tong et al. 2022) with an encoder 96 wide and 4 blocks deep on tubelets of 2x8x8, a decoder of 2 blocks
64 wide, three quarters of the tubes removed, pixels as targets; joint attention over space and time.
Data: moving digits (procedural, from MNIST's images: `make data`), one object of 14 pixels in clips of 8 32x32 frames.
Judged by: ridge regression of the motion's direction on the frozen encoder's mean token, beside its baselines; `eval`
adds what `--config.eval.probes` names. `--config.eval.label_key=digit` asks what moves instead.
Command: python launch.py record --config=configs/moving_mae.py --workdir=runs/moving (after `make data`), then train,
eval and imagine.
"""

from ml_collections import ConfigDict

from configs.common import make_config
from experiments.evaluation.options import FineTuneOptions, HeldOutOptions, ProbeOptions
from experiments.families.masked_autoencoder.options import (
    AugmentOptions,
    MaskedAutoencoderConfig,
    MaskedAutoencoderEval,
)
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import ClipDataOptions, MovingDigitsRecording
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import ComputeOptions, PixelOptions, TransformerOptions


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = MaskedAutoencoderConfig(
        record=MovingDigitsRecording(),
        data=ClipDataOptions(validation_split="test", clip_length=8),
        model=MaskedAutoencoderOptions(
            encoder=TransformerOptions(width=96, depth=4, heads=3),
            decoder=TransformerOptions(width=64, depth=2, heads=4),
            patch=8,
            tubelet=2,
            masking="tube",
            target="pixels",  # VideoMAE normalizes them by patch; here most patches are dark
            class_token=False,
            decoder_input_bias=False,
            pca_components=12,  # of the target "pca"
            pixels=PixelOptions((0.05,), (0.2,)),
        ),
        augment=AugmentOptions(flip=False),
        train=TrainOptions(
            batch_size=64,
            num_steps=4_000,
            ema_decay=0.0,  # the weights themselves, as in MAE
            optimizer=OptimizerOptions(warmup_steps=100, weight_decay=0.05, b2=0.95),
        ),
        eval=MaskedAutoencoderEval(
            every=500,
            held_out=HeldOutOptions(2_048),
            probes=ProbeOptions(label_key="motion", shots=(0,)),
            fine_tune=FineTuneOptions(flip=False),  # a mirrored motion has another label
        ),
        runtime=RuntimeOptions(log_every=20, checkpoint_every=500, keep=1, compute=ComputeOptions(unroll=-1)),
    )
    return make_config(options, variant)
