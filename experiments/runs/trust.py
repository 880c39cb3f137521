"""What a stored config may have imported: a workdir or data set from somebody else runs no code of its own choice.

Configs name modules: of the family, of a policy, of what registers an environment, of a function that says whether a
goal is reached. A config file of one's own may name any. The copy in a workdir, and what a data set's metadata repeat
of it, may have come with the folder: they may name modules of this repository and of the simulators that it knows, and
others only where the user names these again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from world_models.core.errors import ConfigError, UserError
from world_models.environments.gymnasium import KNOWN

PACKAGES = ("configs", "experiments", "world_models", *sorted({module for module, _ in KNOWN.values()}))
"""Packages that any config may name."""
FIELDS = (
    "experiment",
    "record.environment",
    "record.modules",
    "record.policy",
    "eval.plan.reached",
    "eval.imagine.policy",
)
"""Fields of a config that name modules."""
POLICIES = ("random", "sticky")
"""Values of record.policy that are no modules."""


def named(config: Mapping[str, Any], fields: Iterable[str] = FIELDS) -> Iterator[tuple[str, str]]:
    """(field, module) of all modules that fields of a config name."""
    for field in fields:
        value: Any = config
        for part in field.split("."):
            value = value.get(part) if isinstance(value, Mapping) or hasattr(value, "get") else None
        for text in value if isinstance(value, list | tuple) else [value or ""]:
            module, colon, _ = str(text).partition(":")
            is_name = text in POLICIES or (field == "record.environment" and not colon)
            if text and not is_name:
                yield field, module


def modules(config: Mapping[str, Any], fields: Iterable[str] = FIELDS) -> frozenset[str]:
    """The modules that a config of one's own names, which makes them trusted."""
    return frozenset(module for _, module in named(config, fields))


def overridden(config: Mapping[str, Any], words: Sequence[str]) -> frozenset[str]:
    """The modules that a command line names.

    Args:
      config: with the overrides.
      words: the overrides, as "--config.field=value".
    """
    given = [word.lstrip("-").partition("=")[0].removeprefix("config.") for word in words]
    return modules(config, [field for field in FIELDS if any(f"{field}.".startswith(f"{one}.") for one in given)])


def check(config: Mapping[str, Any], fields: Iterable[str], trusted: Collection[str]) -> None:
    """Raises ConfigError if fields of a stored config name a module that is neither of `PACKAGES` nor trusted."""
    for field, module in named(config, fields):
        if not is_known(module, trusted):
            raise ConfigError(
                f"config.{field}",
                f"config.{field} of this run names the module {module!r}, which is not part of this repository and may "
                f"run any code: if you trust it, name it yourself, as --config.{field}=… or in --trust={module}.",
            )


def check_kind(kind: str, trusted: Collection[str]) -> None:
    """Raises UserError if the "module:Class" that describes a run's data is not of `PACKAGES` or trusted."""
    module = str(kind).partition(":")[0]
    if not is_known(module, trusted):
        raise UserError(
            f"data_spec.json of this run names the module {module!r}, which is not part of this repository and may run "
            f"any code: if you trust it, add --trust={module}."
        )


def is_known(module: str, trusted: Collection[str] = ()) -> bool:
    """Whether a module is of `PACKAGES` or of those that are trusted."""
    return module.split(".")[0] in PACKAGES or any(f"{module}.".startswith(f"{one}.") for one in trusted)
