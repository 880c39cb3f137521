"""The project as a whole: which way imports run, how long files are, and that every config runs."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = [p for folder in ("world_models", "experiments", "configs") for p in (ROOT / folder).rglob("*.py")]
CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.py") if p.name not in ("__init__.py", "common.py"))


def imported(path):
    """Modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way_and_files_are_short(path):
    forbidden = {
        "world_models": {"experiments", "configs", "launch", "ml_collections", "absl"},
        "experiments": {"launch", "configs"},
        "configs": {"launch"},
    }
    top = path.relative_to(ROOT).parts[0]
    assert not {name.split(".")[0] for name in imported(path)} & forbidden[top]
    if top == "configs":  # recording workers import them, and must not import JAX
        above = {name for name in imported(path) if name.startswith(("experiments.", "world_models."))}
        assert all(name.endswith(".options") for name in above)
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "launch.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_public_definitions_say_what_they_do(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} in {path.name}"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_runs_two_steps(path, square_data, text_data, tmp_path):
    import importlib

    from experiments.training.loop import train

    module = importlib.import_module(f"configs.{path.stem}")
    assert "Command:" in module.__doc__
    config = module.get_config("debug")
    config.data.dataset = str(text_data if "sentences" in config.data else square_data)
    if "tracking" in config.eval:
        config.eval.tracking.num_clips = 0  # there are no masks here
    train(config, tmp_path)
    assert (tmp_path / "checkpoints" / "2").is_dir()
    module.get_config()  # the full config is at least well formed
