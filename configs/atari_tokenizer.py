"""A causal tokenizer of Boxing at 64x64: 16 tokens of 16 numbers a frame, for configs/atari_world.py.

Model: that of configs/car_tokenizer.py. The background never changes and fighters are a few dozen pixels, so frames
that differ by little must be told apart: the loss is the squared error of all pixels alone.
Data: Boxing under a sticky random policy, a step every four frames, 48 whole games of about 1,780 steps.
Judged by: PSNR of held-out frames after encoding and decoding, beside the mean frame and the frame before.
Another game: --config.record.environment=ALE/Freeway-v5.
Command: pip install -e '.[atari]'
    python launch.py record --config=configs/atari_tokenizer.py --workdir=runs/atari_tokenizer, then train and imagine.
"""

from ml_collections import ConfigDict

from configs.car_tokenizer import TOKENIZER, TRAIN
from configs.common import make_config
from experiments.evaluation.options import HeldOutOptions
from experiments.families.tokenizer.options import TokenizerConfig, TokenizerEval
from experiments.training.options import RuntimeDataOptions, RuntimeOptions
from world_models.data.options import GymnasiumRecording
from world_models.nn.options import ComputeOptions

DATA = GymnasiumRecording(
    environment="ALE/Boxing-v5",
    environment_kwargs={"repeat_action_probability": 0.0, "frameskip": 4},
    observation="observation",
    fit="stretch",  # 210x160 pixels to a square, as DIAMOND does
    policy="sticky",
    repeat_probability=0.8,
    num_episodes=48,
    max_episode_steps=2_000,
    splits={"train": 0.8, "validation": 0.1, "test": 0.1},
)


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = TokenizerConfig(
        record=DATA,
        model=TOKENIZER,
        train=TRAIN,
        eval=TokenizerEval(every=1_000, held_out=HeldOutOptions(64)),
        runtime=RuntimeOptions(
            log_every=50,
            checkpoint_every=1_000,
            data=RuntimeDataOptions(cache_gb=4.0),
            compute=ComputeOptions(unroll=-1),
        ),
    )
    return make_config(options, variant)
