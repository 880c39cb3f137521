"""Reacher, an arm of two links: one level of latent dynamics that looks back, and so knows how fast the arm turns.

Model: that of configs/lewm.py, on larger frames.
Data: Gymnasium's Reacher seen from above in frames of 48x48, every second step; a policy turns the joints to angles at
random (world_models/environments/robotics.py). LeWM has dm_control's Reacher and a random policy.
Judged by: goals that the policy itself came to 15 recorded steps after the start, in episodes that were not recorded
(`plan`; LeWM has goals 25 steps away). Gymnasium's own goal, the red ball, is a thing in the picture and no more.
Command: python launch.py record --config=configs/reacher.py --workdir=runs/reacher, then train, eval, imagine and plan.
"""

from ml_collections import ConfigDict

from configs.common import make_config
from configs.two_rooms import TRAIN
from experiments.evaluation.options import HeldOutOptions
from experiments.families.latent_dynamics.options import LatentDynamicsConfig, LatentDynamicsEval, LatentDynamicsModel
from experiments.planning.options import GymnasiumPlanOptions
from experiments.training.options import RuntimeOptions
from world_models.data.options import GymnasiumRecording
from world_models.models.latent_dynamics.options import LevelOptions
from world_models.nn.options import PixelOptions
from world_models.planning.options import PlannerLevel


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    # The camera that Gymnasium's Reacher has follows the arm and would not repeat itself.
    camera = {"type": 0, "lookat": (0.0, 0.0, 0.0), "distance": 0.55, "elevation": -90.0, "azimuth": 90.0}
    predictor = LevelOptions(predictor="transformer", history=3, depth=2, heads=4, rollout=4, sigreg=0.09)
    options = LatentDynamicsConfig(
        record=GymnasiumRecording(
            environment="Reacher-v5",
            environment_kwargs={
                "width": 96,
                "height": 96,
                "default_camera_config": camera,
                "max_episode_steps": 500,
            },
            image_size=(48, 48),
            action_repeat=2,
            policy="world_models.environments.robotics:swing",
            max_episode_steps=101,
        ),
        model=LatentDynamicsModel(level={"bottom": predictor}, pixels=PixelOptions(mean=(0.64,), std=(0.08,))),
        train=TRAIN,
        eval=LatentDynamicsEval(
            every=500,
            held_out=HeldOutOptions(128),
            plan=GymnasiumPlanOptions(reached="world_models.environments.robotics:reacher", offset=15, num_steps=30),
            search={
                "bottom": PlannerLevel(
                    method="icem",
                    horizon=15,
                    samples=64,
                    iterations=4,
                    elites=8,
                    std=0.2,
                    min_std=0.05,
                    temperature=2.0,  # of "mppi", in units of the cost
                    colour=2.0,
                    choose="best",
                    replan=2,
                    cost="sum",
                )
            },
        ),
        runtime=RuntimeOptions(checkpoint_every=500),
    )
    return make_config(options, variant)
