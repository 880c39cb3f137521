"""Which way imports run: one way, without cycles, on few levels."""

import ast
import functools
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
MOST_LEVELS = 6  # modules in the longest chain of imports inside experiments/
TOOLS_USERS = ("experiments.commands", "experiments.tools")


def module_of(path: pathlib.Path) -> str:
    """Dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for top in ("experiments", "world_models") for path in (ROOT / top).rglob("*.py")}


def imports_in(tree: ast.AST) -> set[str]:
    """Dotted names that code imports, inside functions too, except for annotations under TYPE_CHECKING."""
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        return set()
    found = set()
    if isinstance(tree, ast.Import):
        found |= {alias.name for alias in tree.names}
    elif isinstance(tree, ast.ImportFrom) and tree.module:
        full = {alias.name: f"{tree.module}.{alias.name}" for alias in tree.names}
        found |= {name if name in MODULES else tree.module for name in full.values()}
    return found.union(*map(imports_in, ast.iter_child_nodes(tree)))


IMPORTS = {name: imports_in(ast.parse(path.read_text())) for name, path in MODULES.items()}


def test_imports_are_read_where_they_stand():
    code = """
        import a.b
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from c import d
        def f():
            from experiments.runs import workdir
            from experiments.runs.workdir import claim
    """
    found = imports_in(ast.parse(code.replace("\n        ", "\n")))
    assert found == {"a.b", "typing", "experiments.runs.workdir"}


def longest_chain(package: str) -> list[str]:
    """The longest chain of imports among the modules of a package; fails if there is a cycle."""
    inside = {name: used & MODULES.keys() - {name} for name, used in IMPORTS.items() if name.startswith(f"{package}.")}

    @functools.cache
    def chain(name: str) -> list[str]:
        assert name not in entered, f"a cycle of imports leads through {name}"
        entered.add(name)
        longest = max((chain(used) for used in sorted(inside[name]) if used in inside), key=len, default=[])
        entered.remove(name)
        return [name, *longest]

    entered: set[str] = set()
    return max(map(chain, inside), key=len)


def test_experiments_have_few_levels_and_no_cycle():
    chain = longest_chain("experiments")
    assert len(chain) <= MOST_LEVELS, " -> ".join(chain)


def test_the_library_has_no_cycle():
    chain = longest_chain("world_models")  # raises at a cycle
    assert len(chain) == len(set(chain)) > 1, " -> ".join(chain)


def test_nothing_but_commands_imports_tools():
    edges = {
        f"{name} -> {used}"
        for name, imported in IMPORTS.items()
        if not name.startswith(TOOLS_USERS)
        for used in imported
        if used.startswith("experiments.tools")
    }
    assert not edges


def test_the_library_knows_nothing_of_experiments_flags_and_configs():
    forbidden = {"experiments", "configs", "launch", "ml_collections", "absl"}
    for name, used in IMPORTS.items():
        if name.startswith("world_models"):
            assert not {other.split(".")[0] for other in used} & forbidden, name


def test_modules_of_experiments_lie_in_its_packages():
    assert [path.name for path in (ROOT / "experiments").glob("*.py")] == ["__init__.py"]
