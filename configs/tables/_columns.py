"""Columns that several tables share: fields of `experiments.tables.schema.Column`."""

import math

PERCENT = {"unit": "%", "better": "higher", "digits": 1, "range": (0.0, 100.0)}
SHARE = {**PERCENT, "scale": 100.0}  # of 0..1
SUCCESS = {"title": "success rate", "path": ("success",), "episodes": ("episodes",), **SHARE}
FINAL_STEP = {
    "title": "final-step success rate",
    "about": "share of the episodes that are at the goal after the last step",
    "path": ("terminal_success",),
    "episodes": ("episodes",),
    **SHARE,
}
STRAIGHT_LINE = {
    "title": "straight-line baseline",
    "about": "success rate of moving straight towards the goal, which needs no model",
    "path": ("baselines", "straight_line", "success"),
    "episodes": ("episodes",),
    "baseline_for": "success",
    **SHARE,
}
FARTHEST = {
    "title": "success rate, farthest quarter",
    "about": "success rate, at any step, in the quarter of the tasks whose shortest path is longest",
    "path": ("farthest", "success"),
    "episodes": ("farthest", "episodes"),
    **SHARE,
}
SPEARMAN = {
    "title": "Spearman correlation of latent distance with path length",
    "about": "over the tasks, of the distance from start to goal in the latents of the planner's cost with the length "
    "of the shortest path",
    "path": ("cost_rank_correlation",),
    "unit": "",
    "better": "higher",
    "range": (-1.0, 1.0),
}
FOLLOWING = {
    "title": "action following",
    "unit": "1/1000",
    "about": "mean squared error over changed pixels under another window's actions "
    "minus that under the true ones, in thousandths",
    "better": "higher",
    "path": ("action_following", "mean"),
    "scale": 1000.0,
    "range": (-1000.0, 1000.0),
}
FRECHET_CLIPS = {
    "title": "Fréchet distance, clips",
    "about": "of imagined clips from as many clips of the training split, in the feature space of the config; "
    "comparable within this table alone",
    "path": ("distances", "sets", "frechet_clips", "imagined", "distance"),
    "unit": "",
    "better": "lower",
    "digits": 3,
    "range": (0.0, math.inf),
}
FRECHET_CLIPS_REAL = {
    **FRECHET_CLIPS,
    "title": "the same of other real clips",
    "about": "of what happened after the same contexts, which needs no model",
    "path": ("distances", "sets", "frechet_clips", "real", "distance"),
    "baseline_for": "frechet_clips",
}
DRIFT_END = {
    "title": "drift at the end",
    "about": "kernel distance of the last window of long rollouts from real ones, in the feature space of the config",
    "path": ("long_rollout", "last", "drift"),
    "unit": "",
    "better": "lower",
    "digits": 3,
}
COMPUTE = {
    "title": "planning compute",
    "about": "floating-point operations of all searches of an episode, counted",
    "path": ("flops_per_episode",),
    "unit": "GFLOP",
    "better": "lower",
    "digits": 1,
    "scale": 1e-9,
    "range": (0.0, math.inf),
}
