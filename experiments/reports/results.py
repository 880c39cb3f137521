"""Renders the README's results from results/: `make results`; `--check` only compares."""

import json
import pathlib
import re
import sys
from typing import Any

from experiments.tables import definition, render
from experiments.tools.launchers import ROOT
from world_models.core.errors import UserError

BEGIN = "<!-- results: made by `make results` from results/; edits here are lost -->\n"
END = "<!-- end of results -->\n"
HORIZONS = (1, 4, 8, 16)


def rendered(folder: pathlib.Path) -> str:
    """All results in a folder as Markdown: the demo's, every table at every scale, then benchmarks.

    Raises:
      UserError: if a file is damaged.
    """
    parts, tables = [], []
    for path in [folder / "demo.json", *sorted(folder.glob("*/*.json"))]:
        try:
            found = json.loads(path.read_text())
            parts.append(_demo(found) if path.name == "demo.json" else _table(found, path))
            tables += [] if path.name == "demo.json" else [found]
        except (ValueError, KeyError, OSError) as error:
            raise UserError(f"{path} is damaged ({type(error).__name__}: {error}): restore it from git.") from error
    measured = lambda name: sorted(folder.glob(f"{name}*.json"))
    speeds = [*_mae_speed(measured("mae_speed")), *_planner_speed(measured("planner_speed"))]
    return "\n".join([_overview(tables), *parts, *speeds, *_not_run(folder)])


def _overview(tables: list[dict[str, Any]]) -> str:
    """A line for every table that has a result."""
    lines = ["| table | scale | seeds | conclusions that hold |", "|---|---|---|---|"]
    for found in tables:
        anchor = re.sub(r"[^\w\- ]", "", render.heading(found).lower()).replace(" ", "-")  # as GitHub makes them
        tested = [c["holds"] for c in found["statement"]["conclusions"] if c["holds"] is not None]
        lines.append(
            f"| [{found['title']}](#{anchor}) (`{found['table']}`) | {found['scale']} | "
            f"{len(found['provenance']['seeds'])} | {sum(tested)} of {len(tested)} |"
        )
    return "\n".join([*lines, ""])


def _not_run(folder: pathlib.Path) -> list[str]:
    """A line for every table and scale that has no result; `smoke` is for tests."""
    lines = ["### Not run", "", "<details><summary>Tables and scales without a result</summary>", ""]
    for name in definition.names():
        for scale, what in definition.load(name).scales.items():
            if scale != "smoke" and not (folder / name / f"{scale}.json").exists():
                lines.append(f"- `launch.py table {name} --scale={scale}`: {what.about}.")
    return [*lines, "", "</details>", ""]


def update(readme: pathlib.Path, folder: pathlib.Path, *, check: bool = False) -> None:
    """Puts the results into the README, and a plot beside every table's JSON; or only compares.

    Raises:
      UserError: if the README has no place for them, or `check` finds it different.
    """
    text = readme.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UserError(
            f"{readme} has no lines {BEGIN.strip()!r} and {END.strip()!r} for the results to stand between."
        )
    wanted = f"{head}{BEGIN}\n{rendered(folder)}\n{END}{tail}"
    if check and wanted != text:
        raise UserError(f"{readme} is not what {folder} says: run make results and commit what changes.")
    if not check:
        readme.write_text(wanted)
        for path in folder.glob("*/*.json"):
            render.plot(path.with_suffix(".png"), json.loads(path.read_text()))


def _table(table: dict[str, Any], path: pathlib.Path) -> str:
    where = f"results/{path.parent.name}/{path.stem}"
    plot = (
        f"![{table['title']}: published and ours]({where}.png)\n\nEvery seed and run: [{where}.json]({where}.json).\n"
    )
    return f"{render.as_markdown(table)}\n{plot}"


def _demo(metrics: dict[str, Any]) -> str:
    """The demo's PSNR by horizon beside its baselines, and what actions do."""
    origin, following = metrics["provenance"], metrics["action_following"]
    rows = [("imagined", "imagined"), ("copy_last", "copy the last frame"), ("mean_frame", "mean frame")]
    lines = [
        "### The demo",
        "",
        "`make demo` ([configs/demo.py](configs/demo.py), seed 0): CarRacing-v3 at 32x32, each action held for 3 "
        f"steps, trained for {metrics['step']} steps of 32; {metrics['num_contexts']} contexts from 8 held-out "
        "episodes. PSNR in dB over the pixels that changed since the context:",
        "",
        f"| frames ahead | {' | '.join(map(str, HORIZONS))} |",
        "|---" * (len(HORIZONS) + 1) + "|",
    ]
    for key, label in rows:
        values = (f"{metrics['psnr_changed'][key][h - 1]:.2f}" for h in HORIZONS)
        lines.append(f"| {label} | {' | '.join(values)} |")
    return "\n".join(
        [
            *lines,
            "",
            "Action following: another window's actions raise the squared error over changed pixels by "
            f"{following['mean']:.5f} (95 % interval {following['low']:.5f} to {following['high']:.5f}; contexts "
            "of one episode overlap in time, so it is somewhat too narrow).",
            "",
            f"Revision {origin['revision'][:10]}, {origin['device']} ({origin['host_cores']} cores), "
            f"{origin['date'][:10]}, jax {origin['versions']['jax']}, data {origin['data_fingerprint']}; everything "
            "else is in [results/demo.json](results/demo.json).",
            "",
        ]
    )


def _mae_speed(paths: list[pathlib.Path]) -> list[str]:
    """What `experiments.tools.benchmarks mae --peer=torch --output=results/mae_speed….json` measured, a file a row."""
    rows, made = [], []
    for path in paths:
        found = json.loads(path.read_text())
        origin, show = found["provenance"], lambda name, found=found: _ratio(found[name])
        speed = [f"{found['steps'][name]['images_per_second']:,.0f}" for name in ("ours", "torch")]
        share, (low, high) = found["masking_share"]["share"], found["masking_share"]["interval"]
        masking = [f"{100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"]
        if "masking_alone" in found:  # not in older measurements
            share, (low, high) = found["masking_alone"]["ratio"], found["masking_alone"]["interval"]
            masking.append(f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})")
        else:
            masking.append("-")
        setting = f"{found['size']}, {found['dtype']}, {origin['device']}, memory kept: {found['memory']}"
        by_cpu = show("to_torch_cpu") if origin["device"].endswith("cpu") else "-"
        rows.append(f"| {' | '.join([setting, *speed, show('to_torch'), by_cpu, show('sparse_speed_up'), *masking])} |")
        made.append(f"{_made(origin, path)}, torch {found['peer']['version']}")
    if not rows:
        return []
    return [
        "### Pretraining a masked autoencoder beside PyTorch",
        "",
        "Images a second of a whole training step beside Hugging Face's ViTMAE, the two in turns on the same device; "
        "medians of ratios within a round and their 95 % interval. *Memory kept* says whose C library keeps what a "
        "step frees, which `launch.py` has ours do on CPUs. *Masking* is what a step saves that is given patches, "
        "cut and in order (below zero is noise); *alone*, what masks, shuffles and gathers take by themselves.",
        "",
        "| setting | ours | PyTorch | ours to PyTorch | by CPU time | sparse to dense encoder | masking | alone |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        *made,
        "",
    ]


def _planner_speed(paths: list[pathlib.Path]) -> list[str]:
    """What `experiments.tools.benchmarks planner --peer=torch` measured, a file and a row for every device."""
    measured = [(path, json.loads(path.read_text())) for path in paths]
    measured = [(path, found) for path, found in measured if "to_torch" in found]
    if not measured:
        return []
    first = measured[0][1]
    counts = list(first["plans_per_second"])
    heads = ["device", "ms a plan, ours", "ms, PyTorch", "ours to PyTorch", *(f"plans/s, {n} at once" for n in counts)]
    rows = []
    for _, found in measured:
        rates = " | ".join(_three_digits(found["plans_per_second"][count]) for count in counts)
        times = f"{found['ms_per_plan']:.3g} | {found['torch_ms_per_plan']:.3g} | {_ratio(found['to_torch'])}"
        rows.append(f"| {found['provenance']['device']} | {times} | {rates} |")
    return [
        "### Planning beside PyTorch",
        "",
        f"A plan is CEM with {first['samples']} samples, {first['iterations']} iterations and a horizon of "
        f"{first['horizon']} in the latents of a GRU of {first['width']} numbers, {first['flops_per_plan'] / 1e9:.1f} "
        "GFLOP; the peer is a plain PyTorch loop of the same arithmetic, the two in turns on the same device. The "
        "ratio is the median over rounds of that within a round, with its 95 % interval. With a plan a step, an "
        "episode of n steps is n plans.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *rows,
        "",
        *(_made(found["provenance"], path) for path, found in measured),
        "",
    ]


def _made(origin: dict[str, Any], path: pathlib.Path) -> str:
    return (
        f"- `python -m {origin['command']}`: [{path.name}](results/{path.name}), revision {origin['revision'][:10]}, "
        f"{origin['device']} ({origin['host_cores']} cores), {origin['date'][:10]}, jax {origin['versions']['jax']}"
    )


def _three_digits(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"


def _ratio(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['ratio']:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    try:
        update(ROOT / "README.md", ROOT / "results", check="--check" in sys.argv)
    except UserError as error:
        sys.exit(str(error))
