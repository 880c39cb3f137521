"""Content addresses of code and of JSON values."""

import ast
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.runs.files import ROOT

PACKAGES = ("world_models", "experiments", "configs")
NAMED = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)+(?=(:\w+)?$)")  # "module" or "module:function" in a config


def of_value(value: Any) -> str:
    """A hash of a JSON value, 12 hex digits; tuples count as lists."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def of_code(modules: Iterable[str], root: pathlib.Path = ROOT) -> str:
    """A hash, 12 hex digits, of the code of modules and of all that they import inside the repository.

    Comments, docstrings and layout do not count, nor imports in functions of a package's `__init__`, which every module
    of the package imports.

    Args:
      modules: dotted names.
      root: folder that holds the packages.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _path(root, name)
        if name not in found and path:
            found[name], imported = _read(path, path.stat().st_mtime_ns)
            parents = name.split(".")
            waiting += [*imported, *(".".join(parents[:i]) for i in range(1, len(parents)))]
    return of_value(sorted(found.items()))


def modules_named(value: Any) -> list[str]:
    """Modules of the repository that a config, or any value in it, names: "module", or "module:function"."""
    if isinstance(value, str):
        found = NAMED.match(value)
        return [found.group()] if found else []
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [name for each in inner for name in modules_named(each)]


def _path(root: pathlib.Path, name: str) -> pathlib.Path | None:
    """The file of a module of the repository; None for anything else, such as a function that a module defines."""
    if name.split(".")[0] not in PACKAGES:
        return None
    base = root.joinpath(*name.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _read(path: pathlib.Path, changed: int) -> tuple[str, tuple[str, ...]]:
    """(hash of a file's syntax tree, names it may import)."""
    tree = ast.parse(path.read_text())
    imported: list[str] = []
    for node in tree.body if path.name == "__init__.py" else ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [child for child in body if not _is_text(child)] or [ast.Pass()]
    return of_value(_plain(tree)), tuple(imported)


def _plain(node: Any) -> Any:
    """A syntax tree as a JSON value. What is empty is left out: which empty fields a node has depends on the Python."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: _plain(value) for name, value in ast.iter_fields(node) if value is not None and value != []}
    return [type(node).__name__, fields]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
