"""The diffusion process that a config describes: `config.diffusion` in training, `config.eval.sampler` in sampling."""

import dataclasses
from typing import Any

from experiments.families.checks import check_least, check_one_of
from world_models.core.errors import config_error
from world_models.diffusion.ddpm import DDPM
from world_models.diffusion.edm import EDM
from world_models.diffusion.flow import Flow, Shortcut
from world_models.diffusion.options import DIFFUSION, SAMPLER
from world_models.diffusion.process import Process

PROCESSES = {"edm": EDM, "ddpm": DDPM, "flow": Flow, "shortcut": Shortcut}
PREDICTIONS = ("clean", "velocity", "noise")
# Fields with a few valid values.
TRAINING = {
    "ddpm": {"schedule": ("linear", "cosine", "sigmoid"), "prediction": PREDICTIONS},
    "flow": {"prediction": PREDICTIONS, "loss": ("clean", "velocity"), "weight": ("ramp", "uniform")},
}
SAMPLING = {"edm": {"initial_noise": ("sigma_max", "unit"), "order": (1, 2)}, "flow": {"order": (1, 2)}}


def make_process(config: Any) -> Process:
    """The process of a config with `diffusion` and `eval.sampler`.

    Raises:
      ConfigError: if the two are not of one process, or a value cannot work.
    """
    diffusion, sampler = DIFFUSION.name_of(config.diffusion), SAMPLER.name_of(config.eval.sampler)
    if sampler != diffusion:
        raise config_error("config.eval.sampler.process", sampler, f"be config.diffusion.process={diffusion!r}")
    check_least("config.eval.sampler", config.eval.sampler, "num_steps", 1)
    check_one_of("config.diffusion", config.diffusion, **TRAINING.get(diffusion, {}))
    check_one_of("config.eval.sampler", config.eval.sampler, **SAMPLING.get(diffusion, {}))
    if diffusion == "shortcut":
        _check_shortcut(config)
    numbers = dataclasses.asdict(config.diffusion) | dataclasses.asdict(config.eval.sampler)
    return PROCESSES[diffusion](**numbers)


def sampler_choices(config: Any) -> dict[str, tuple[Any, ...]]:
    """Values of the fields of `config.eval.sampler` that can be tried on a trained model, the config's own first."""
    name, sampler = SAMPLER.name_of(config.eval.sampler), config.eval.sampler
    choices: dict[str, tuple[Any, ...]] = {"num_steps": (1, 2, 3, 4, 6, 8, 12, 16, 32)}
    if name == "shortcut":
        choices["num_steps"] = tuple(2**i for i in range(config.diffusion.max_steps.bit_length()))
    choices |= {field: values for field, values in SAMPLING.get(name, {}).items() if field == "order"}
    if name in ("flow", "shortcut"):
        choices["temperature"] = (0.0, 0.25, 0.5, 0.75, 1.0)
    own = {field: getattr(sampler, field) for field in choices}
    return {field: (own[field], *(x for x in values if x != own[field])) for field, values in choices.items()}


def _check_shortcut(config: Any) -> None:
    most, steps, share = config.diffusion.max_steps, config.eval.sampler.num_steps, config.diffusion.self_share
    if most < 1 or most & (most - 1):
        raise config_error("config.diffusion.max_steps", most, "be a power of two")
    if steps & (steps - 1) or steps > most:
        valid = f"be a power of two, at most config.diffusion.max_steps={most}"
        raise config_error("config.eval.sampler.num_steps", steps, valid)
    if not 0 <= share <= 1:
        raise config_error("config.diffusion.self_share", share, "be from 0 to 1")
