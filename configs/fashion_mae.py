"""A masked autoencoder of Fashion-MNIST: what does an encoder learn about clothes that it never saw whole?

Model: MAE (He et al. 2021) with an encoder 192 wide and 6 blocks deep on patches of 4x4 pixels, a decoder of 2 blocks
64 wide, three quarters of the patches removed, pixels as targets: in so short a training they make better frozen
features than MAE's normalized pixels do (the table `mae` has both).
Data: the complete Fashion-MNIST, 60,000 and 10,000 images of 28x28 (MIT licence), from a Debian package: `make data`.
Judged by: ridge regression on the frozen encoder's mean patch token, beside raw pixels, random features and the same
encoder untrained; `launch.py eval` adds what `--config.eval.probes` names (ridge, knn, linear, fine_tune).
Cost: ten epochs of 60,000 images; not timed to the end. The table few_labels has 25 epochs of larger patches.
Command: python launch.py record --config=configs/fashion_mae.py --workdir=runs/fashion (after `make data`), then train,
eval and imagine.
"""

from ml_collections import ConfigDict

from configs.common import make_config
from experiments.evaluation.options import HeldOutOptions, ProbeOptions
from experiments.families.masked_autoencoder.options import (
    AugmentOptions,
    MaskedAutoencoderConfig,
    MaskedAutoencoderEval,
)
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import FashionRecording
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import ComputeOptions, PixelOptions, TransformerOptions


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = MaskedAutoencoderConfig(
        record=FashionRecording(),
        model=MaskedAutoencoderOptions(
            encoder=TransformerOptions(width=192, depth=6, heads=3),
            decoder=TransformerOptions(width=64, depth=2, heads=4),
            patch=4,
            target="pixels",
            pca_components=12,  # of the target "pca"
            pixels=PixelOptions((0.286,), (0.353,)),
        ),
        augment=AugmentOptions(flip=True),
        train=TrainOptions(
            batch_size=64,
            num_steps=9_380,  # 10 epochs
            ema_decay=0.0,  # the weights themselves, as in MAE
            optimizer=OptimizerOptions(warmup_steps=470, weight_decay=0.05, b2=0.95),
        ),
        eval=MaskedAutoencoderEval(every=2_345, held_out=HeldOutOptions(2_048), probes=ProbeOptions(num_train=10_000)),
        runtime=RuntimeOptions(log_every=20, checkpoint_every=2_345, keep=1, compute=ComputeOptions(unroll=-1)),
    )
    return make_config(options, variant)
