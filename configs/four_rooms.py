"""Four rooms, doors of which one may be closed, and a dot that means nothing: three levels of latent dynamics.

Model: configs/two_rooms.py with a third level; the levels tick with every frame, every 4 and every 16 (H-JEPA, arXiv
2610.06805, has frames of 5 steps and ticks of 1, 2 and 4 frames); `config.levels` may name a fourth, which ticks every
32. The upper levels' latents are slow: the heavy "time" makes distances in them grow with the way that is left to go,
past walls. `config.plan.num_levels` plans with fewer of them, `config.plan.cost_level` measures the goal's distance in
a level that does not plan.
Data: FourRooms with a distractor (H-JEPA's simulator), rendered at 32x32; half of the episodes are an expert's with
noise, half an explorer's. Published are 224x224 and a million frames.
Judged by: goals behind two doors, 75 steps away at most, reached within 210 (`plan`); errors of rollouts by level.
Command: python launch.py record --config=configs/four_rooms.py --workdir=runs/four, then train, eval, imagine and plan.
"""

import dataclasses

from ml_collections import ConfigDict

from configs.common import make_config
from experiments.evaluation.options import HeldOutOptions, OpenLoopOptions
from experiments.families.latent_dynamics.options import LatentDynamicsConfig, LatentDynamicsEval, LatentDynamicsModel
from experiments.planning.options import WorldPlanOptions
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import ClipDataOptions, FourRoomsRecording
from world_models.models.latent_dynamics.options import LevelOptions
from world_models.nn.options import PixelOptions
from world_models.planning.options import PlannerLevel

TRAIN = TrainOptions(
    batch_size=16,
    num_steps=3_000,
    ema_decay=0.99,
    optimizer=OptimizerOptions(warmup_steps=150, weight_decay=1e-5, clip_norm=2.0),
)
BOTTOM = PlannerLevel(
    method="icem",
    horizon=80,
    samples=64,
    iterations=4,
    elites=8,
    std=0.6,
    min_std=0.05,
    colour=2.0,
    choose="best",
    replan=2,
)
UPPER = PlannerLevel(
    method="icem",
    horizon=8,
    samples=128,
    iterations=6,
    elites=8,
    min_std=0.05,
    colour=1.0,
    choose="best",
    prior=True,
    replan=8,
    cost="sum",
)


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    upper = LevelOptions(rollout=2, std=16.0, cov=8.0, time=8.0, inverse=1.0, max_distance=6.0)
    options = LatentDynamicsConfig(
        record=FourRoomsRecording(),
        data=ClipDataOptions(clip_length=64, stride=8),
        model=LatentDynamicsModel(
            levels=("bottom", "middle", "top"),
            level={
                # With a weight of "distance", planners measure distances in an embedding where they are ticks.
                "bottom": LevelOptions(std=16.0, cov=8.0, time=12.0, inverse=6.0, max_distance=64.0),
                "middle": dataclasses.replace(upper, rollout=4, time=32.0, max_distance=24.0),
                "top": upper,  # a tick is four of the middle: steps in its latents are that much longer
                "fourth": dataclasses.replace(upper, stride=2, rollout=1, max_distance=3.0),
            },
            # Walls are gray: as they are, the channels show them and hide the dots.
            pixels=PixelOptions(mean=(0.86, 0.0, 0.0), std=(0.28, 0.04, 0.04), color="opponent"),
        ),
        train=TRAIN,
        eval=LatentDynamicsEval(
            every=1_000,
            held_out=HeldOutOptions(128),
            open_loop=OpenLoopOptions(horizon=32),
            plan=WorldPlanOptions(tasks="cross_2"),
            # Horizons are those of the highest level that plans; below another a level looks no further than its tick.
            search={
                "bottom": BOTTOM,
                "middle": dataclasses.replace(UPPER, horizon=20, iterations=4, replan=4),
                "top": UPPER,
                "fourth": dataclasses.replace(UPPER, horizon=4, iterations=4, replan=16),
            },
        ),
        runtime=RuntimeOptions(checkpoint_every=1_000),
    )
    return make_config(options, variant)
