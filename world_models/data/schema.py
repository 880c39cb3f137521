"""What examples and steps of a data set consist of, by TFDS features: frames, actions, labels, texts."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import config_error
from world_models.core.types import ActionSpec, Clip

LARGEST = 1e6
"""Actions, and bounds of actions, beyond this size mean nothing: simulators write 1e10 or the largest float there."""
MOST_ACTIONS = 1 << 16
"""Larger integers are hardly the numbers of discrete actions."""


def column(features, steps: dict, key: str) -> np.ndarray | None:
    """The values of one field for all steps, decoded unless it is an image.

    Args:
      features: the features of one step.
      steps: the steps of an episode as arrays, as TFDS gives them when decoding is skipped.
      key: path such as "observation/image".

    Returns:
      Array [time, ...]; encoded images stay an object array of bytes; None if there is no such field.
    """
    feature, values = features, steps
    for part in key.split("/"):
        if not isinstance(values, dict) or part not in values:
            return None
        feature, values = feature[part], values[part]
    if isinstance(values, dict):
        return None
    if values.dtype == object and not isinstance(feature, tfds.features.Image):
        return np.stack([feature.decode_example_np(value) for value in values])
    return values


def paths(features, prefix: str = "", *, steps: bool = False) -> list[str]:
    """The paths of all fields, such as "observation/image"; those inside the steps of an example only with `steps`."""
    if steps and isinstance(features, tfds.features.Dataset):
        features = features.feature
    if not isinstance(features, tfds.features.FeaturesDict):
        return [prefix]
    below = lambda key: paths(features[key], f"{prefix}/{key}" if prefix else key, steps=steps)
    return [path for key in sorted(features) for path in below(key)]


def _feature(features, key: str, *, steps: bool = False):
    """The feature at a path, or None."""
    for part in key.split("/"):
        if steps and isinstance(features, tfds.features.Dataset):
            features = features.feature
        if not isinstance(features, tfds.features.FeaturesDict) or part not in features:
            return None
        features = features[part]
    return features


def find_image(features, key: str, name: str):
    """(path, feature) of the frames: under `key`, or under its last part for data sets of single images.

    Raises:
      ConfigError: if there is no image under either, naming those that there are.
    """
    is_image = lambda feature: (
        isinstance(feature, tfds.features.Tensor | tfds.features.Image) and len(feature.shape) == 3
    )
    for candidate in (key, key.split("/")[-1]):
        feature = _feature(features, candidate)
        if is_image(feature):
            return candidate, feature
    there = [path for path in paths(features) if is_image(_feature(features, path))]
    has = f"which has {there}" if there else f"which has no image, only {paths(features)}"
    raise config_error("config.data.image_key", key, f"be the path of an image in {name}, {has}")


def observations(features, keys: Iterable[str], name: str) -> dict[str, Any]:
    """The features of further observations of a step, by path.

    Raises:
      ConfigError: if one is no tensor or image of a fixed shape, or has the name of a field of `Clip`.
    """
    found = {key: _feature(features, key) for key in keys}
    for key, feature in found.items():
        if key in Clip._fields:
            valid = f"be fields that clips do not hold anyway: they have {', '.join(Clip._fields)}"
            raise config_error("config.data.observation_keys", key, valid)
        is_array = isinstance(feature, tfds.features.Tensor | tfds.features.Image)
        if not is_array or not _is_numeric(feature) or None in feature.shape:
            valid = f"be paths of tensors or images of fixed shape in {name}, which has {paths(features)}"
            raise config_error("config.data.observation_keys", key, valid)
    return found


def _is_numeric(feature) -> bool:
    return np.dtype(feature.np_dtype).kind in "biuf"


def find_label(
    features, key: str, name: str, *, field: str = "config.eval.probes.label_key"
) -> tuple[str, Any]:  # fmt: skip
    """(path, feature) of an integer of a whole example, under `key` or `key` below `episode_metadata`.

    Raises:
      ConfigError: if there is none.
    """

    def at(path: str) -> Any:
        feature = _feature(features, path)
        is_integer = isinstance(feature, tfds.features.Tensor) and feature.shape == ()
        return feature if is_integer and np.issubdtype(feature.np_dtype, np.integer) else None

    for path in (key, f"episode_metadata/{key}"):
        if at(path) is not None:
            return path, at(path)
    there = [path for path in paths(features) if at(path) is not None] or "no such labels"
    valid = f"be the path of an integer of an example of {name}: {there}"
    raise config_error(field, key, valid)


def find_text(features, key: str, name: str) -> tuple[str, Callable[[Any], str]]:
    """(path, function from its value to text) of a text, or of a label whose classes have names.

    It is under `key` in an example, below `episode_metadata`, or in a step.

    Raises:
      ConfigError: if there is none.
    """

    def to_text(path: str) -> Callable[[Any], str] | None:
        feature = _feature(features, path, steps=True)
        if isinstance(feature, tfds.features.ClassLabel) and feature.num_classes and feature._int2str:
            return lambda value: feature.int2str(int(value))
        is_text = isinstance(feature, tfds.features.Tensor) and feature.np_dtype in (object, np.str_)
        return _decoded if is_text and feature.shape == () else None

    for path in (key, f"episode_metadata/{key}", f"steps/{key}"):
        if to_text(path):
            return path, to_text(path)
    there = [path for path in paths(features, steps=True) if to_text(path)] or "no texts"
    raise config_error("config.data.text_key", key, f"be the path of a text in {name}: {there}")


def _decoded(value: bytes | str) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8")


def num_classes(features, action_keys: list[str]) -> int:
    """Number of actions that a class label declares, or 0."""
    feature = _feature(features, action_keys[0]) if len(action_keys) == 1 else None
    return getattr(feature, "num_classes", None) or 0


def action_spec(name: str, index: dict[str, np.ndarray], declared: dict | None, num_actions: int) -> ActionSpec:
    """The action space, from the range of the actions that were seen and what is declared of it.

    Args:
      name: what to call the data in messages.
      index: "low" and "high": smallest and largest actions, int [] (discrete) or float [dim] (continuous).
      declared: `{"size": n, "low": [...], "high": [...]}` of the data set's metadata, or None; where a bound is beyond
        `LARGEST` or not finite, the dimension has those of its actions.
      num_actions: size of a discrete space; 0 for the declared size, or else the largest action + 1.

    Raises:
      ConfigError: if discrete actions lie outside the space, or go beyond `MOST_ACTIONS` undeclared.
    """
    low, high = index["low"], index["high"]
    if low.ndim == 0:
        size = num_actions or (declared or {}).get("size")
        if not size and int(high) >= MOST_ACTIONS:
            raise config_error("config.data.num_actions", 0, f"be set: the actions of {name} go up to {high}")
        size = size or int(high) + 1
        if int(high) >= size or int(low) < 0:
            valid = f"fit the actions of {name}, which are {low} to {high}"
            raise config_error("config.data.num_actions", size, valid)
        return ActionSpec("discrete", int(size))
    if declared and len(declared.get("low", ())) == len(low):
        bounds = np.array([declared["low"], declared["high"]], float)
        says_something = np.all(np.abs(bounds) <= LARGEST, axis=0)  # false for NaN too
        low, high = np.where(says_something, bounds, [low, high])
    return ActionSpec("continuous", len(low), tuple(low.astype(float).tolist()), tuple(high.astype(float).tolist()))
