"""The configuration reference: a table for every option dataclass, from its fields and its docstring. No JAX."""

import dataclasses
import html
import importlib
import inspect
import pathlib
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

INTRODUCTION = """# Configuration

Generated from the option dataclasses: every `options.py` in `world_models` and `experiments`. A config file sets only what
is particular to it; all other fields have the defaults below. `python launch.py config FILE` prints every resolved value
with where it comes from, and `--config.some.field=value` overrides any field on the command line.

| block | holds | may change on resume |
|---|---|---|
| `config.experiment`, `config.seed` | the family (dotted path of a module) and the random seed | no |
| `config.record` | how experience is recorded | yes |
| `config.data` | the data sets and how clips are cut from them | no |
| `config.init_from` | checkpoints that initialise the weights of a new run | no |
| `config.train` | batch size, number of steps, optimizer, averaging | `num_steps` only |
| a family's own blocks | model, networks, losses | no |
| `config.eval` | everything after training: evaluation, `imagine`, `plan`, probes | yes |
| `config.runtime` | the machine: mesh, checkpoints, logging, data loading, attention kernels | yes |
"""


def configuration_page(root: pathlib.Path) -> str:
    """Markdown of the whole reference."""
    parts = [INTRODUCTION]
    for name in option_modules(root):
        module = importlib.import_module(name)
        parts.append(f"## {name.removesuffix('.options')}\n\n{_summary(module)}\n")
        blocks = getattr(module, "BLOCKS", None)
        if blocks:
            parts.append(_blocks(blocks))
        parts += [_table(cls) for cls in option_classes(module)]
    return "\n".join(parts)


def option_modules(root: pathlib.Path) -> list[str]:
    """Dotted names of all modules that hold option dataclasses."""
    found = []
    for package in ("experiments", "world_models"):
        for path in sorted((root / package).rglob("options.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            if name != "world_models.core.options":  # the helpers, not options
                found.append(name)
    return found


def option_classes(module: types.ModuleType) -> Iterator[type]:
    """The option dataclasses that a module defines, in the order of its source."""
    for value in vars(module).values():
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__:
            yield value


def attributes(cls: type) -> dict[str, str]:
    """The sentence for every field in the Attributes section of a Google-style docstring."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
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
    return (module.__doc__ or "").split(" No JAX")[0].strip()


def _blocks(blocks: Mapping[str, Any]) -> str:
    lines = ["Blocks of the config:", "", "| block | options |", "|---|---|"]
    for name, schema in blocks.items():
        if hasattr(schema, "types"):  # one of several, chosen by a tag
            each = ", ".join(f"`{tag!r}`: {_link(cls)}" for tag, cls in schema.types.items())
            lines.append(f"| `config.{name}` | by `{schema.tag}`: {each} |")
        else:
            lines.append(f"| `config.{name}` | {_link(schema)} |")
    return "\n".join([*lines, ""])


def _table(cls: type) -> str:
    texts = attributes(cls)
    described, _, _ = inspect.cleandoc(cls.__doc__ or "").partition("\n\nAttributes:")
    lines = [f"### {cls.__name__} {{ #{_anchor(cls)} }}", "", described, "", "| field | type | default | meaning |"]
    lines.append("|---|---|---|---|")
    for field in dataclasses.fields(cls):
        text = texts.get(field.name, "").replace("|", "&#124;")
        lines.append(f"| `{field.name}` | {_type(field.type)} | {_default(field)} | {text[:1].upper()}{text[1:]} |")
    return "\n".join([*lines, ""])


def _anchor(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}".replace(".", "-").lower()


def _link(schema: Any) -> str:
    return f"[{schema.__name__}](#{_anchor(schema)})" if dataclasses.is_dataclass(schema) else _code(str(schema))


def _type(annotation: Any) -> str:
    if isinstance(annotation, types.UnionType):
        return " or ".join(_type(each) for each in annotation.__args__)
    if annotation in (None, types.NoneType):
        return _code("None")
    if dataclasses.is_dataclass(annotation):
        return _link(annotation)
    plain = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    return _code(annotation.__name__ if plain else re.sub(r"(\w+\.)+", "", str(annotation)))


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    return f"those of {_link(type(value))}" if dataclasses.is_dataclass(value) else _code(repr(value))


def _code(text: str) -> str:
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"
