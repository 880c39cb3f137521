"""Generates the configuration reference, the API pages and their navigation; checks that the site is self-contained."""

import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from links import external_resources
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("world_models", "experiments")


def on_config(config: Any) -> Any:
    """Adds the pages of docs/results/ and the API to the navigation."""
    # The reference imports option modules. MkDocs restores the path after loading hooks.
    sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
    results = sorted((ROOT / "docs" / "results").glob("*.md"), key=lambda p: (p.stem != "index", p.stem))
    if results:
        config.nav.append({"Results": [f"results/{path.name}" for path in results]})
    config.nav.append({"API": [{package: _nav(package)} for package in PACKAGES]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages."""
    import reference  # needs the path that on_config sets

    _add(files, config, "configuration.md", reference.configuration_page(ROOT))
    for package in PACKAGES:
        for folder, modules in _folders(package):
            _add(files, config, _api_page(folder), _api_markdown(folder, modules))
    return files


def on_post_build(config: Any) -> None:
    """Fails if a page would request anything from another host."""
    found = external_resources(pathlib.Path(config.site_dir))
    if found:
        raise PluginError("The site requests other hosts:\n" + "\n".join(f"{page}: {tag}" for page, tag in found))


def _add(files: Files, config: Any, name: str, text: str) -> None:
    files.append(File.generated(config, name, content=text))


def _folders(package: str) -> Iterator[tuple[str, list[str]]]:
    """(package, its modules) for every package in a top-level one, as dotted paths."""
    for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
        modules = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__"))
        dotted = ".".join(folder.relative_to(ROOT).parts)
        if modules:
            yield dotted, [f"{dotted}.{module}" for module in modules]


def _api_page(dotted: str) -> str:
    return f"api/{dotted}.md"


def _api_markdown(folder: str, modules: list[str]) -> str:
    return "\n\n".join([f"# {folder}", *(f"::: {module}" for module in modules)])


def _nav(package: str) -> list[dict[str, str]]:
    short = lambda dotted: re.sub(rf"^{package}\.", "", dotted)
    return [{short(folder): _api_page(folder)} for folder, _ in _folders(package)]
