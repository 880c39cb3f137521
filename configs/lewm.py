"""LeWM in two rooms: a predictor that looks back, and two terms in the loss, small enough for two CPU cores.

Model: LeWM (LeWorldModel, 2026): a ViT, a causal transformer over the three latest latents that the actions modulate
(adaLN-zero), the error one tick on from true latents, and SIGReg. Published are frames of 224x224, ViT-tiny, a latent
of 192 numbers, a predictor of 6 blocks with 16 heads, actions in blocks of 5 steps, batches of 128. Otherwise than
there, latents end in layer norm for batch norm, all patches are read for the class token, and what is predicted is
added to the latent.
Data: random walks in TwoRooms, as in configs/two_rooms.py, whose upper levels may be set on this one: H-JEPA has such.
Judged by: goals in the other room reached by planning (`plan`), which goes on from the latest latents that were seen;
errors of predictions over those of latents that stay as they are (eval/rollout).
Command: python launch.py record --config=configs/lewm.py --workdir=runs/lewm, then train, eval, imagine and plan.
"""

from ml_collections import ConfigDict

from configs.common import make_config
from configs.two_rooms import PIXELS, TRAIN
from experiments.evaluation.options import HeldOutOptions
from experiments.families.latent_dynamics.options import LatentDynamicsConfig, LatentDynamicsEval, LatentDynamicsModel
from experiments.planning.options import WorldPlanOptions
from experiments.training.options import RuntimeOptions
from world_models.data.options import TwoRoomsRecording
from world_models.models.latent_dynamics.options import LevelOptions
from world_models.planning.options import PlannerLevel


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    predictor = LevelOptions(predictor="transformer", history=3, depth=2, heads=4, rollout=1, sigreg=0.09)
    options = LatentDynamicsConfig(
        record=TwoRoomsRecording(num_episodes=2_000, num_frames=64),
        model=LatentDynamicsModel(level={"bottom": predictor}, pixels=PIXELS),
        train=TRAIN,
        eval=LatentDynamicsEval(
            every=500,
            held_out=HeldOutOptions(128),
            plan=WorldPlanOptions(tasks="fixed_wall"),
            search={
                "bottom": PlannerLevel(
                    method="icem",
                    horizon=48,
                    samples=64,
                    iterations=4,
                    elites=8,
                    std=0.41,  # of 2.45
                    min_std=0.04,
                    temperature=2.0,  # of "mppi", in units of the cost
                    colour=2.0,
                    choose="best",
                    max_norm=2.45,
                    replan=4,
                )
            },
        ),
        runtime=RuntimeOptions(checkpoint_every=500),
    )
    return make_config(options, variant)
