"""The members of a table, a row with a seed each, by content address: which share a training, which are measured."""

import copy
import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from experiments.runs.files import read_json
from experiments.runs.fingerprint import modules_named, of_code, of_value
from experiments.runs.lock import exclusive
from experiments.tables import definition
from experiments.tables.definition import Table
from experiments.training.experiment import experiment_class
from world_models.core.errors import UserError

IRRELEVANT = ("record", "runtime", "data.dataset", "data.mixture")
"""What the numbers of a member do not depend on; a data set counts by its fingerprint."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A row with a seed.

    Attributes:
      row, seed: which.
      config: its resolved config, plain JSON.
      run: folder of its training; rows that differ only in what comes after training share it, and revisions that
        differ only in how runs are measured.
      result: file of what the command measured, by the code that measured it.
      key: the address without the code: the same for results of other revisions.
      pretraining: the training that its weights are initialised from.
    """

    row: str
    seed: int
    config: dict[str, Any]
    run: pathlib.Path
    result: pathlib.Path
    key: str
    pretraining: "Pretraining | None" = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row}, seed {self.seed}"

    @property
    def trainings(self) -> dict[pathlib.Path, int]:
        """Folder and steps of all its trainings."""
        both = (self.pretraining, self) if self.pretraining else (self,)
        return {one.run: one.config["train"]["num_steps"] for one in both}


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """A training that members are initialised from; fields as in `Member`."""

    config: dict[str, Any]
    run: pathlib.Path
    key: str


@dataclasses.dataclass(frozen=True)
class TableRun:
    """The members of a table at a scale, the address of all code, and the fingerprints of their data sets by name."""

    members: tuple[Member, ...]
    code: str
    data: Mapping[str, str]


def make(table: Table, scale: str, root: pathlib.Path, datasets: Mapping[str, str], seeds: Sequence[int]) -> TableRun:
    """Addresses all members.

    Args:
      table, scale: what to run.
      root: folder of all tables' runs.
      datasets: row -> directory of its recorded data set.
      seeds: of every row.

    Raises:
      UserError: if two rows have the same config.
    """
    members, opened = [], {}
    for row, dataset in datasets.items():
        for seed in seeds:
            config = definition.resolve(table, scale, row, seed)
            config.data.dataset = dataset
            if dataset not in opened:
                opened[dataset] = experiment_class(config).open_data(config, root, config.data.train_split)
            fingerprint = opened[dataset].fingerprint
            first = _pretraining(definition.resolve_pretraining(table, scale, row, seed), dataset, root, fingerprint)
            members.append(_member(table, config, row, seed, root, fingerprint, first))
    taken: dict[str, Member] = {}
    for member in members:
        other = taken.setdefault(member.key, member)
        if other.row != member.row:
            raise UserError(
                f"configs/tables/{table.name}.py: rows[{other.row!r}] and rows[{member.row!r}] have the same config at "
                f"scale {scale!r}; overrides must make them different."
            )
    code = measuring_code([member.config for member in members], table.command)
    return TableRun(tuple(members), code, {data.name: data.fingerprint for data in opened.values()})


def _pretraining(
    config: ml_collections.ConfigDict | None, dataset: str, root: pathlib.Path, fingerprint: str
) -> Pretraining | None:
    """The training of a config on a data set; None for no config."""
    if config is None:
        return None
    config.data.dataset = dataset
    plain = json.loads(config.to_json_best_effort())
    address = {"config": _trained_by(_without(plain, IRRELEVANT)), "data": fingerprint}
    code = _training_code(config.experiment)
    return Pretraining(plain, root / "runs" / of_value({**address, "code": code}), of_value(address))


def _training_code(experiment: str) -> str:
    return of_code(["experiments.training.loop", experiment])


def measuring_code(configs: Sequence[Mapping[str, Any]], command: str) -> str:
    """The address of all code that the numbers of configs and a command depend on.

    Modules that a config names as strings are part of it; those it records with only for the command "plan", which runs
    the world again.
    """
    families = {config["experiment"]: config for config in configs}
    measures = [experiment_class(ml_collections.ConfigDict(c)).capability(command).module for c in families.values()]
    left_out = () if command == "plan" else ("record",)
    named = modules_named([_without(config, left_out) for config in configs])
    return of_code(["experiments.training.loop", *families, *measures, *sorted(set(named))])


def _member(
    table: Table,
    config: ml_collections.ConfigDict,
    row: str,
    seed: int,
    root: pathlib.Path,
    fingerprint: str,
    pretraining: Pretraining | None,
) -> Member:
    plain = json.loads(config.to_json_best_effort())
    relevant = _without(plain, IRRELEVANT)
    origin, key_origin = {}, {}
    if pretraining:
        plain["init_from"]["checkpoints"] = str(pretraining.run / "checkpoints")
        origin, key_origin = {"pretraining": pretraining.run.name}, {"pretraining": pretraining.key}
    address = {
        "config": _trained_by(relevant),
        "data": fingerprint,
        "code": _training_code(config.experiment),
        **origin,
    }
    run = root / "runs" / of_value(address)
    code = measuring_code([plain], table.command)
    key = of_value({"config": relevant, "data": fingerprint, "command": table.command, **key_origin})
    return Member(row, seed, plain, run, run / "results" / f"{key}-{code}.json", key, pretraining)


def _trained_by(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that training depends on."""
    return _without(config, ("eval",))


def _without(config: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """A copy of a nested dict without some dotted paths."""
    heads = {path.partition(".")[0]: [] for path in paths}
    for path in paths:
        heads[path.partition(".")[0]].append(path.partition(".")[2])
    kept = {}
    for name, value in config.items():
        rest = heads.get(name)
        if rest is None:
            kept[name] = copy.deepcopy(value)
        elif "" not in rest:
            kept[name] = _without(value, rest)
    return kept


def set_aside(chosen: Sequence[Member], members: Sequence[Member]) -> None:
    """Renames the runs and results of some of all members, so that they are made again; nothing is deleted.

    A training that other members share stays, and only the results of the chosen ones are renamed.

    Raises:
      UserError: if another process trains or measures one of them.
    """
    shared = {run for member in members if member not in chosen for run in member.trainings}
    own = {run for member in chosen for run in member.trainings} - shared
    for run in own:
        if run.exists():
            with exclusive(run, "training"):  # raises where another process trains or measures it
                pass
    for path in [run for run in own if run.exists()] + [m.result for m in chosen if m.result.exists()]:
        if path.exists():  # a result may have gone with its run
            path.rename(path.with_name(f"{path.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}"))


def read_result(member: Member) -> dict[str, Any] | None:
    """What was measured, or None where nothing was.

    Raises:
      UserError: if the file is damaged.
    """
    return _read(member.result) if member.result.exists() else None


def stale_result(member: Member) -> dict[str, Any] | None:
    """The newest result of the same config and data by other code, or None."""
    paths = [p for p in member.run.parent.glob(f"*/results/{member.key}*.json") if ".replaced-" not in p.parts[-3]]
    others = sorted((p for p in paths if p != member.result), key=lambda p: p.stat().st_mtime)
    return _read(others[-1]) if others else None


def _read(path: pathlib.Path) -> dict[str, Any]:
    return read_json(path, "delete it to have it measured again")
