"""A template for a Gymnasium environment of your own: copy it, and change the lines marked with "yours".

Model: that of configs/car_unet.py at 64x64; any other family can be set here instead.
Data: 200 episodes of your environment under your policy.
Command: pip install -e /path/to/your/package
    python launch.py record --config=configs/my_environment.py --workdir=runs/mine
    python launch.py train --config=configs/my_environment.py --workdir=runs/mine
"""

from ml_collections import ConfigDict

from configs.common import make_config
from experiments.families.options import DiffusionEval
from experiments.families.video_diffusion.options import VideoDiffusionConfig
from experiments.training.options import TrainOptions
from world_models.data.options import GymnasiumRecording
from world_models.models.video_diffusion.options import VideoDiffusionOptions


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = VideoDiffusionConfig(
        record=GymnasiumRecording(
            environment="MyEnvironment-v0",  # yours: the id that your package registers
            modules=("my_package",),  # yours: importing it calls gymnasium.register
            environment_kwargs={},  # yours: for its constructor
            observation="render",  # "observation" if the environment returns images, rendered ones otherwise
            observation_key="",  # yours: "camera/front" in observations that are dictionaries
            image_size=(64, 64),
            fit="crop",  # or "pad", "stretch": what to do with frames that are not square
            policy="random",  # yours: "my_package.policies:drive", see docs/data.md
            num_episodes=200,
            max_episode_steps=500,
        ),
        model=VideoDiffusionOptions(),
        train=TrainOptions(num_steps=50_000),
        eval=DiffusionEval(every=5_000),
    )
    return make_config(options, variant)
