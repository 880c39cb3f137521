"""What the benchmarks share: flags, a config with overrides, and the JSON of a result."""

import argparse
import importlib.util
import json
import pathlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import ml_collections
import numpy as np

from experiments.runs import config as configs
from experiments.runs import workdir
from experiments.runs.files import write_json
from experiments.tools.benchmarks.steps import MEMORY
from world_models.core.errors import UserError

# How a model is computed for counting its FLOPs: everything once, and no kernel that hides its products.
PLAIN = {"remat": "none", "attention": "xla", "ops": "library"}


def parser(about: str) -> argparse.ArgumentParser:
    """A parser of a benchmark's flags, with what all have; `about` is its module's docstring."""
    made = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument("--output", default="", help="file that the JSON is also written to")
    return made


def integer(text: str) -> int:
    """A count of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def integers(text: str) -> list[int]:
    """Counts comma-separated, as in --threads=1,2."""
    return [integer(word) for word in text.split(",")]


def paired_parser(about: str, sizes: Collection[str], batch: int, unit: str) -> argparse.ArgumentParser:
    """A parser with the flags of a training step beside Hugging Face's, on `batch` images or rows: `unit`."""
    made = parser(about)
    made.add_argument("--size", choices=sizes, default="mini", help="of the model")
    made.add_argument("--peer", choices=("", "torch"), default="", help="what to run beside it")
    made.add_argument("--compile", action="store_true", help="the peer with torch.compile")
    made.add_argument("--batch", type=integer, default=batch, help=f"{unit} of a step")
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of what is computed")
    made.add_argument("--scan", action="store_true", help="compile one block and loop over it, not all of them")
    made.add_argument("--memory", choices=MEMORY, default="ours", help="whose C library keeps what a step frees")
    made.add_argument("--rounds", type=integer, default=10, help="of all sides in turn")
    made.add_argument("--seconds", type=float, default=0.5, help="of each step in a round")
    return made


def run_pair(asked: argparse.Namespace, measure: Callable[..., dict], table: Callable[[dict], str]) -> None:
    """Measures what the flags of `paired_parser` ask for, and prints it.

    Raises:
      UserError: if the peer's packages are not installed.
    """
    missing = [name for name in ("torch", "transformers") if asked.peer and not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"--peer=torch needs {' and '.join(missing)}: pip install -e '.[dev]'.")
    options = {"compiled": asked.compile, "unroll": not asked.scan, "memory": asked.memory}
    pace = {"rounds": asked.rounds, "seconds": asked.seconds}
    found = measure(asked.size, asked.batch, asked.dtype, asked.peer, **options, **pace)
    print(table(found))
    setting = {"size": asked.size, "batch_size": asked.batch, "dtype": asked.dtype}
    finish({**setting, **options, **pace, **found}, asked.output)


def step_rates(rounds: Sequence[dict[str, float]], count: int, unit: str) -> dict[str, float]:
    """Rates of a step on `count` images or tokens (`unit`, plural), of its rounds; and its last loss."""
    take = lambda what: [row[what] for row in rounds]
    return {
        f"{unit}_per_second": count / float(np.median(take("seconds"))),
        f"{unit}_per_second_best": count / min(take("seconds")),
        f"{unit}_per_cpu_second": count / float(np.median(take("cpu_seconds"))),
        "loss": rounds[-1]["loss"],
    }


def step_lines(steps: dict[str, dict[str, float]], unit: str) -> list[str]:
    """Steps with `step_rates`, for reading."""
    lines = [f"{'step':12}{f'{unit}/s':>12}{'best':>12}{'a CPU second':>14}{'loss':>9}"]
    for name, row in steps.items():
        rates = f"{row[f'{unit}_per_second']:12,.0f}{row[f'{unit}_per_second_best']:12,.0f}"
        lines.append(f"{name:12}{rates}{row[f'{unit}_per_cpu_second']:14,.0f}{row['loss']:9.4f}")
    return lines


def ratio_text(found: dict[str, Any]) -> str:
    """What `ratio` returned, for reading."""
    return f"{found['ratio']:.2f}x ({' to '.join(f'{end:.2f}' for end in found['interval'])})"


def load_config(path: str, overrides: Sequence[str]) -> ml_collections.ConfigDict:
    """The config of a file (`configs/x.py` or `configs/x.py:variant`) with `--config.field=value` overrides.

    Raises:
      UserError: if there is no such file or field.
    """
    strange = [word for word in overrides if not word.startswith("--config.")]
    if strange:
        raise UserError(f"{strange[0]!r} is no flag: fields of the config are set as --config.some.field=value.")
    config = configs.load_file(path)
    configs.override(config, overrides)
    return config


def matmul_ceiling(dtype: str, sizes: Sequence[int] = (1024, 2048, 4096, 8192), repeats: int = 8) -> float:
    """FLOP/s of the fastest square matrix product on one device; sizes grow until a product takes 0.1 s."""
    import jax
    import jax.numpy as jnp

    product, best = jax.jit(jnp.matmul), 0.0
    for size in sizes:
        a = jnp.full((size, size), 0.5, dtype)
        jax.block_until_ready(product(a, a))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            jax.block_until_ready([product(a, a) for _ in range(repeats)])
            times.append((time.perf_counter() - start) / repeats)
        best = max(best, 2 * size**3 / min(times))
        if min(times) > 0.1:
            break
    return best


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """The median of paired ratios, and its 95 % bootstrap interval."""
    ratios = np.asarray(over) / np.asarray(under)
    resampled = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    interval = np.quantile(np.median(resampled, axis=1), [0.025, 0.975]).tolist()
    return {"ratio": float(np.median(ratios)), "interval": interval}


def finish(result: dict[str, Any], output: str) -> None:
    """Prints `result` with its provenance as one line of JSON, and writes it to the file `output` if given."""
    result = {**result, "provenance": workdir.provenance()}
    print(json.dumps(result), flush=True)
    if output:
        write_json(pathlib.Path(output), result)
