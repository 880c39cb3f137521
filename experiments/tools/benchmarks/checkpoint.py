"""How long saving a checkpoint holds up a training loop, and how fast saving and restoring are beside the disk.

    python -m experiments.tools.benchmarks checkpoint [--mib=512] [--saves=4] [--folder=DIR]

A state of `--mib` MiB of float32 is saved while a loop of compiled steps, which change the state in place, goes on.

- Blocked: the time until `Checkpoints.save` returns, as a share of the time until all is on disk.
- Held up: that, and what the step that follows takes longer than the median step without a save. A step cannot change
  memory that is still being written in place; where saving does not copy it first, this step does.
- The first save, which starts Orbax's threads, is reported apart from the median of the others.
- The disk's own speed is that of a plain file of the same bytes, written and synced, and read; the operating system is
  asked to forget files before they are read.
"""

import os
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tools.benchmarks import common
from world_models.checkpointing.checkpoints import Checkpoints

LEAVES = 32
WIDTH = 512
BASELINE = 30  # steps without a save


def make_state(mib: int) -> dict[str, dict[str, jax.Array]]:
    """Trees of random numbers, `mib` MiB in all, as a checkpoint takes them."""
    rng = np.random.default_rng(0)
    shape = (max(1, mib * 2**20 // 4 // LEAVES // 1024), 1024)
    return {"state": {f"{i}": jnp.asarray(rng.standard_normal(shape, np.float32)) for i in range(LEAVES)}}


def forget(folder: pathlib.Path) -> None:
    """Asks the operating system to drop a file, or the files below a folder, from its cache."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.is_file()]:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk(path: pathlib.Path, state: Any) -> tuple[float, float]:
    """(seconds to write and sync, seconds to read) a plain file of the bytes of `state`."""
    arrays = [np.asarray(x) for x in jax.tree.leaves(state)]
    start = time.perf_counter()
    with path.open("wb") as file:
        for array in arrays:
            file.write(array.data)
        file.flush()
        os.fsync(file.fileno())
    written = time.perf_counter() - start
    forget(path)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        for array in arrays:
            file.readinto(np.empty_like(array).data)
    read = time.perf_counter() - start
    path.unlink()
    return written, read


class Loop:
    """A training loop in small: every compiled step multiplies matrices, then changes all of a donated state."""

    def __init__(self, state: Any):
        """Compiles the step; `state` is used up."""

        def step(state):
            x = jnp.full((WIDTH, WIDTH), 0.01) + jax.tree.leaves(state)[0][0, 0]
            x = jax.lax.fori_loop(0, 8, lambda _, x: jnp.tanh(x @ x), x)
            return jax.tree.map(lambda a: a + 1e-6 * x[0, 0], state)

        self.state, self._step = state, jax.jit(step, donate_argnums=0)
        self.run()

    def run(self) -> float:
        """Does a step; returns its seconds."""
        start = time.perf_counter()
        self.state = jax.block_until_ready(self._step(self.state))
        return time.perf_counter() - start


def save(saver: Checkpoints, step: int, loop: Loop) -> tuple[float, float, list[float]]:
    """(seconds blocked, seconds until on disk, seconds of each loop step meanwhile, at least one) of a save."""
    finished = []

    def wait() -> None:
        saver.wait()
        finished.append(time.perf_counter())

    start = time.perf_counter()
    saver.save(step, loop.state, {})
    blocked = time.perf_counter() - start
    waiter = threading.Thread(target=wait)
    waiter.start()
    steps = [loop.run()]
    while waiter.is_alive():
        steps.append(loop.run())
    return blocked, finished[0] - start, steps


def measure(folder: pathlib.Path, mib: int, saves: int) -> dict[str, Any]:
    """Everything, in a folder that is there."""
    loop = Loop(make_state(mib))
    size = sum(x.nbytes for x in jax.tree.leaves(loop.state))
    written, read = disk(folder / "plain", loop.state)
    alone = statistics.median(loop.run() for _ in range(BASELINE))
    saver = Checkpoints(folder / "checkpoints", keep=1)
    measured = [save(saver, number, loop) for number in range(1, saves + 1)]
    forget(folder / "checkpoints")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), loop.state)
    start = time.perf_counter()
    jax.block_until_ready(saver.restore(shapes)[0])
    restored = time.perf_counter() - start
    saver.close()
    held = [blocked + max(0.0, steps[0] - alone) for blocked, _, steps in measured]
    later = slice(1 if saves > 1 else 0, None)
    blocked, duration = (statistics.median(x[i] for x in measured[later]) for i in (0, 1))
    beside = [seconds for _, _, steps in measured[later] for seconds in steps]
    return {
        "bytes": size,
        "saves": saves,
        "first_blocked_seconds": measured[0][0],
        "first_held_seconds": held[0],
        "first_save_seconds": measured[0][1],
        "blocked_seconds": blocked,
        "save_seconds": duration,
        "blocked_share": blocked / duration,
        "held_seconds": statistics.median(held[later]),
        "held_share": statistics.median(held[later]) / duration,
        "step_seconds_alone": alone,
        "step_seconds_while_saving": statistics.median(beside),
        "save_bytes_per_second": size / duration,
        "restore_bytes_per_second": size / restored,
        "disk_write_bytes_per_second": size / written,
        "disk_read_bytes_per_second": size / read,
    }


def table(found: dict[str, Any]) -> str:
    """The measurement for reading."""
    speed = {name: f"{value / 1e6:,.0f} MB/s" for name, value in found.items() if name.endswith("per_second")}
    alone, beside = (1e3 * found[f"step_seconds_{when}"] for when in ("alone", "while_saving"))
    rows = {
        "state": f"{found['bytes'] / 2**20:,.0f} MiB, {found['saves']} saves",
        "save": f"{found['save_seconds']:.2f} s (the first {found['first_save_seconds']:.2f} s)",
    }
    for name in ("blocked", "held"):
        rows["held up" if name == "held" else name] = (
            f"{1e3 * found[f'{name}_seconds']:.0f} ms, {found[f'{name}_share']:.1%} of the save "
            f"(the first {1e3 * found[f'first_{name}_seconds']:.0f} ms)"
        )
    rows |= {
        "loop's steps": f"{alone:.1f} ms, while saving {beside:.1f} ms: {beside / alone - 1:+.0%}",
        "saving": f"{speed['save_bytes_per_second']} (disk: {speed['disk_write_bytes_per_second']})",
        "restoring": f"{speed['restore_bytes_per_second']} (disk: {speed['disk_read_bytes_per_second']})",
    }
    return "\n".join(f"{name:14}{value}" for name, value in rows.items())


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--mib", type=common.integer, default=512, help="size of the state")
    parser.add_argument("--saves", type=common.integer, default=4, help="how many")
    parser.add_argument("--folder", default=None, help="where to write, on the disk to measure; removed afterwards")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(pathlib.Path(folder), options.mib, options.saves)
    print(table(found))
    common.finish(found, options.output)
