"""Two rooms and a door, seen from above: two levels of latent dynamics to plan in, small enough for two CPU cores.

Model: level 1 as in the TwoRooms model of eb_jepa (variance, covariance, time similarity and inverse dynamics against
collapse), made small and with an MLP that actions modulate as predictor, for its GRU; level 2 ticks four times slower,
with an MLP encoder on level 1 and macro-actions of four numbers (H-JEPA, arXiv 2610.06805). Its latents are slow: the
heavy "time" makes distances in them grow with the way that is left to go, past walls; those of level 1 do so for near
goals alone.
config.levels names the blocks from the bottom up: ("bottom",) is the flat model; ("bottom", "upper", "upper") has three
levels and needs clips of 64 frames, so that the third, which ticks every 16, has as many ticks as its rollout of 3
asks for.
Data: random walks in TwoRooms, rendered at 32x32, the wall and its door always in the same place; a third is built to
lead through the door, and the data set's metadata says how many really do.
Judged by: goals in the other room reached by planning (`plan`), errors of rollouts over those of latents that stay as
they are, by level (eval/rollout), and imagined frames of the probe decoder. Number to expect: results/two_rooms/.
Command: python launch.py record --config=configs/two_rooms.py --workdir=runs/rooms, then train, eval, imagine and plan.
"""

from ml_collections import ConfigDict

from configs.common import make_config
from experiments.evaluation.options import HeldOutOptions
from experiments.families.latent_dynamics.options import LatentDynamicsConfig, LatentDynamicsEval, LatentDynamicsModel
from experiments.planning.options import WorldPlanOptions
from experiments.training.options import OptimizerOptions, RuntimeOptions, TrainOptions
from world_models.data.options import TwoRoomsRecording
from world_models.models.latent_dynamics.options import LevelOptions
from world_models.nn.options import PixelOptions
from world_models.planning.options import PlannerLevel

# Of the dot, the walls and nothing, as in eb_jepa.
PIXELS = PixelOptions(mean=(0.0026, 0.0989, 0.0), std=(0.0369, 0.2986, 1.0))
TRAIN = TrainOptions(
    num_steps=2_500,
    ema_decay=0.99,
    optimizer=OptimizerOptions(warmup_steps=125, weight_decay=1e-5, clip_norm=2.0),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    options = LatentDynamicsConfig(
        record=TwoRoomsRecording(num_episodes=2_000, num_frames=64),
        model=LatentDynamicsModel(
            levels=("bottom", "upper"),
            level={
                # "inverse" would be 1 for actions in pixels: here they are divided by 2.45.
                "bottom": LevelOptions(std=16.0, cov=8.0, time=12.0, inverse=6.0),
                "upper": LevelOptions(rollout=3, std=16.0, cov=8.0, time=32.0, inverse=1.0),
            },
            pixels=PIXELS,
        ),
        train=TRAIN,
        eval=LatentDynamicsEval(
            every=500,
            held_out=HeldOutOptions(128),
            plan=WorldPlanOptions(tasks="fixed_wall"),
            # Horizons are those of the highest level that plans; below another a level looks no further than its tick.
            search={
                "bottom": PlannerLevel(
                    method="icem",
                    horizon=48,
                    samples=32,
                    iterations=3,
                    elites=4,
                    std=0.41,  # of 2.45
                    min_std=0.04,
                    temperature=2.0,  # of "mppi", in units of the cost
                    colour=2.0,
                    choose="best",
                    max_norm=2.45,
                    replan=2,
                ),
                "upper": PlannerLevel(
                    method="icem",
                    horizon=12,
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
