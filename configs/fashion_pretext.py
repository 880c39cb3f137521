"""Pretext tasks on Fashion-MNIST: what does an encoder learn of clothes by solving puzzles about their images?

Model: a vision transformer 96 wide and 4 blocks deep on patches of 4x4 pixels, and a small head for the task.
Tasks: "relative_position" (Doersch et al. 2015), which neighbour of a patch another patch is; "exemplar" (Dosovitskiy
et al. 2014), which of 8,000 images an augmented image is of, and "triplet", the same in triplets within the batch;
"classification", the labels themselves, which is what the others are compared with.
Data: the complete Fashion-MNIST, 60,000 and 10,000 images of 28x28 (MIT licence), from a Debian package: `make data`.
Judged by: the task itself beside chance, and ridge regression, nearest neighbours or a linear probe on the frozen
encoder, beside raw pixels, random features and the same encoder untrained.
Command: python launch.py record --config=configs/fashion_pretext.py --workdir=runs/pretext (after `make data`), then
train and eval. Another task: --config=configs/fashion_pretext.py:exemplar, say.
"""

from ml_collections import ConfigDict

from configs.common import choose, make_config
from experiments.evaluation.options import HeldOutOptions, ProbeOptions
from experiments.families.pretext.options import PretextConfig, PretextEval
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import FashionRecording
from world_models.models.latent_dynamics.options import ViTOptions
from world_models.models.pretext.options import (
    ClassificationOptions,
    ExemplarOptions,
    PretextOptions,
    RelativePositionOptions,
)
from world_models.nn.options import ComputeOptions, PixelOptions

TASKS = {
    "relative_position": RelativePositionOptions(patch=8, gap=1, jitter=1, color="keep"),
    "exemplar": ExemplarOptions(num_images=8_000),
    "triplet": ExemplarOptions(form="triplet"),
    "classification": ClassificationOptions(),
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a task of `TASKS`, the first by default; "debug" and "<task>-debug" take seconds."""
    options = PretextConfig(
        record=FashionRecording(),
        model=PretextOptions(
            task=choose(TASKS, variant),
            encoder=ViTOptions(width=96, depth=4, heads=3, patch=4),
            pixels=PixelOptions((0.286,), (0.353,)),
        ),
        train=TrainOptions(
            batch_size=64,
            num_steps=9_380,  # 10 epochs
            ema_decay=0.0,
            optimizer=OptimizerOptions(warmup_steps=470, weight_decay=0.05),
        ),
        eval=PretextEval(every=2_345, held_out=HeldOutOptions(2_048), probes=ProbeOptions(num_train=10_000)),
        runtime=RuntimeOptions(log_every=20, checkpoint_every=2_345, keep=1, compute=ComputeOptions(unroll=-1)),
    )
    return make_config(options, "debug" if variant.endswith("debug") else "")
