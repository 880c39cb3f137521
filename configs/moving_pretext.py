"""Pretext tasks on video: what does an encoder of single frames learn of things that move from the order of frames?

Model: a residual CNN of two stacks, 16 and 32 channels wide, whose maps have a quarter of a frame's size, and a small
head for the task.
Tasks: "order" (Misra et al. 2016), whether three frames are in order; "direction" (Wei et al. 2018), whether a clip
runs backwards; "color_tracking" (Vondrick et al. 2018), where in earlier frames the colours of a frame are from;
"next_frame".
Data: two objects of 21 pixels from Fashion-MNIST (`make data`) in colours, which slow down, in clips of 8 48x48 frames.
Judged by: the task itself beside chance, ridge regression of the direction of motion on frozen features of all frames
(--config.eval.probes.label_key=speed or digit for the others), and J and F of masks that the features carry along.
Command: python launch.py record --config=configs/moving_pretext.py --workdir=runs/order, then train and eval. Another
task: --config=configs/moving_pretext.py:color_tracking, say. Control: --config.model.task.control=static.
"""

from ml_collections import ConfigDict

from configs.common import choose, make_config
from experiments.evaluation.options import HeldOutOptions, ProbeOptions, TrackingOptions
from experiments.families.pretext.options import PretextConfig, PretextEval
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import ClipDataOptions, MovingDigitsRecording
from world_models.models.latent_dynamics.options import CNNOptions
from world_models.models.pretext.options import (
    ColorTrackingOptions,
    DirectionOptions,
    NextFrameOptions,
    OrderOptions,
    PretextOptions,
)
from world_models.nn.options import PixelOptions

DATA = MovingDigitsRecording(
    digits="fashion_mnist",
    num_objects=2,
    speed=4.0,
    num_speeds=3,
    friction=0.15,
    color=True,
    image_size=(48, 48),
)
TASKS = {
    "order": OrderOptions(near=2, far=3),
    "direction": DirectionOptions(),
    "color_tracking": ColorTrackingOptions(),
    "next_frame": NextFrameOptions(),
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a task of `TASKS`, the first by default; "debug" and "<task>-debug" take seconds."""
    options = PretextConfig(
        record=DATA,
        data=ClipDataOptions(validation_split="test", clip_length=8),
        model=PretextOptions(
            task=choose(TASKS, variant),
            encoder=CNNOptions(channels=(16, 32), blocks=1),
            pixels=PixelOptions((0.5,), (0.25,)),
        ),
        train=TrainOptions(
            batch_size=32,
            num_steps=4_000,
            ema_decay=0.0,
            optimizer=OptimizerOptions(warmup_steps=100, weight_decay=0.05),
        ),
        eval=PretextEval(
            every=2_000,
            held_out=HeldOutOptions(1_024),
            probes=ProbeOptions(label_key="motion", pool="quadrants"),
            tracking=TrackingOptions(num_clips=64),
        ),
        runtime=RuntimeOptions(log_every=20, checkpoint_every=2_000, keep=1),
    )
    return make_config(options, "debug" if variant.endswith("debug") else "")
