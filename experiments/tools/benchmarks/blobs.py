"""A data set of moving coloured blobs, for benchmarks of a config whose own data are not on disk."""

import pathlib
import sys

import ml_collections
import numpy as np

from experiments.runs.recording import make_source
from world_models.core.errors import UserError
from world_models.data import rlds
from world_models.data.episodes import Episode, encode

DISCRETE = {"kind": "discrete", "size": 2, "low": [], "high": []}


def write(
    folder: pathlib.Path,
    *,
    image_size: tuple[int, int] = (64, 64),
    action: dict | None = None,
    episodes: int = 40,
    length: int = 100,
    held_out: int = 0,
) -> pathlib.Path:
    """Writes an RLDS data set of moving blobs on a textured ground, PNG, under random actions that move nothing.

    Args:
      folder: a new one; the data set is its `data`.
      image_size: (height, width).
      action: the action space, as `rlds.Description` has it; two discrete ones by default.
      episodes: training episodes.
      length: steps of every episode.
      held_out: episodes of each of the splits validation and test.

    Returns:
      The directory of the data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, action = np.random.default_rng(0), action or DISCRETE
    splits: dict[str, list[rlds.Stored]] = {}
    index = 0
    for split, count in (("train", episodes), ("validation", held_out), ("test", held_out)):
        for _ in range(count):
            images = [encode(frame, image_size) for frame in _frames(rng, image_size, length)]
            path = folder / f"{index}"
            Episode(images, _actions(rng, action, length), np.zeros(length, np.float32), False).save(path)
            splits.setdefault(split, []).append(rlds.Stored(index, path, {}))
            index += 1
    description = rlds.Description(image_size, action, "Moving blobs.", {}, {})
    rlds.write(folder / "data", folder / "scratch", description, splits)
    return folder / "data"


def for_config(config: ml_collections.ConfigDict, folder: pathlib.Path, held_out: int = 2) -> None:
    """Writes a data set for a config without `config.data.dataset`, with frames and actions as it records them.

    Args:
      config: changed in place.
      folder: where to write.
      held_out: see `write`.
    """
    data = config.data
    if data.dataset:
        return
    size = tuple(data.image_size or config.record.image_size)
    try:
        action = make_source(config.record).action or DISCRETE
        known = "with its actions"
    except UserError as error:
        action = DISCRETE | {"size": data.num_actions or 2}
        known = f"with {action['size']} discrete actions, since its source cannot be opened ({error})"
    blocks = [block for block in config.eval.values() if isinstance(block, ml_collections.ConfigDict)]
    futures = [block.get("num_context", 0) + block.get("horizon", 0) for block in blocks]
    length = max(data.clip_length, *futures) + 40
    data.dataset = str(write(folder, image_size=size, action=action, episodes=10, length=length, held_out=held_out))
    data.image_key, data.action_key = "observation/image", "action"
    print(
        f"config.data.dataset is empty: using generated blobs, {size[0]}x{size[1]}, {known}.",
        file=sys.stderr,
        flush=True,
    )


def _frames(rng: np.random.Generator, image_size: tuple[int, int], length: int) -> list[np.ndarray]:
    height, width = image_size
    rows, columns = np.mgrid[:height, :width]
    ground = rng.integers(60, 120, (8, 8, 3)).repeat(-(-height // 8), 0).repeat(-(-width // 8), 1)[:height, :width]
    places, speeds = rng.uniform(0, image_size, (5, 2)), rng.normal(0, 2, (5, 2))
    colors = rng.integers(0, 256, (5, 3))
    frames = []
    for t in range(length):
        frame = ground.copy()
        for (y, x), color in zip((places + t * speeds) % image_size, colors):
            frame[(rows - y) ** 2 + (columns - x) ** 2 < 36] = color
        frames.append(frame.astype(np.uint8))
    return frames


def _actions(rng: np.random.Generator, action: dict, length: int) -> np.ndarray:
    if action["kind"] == "discrete":
        return rng.integers(0, action["size"], length)
    return rng.uniform(-1, 1, (length, action["size"])).astype(np.float32)
