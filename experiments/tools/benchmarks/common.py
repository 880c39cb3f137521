"""What the benchmarks share: flags, a config with overrides, and the JSON that they end with."""

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments.runs import workdir
from world_models.core.errors import UserError


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
    if not os.path.exists(path.partition(":")[0]):
        raise UserError(f"{path} is no file: give a config, configs/demo.py or configs/demo.py:debug, say.")
    strange = [word for word in overrides if word.startswith("-") and not word.startswith("--config.")]
    if strange:
        raise UserError(f"{strange[0]} is no flag here: fields of the config are set as --config.some.field=value.")
    values, before = flags.FlagValues(), sys.argv
    config_flags.DEFINE_config_file("config", None, "Experiment config.", flag_values=values)
    sys.argv = [before[0], f"--config={path}", *overrides]  # where config_flags looks for the fields to override
    try:
        words = values(sys.argv)
    except (AttributeError, KeyError) as error:
        raise UserError(f"The config has no field {error}: see the config file for those that it has.") from error
    finally:
        sys.argv = before
    if words[1:]:
        raise UserError(f"{words[1]!r} is no flag: fields of the config are set as --config.some.field=value.")
    return values.config


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
        workdir.write_json(pathlib.Path(output), result)
