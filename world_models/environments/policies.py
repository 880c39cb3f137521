"""Policies to record with. A policy is made anew for every episode and returns actions of the environment's space."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from world_models.core.errors import ConfigError, config_error

Act = Callable[[Any], Any]  # observation -> action
Policy = Callable[[Any, np.random.Generator], Act]  # (environment, rng) -> Act


def uniform(environment: Any, rng: np.random.Generator) -> Act:
    """Draws every action from the environment's action space."""
    environment.action_space.seed(int(rng.integers(2**31)))
    return lambda observation: environment.action_space.sample()


def sticky(repeat_probability: float) -> Policy:
    """Repeats the last action with a probability, else draws a new one."""

    def policy(environment: Any, rng: np.random.Generator) -> Act:
        draw, last = uniform(environment, rng), None

        def act(observation: Any) -> Any:
            nonlocal last
            if last is None or rng.random() >= repeat_probability:
                last = draw(observation)
            return last

        return act

    return policy


def make_policy(name: str, repeat_probability: float) -> Policy:
    """The policy of that name: "random", "sticky", or "package.module:function" with the form of `Policy`.

    Raises:
      UserError: if there is none.
    """
    if name == "random":
        return uniform
    if name == "sticky":
        if not 0 <= repeat_probability < 1:
            raise config_error("config.record.repeat_probability", repeat_probability, "be at least 0 and below 1")
        return sticky(repeat_probability)
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            "config.record.policy",
            f"config.record.policy={name!r} is neither 'random' nor 'sticky' nor a 'package.module:function' that can "
            f"be imported ({error}).",
        ) from error
    return found
