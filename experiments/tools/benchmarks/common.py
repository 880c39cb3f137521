"""What the benchmarks share: flags, a config with overrides, and the JSON of a result."""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from experiments.runs import config as configs
from experiments.runs import workdir
from experiments.runs.files import write_json
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
