"""DIAMOND's world model of an Atari game at its published size (Alonso et al. 2024, arXiv 2405.12399).

Model: 4,405,955 parameters for 4 actions at 64x64; EDM with offset noise 0.3, 3 Euler steps; the optimizer, noise
levels and network of the released code. With its weights (`python -m experiments.tools.weights import Breakout.pt DIR`)
the network and, without quantization, the sampler give the same numbers. What differs from the released code:
- sampling starts from σ_max·N(0, 1), which gives samples their full spread (config.eval.sampler.initial_noise="unit" is
  what the released code does);
- denoised frames are rounded to 256 levels, where the released code truncates;
- kernels begin with LeCun's normal initialization and biases with 0, where PyTorch's uniform one and, in downsampling,
  an orthogonal one are used;
- computation is in bfloat16, and a moving average of the weights is evaluated; there it is float32 and no average;
- windows lie within episodes, where the released code pads windows that begin before an episode;
- the data are a fixed recording of a sticky random policy instead of an agent's growing memory, all parts of which are
  drawn alike; there newer experience is drawn more often;
- an observation is the last of the 4 skipped frames, without the maximum over the last two; episodes do not end at a
  lost life and do not begin with up to 30 idle steps.
Data: Breakout under a sticky random policy, frame skip 4 by the environment itself, no sticky actions.
Cost: made for a GPU; not yet run to the end by us. On two CPU cores it is slow beyond use.
Number to expect: not run.
Command: pip install -e '.[atari]'
    python launch.py record --config=configs/atari_diamond.py --workdir=runs/breakout
    python launch.py train --config=configs/atari_diamond.py --workdir=runs/breakout
"""

from ml_collections import ConfigDict

from configs.common import make_config
from experiments.evaluation.options import FuturesOptions, HeldOutOptions, OpenLoopOptions
from experiments.families.options import DiffusionEval
from experiments.families.video_diffusion.options import VideoDiffusionConfig
from experiments.training.options import OptimizerOptions, RuntimeDataOptions, RuntimeOptions, TrainOptions
from world_models.data.options import ClipDataOptions, GymnasiumRecording
from world_models.models.video_diffusion.options import VideoDiffusionOptions


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = VideoDiffusionConfig(
        record=GymnasiumRecording(
            environment="ALE/Breakout-v5",
            environment_kwargs={"repeat_action_probability": 0.0, "frameskip": 4},
            observation="observation",
            fit="stretch",  # 210x160 pixels to a square, as published
            policy="sticky",
            repeat_probability=0.8,
            num_episodes=500,
        ),
        data=ClipDataOptions(clip_length=6),  # two predicted frames: the second sees the model's own first one
        model=VideoDiffusionOptions(dtype="bfloat16"),
        train=TrainOptions(
            num_steps=100_000,
            optimizer=OptimizerOptions(learning_rate=1e-4, schedule="constant", warmup_steps=100),
        ),
        eval=DiffusionEval(
            every=5_000,
            held_out=HeldOutOptions(512),
            open_loop=OpenLoopOptions(num_contexts=64, horizon=16),
            imagine=FuturesOptions(horizon=48, fps=15.0),
        ),
        runtime=RuntimeOptions(log_every=100, checkpoint_every=5_000, data=RuntimeDataOptions(8.0, num_threads=8)),
    )
    return make_config(options, variant)
