"""What the steps of a data set consist of: fields, frames and action space, by TFDS features."""

import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import UserError
from world_models.core.types import ActionSpec


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


def paths(features, prefix: str = "") -> list[str]:
    """The paths of all fields of a step, such as "observation/image"."""
    if not isinstance(features, tfds.features.FeaturesDict):
        return [prefix]
    return [path for key in features for path in paths(features[key], f"{prefix}/{key}" if prefix else key)]


def _feature(features, key: str):
    for part in key.split("/"):
        if not isinstance(features, tfds.features.FeaturesDict) or part not in features:
            return None
        features = features[part]
    return features


def find_image(features, key: str, name: str):
    """(path, feature) of the frames: under `key`, or under its last part for data sets of single images.

    Raises:
      UserError: if there is no image under either.
    """
    for candidate in (key, key.split("/")[-1]):
        feature = _feature(features, candidate)
        if feature is not None and len(feature.shape or ()) == 3:
            return candidate, feature
    raise UserError(f"config.data.image_key={key!r} is no image in {name}; it has {paths(features)}.")


def num_classes(features, action_keys: list[str]) -> int:
    """Number of actions that a class label declares, or 0."""
    feature = _feature(features, action_keys[0]) if len(action_keys) == 1 else None
    return getattr(feature, "num_classes", None) or 0


def action_spec(name: str, index: dict[str, np.ndarray], declared: dict | None, num_actions: int) -> ActionSpec:
    """The action space, from the range of the actions that were seen and what is declared of it.

    Args:
      name: what to call the data in messages.
      index: "low" and "high": smallest and largest actions, int [] (discrete) or float [dim] (continuous).
      declared: `{"size": n, "low": [...], "high": [...]}` of the data set's metadata, or None.
      num_actions: size of a discrete space; 0 for the declared size, or else the largest action + 1.

    Raises:
      UserError: if discrete actions lie outside the space.
    """
    low, high = index["low"], index["high"]
    if low.ndim == 0:
        size = num_actions or (declared or {}).get("size") or int(high) + 1
        if int(high) >= size or int(low) < 0:
            raise UserError(f"config.data.num_actions={size} does not fit {name}: its actions are {low} to {high}.")
        return ActionSpec("discrete", int(size))
    if declared and len(declared.get("low", ())) == len(low):
        low, high = np.array(declared["low"]), np.array(declared["high"])
    return ActionSpec("continuous", len(low), tuple(low.astype(float).tolist()), tuple(high.astype(float).tolist()))
