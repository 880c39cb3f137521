"""A ball in a maze, seen from above: three levels of latent dynamics that find ways through it by planning alone.

Model: that of configs/four_rooms.py; levels tick with every frame, every 4 and every 16.
Data: OGBench's "navigate" data of point mazes (arXiv 2410.20092) from this project's simulator: a noisy expert goes
from goal to goal. Five steps of the benchmark are one here, and frames are drawn flat: 32x32 for the maze "medium". For
the others: --config.record.maze=large --config.record.image_size="(40,48)", or giant and "(48,64)": 4 pixels a cell.
Judged by: the benchmark's five tasks of the maze, reached within its 1000 steps (200 here) by planning (`plan`), or,
with --config.plan.tasks=cells_5_16, goals 5 to 16 cells away; errors of rollouts by level.
Command: python launch.py record --config=configs/point_maze.py --workdir=runs/maze, then train, eval, imagine and plan.
"""

import dataclasses

from ml_collections import ConfigDict

from configs.common import make_config
from configs.four_rooms import BOTTOM, TRAIN, UPPER
from experiments.evaluation.options import HeldOutOptions, OpenLoopOptions
from experiments.families.latent_dynamics.options import LatentDynamicsConfig, LatentDynamicsEval, LatentDynamicsModel
from experiments.planning.options import WorldPlanOptions
from experiments.training.options import RuntimeOptions
from world_models.data.options import ClipDataOptions, PointMazeRecording
from world_models.models.latent_dynamics.options import LevelOptions
from world_models.nn.options import PixelOptions


def get_config(variant: str = "") -> ConfigDict:
    """The config; the variant "debug" takes seconds."""
    upper = LevelOptions(rollout=2, std=16.0, cov=8.0, time=8.0, inverse=1.0, max_distance=8.0)
    options = LatentDynamicsConfig(
        record=PointMazeRecording(num_frames=201),
        data=ClipDataOptions(clip_length=64, stride=8),
        model=LatentDynamicsModel(
            levels=("bottom", "middle", "top"),
            level={
                # With a weight of "distance", planners measure distances in an embedding where they are ticks.
                "bottom": LevelOptions(std=16.0, cov=8.0, time=12.0, inverse=6.0, max_distance=128.0),
                "middle": dataclasses.replace(upper, rollout=4, time=32.0, max_distance=32.0),
                "top": upper,  # a tick is four of the middle: steps in its latents are that much longer
            },
            # Walls are gray: as they are, the channels show them and hide the dots.
            pixels=PixelOptions(mean=(0.3, 0.0, 0.0), std=(0.25, 0.02, 0.02), color="opponent"),
        ),
        train=TRAIN,
        eval=LatentDynamicsEval(
            every=1_000,
            held_out=HeldOutOptions(128),
            open_loop=OpenLoopOptions(horizon=32),
            plan=WorldPlanOptions(tasks="navigate"),
            # Horizons are those of the highest level that plans; below another a level looks no further than its tick.
            # `near` is far below 2, the distance of two latents that have nothing in common (their variance is 1); in
            # an embedding it is the square of ticks.
            search={
                "bottom": BOTTOM,
                "middle": dataclasses.replace(UPPER, horizon=24, iterations=4, replan=4, cost="last", near=0.3),
                "top": dataclasses.replace(UPPER, near=0.3),
            },
        ),
        runtime=RuntimeOptions(checkpoint_every=1_000),
    )
    return make_config(options, variant)
