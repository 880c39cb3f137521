"""PushT, a disc that pushes a T: two levels of latent dynamics that plan towards what was seen some steps later.

Model: that of configs/two_rooms.py, on larger frames.
Data: PushT with relative actions in frames of 48x48, played by a policy that pushes weakly
(world_models/environments/push_t.py). DINO-WM and LeWM learn from an expert, and planning then succeeds far more often.
Judged by: goals that the policy itself came to 10 steps after the start, in episodes that were not recorded (`plan`;
DINO-WM and LeWM have goals 25 steps away).
Command: python launch.py record --config=configs/push_t.py --workdir=runs/push_t, then train, eval, imagine and plan.
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
    options = LatentDynamicsConfig(
        record=GymnasiumRecording(
            environment="PushT-relative-v0",
            environment_kwargs={"visualization_width": 96, "visualization_height": 96},
            modules=("world_models.environments.push_t",),
            image_size=(48, 48),
            policy="world_models.environments.push_t:push",
            max_episode_steps=101,
        ),
        model=LatentDynamicsModel(
            levels=("bottom", "upper"),
            level={
                "bottom": LevelOptions(std=16.0, cov=8.0, time=12.0, inverse=6.0),
                "upper": LevelOptions(rollout=3, std=16.0, cov=8.0, time=32.0, inverse=1.0),
            },
            pixels=PixelOptions(mean=(0.95,), std=(0.15,)),
        ),
        train=TRAIN,
        eval=LatentDynamicsEval(
            every=500,
            held_out=HeldOutOptions(128),
            plan=GymnasiumPlanOptions(reached="world_models.environments.push_t:reached"),
            # Horizons are those of the highest level that plans; below another a level looks no further than its tick.
            search={
                "bottom": PlannerLevel(
                    method="icem",
                    horizon=12,
                    samples=64,
                    iterations=4,
                    elites=8,
                    std=0.5,
                    min_std=0.05,
                    temperature=2.0,  # of "mppi", in units of the cost
                    colour=2.0,
                    choose="best",
                    replan=2,
                ),
                "upper": PlannerLevel(
                    method="icem",
                    horizon=5,
                    samples=48,
                    iterations=4,
                    elites=6,
                    min_std=0.05,
                    colour=1.0,
                    choose="best",
                    prior=True,
                    replan=4,
                    cost="sum",
                ),
            },
        ),
        runtime=RuntimeOptions(checkpoint_every=500),
    )
    return make_config(options, variant)
