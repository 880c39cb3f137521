"""The configuration reference: a table for every option dataclass, from its fields and its docstring. No JAX."""

import dataclasses
import html
import importlib
import inspect
import pathlib
import re
import types
from collections.abc import Iterator
from typing import Any

from world_models.core.options import MapOf, OneOf, config_fields, schema_of

INTRODUCTION = """---
hide: [navigation]
---

# Configuration

Generated from the option dataclasses: every `options.py` in `world_models` and `experiments`. A config file sets only
what is particular to it; all other fields have the defaults below. `python launch.py config FILE` prints every resolved
value with where it comes from, and `--config.some.field=value` overrides any field on the command line.

| block | holds | may change on resume |
|---|---|---|
| `config.experiment`, `config.seed` | the family (dotted path of a module) and the random seed | no |
| `config.record` | how experience is recorded | yes |
| `config.data` | the data sets and how clips are cut from them | no |
| `config.init_from` | checkpoints that initialise the weights of a new run | no |
| `config.train` | batch size, number of steps, optimizer, averaging | `num_steps` only |
| `config.model` and a family's other blocks | model, networks, losses | no |
| `config.eval` | everything after training: evaluation, `imagine`, `plan`, probes | yes |
| `config.runtime` | the machine: mesh, checkpoints, logging, data loading, attention kernels | yes |
"""


def configuration_page(root: pathlib.Path) -> str:
    """Markdown of the whole reference."""
    modules = [importlib.import_module(name) for name in option_modules(root)]
    classes = [cls for module in modules for cls in option_classes(module)]
    used = uses(classes)
    parts = [INTRODUCTION]
    for module in modules:
        own = [cls for cls in classes if cls.__module__ == module.__name__]
        parts.append(f"## {module.__name__.removesuffix('.options')}\n\n{_summary(module)}\n")
        parts += [_table(cls, sorted(used.get(cls, ()))) for cls in own]
    return "\n".join(parts)


def option_modules(root: pathlib.Path) -> list[str]:
    """Dotted names of all modules that hold option dataclasses: what families share first, then the families."""
    found = []
    for package in ("experiments", "world_models"):
        for path in sorted((root / package).rglob("options.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            if name != "world_models.core.options":  # the helpers, not options
                found.append(name)
    return sorted(found, key=lambda name: (not name.startswith("experiments.families"), "families.options" not in name))


def option_classes(module: types.ModuleType) -> Iterator[type]:
    """The option dataclasses that a module defines, in the order of its source; a whole config comes first."""
    found = [value for value in vars(module).values() if isinstance(value, type) and dataclasses.is_dataclass(value)]
    own = [cls for cls in found if cls.__module__ == module.__name__]
    yield from sorted(own, key=lambda cls: "experiment" not in cls.__dataclass_fields__)


def uses(classes: list[type]) -> dict[type, set[str]]:
    """Dotted names of the config blocks that a dataclass describes, by dataclass."""
    found: dict[type, set[str]] = {}

    def walk(cls: type, field: str) -> None:
        found.setdefault(cls, set()).add(field)
        for own in config_fields(cls):
            schema = schema_of(own) or own.type
            inner = f"{field}.{own.name}"
            if isinstance(schema, OneOf):
                for each in schema.types.values():
                    walk(each, inner)
            elif isinstance(schema, MapOf):
                walk(schema.type, f"{inner}.<name>")
            else:
                for each in getattr(schema, "__args__", (schema,)):
                    if dataclasses.is_dataclass(each):
                        walk(each, inner)

    for cls in classes:
        if isinstance(getattr(cls, "experiment", None), str):  # the whole config of a family
            walk(cls, "config")
    return found


def attributes(cls: type) -> dict[str, str]:
    """The sentence for every field in the Attributes sections of a class and its bases, Google style."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        own = _attributes(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
        found |= {name: text for name, text in own.items() if not (name in found and text.startswith("as of "))}
    return found


def _attributes(docstring: str) -> dict[str, str]:
    _, _, section = docstring.partition("Attributes:\n")
    section = re.split(r"\n(?=\S)", section)[0]  # up to the next section
    found = {}
    for entry in re.split(r"\n(?=  \S)", section):
        # "a, b: text; c, d: text" describes several fields in one entry.
        for part in re.split(r"; (?=[a-z_0-9]+(?:, [a-z_0-9]+)*: )", " ".join(entry.split())):
            names, colon, text = part.partition(": ")
            if colon:
                found |= {name.strip(): text for name in names.split(",")}
    return found


def _summary(module: types.ModuleType) -> str:
    return re.split(r"[.:]? No JAX", module.__doc__ or "")[0].strip().rstrip(".") + "."


def _table(cls: type, used: list[str]) -> str:
    texts = attributes(cls)
    described, _, _ = inspect.cleandoc(cls.__doc__ or "").partition("\n\nAttributes:")
    lines = [f"### {cls.__name__} {{ #{_anchor(cls)} }}", "", described, ""]
    if used:
        lines += [f"Block: {', '.join(_code(name) for name in used)}", ""]
    fields = list(config_fields(cls))
    if fields:
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in fields:
        text = _escaped(texts.get(field.name, ""))
        schema = schema_of(field) or field.type
        lines.append(f"| `{field.name}` | {_type(schema)} | {_default(field)} | {text[:1].upper()}{text[1:]} |")
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    """Text for a cell of a table: no bars, and no tags outside code."""
    parts = text.replace("|", "&#124;").split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def _anchor(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}".replace(".", "-").lower()


def _link(cls: type) -> str:
    return f"[{cls.__name__}](#{_anchor(cls)})"


def _type(schema: Any) -> str:
    if isinstance(schema, OneOf):
        each = "<br>".join(f"{_code(repr(name))}: {_link(cls)}" for name, cls in schema.types.items())
        return f"by {_code(schema.tag)}:<br>{each}"
    if isinstance(schema, MapOf):
        return f"by name: {_link(schema.type)}"
    if isinstance(schema, types.UnionType):
        return " or ".join(_type(each) for each in schema.__args__)
    if schema in (None, types.NoneType):
        return _code("None")
    if dataclasses.is_dataclass(schema):
        return _link(schema)
    plain = isinstance(schema, type) and not hasattr(schema, "__args__")
    return _code(schema.__name__ if plain else re.sub(r"(\w+\.)+", "", str(schema)))


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return _code(_value(field.default))
    if field.default_factory is not dataclasses.MISSING:
        return _code(_value(field.default_factory()))
    return "required"


def _value(value: Any) -> str:
    """The source of a value; of options only what is not their default."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    inner = [
        f"{field.name}={_value(getattr(value, field.name))}"
        for field in config_fields(type(value))
        if getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({', '.join(inner)})"


def _code(text: str) -> str:
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"
