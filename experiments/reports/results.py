"""Writes the pages on results, docs/results/, and a summary in the README, from results/: `make results`.

`python -m experiments.reports.results --check` compares only.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

from experiments.reports import sets
from experiments.reports.imagined_pages import demo_page, weights_page
from experiments.reports.speed_pages import speed_page
from experiments.tables import definition, page
from experiments.tables.plot import plot
from experiments.tables.summary import summarize
from world_models.core.errors import UserError

BEGIN = "<!-- results: made by `make results`; edits here are lost -->\n"
END = "<!-- end of results -->\n"
NAMES = {"paper": "conclusions of papers", "ours": "hypotheses of ours"}
Tables = dict[str, list[dict[str, Any]]]
"""Summaries of a table at all scales that have a result, by its name."""


def update(
    root: pathlib.Path, *, check: bool = False, folder: pathlib.Path = definition.FOLDER, plots: bool = True
) -> None:
    """Writes docs/results/ and the summary between two lines of README.md from results/; or only compares.

    Args:
      root: of the repository.
      check: compare the Markdown with what is there, and write nothing.
      folder: where the tables' definitions lie.
      plots: also draw the plots.

    Raises:
      UserError: if a file in results/ is damaged, the README has no place for the summary, or `check` finds a page
        that differs.
    """
    tables = read(root / "results", folder)
    readme, docs = root / "README.md", root / "docs" / "results"
    files = {docs / name: text for name, text in pages(root / "results", tables, folder).items()}
    files[readme] = _with_summary(readme, _totals(tables))
    if check:
        pictures = [docs / _plot_name(table) for group in tables.values() for table in group]
        pictures += [docs / _weights_plot(name) for name in _weights(root / "results")]
        wrong = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
        wrong += [path for path in pictures if not path.exists()] + sorted(set(docs.glob("*.md")) - set(files))
        if wrong:
            raise UserError(f"{wrong[0]} is not what results/ says: run make results and commit what changes.")
        return
    docs.mkdir(parents=True, exist_ok=True)
    for path in set(docs.glob("*.md")) - set(files):
        path.unlink()
    for path, text in files.items():
        path.write_text(text)
    if not plots:
        return
    for table in [table for group in tables.values() for table in group]:
        plot(docs / _plot_name(table), table)
    for name, metrics in _weights(root / "results").items():
        sets.plot_drift(docs / _weights_plot(name), metrics["long_rollout"])


def read(results: pathlib.Path, folder: pathlib.Path = definition.FOLDER) -> Tables:
    """All tables' results, summarized with today's definitions.

    Raises:
      UserError: if a file is damaged or does not fit its table's definition.
    """
    tables: Tables = {}
    for path in sorted(results.glob("*/*.json")):
        try:
            summary = summarize(definition.load(path.parent.name, folder), json.loads(path.read_text()))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{path} is damaged ({type(error).__name__}: {error}): restore it from git.") from error
        tables.setdefault(path.parent.name, []).append(summary)
    return tables


def pages(results: pathlib.Path, tables: Tables, folder: pathlib.Path = definition.FOLDER) -> dict[str, str]:
    """The Markdown of all pages by file name: a page a table, the demo, the weights, the benchmarks and an index."""
    found = {
        f"{name}.md": page.as_markdown(group, _plot_name, _missing(name, folder, results))
        for name, group in tables.items()
    }
    if (results / "demo.json").exists():
        found["demo.md"] = demo_page(json.loads((results / "demo.json").read_text()))
    if weights := _weights(results):
        found["weights.md"] = weights_page(weights, _weights_plot)
    if any(results.glob("*_speed*.json")):
        found["speed.md"] = speed_page(results)
    return found | {"index.md": _index(results, tables, folder, found)}


def _index(results: pathlib.Path, tables: Tables, folder: pathlib.Path, found: dict[str, str]) -> str:
    others = {
        "demo.md": "The demo: imagined futures beside baselines",
        "weights.md": "The shipped weights: futures of 1,000 frames",
        "speed.md": "Speed beside PyTorch",
    }
    not_run = [name for name in definition.names(folder) if name not in tables]
    return "\n".join(
        [
            "# Results",
            "",
            "One page a table of a paper: published numbers beside ours, conclusions and a plot. A conclusion that a "
            "paper draws is counted apart from a hypothesis of ours. Settings differ from the papers': data and models "
            "are smaller, as each page says.",
            "",
            *_overview(tables),
            "",
            *_totals(tables),
            "",
            *(f"- [{title}]({name})" for name, title in others.items() if name in found),
            "",
            *(["## Tables without a result", ""] if not_run else []),
            *(line for name in not_run for line in _missing(name, folder, results).splitlines()[2:]),
        ]
    )


def _overview(tables: Tables) -> list[str]:
    """The lines of a table with a row for every table and scale."""
    heads = ["table", "paper", "scale", "seeds", "conclusions of the paper", "hypotheses of ours", "result"]
    rows = []
    for name, group in tables.items():
        for table in group:
            counts = [page.held(table["statement"]["counts"][kind]) for kind in NAMES]
            seeds, title = str(len(table["provenance"]["seeds"])), f"[{table['title']}]({name}.md)"
            rows.append([title, table["paper"], table["scale"], seeds, *counts, table["statement"]["headline"]])
    return page.markdown_table(heads, rows)


def _totals(tables: Tables) -> list[str]:
    """How many conclusions of each kind hold, over all tables and scales."""
    counts = [table["statement"]["counts"] for group in tables.values() for table in group]
    total = lambda kind, part: sum(count[kind][part] for count in counts)
    held = (f"{total(kind, 'held')} of {total(kind, 'tested')} {name}" for kind, name in NAMES.items())
    return [f"In all, {' and '.join(held)} that could be tested hold."]


def _missing(name: str, folder: pathlib.Path, results: pathlib.Path) -> str:
    """A line for every scale of a table that has no result; `smoke` is for tests."""
    scales = definition.load(name, folder).scales.items()
    lines = [
        f"- `launch.py table {name} --scale={scale}`: {what.about}."
        if what.config
        else f"- `{scale}`, which cannot be run from here: {what.about}."
        for scale, what in scales
        if scale != "smoke" and not (results / name / f"{scale}.json").exists()
    ]
    return "\n".join(["## Scales not run", "", *lines]) if lines else ""


def _weights(results: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What was measured of the models in weights/, by folder."""
    paths = sorted(results.glob("weights_*.json"))
    return {path.stem.removeprefix("weights_"): json.loads(path.read_text()) for path in paths}


def _weights_plot(name: str) -> str:
    return f"weights-{name}.png"


def _plot_name(table: dict[str, Any]) -> str:
    return f"{table['table']}-{table['scale']}.png"


def _with_summary(readme: pathlib.Path, lines: list[str]) -> str:
    """The README with these lines between the two marked ones."""
    text = readme.read_text().replace(BEGIN.replace("`", ""), BEGIN)
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UserError(
            f"{readme} must have the lines {BEGIN.strip()!r} and {END.strip()!r}, the summary between them."
        )
    return "\n".join([f"{head}{BEGIN}", *lines, "", f"{END}{tail}"])


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.reports.results", description=__doc__)
    parser.add_argument("--check", action="store_true", help="Change nothing; fail if a page is not up to date.")
    update(definition.ROOT, check=parser.parse_args(argv).check)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
