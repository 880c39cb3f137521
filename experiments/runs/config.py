"""Configs: reading a file with overrides, and where every value comes from. No JAX here."""

import dataclasses
import difflib
import importlib
import importlib.util
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.options import MapOf, config_fields, from_dict, schema_of
from world_models.data.options import RECORDING

MAY_CHANGE = ("eval", "runtime", "record", "train.num_steps")
"""What may differ when a run is resumed: blocks without a part in the weights, and how long to train."""

ANY_SOURCE = ("image_size", "fit", "max_episode_steps", "num_workers", "splits", "seed")
"""Fields of `config.record` that keep what the config file says when a command line names another source."""


def load_module(path: pathlib.Path) -> types.ModuleType:
    """The module in a file, whether or not it can be imported by name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_file(file: str) -> ml_collections.ConfigDict:
    """The config of a file.

    Args:
      file: its path, perhaps with ":variant".

    Raises:
      UserError: if there is no such file, or it fails.
    """
    path, _, variant = file.partition(":")
    if not pathlib.Path(path).is_file():
        there = ", ".join(sorted(str(p) for p in pathlib.Path("configs").glob("*.py") if p.name != "__init__.py"))
        raise UserError(f"--config={file} is no file; configs here: {there}.")
    try:
        config = load_module(pathlib.Path(path)).get_config(variant)
    except UserError:
        raise
    except Exception as error:  # of code that is the user's own, so its place is said
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        place = f", line {lines[-1]}" if lines else ""
        raise UserError(f"--config={file} cannot be read ({type(error).__name__}{place}: {error}).") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"--config={file}: get_config must return a ConfigDict, not a {type(config).__name__}.")
    return config


def override(config: ml_collections.ConfigDict, words: Sequence[str]) -> None:
    """Sets fields from words "--config.some.field=value", typed as the fields are, in place.

    Raises:
      ConfigError: for a field that the config does not have, naming the nearest, or for a value of another type.
    """
    _change_source(config, words)
    known, before = list(_flat(config)), sys.argv
    for word in words:
        name, _, value = word.lstrip("-").partition("=")
        field = name.removeprefix("config.")
        old = _get(config, field)
        if field not in known and not isinstance(old, tuple | ml_collections.ConfigDict):
            raise ConfigError(name, f"The config has no field {field or repr(field)}: {_valid_names(config, field)}")
        values = flags.FlagValues()
        sys.argv = ["config", word]  # where config_flags looks for the fields that it defines flags for
        try:
            config_flags.DEFINE_config_dict("config", config, flag_values=values)
            values(sys.argv)
        except (flags.Error, AttributeError, KeyError, ValueError, TypeError, SyntaxError) as error:
            if isinstance(old, ml_collections.ConfigDict):
                raise ConfigError(name, f"{name} is a block: set its fields {', '.join(old)} one by one.") from error
            raise config_error(name, value, f"be of type {type(old).__name__}, as {old!r} is") from error
        finally:
            sys.argv = before


def _valid_names(config: ml_collections.ConfigDict, field: str) -> str:
    """What may have been meant by the name of a field that is not there; without such names, what is there."""
    last = lambda name: name.rpartition(".")[2]
    known = list(_flat(config))
    names = {last(name) for name in known}
    alike = [last(field)] if last(field) in names else difflib.get_close_matches(last(field), names, 3, 0.7)
    near = [name for name in known if last(name) in alike]
    near.sort(key=lambda name: -difflib.SequenceMatcher(None, field, name).ratio())
    if near:
        return f"did you mean {' or '.join(f'config.{name}' for name in near[:3])}?"
    block = field
    while block and not isinstance(_get(config, block), ml_collections.ConfigDict):
        block = block.rpartition(".")[0]
    inside = _get(config, block) if block else config
    return f"{f'config.{block}' if block else 'config'} has {', '.join(inside)}."


def _change_source(config: ml_collections.ConfigDict, words: Sequence[str]) -> None:
    """Where a word sets `config.record.source`, gives the block the fields of that source, in place."""
    chosen = [word.partition("=")[2] for word in words if word.startswith("--config.record.source=")]
    record = config.get("record")
    if not chosen or not record or chosen[-1] == record.source or chosen[-1] not in RECORDING.types:
        return
    block: dict[str, Any] = {"source": chosen[-1]}
    for field in config_fields(RECORDING.types[chosen[-1]]):
        if field.name in ANY_SOURCE and field.name in record:
            block[field.name] = record[field.name]
        elif field.default_factory is not dataclasses.MISSING:
            block[field.name] = field.default_factory()
        else:
            block[field.name] = "" if field.default is dataclasses.MISSING else field.default
    config.record = ml_collections.ConfigDict(block)


def _get(config: Any, field: str) -> Any:
    for part in field.split("."):
        config = config.get(part) if isinstance(config, ml_collections.ConfigDict) else None
    return config


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def config_class(experiment: str | None) -> type | None:
    """The dataclass of a family's configs: in the module `options` beside that of its experiment; None without one."""
    package = (experiment or "").rpartition(".")[0]
    if not package:
        return None
    name = f"{package}.options"
    try:
        module = sys.modules.get(name) or importlib.import_module(name)
    except ImportError:
        return None
    for found in vars(module).values():
        if dataclasses.is_dataclass(found) and getattr(found, "experiment", None) == experiment:
            return found
    return None


def read(config: ml_collections.ConfigDict, cls: type) -> Any:
    """The options of a config, checked.

    Raises:
      ConfigError: for a field that is unknown, missing or of another type.
    """
    return from_dict(cls, config.to_dict(), "config")


def describe(file: str, words: Sequence[str] = ()) -> list[tuple[str, Any, str]]:
    """Every resolved value of a config file with overrides, and where it comes from.

    Returns:
      (dotted field, value, origin): "default of <dataclass>", the file's path, or "command line".
    """
    config = load_file(file)
    before = _values(config)
    override(config, words)
    cls = config_class(config.experiment)
    defaults = dict(_defaults(read(config, cls), None, "")) if cls else {}
    found = []
    for field, value in _values(config).items():
        default, owner = defaults.get(field, (dataclasses.MISSING, ""))
        if value != before.get(field):
            origin = "command line"
        else:
            origin = f"default of {owner}" if default == value else file
        found.append((field, value, origin))
    return found


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    return {field: _get(config, field) for field in _flat(config)}


def _defaults(options: Any, parent: Any, prefix: str, owner: str = "") -> Iterator[tuple[str, tuple[Any, str]]]:
    """(dotted field, (default, dataclass that says it)) of all fields of some options.

    Args:
      options: an instance.
      parent: the default that the dataclass above has for the whole of it, or None.
      prefix: dotted name of the block, ending with a dot.
      owner: the dataclass above.
    """
    cls = type(options)
    own = f"{cls.__module__}.{cls.__name__}"
    for field in config_fields(cls):
        value, name = getattr(options, field.name), f"{prefix}{field.name}"
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        says = own
        if type(parent) is cls and getattr(parent, field.name) != default:
            default, says = getattr(parent, field.name), owner
        if isinstance(schema_of(field), MapOf):
            for key, entry in value.items():
                yield from _defaults(entry, None, f"{name}.{key}.", own)
        elif dataclasses.is_dataclass(value):
            yield from _defaults(value, default, f"{name}.", says)
        else:
            yield name, (default, says)
