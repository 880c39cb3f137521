"""The page of the speed benchmarks, in Markdown, from the JSON in results/."""

import json
import pathlib
from typing import Any

from experiments.tables.page import markdown_table


def speed_page(folder: pathlib.Path) -> str:
    """What `python -m experiments.tools.benchmarks` measured beside PyTorch, one file of `folder` a row."""
    files = lambda name: [(path, json.loads(path.read_text())) for path in sorted(folder.glob(f"{name}*.json"))]
    planner = [(path, found) for path, found in files("planner_speed") if "to_torch" in found]
    lines = ["# Speed beside PyTorch", ""]
    lines += _mae_speed(files("mae_speed")) + _bert_speed(files("bert_speed")) + _planner_speed(planner)
    lines += _video_speed(files("video_speed")) + _stream_speed(files("stream_speed"))
    return "\n".join(lines)


def _mae_speed(measured: list[tuple[pathlib.Path, dict[str, Any]]]) -> list[str]:
    rows = []
    for _, found in measured:
        device, show = found["provenance"]["device"], lambda name, found=found: _ratio(found[name])
        speed = [f"{found['steps'][name]['images_per_second']:,.0f}" for name in ("ours", "torch")]
        saved, alone = found["masking_share"], found.get("masking_alone")
        masking = [_percent(saved["share"], saved["interval"], 0)]
        masking.append(_percent(alone["ratio"], alone["interval"], 1) if alone else "–")  # not in older measurements
        setting = f"{found['size']}, {found['dtype']}, {device}, malloc trimming off: {found['memory']}"
        by_cpu = show("to_torch_cpu") if device.endswith("cpu") else "–"
        rows.append([setting, *speed, show("to_torch"), by_cpu, show("sparse_speed_up"), *masking])
    if not rows:
        return []
    heads = ["setting", "ours (images/s)", "PyTorch (images/s)", "ours to PyTorch", "by CPU time"]
    heads += ["sparse to dense encoder", "masking", "masking alone"]
    return [
        "## Pretraining a masked autoencoder",
        "",
        "Images a second of a whole training step beside Hugging Face's ViTMAE, the two in turns on the same device; "
        "medians of ratios within a round and their 95 % interval. *Malloc trimming off*: whose C library is set to "
        "keep the memory that a step frees, which `launch.py` does for ours on CPUs. *Masking* is the share of a step "
        "that is saved where patches are given masked, cut and in order (below zero is noise); *alone*, the share that "
        "masks, shuffles and gathers take by themselves.",
        "",
        *markdown_table(heads, rows),
        "",
        *(f"{_made(found['provenance'], path)}, torch {found['peer']['version']}" for path, found in measured),
        "",
    ]


def _bert_speed(measured: list[tuple[pathlib.Path, dict[str, Any]]]) -> list[str]:
    rows = []
    for _, found in measured:
        device, show = found["provenance"]["device"], lambda name, found=found: _ratio(found[name])
        speed = [f"{found['steps'][name]['tokens_per_second']:,.0f}" for name in ("ours", "everywhere", "torch")]
        setting = f"{found['size']}, batch {found['batch_size']}, {found['dtype']}, {device}, malloc trimming off: "
        ratios = [show(f"{name}_to_torch") for name in ("ours", "everywhere")]
        rows.append([setting + found["memory"], *speed, *ratios])
    if not rows:
        return []
    heads = ["setting", "ours (tokens/s)", "logits everywhere", "PyTorch", "ours to PyTorch", "logits everywhere to it"]
    return [
        "## Pretraining BERT",
        "",
        "Tokens a second of a whole training step on rows of 128 tokens beside Hugging Face's BERT without dropout, "
        "from the same weights, in turns on the same device; medians of ratios within a round and their 95 % "
        "interval. Ours computes logits where tokens are predicted; *logits everywhere* does as Hugging Face's, the "
        "same work. *Malloc trimming off* as above.",
        "",
        *markdown_table(heads, rows),
        "",
        *(f"{_made(found['provenance'], path)}, torch {found['peer']['version']}" for path, found in measured),
        "",
    ]


def _planner_speed(measured: list[tuple[pathlib.Path, dict[str, Any]]]) -> list[str]:
    if not measured:
        return []
    first = measured[0][1]
    counts = list(first["plans_per_second"])
    heads = ["device", "ms a plan, ours", "ms, PyTorch", "ours to PyTorch", *(f"plans/s, {n} at once" for n in counts)]
    rows = []
    for _, found in measured:
        rates = [_three_digits(found["plans_per_second"][count]) for count in counts]
        times = [f"{found['ms_per_plan']:.3g}", f"{found['torch_ms_per_plan']:.3g}", _ratio(found["to_torch"])]
        rows.append([found["provenance"]["device"], *times, *rates])
    return [
        "## Planning",
        "",
        f"A plan is CEM with {first['samples']} samples, {first['iterations']} iterations and a horizon of "
        f"{first['horizon']} in the latents of a GRU of {first['width']} numbers, {first['flops_per_plan'] / 1e9:.1f} "
        "GFLOP; the peer is a plain PyTorch loop of the same arithmetic, the two in turns on the same device. The "
        "ratio is the median over rounds of that within a round, with its 95 % interval. With a plan a step, an "
        "episode of n steps is n plans.",
        "",
        *markdown_table(heads, rows),
        "",
        *(_made(found["provenance"], path) for path, found in measured),
        "",
    ]


def _video_speed(measured: list[tuple[pathlib.Path, dict[str, Any]]]) -> list[str]:
    rows = []
    for _, found in measured:
        for size, row in found["sizes"].items():
            if "failed" in row:
                continue
            setting = f"{size}, batch {found['batch']}, {row['dtype']}, {found['provenance']['device']}"
            setting += f", split over {found['devices']} devices" if found.get("devices", 1) > 1 else ""
            speed = [
                row["training"][name]["frames_per_second"] for name in ("ours", "torch") if name in row["training"]
            ]
            cells = [
                f"{row['parameters'] / 1e6:,.3g} M",
                *(f"{each:,.0f}" for each in speed),
                *["–"] * (2 - len(speed)),
            ]
            cells += [_ratio(row["to_torch"]) if "to_torch" in row else "–", f"{100 * row['mfu']:.0f} %"]
            imagined = [f"{name}: {each['frames_per_second']:,.0f}" for name, each in row["imagining"].items()]
            rows.append([setting, *cells, ", ".join(imagined)])
    if not rows:
        return []
    heads = [
        "setting",
        "parameters",
        "ours (frames/s)",
        "PyTorch (frames/s)",
        "ours to PyTorch",
        "MFU",
        "imagined frames/s",
    ]
    return [
        "## Video world models",
        "",
        "Frames a second of a whole training step beside plain PyTorch of the same arithmetic, the two in turns on the "
        "same device; medians of ratios within a round and their 95 % interval. *MFU*: model FLOPs over those of the "
        "fastest square matrix product measured there. *Imagined*: by window, one stream whose frames are fetched one "
        "by one, and a batch of futures in one scan. *Split*: XLA runs a convolution on one thread of a CPU, so ours "
        "trains on devices that it makes of the CPU, with a part of the batch each "
        "(`--config.runtime.xla_flags=--xla_force_host_platform_device_count=2`).",
        "",
        *markdown_table(heads, rows),
        "",
        *(_made(found["provenance"], path) for path, found in measured),
        "",
    ]


def _stream_speed(measured: list[tuple[pathlib.Path, dict[str, Any]]]) -> list[str]:
    rows = []
    for _, found in measured:
        growth = {(row["kind"], row["batch"], row["to"]): row for row in found["growth"]}
        for row in found["rows"]:
            grown, share = growth.get((row["kind"], row["batch"], row["window"])), row["time_attention_share"]
            name = "stream" if row["kind"] == "stream" else f"{row['batch']} in a scan"
            cells = [found.get("config") or found["workdir"], str(row["window"]), name]
            cells += [_three_digits(row[field]) for field in ("frames_per_second", "frames_per_second_best")]
            cells += ["–" if share is None else f"{100 * share:.1f} %", _ratio(grown) if grown else "–"]
            rows.append([*cells, found["provenance"]["device"]])
    if not rows:
        return []
    heads = [
        "model",
        "window",
        "futures",
        "frames/s",
        "fastest",
        "attention to the cache",
        "cost to the first window's",
    ]
    return [
        "## Imagined frames",
        "",
        "Frames a second with full caches: of one stream whose frames are fetched one by one, and of futures in one "
        "scan; the share of a frame's FLOPs that is attention to cached frames; and what a frame costs beside the "
        "first window, with its 95 % interval.",
        "",
        *markdown_table([*heads, "device"], rows),
        "",
        *(_made(found["provenance"], path) for path, found in measured),
        "",
    ]


def _made(origin: dict[str, Any], path: pathlib.Path) -> str:
    return (
        f"- `python -m {origin['command']}`: `results/{path.name}`, revision {origin['revision'][:10]}, "
        f"{origin['device']} ({origin['host_cores']} cores), {origin['date'][:10]}, jax {origin['versions']['jax']}"
    )


def _percent(share: float, interval: tuple[float, float], digits: int) -> str:
    low, high = interval
    return f"{100 * share:.{digits}f} % ({100 * low:.{digits}f} to {100 * high:.{digits}f})"


def _three_digits(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"


def _ratio(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['ratio']:.2f} ({low:.2f} to {high:.2f})"
