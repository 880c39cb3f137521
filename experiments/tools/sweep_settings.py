"""The settings of a sweep, as a config file lists them, and its members."""

import copy
import dataclasses
import difflib
import hashlib
import itertools
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from experiments.runs import workdir as workdirs
from experiments.runs.config import load_module
from experiments.runs.files import ROOT
from experiments.runs.jobs import Job
from world_models.core.errors import UserError

LAUNCH = (sys.executable, str(ROOT / "launch.py"))
KEYS = ("vary", "metric", "better", "slurm")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The get_sweep() of a config file.

    Attributes:
      settings: of every member, {field: value}.
      metric: its name in metrics.jsonl.
      better: "lower" or "higher".
      slurm: options of sbatch.
    """

    settings: list[dict[str, Any]]
    metric: str = "eval/held_out/loss"
    better: str = "lower"
    slurm: tuple[str, ...] = ()

    @property
    def fields(self) -> list[str]:
        """All fields that a member sets, in order of appearance."""
        return list(dict.fromkeys(field for setting in self.settings for field in setting))


@dataclasses.dataclass
class Member:
    """One setting, its run and its result.

    Attributes:
      name: of the folder, made from the setting.
      folder: of the run.
      overrides: the setting, {field: value}.
      config: the resolved config of the run.
      words: that follow launch.py on the command line.
      status: "done", "failed" or "missing".
      value: of the metric, once done; None where that is not finite.
      error: why it is not done.
    """

    name: str
    folder: pathlib.Path
    overrides: dict[str, Any]
    config: ml_collections.ConfigDict
    words: tuple[str, ...]
    status: str = "missing"
    value: float | None = None
    error: str = ""

    @property
    def steps(self) -> int:
        """Number of training steps."""
        return self.config.train.num_steps

    @property
    def job(self) -> Job:
        """The command that trains it."""
        return Job(self.name, (*LAUNCH, *self.words), self.folder / "train.log")


def read_plan(config_file: str, config: ml_collections.ConfigDict) -> Plan:
    """Reads and checks the get_sweep() of a config file.

    Args:
      config_file: path of the file, perhaps with ":variant".
      config: what it returned.

    Raises:
      UserError: if it has no get_sweep(), or one that cannot work.
    """
    path = config_file.partition(":")[0]
    module = load_module(pathlib.Path(path))
    if not hasattr(module, "get_sweep"):
        raise UserError(f"{path} has no get_sweep(): add one that returns {{'vary': {{'some.field': [values]}}}}.")
    asked = module.get_sweep()
    if not isinstance(asked, Mapping) or set(asked) - set(KEYS) or not asked.get("vary"):
        what = f"get_sweep() of {path} returns {asked!r}"
        raise UserError(f"{what}: it must be a dict with the keys {', '.join(KEYS)}, of which vary is required.")
    if asked.get("better", "lower") not in ("lower", "higher"):
        raise UserError(f"get_sweep() of {path} returns better={asked['better']!r}: choose 'lower' or 'higher'.")
    rest = {key: value for key, value in asked.items() if key != "vary"}
    return Plan([_checked(setting, config) for setting in _settings(asked["vary"])], **rest)


def _settings(vary: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The product of the values of every field, or the list as it is."""
    if not isinstance(vary, Mapping):
        odd = [setting for setting in vary if not isinstance(setting, Mapping)]
        if odd:
            raise UserError(f"get_sweep() varies over the setting {odd[0]!r}: write it as {{'some.field': value}}.")
        return [dict(setting) for setting in vary]
    for field, values in vary.items():
        if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
            raise UserError(f"get_sweep() varies {field} over {values!r}: give it a list of values.")
    return [dict(zip(vary, values)) for values in itertools.product(*vary.values())]


def _checked(setting: dict[str, Any], config: ml_collections.ConfigDict) -> dict[str, Any]:
    return {field: _checked_value(field, value, config) for field, value in setting.items()}


def _checked_value(field: str, value: Any, config: ml_collections.ConfigDict) -> Any:
    """The value as the config would hold it."""
    names = _flat(config)
    if field not in names:
        near = difflib.get_close_matches(field, names, n=1, cutoff=0)[0]
        raise UserError(f"get_sweep() varies {field}, which the config does not have: did you mean {near}?")
    wanted = _type(config, field)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list) and wanted is tuple:
        value = tuple(value)
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted is not object and type(value) is not wanted and not (value is None and names[field] is None):
        raise UserError(
            f"get_sweep() sets {field} to {value!r}, which is {type(value).__name__} where the config has "
            f"{wanted.__name__}: give it values of that type."
        )
    return value


def _type(config: ml_collections.ConfigDict, field: str) -> type:
    node, _, key = field.rpartition(".")
    return (at(config, node) if node else config).get_type(key)


def at(config: ml_collections.ConfigDict, path: str) -> Any:
    """The value of a field by its dotted name."""
    for part in path.split("."):
        config = config[part]
    return config


def _flat(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The fields of a config by dotted name."""
    found = {}
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def make_members(
    plan: Plan, config_file: str, config: ml_collections.ConfigDict, workdir: pathlib.Path, overrides: Sequence[str]
) -> list[Member]:
    """The members of a sweep; they lie in <workdir>/members and share its data set.

    Args:
      plan: what to vary.
      config_file: as given to --config.
      config: the resolved config without what varies.
      workdir: absolute folder of the sweep.
      overrides: the user's own --config.x=y words.

    Raises:
      UserError: if two members are the same.
    """
    path, colon, variant = config_file.partition(":")
    common = [f"--config={pathlib.Path(path).absolute()}{colon}{variant}"]
    dataset = workdirs.dataset_of(config, workdir)
    if pathlib.Path(dataset).exists():  # it may also be the name of one; members run in another folder
        dataset = str(pathlib.Path(dataset).absolute())
    shared = {} if dataset == config.data.dataset else {"data.dataset": dataset}
    members = []
    for setting in plan.settings:
        fields = shared | setting
        own = copy.deepcopy(config)
        own.update_from_flattened_dict(fields)
        name = _name(setting)
        folder = workdir / "members" / name
        flags = [flag for field, value in fields.items() if (flag := _flag(field, value, config))]
        words = ("train", *common, f"--workdir={folder}", *overrides, *flags)
        members.append(Member(name, folder, setting, own, words))
    names = [member.name for member in members]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"get_sweep() asks twice for {twice[0]}: give every setting once.")
    return members


def _flag(field: str, value: Any, config: ml_collections.ConfigDict) -> str:
    """The override of a field as config_flags parses it; empty where None stays None, which it cannot parse."""
    if value is None and at(config, field) is None:
        return ""
    plain = isinstance(value, str) and _type(config, field) is str
    return f"--config.{field}={value if plain else repr(value)}"


def _name(setting: dict[str, Any]) -> str:
    """A file name for a setting, which depends on nothing else; values that a file name cannot hold become a hash."""
    if not setting:
        return "base"
    name = ",".join(f"{field}={_as_name(value)}" for field, value in setting.items())
    if len(name) <= 100 and all(_fits_name(value) for value in setting.values()):
        return name
    digest = hashlib.sha256(repr(setting).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.=,+-]+', '_', name)[:90]}-{digest}"


def _fits_name(value: Any) -> bool:
    """Whether a file name can hold a value so that no other value has the same name."""
    if isinstance(value, tuple):
        return len(value) > 0 and all(isinstance(x, int | float) for x in value)
    return not isinstance(value, str) or bool(re.fullmatch(r"[A-Za-z0-9_.+-]+", value))


def _as_name(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
