"""Frames per second out of the data pipeline, from memory and from disk.

    python -m experiments.benchmarks.pipeline [--dataset=DIR]

Without a data set it measures one that it makes: 40 episodes of 100 frames at 64x64, moving coloured blobs, PNG.
Prints a table, and JSON as the last line.
"""

import argparse
import json
import pathlib
import tempfile
import time

import numpy as np

from experiments import workdir
from world_models.data import rlds
from world_models.data.clips import Windows, batches
from world_models.data.dataset import Episodes
from world_models.data.episodes import Episode, encode


def make_dataset(folder: pathlib.Path, size: int = 64, episodes: int = 40, length: int = 100) -> pathlib.Path:
    """Writes an RLDS data set of moving blobs on a textured ground."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    ground = rng.integers(60, 120, (8, 8, 3)).repeat(size // 8, 0).repeat(size // 8, 1)
    files = []
    for index in range(episodes):
        centers, speeds = rng.uniform(0, size, (5, 2)), rng.normal(0, 2, (5, 2))
        colors = rng.integers(0, 256, (5, 3))
        images = []
        for t in range(length):
            frame = ground.copy()
            for (y, x), color in zip((centers + t * speeds) % size, colors):
                frame[(rows - y) ** 2 + (columns - x) ** 2 < 36] = color
            images.append(encode(frame.astype(np.uint8), (size, size)))
        path = folder / f"{index}"
        Episode(images, np.zeros(length, np.int64), np.zeros(length, np.float32), False, index).save(path)
        files.append((index, path))
    action = {"kind": "discrete", "size": 1, "low": [], "high": []}
    description = rlds.Description((size, size), action, "blobs", "none", {}, {})
    rlds.write(folder / "data", folder / "scratch", description, {"train": files})
    return folder / "data"


def frames_per_second(
    dataset: str, *, clip_length: int, num_threads: int, cache_bytes: int, seconds: float = 5
) -> float:
    """Frames delivered to the host per second, after a warm-up of two batches (an epoch where frames are kept)."""
    windows = Windows(Episodes(dataset, "train", cache_bytes=cache_bytes), clip_length)
    iterator = iter(batches(windows, 16, seed=0, num_threads=num_threads))
    for _ in range(2 if not cache_bytes else len(windows) // 16):
        next(iterator)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += next(iterator).frames.shape[0] * clip_length
    return count / (time.perf_counter() - start)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = options.dataset or str(make_dataset(pathlib.Path(folder)))
        print(f"{'frames from':12}{'clip':>6}{'threads':>9}{'frames/s':>12}")
        for name, cache_bytes in (("memory", 4 << 30), ("disk", 0)):
            for clip_length in (5, 16):
                for threads in (1, 2, 4):
                    rate = frames_per_second(
                        dataset, clip_length=clip_length, num_threads=threads, cache_bytes=cache_bytes
                    )
                    rows.append({"from": name, "clip": clip_length, "threads": threads, "frames_per_second": rate})
                    print(f"{name:12}{clip_length:6}{threads:9}{rate:12.0f}", flush=True)
    print(json.dumps({"rows": rows, "provenance": workdir.provenance()}))


if __name__ == "__main__":
    main()
