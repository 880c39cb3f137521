"""Reads and checks a table, configs/tables/<name>.py with a function `get_table`, and resolves its rows' configs."""

import dataclasses
import difflib
import importlib.util
import math
import pathlib
import types
from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.runs.files import ROOT
from experiments.tables.schema import Column, Conclusion, Pretraining, PublishedColumn, Row, Scale, Table
from world_models.core.errors import UserError

FOLDER = ROOT / "configs" / "tables"


def names(folder: pathlib.Path = FOLDER) -> list[str]:
    """Names of all tables; files whose name begins with an underscore are shared by them."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


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
        pretraining = {
            key: _make(Pretraining, value, f"{where}: pretraining[{key!r}]") for key, value in what.pretraining.items()
        }
        given["scales"][scale] = dataclasses.replace(what, pretraining=pretraining)
    given["conclusions"] = tuple(_make(Conclusion, c, f"{where}: a conclusion") for c in given["conclusions"])
    table = _make(Table, {"name": name, **given}, where)
    _check(table, where)
    return table


def list_tables(folder: pathlib.Path = FOLDER) -> str:
    """All tables with their papers, scales and rows, for reading."""
    lines = []
    for name in names(folder):
        table = load(name, folder)
        lines += [f"{name}", f"    {table.title} ({table.paper}, {table.number})"]
        for scale, what in table.scales.items():
            lines.append(f"    --scale={scale:8}{what.about}{'' if what.config else ' (cannot be run from here)'}")
        lines.append(f"    --rows='{','.join(table.rows)}'")
    return "\n".join(lines)


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
    size = table.scales[scale]
    sources = {
        f"scale {scale!r}": size.overrides,
        f"row {row!r}": table.rows[row].overrides,
        f"scale {scale!r}, rows[{row!r}]": size.rows.get(row, {}),
    }
    return _config(table, size.configs.get(row, size.config), sources, seed)


def resolve_pretraining(table: Table, scale: str, row: str, seed: int) -> ml_collections.ConfigDict | None:
    """The whole config of the training that a member's weights are initialised from, or None."""
    name = table.rows[row].init_from
    if not name:
        return None
    first = table.scales[scale].pretraining[name]
    return _config(table, first.config, {f"scale {scale!r}, pretraining[{name!r}]": first.overrides}, seed)


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
    for part, columns in (("published_columns", table.published_columns), ("columns", table.columns)):
        for key, column in columns.items():
            if column.better not in ("higher", "lower"):
                raise UserError(f"{where}: {part}[{key!r}].better={column.better!r} must be 'higher' or 'lower'.")
    for key in table.panels:
        if key not in table.columns:
            raise UserError(f"{where}: panels[{key!r}] must be a column, one of {', '.join(map(repr, table.columns))}.")
    if table.against and (len(table.against) != 2 or not set(table.against) <= set(table.columns)):
        raise UserError(f"{where}: against={table.against!r} must be two columns.")
    for key, column in table.columns.items():
        _check_column(table, key, column, where)
    for name, row in table.rows.items():
        _check_row(table, name, row, where)
    for scale, what in table.scales.items():
        for field, named in (("rows", what.rows), ("configs", what.configs)):
            for name in named:
                if name not in table.rows:
                    valid = f"be one of {', '.join(map(repr, table.rows))}"
                    raise UserError(f"{where}: scales[{scale!r}].{field}[{name!r}] must {valid}.")
    for i, conclusion in enumerate(table.conclusions):
        if conclusion.kind not in ("paper", "ours"):
            raise UserError(f"{where}: conclusions[{i}].kind={conclusion.kind!r} must be 'paper' or 'ours'.")
        if conclusion.kind == "paper" and not conclusion.source:
            raise UserError(f"{where}: conclusions[{i}].source='' must say where the paper draws this conclusion.")


def _check_column(table: Table, key: str, column: Column, where: str) -> None:
    if isinstance(column.published, str) or not set(column.published) <= set(table.published_columns):
        raise UserError(f"{where}: columns[{key!r}].published={column.published!r} must be published columns.")
    if column.baseline_for not in ("", *table.columns):
        raise UserError(f"{where}: columns[{key!r}].baseline_for={column.baseline_for!r} must be a column.")
    least, greatest = column.range
    if not least < greatest or (column.unit == "%" and math.isinf(greatest - least)):
        raise UserError(
            f"{where}: columns[{key!r}].range={column.range} must be (least, greatest), finite for percent."
        )


def _check_row(table: Table, name: str, row: Row, where: str) -> None:
    if "," in name:
        raise UserError(f"{where}: rows[{name!r}] must have no comma in its name, since --rows is comma-separated.")
    for scale, what in table.scales.items():
        if row.init_from and what.config and row.init_from not in what.pretraining:
            raise UserError(
                f"{where}: rows[{name!r}].init_from={row.init_from!r} must be in the pretraining of scale {scale!r}."
            )
    if row.published and not row.source:
        raise UserError(f"{where}: rows[{name!r}].source='' must say where the published numbers were read.")
    for key, value in row.published.items():
        if key not in table.published_columns or not math.isfinite(value):
            raise UserError(
                f"{where}: rows[{name!r}].published[{key!r}]={value} must be a finite number of a published column."
            )
