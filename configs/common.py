"""What all configs share: how options become a config, and the one `debug` variant."""

import fnmatch
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.families.options import ExperimentConfig
from world_models.core.options import to_dict

WORLDS = ("two_rooms", "four_rooms", "point_maze")
# Sizes of the variant "debug", by field; the last that fits counts. Fields that a config lacks are left out.
DEBUG: dict[str, Any] = {
    "record.max_episode_steps": 20,
    "record.num_frames": lambda frames: min(frames, 20),
    "data.clip_length": lambda frames: min(frames, 8),
    "data.text_length": lambda length: min(length, 32),
    "data.vocabulary_size": lambda size: min(size, 512),
    "data.duplicates": 1,
    "model.*.width": 16,
    "model.*.depth": 2,
    "model.*.heads": 2,
    "model.*.hidden": 8,
    "model.*.channels": lambda channels: (4,) if channels else (),
    "model.network.channels": (8,),
    "model.network.blocks": 1,
    "model.condition": 16,
    "model.latents": 4,
    "model.latent_channels": 4,
    "model.window": 4,
    "model.task.patch": lambda patch: patch // 2,
    "model.task.num_images": lambda count: min(count, 20),
    "model.dtype": "float32",
    "model.level.*.width": 8,
    "model.level.*.stride": 2,
    "model.level.*.rollout": 1,
    "train.batch_size": 4,
    "train.num_steps": 2,
    "train.optimizer.schedule": "constant",  # num_steps is then no part of the compiled step
    "eval.every": 2,
    "eval.held_out.num_examples": 4,
    "eval.num_pictures": 2,
    "eval.*.num_contexts": 2,
    "eval.*.num_context": lambda frames: min(frames, 4),
    "eval.*.horizon": 2,
    "eval.imagine.horizon": 4,
    "eval.imagine.long": lambda frames: min(frames, 8),
    "eval.imagine.num_branches": 2,
    "eval.imagine.num_samples": lambda samples: min(samples, 2),
    "eval.*.num_shown": lambda shown: min(shown, 1),
    "eval.probes.names": (),
    "eval.tracking.num_clips": lambda clips: min(clips, 2),
    "eval.probes.num_train": 0,
    "eval.probes.shots": (1,),
    "eval.linear_probe.batch_size": 4,
    "eval.linear_probe.epochs": 2,
    "eval.linear_probe.warmup_epochs": 1,
    "eval.fine_tune.batch_size": 4,
    "eval.fine_tune.num_steps": 2,
    "eval.plan.num_tasks": 3,
    "eval.plan.num_steps": 3,
    "eval.plan.batch": 2,
    "eval.plan.offset": 5,
    "eval.search.*.horizon": 2,
    "eval.search.*.samples": 4,
    "eval.search.*.iterations": 2,
    "eval.search.*.elites": 2,
    "runtime.log_every": 1,
    "runtime.checkpoint_every": 2,
    "runtime.compute.attention": "xla",
    "runtime.compute.unroll": 1,
}


def choose(kinds: Mapping[str, Any], variant: str) -> Any:
    """What a variant names: "", the first; "NAME", "NAME-debug" or "debug".

    Raises:
      ValueError: if there is none of that name.
    """
    name = variant.removesuffix("debug").rstrip("-") or next(iter(kinds))
    if name not in kinds:
        raise ValueError(f"there is no variant {name!r}; there are {', '.join(map(repr, kinds))}, with '-debug' too")
    return kinds[name]


def make_config(options: ExperimentConfig, variant: str = "") -> ConfigDict:
    """The config of some options.

    Args:
      options: all of them; what a config file does not say has the defaults of their dataclasses.
      variant: "" or "debug", a few steps of a tiny model on a few short episodes.

    Raises:
      ValueError: for another variant.
    """
    config = ConfigDict(to_dict(options))
    if variant == "debug":
        make_small(config)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}; there is 'debug'.")
    return config


def make_small(config: ConfigDict) -> None:
    """Sets the sizes of the variant "debug", in place."""
    source = config.record.source if config.record else ""
    if source in ("gymnasium", *WORLDS):
        config.record.num_episodes = 20 if source in WORLDS else 6
        config.record.splits = ConfigDict({"train": 0.5, "validation": 0.2, "test": 0.3})
    if source == "moving_digits":
        config.record.num_episodes = 90
    if source == "brown":
        config.record.num_episodes = 40
    for field, value in flat(config).items():
        for pattern, small in DEBUG.items():
            if fnmatch.fnmatchcase(field, pattern):
                value = small(value) if callable(small) else small
        config.update_from_flattened_dict({field: value})
    # A level plans again when the level below has carried out its plan.
    for i, name in enumerate(config.get("model", {}).get("levels", ())):
        if name in config.eval.get("search", {}):
            config.eval.search[name].replan = 2 ** (i + 1)


def flat(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of nested blocks by dotted name."""
    found = {}
    for name, value in block.items():
        if isinstance(value, ConfigDict | dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
