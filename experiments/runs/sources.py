"""The source of experience that `config.record` names."""

import ml_collections

from world_models.core.errors import UserError
from world_models.data import sources
from world_models.data.episodes import Source


def make_source(options: ml_collections.ConfigDict) -> Source:
    """The simulator or folder of videos that `config.record` names, checked."""
    if options.source not in ("gymnasium", "videos"):
        known = ", ".join(["gymnasium", "videos", *sources.FIELDS])
        raise UserError(f"config.record.source={options.source!r} must be one of {known}.")
    size = tuple(options.image_size)
    if len(size) != 2 or min(size) < 1:
        raise UserError(f"config.record.image_size={size} must be (height, width), both at least 1.")
    for name in ("action_repeat", "frame_stride"):
        if options.get(name, 1) < 1:
            raise UserError(f"config.record.{name}={options[name]} must be at least 1.")
    if options.source == "videos":
        from world_models.data.videos import VideoSource

        return VideoSource(options.videos, size, options.frame_stride, options.max_episode_steps)
    if options.observation not in ("render", "observation"):
        raise UserError(f"config.record.observation={options.observation!r} must be 'render' or 'observation'.")
    for name, least in (("num_episodes", 1), ("max_episode_steps", 2), ("skip_steps", 0)):
        if options[name] < least:
            raise UserError(f"config.record.{name}={options[name]} must be at least {least}.")
    from world_models.environments.gymnasium import GymnasiumSource

    return GymnasiumSource(
        environment=options.environment,
        kwargs=dict(options.environment_kwargs),
        modules=tuple(options.modules),
        observation=options.observation,
        image_size=size,
        action_repeat=options.action_repeat,
        policy=options.policy,
        repeat_probability=options.repeat_probability,
        num_units=options.num_episodes,
        max_episode_steps=options.max_episode_steps,
        skip_steps=options.skip_steps,
        base_seed=options.seed,
    )
