"""Frames per second out of the data pipeline, from memory and from disk, by image size, clip length and threads.

    python -m experiments.tools.benchmarks pipeline [--dataset=DIR] [--sizes=32,64] [--clips=5,16] [--threads=1,2]

Without a data set it measures some that it makes: 40 episodes of 100 frames, moving coloured blobs, PNG.
"""

import pathlib
import tempfile
import time
from collections.abc import Iterator, Sequence

from experiments.tools.benchmarks import blobs, common
from world_models.data.clips import Windows
from world_models.data.stored_episodes import Episodes
from world_models.data.stream import batches

BATCH = 16


def frames_per_second(
    dataset: str, *, clip_length: int, num_threads: int, cache_bytes: int, seconds: float = 5
) -> float:
    """Frames delivered to the host per second, after a warm-up of two batches (an epoch where frames are kept)."""
    windows = Windows(Episodes(dataset, "train", cache_bytes=cache_bytes), clip_length)
    iterator = iter(batches(windows, BATCH, seed=0, num_threads=num_threads))
    for _ in range(2 if not cache_bytes else len(windows) // BATCH):
        next(iterator)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += next(iterator).frames.shape[0] * clip_length
    return count / (time.perf_counter() - start)


def datasets(given: str, sizes: Sequence[int], folder: pathlib.Path, episodes: int) -> Iterator[tuple[str, str]]:
    """(image size, directory) of the data set given, or of one made for each size."""
    if given:
        height, width, _ = Episodes(given, "train").spec.frame_shape
        yield f"{height}x{width}", given
        return
    for size in sizes:
        made = blobs.write(folder / str(size), image_size=(size, size), episodes=episodes)
        yield f"{size}x{size}", str(made)


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--dataset", default="", help="directory of a data set to measure instead")
    parser.add_argument("--sizes", type=common.integers, default=[32, 64], help="image sizes to make data of")
    parser.add_argument("--clips", type=common.integers, default=[5, 16], help="clip lengths")
    parser.add_argument("--threads", type=common.integers, default=[1, 2], help="threads that load batches")
    parser.add_argument("--seconds", type=float, default=2.0, help="of measurement, a row")
    parser.add_argument("--episodes", type=common.integer, default=40, help="in the data made")
    options = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'frames':10}{'from':>8}{'clip':>6}{'threads':>9}{'frames/s':>12}")
        for size, dataset in datasets(options.dataset, options.sizes, pathlib.Path(folder), options.episodes):
            for source, cache_bytes in (("memory", 4 << 30), ("disk", 0)):
                for clip_length in options.clips:
                    for threads in options.threads:
                        rate = frames_per_second(
                            dataset,
                            clip_length=clip_length,
                            num_threads=threads,
                            cache_bytes=cache_bytes,
                            seconds=options.seconds,
                        )
                        row = {"size": size, "from": source, "clip": clip_length, "threads": threads}
                        rows.append(row | {"frames_per_second": rate})
                        print(f"{size:10}{source:>8}{clip_length:6}{threads:9}{rate:12.0f}", flush=True)
    common.finish({"rows": rows}, options.output)
