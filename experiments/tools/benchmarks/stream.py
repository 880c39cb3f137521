"""How fast a video world model imagines: frames/s of a stream and of batches, and what a longer window costs.

    python -m experiments.tools.benchmarks stream CONFIG [--config.x=y] [--windows=64,256] [--batches=1,16]
    python -m experiments.tools.benchmarks stream --workdir=RUN

A stream is one future: each frame is stepped, decoded and fetched to the host before the next, as in play. Batches are
imagined in one scan. Every variant first imagines as many frames as its window holds, so that its cache is full and
everything is compiled; then they take turns. Frames/s are the median over rounds and the fastest round.

`--windows` gives a video transformer other windows, with the same weights; what a frame costs beside the first of them
is the median over rounds of the ratio within a round, with its 95 % bootstrap interval. On a small model windows matter
little: the share of a frame's FLOPs that is attention to the cached frames is given, too. It does not say how much
memory is read, which is what a long window costs in a stream.

A stream must compile one program, however long it is: more is an error. Without --workdir weights are random, context
and actions are so always: neither changes what is computed.
"""

import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from experiments.families.diffusion import DiffusionExperiment
from experiments.runs import config as configs
from experiments.runs import loading, runtime, workdir
from experiments.tools.benchmarks import blobs, common
from experiments.tools.benchmarks.futures import Future, frame_flops, weights_under
from experiments.training.experiment import experiment_class, make_experiment
from world_models.core.errors import UserError
from world_models.core.specs import VideoSpec

BOUND = 0.1  # of the growth of a frame's cost from the first window to the last


def with_window(config: ml_collections.ConfigDict, window: int | None) -> ml_collections.ConfigDict:
    """A copy of a config with another window; None keeps its own."""
    config = config.copy_and_resolve_references()
    if window is not None:
        config.model.window = window
        config.data.clip_length = max(config.data.clip_length, window)  # nothing is trained
        for block in (config.eval.open_loop, config.eval.imagine):
            block.num_context = min(block.num_context, window)
    return config


def window_of(config: ml_collections.ConfigDict) -> int:
    """Frames that the next one can depend on."""
    return config.model.get("window") or max(config.model.context_offsets)


def time_share(config: ml_collections.ConfigDict, spec: VideoSpec) -> tuple[int, float | None]:
    """(FLOPs of a frame; the share of them that is attention to cached frames, None for a model without a cache)."""
    config = config.copy_and_resolve_references()
    config.runtime.compute.update(common.PLAIN)
    count = lambda config: frame_flops(make_experiment(config, spec), config.eval.imagine.num_context)
    total = count(config)
    if "window" not in config.model:
        return total, None
    two, three = (count(with_window(config, window)) for window in (2, 3))
    return total, (three - two) * max(1, config.model.window - 1) / total  # every slot of the cache costs the same


def measure(
    model: nnx.Module, settings: Sequence[ml_collections.ConfigDict], spec: VideoSpec, batches: Sequence[int],
    length: int, rounds: int,
) -> dict[str, Any]:  # fmt: skip
    """Times the stream and all batches of a model under configs that differ in the window."""
    variants, rows = {}, []
    for config in settings:
        weights, context = weights_under(make_experiment(config, spec), model), config.eval.imagine.num_context
        flops, share = time_share(config, spec)
        for kind, batch in (("stream", 1), *(("scan", batch) for batch in sorted(set(batches)))):
            future = Future(weights, spec, context=context, batch=batch, length=length if kind == "scan" else 0)
            future.fill(window_of(config))
            variants[kind, batch, window_of(config)] = future
            rows.append({"kind": kind, "batch": batch, "window": window_of(config), "flops_per_frame": flops})
            rows[-1]["time_attention_share"] = share
    seconds = {key: [] for key in variants}
    for _ in range(rounds):
        for key, future in variants.items():
            start = time.perf_counter()
            for _ in range(length if key[0] == "stream" else 1):
                future()
            seconds[key].append((time.perf_counter() - start) / length / key[1])
    for row, (key, future) in zip(rows, variants.items(), strict=True):
        row["frames_per_second"], row["frames_per_second_best"] = (
            1 / float(np.median(seconds[key])),
            1 / min(seconds[key]),
        )
        row["compilations"] = future.compilations
    first, last = (window_of(settings[i]) for i in (0, -1))
    growth = [
        {"kind": kind, "batch": batch, "from": first, "to": last}
        | common.ratio(seconds[kind, batch, last], seconds[kind, batch, first])
        for kind, batch in {key[:2]: None for key in variants}
        if first != last
    ]
    return {"rows": rows, "growth": growth, "bound": BOUND}


def check(found: dict[str, Any]) -> None:
    """Raises UserError if a stream compiled more than one program."""
    for row in found["rows"]:
        if row["compilations"] != 1:
            what = f"window {row['window']}, {row['kind']} of {row['batch']}"
            raise UserError(
                f"{what}: {row['compilations']} programs were compiled; a stream of any length must need 1."
            )


def table(found: dict[str, Any]) -> str:
    """The measurement for reading."""
    lines = [f"{found['parameters']:,} parameters on {found['device']}"]
    lines.append(
        f"{'window':>7}  {'futures':18}{'frames/s':>10}{'fastest':>10}{'GFLOP/frame':>13}  attention to the cache"
    )
    for row in found["rows"]:
        name = "stream" if row["kind"] == "stream" else f"{row['batch']} in a scan"
        speed = f"{row['frames_per_second']:10,.1f}{row['frames_per_second_best']:10,.1f}"
        share = row["time_attention_share"]
        share = "none" if share is None else f"{share:.1%} of the FLOPs"
        lines.append(f"{row['window']:7}  {name:18}{speed}{row['flops_per_frame'] / 1e9:13,.3f}  {share}")
    for row in found["growth"]:
        (low, high), more = row["interval"], row["ratio"] - 1
        verdict = "below" if more < BOUND else "NOT below"
        cost = f"{more:+.1%} ({low - 1:+.1%} to {high - 1:+.1%}), {verdict} {BOUND:.0%}"
        lines.append(
            f"{row['kind']} of {row['batch']}: cost of a frame from window {row['from']} to {row['to']}: {cost}"
        )
    return "\n".join(lines)


def _untrained(config: ml_collections.ConfigDict) -> tuple[nnx.Module, VideoSpec]:
    """A model with random weights, and the spec of the config's data."""
    with tempfile.TemporaryDirectory() as folder:
        blobs.for_config(config, pathlib.Path(folder) / "blobs")
        spec = experiment_class(config).open_data(config, pathlib.Path(folder), config.data.train_split).spec
    config.init_from.checkpoints = config.init_from.checkpoints or "random weights"  # a frozen tokenizer's, say
    experiment = make_experiment(config, spec)
    return jax.jit(lambda: experiment.init(nnx.Rngs(config.seed)))(), spec


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "config", nargs="?", default="", help="configs/X.py or configs/X.py:variant, for random weights"
    )
    parser.add_argument("--workdir", type=pathlib.Path, help="a trained run, instead of a config")
    parser.add_argument("--windows", type=common.integers, help="of the transformer, rising; its own by default")
    parser.add_argument("--batches", type=common.integers, default=[1, 16], help="futures in one scan")
    parser.add_argument("--frames", type=common.integer, default=32, help="of each future in a round")
    parser.add_argument("--rounds", type=common.integer, default=10, help="of all variants in turn")
    asked, overrides = parser.parse_known_args(argv)
    if bool(asked.config) == bool(asked.workdir):
        raise UserError("stream needs a CONFIG, or --workdir with a trained run, and not both.")
    if asked.workdir:
        config = workdir.load_config(asked.workdir)
        configs.override(config, overrides)
    else:
        config = common.load_config(asked.config, overrides)
    runtime.setup()
    if not issubclass(experiment_class(config), DiffusionExperiment):
        raise UserError(f"config.experiment={config.experiment!r} is no video world model that samples by diffusion.")
    if asked.windows and "window" not in config.model:
        raise UserError(
            f"--windows={','.join(map(str, asked.windows))}: {config.experiment} has no config.model.window."
        )
    if asked.windows and asked.windows != sorted(set(asked.windows)):
        raise UserError(f"--windows={','.join(map(str, asked.windows))} must rise, as in --windows=64,256.")
    if asked.workdir:
        run = loading.load(asked.workdir, config=config)
        model, spec = run.model, run.spec
    else:
        model, spec = _untrained(config)
    settings = [with_window(config, window) for window in asked.windows or [None]]
    found = {"parameters": sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))}
    found |= {"device": jax.devices()[0].device_kind, "frames": asked.frames, "rounds": asked.rounds}
    found |= measure(model, settings, spec, asked.batches, asked.frames, asked.rounds)
    print(table(found))
    check(found)
    origin = {"workdir": asked.workdir.name, "step": run.step} if asked.workdir else {"config": asked.config}
    common.finish({**origin, "overrides": overrides, **found}, asked.output)
