"""What a table is: one file configs/tables/<name>.py with a function `get_table`, read and checked here."""

import dataclasses
import difflib
import importlib.util
import math
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from experiments.tools.launchers import ROOT
from world_models.core.errors import UserError

MEASURES = {  # by command: the module and the function of a `LoadedRun` that give the numbers
    "imagine": ("experiments.evaluation.measure", "future_metrics"),
    "eval": ("experiments.evaluation.measure", "evaluation"),
    "plan": ("experiments.planning.worlds", "measure"),
}
FOLDER = ROOT / "configs" / "tables"


@dataclasses.dataclass(frozen=True)
class PublishedColumn:
    """A column of the paper; `better` is "higher" or "lower"."""

    title: str
    better: str
    digits: int = 2


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of ours.

    Attributes:
      title, unit, about: for readers; `about` says how it is measured.
      better: "higher" or "lower".
      path: where the number is in what the command measured; an integer is a horizon.
      digits: after the decimal point.
      scale: what the number is multiplied by to be in `unit`.
      published: the published column whose ranking it is held against, if any.
    """

    title: str
    unit: str
    about: str
    better: str
    path: tuple[str | int, ...]
    digits: int = 2
    scale: float = 1.0
    published: str | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
      overrides: fields of the config, by dotted path; a dict replaces a whole block.
      published: the paper's numbers by published column.
      source: where these were read.
      unverified: whether they are from memory or from notes of others.
      begin: name of the training, of the scale's `begins`, whose weights it begins with; empty for none. The overrides
        say which parts of them: `init_from.parts`.
    """

    overrides: Mapping[str, Any]
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    source: str = ""
    unverified: bool = False
    begin: str = ""


@dataclasses.dataclass(frozen=True)
class Begin:
    """A training whose weights rows begin with, on the row's data and with its seed; see `Scale` for the fields."""

    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """A conclusion of the paper: `holds` is a predicate on {row: {column: value}} and `source` says where it stands."""

    text: str
    source: str
    holds: Callable[[dict[str, dict[str, float]]], bool]


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large to run a table.

    Attributes:
      about: data and size, for readers: it stands beside every number.
      config: config file, perhaps with a variant; empty where the scale cannot be run from here.
      overrides: as in `Row`; rows override them.
      begins: trainings that rows begin with, by name.
    """

    about: str
    config: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    begins: Mapping[str, Begin] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper, and how to make ours.

    Attributes:
      title, paper, number, about: for readers.
      setting: what the published numbers were measured on.
      command: which command's measures the columns are taken from: a key of `MEASURES`.
      published_columns, columns, rows, conclusions, scales: see there.
      curve: path to a list over the horizon, drawn as one line a row.
      curve_title: its axis label.
    """

    name: str
    title: str
    paper: str
    number: str
    about: str
    setting: str
    command: str
    published_columns: Mapping[str, PublishedColumn]
    columns: Mapping[str, Column]
    rows: Mapping[str, Row]
    conclusions: tuple[Conclusion, ...]
    scales: Mapping[str, Scale]
    curve: tuple[str, ...] = ()
    curve_title: str = ""


def names(folder: pathlib.Path = FOLDER) -> list[str]:
    """Names of all tables."""
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def load(name: str, folder: pathlib.Path = FOLDER) -> Table:
    """Reads and checks a table.

    Raises:
      UserError: if there is no such table, or something in it cannot be right.
    """
    check_known("table", name, names(folder))
    given = dict(load_module(folder / f"{name}.py").get_table())
    parts = {
        "published_columns": PublishedColumn,
        "columns": Column,
        "rows": Row,
        "scales": Scale,
    }
    where = f"configs/tables/{name}.py"
    for part, cls in parts.items():
        given[part] = {key: _make(cls, value, f"{where}: {part}[{key!r}]") for key, value in given[part].items()}
    for scale, what in given["scales"].items():
        begins = {key: _make(Begin, value, f"{where}: begins[{key!r}]") for key, value in what.begins.items()}
        given["scales"][scale] = dataclasses.replace(what, begins=begins)
    given["conclusions"] = tuple(_make(Conclusion, c, f"{where}: a conclusion") for c in given["conclusions"])
    table = _make(Table, {"name": name, **given}, where)
    _check(table, where)
    return table


def check_known(kind: str, name: str, known: list[str] | Mapping[str, Any]) -> None:
    """Raises UserError, suggesting the nearest name, if `name` is not among those known."""
    if name not in known:
        nearest = difflib.get_close_matches(name, list(known), 1, 0.3)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise UserError(f"There is no {kind} {name!r}: {hint}There are {', '.join(map(repr, known))}.")


def load_module(path: pathlib.Path) -> types.ModuleType:
    """The module in a file, whether or not it can be imported by name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolve(table: Table, scale: str, row: str, seed: int) -> ml_collections.ConfigDict:
    """The whole config of one member of a table."""
    sources = {f"scale {scale!r}": table.scales[scale].overrides, f"row {row!r}": table.rows[row].overrides}
    return _config(table, table.scales[scale].config, sources, seed)


def resolve_begin(table: Table, scale: str, row: str, seed: int) -> ml_collections.ConfigDict | None:
    """The whole config of the training that a member begins with, or None."""
    name = table.rows[row].begin
    if not name:
        return None
    begin = table.scales[scale].begins[name]
    return _config(table, begin.config, {f"scale {scale!r}, begins[{name!r}]": begin.overrides}, seed)


def _config(table: Table, file: str, sources: Mapping[str, Mapping[str, Any]], seed: int) -> ml_collections.ConfigDict:
    """A config file's, perhaps of a variant, with overrides from some places; later ones win."""
    path, _, variant = file.partition(":")
    config = load_module(ROOT / path).get_config(*([variant] if variant else []))
    for source, overrides in sources.items():
        for field, value in overrides.items():
            _override(config, field, value, f"configs/tables/{table.name}.py: {source}")
    config.seed = seed
    return config


def _override(config: ml_collections.ConfigDict, field: str, value: Any, where: str) -> None:
    *blocks, last = field.split(".")
    block = config
    for name in blocks:
        block = block.get(name) if isinstance(block, ml_collections.ConfigDict) else None
    if not isinstance(block, ml_collections.ConfigDict) or last not in block:
        raise UserError(f"{where} sets {field}, which is no field of the config.")
    if isinstance(value, Mapping):
        del block[last]
        with block.unlocked():
            block[last] = ml_collections.ConfigDict(dict(value))
    else:
        block[last] = value


def _make(cls: type, given: Mapping[str, Any], where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = [key for key in given if key not in fields]
    needed = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in needed if name not in given]
    if unknown or missing:
        problem = f"has no field {unknown[0]!r}" if unknown else f"needs {missing[0]!r}"
        raise UserError(f"{where} {problem}; its fields are {', '.join(fields)}.")
    return cls(**given)


def _check(table: Table, where: str) -> None:
    check_known("measure", table.command, list(MEASURES))
    for part, columns in (("published_columns", table.published_columns), ("columns", table.columns)):
        for key, column in columns.items():
            if column.better not in ("higher", "lower"):
                raise UserError(f"{where}: {part}[{key!r}] has better={column.better!r}: 'higher' or 'lower' would do.")
    for key, column in table.columns.items():
        if column.published is not None and column.published not in table.published_columns:
            raise UserError(
                f"{where}: columns[{key!r}] names published={column.published!r}, which is no published column."
            )
    for name, row in table.rows.items():
        if "," in name:
            raise UserError(f"{where}: row {name!r} has a comma in its name, which parts the names in --rows.")
        if row.begin:
            for scale, what in table.scales.items():
                if what.config and row.begin not in what.begins:
                    raise UserError(
                        f"{where}: row {name!r} has begin={row.begin!r}, which scale {scale!r} does not have in its "
                        "begins."
                    )
        if row.published and not row.source:
            raise UserError(f"{where}: row {name!r} has published numbers but no source: say where they were read.")
        for key, value in row.published.items():
            if key not in table.published_columns or not math.isfinite(value):
                raise UserError(f"{where}: row {name!r} has published {key}={value}, which is no published column.")
