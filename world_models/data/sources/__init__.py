"""Data sets made in one go: images, texts and procedural video from packages, folders of images, JAX-native worlds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from world_models.core.errors import ConfigError, config_error
from world_models.data.episodes import check_fit

if TYPE_CHECKING:  # TFDS takes seconds to import, and worker processes of a recording look in here
    from world_models.data.sources.collection import Collection

_MADE = ("seed", "image_size", "num_episodes")
_STILL = (*_MADE, "fit")
_TEXT = ("seed", "num_episodes", "splits")
_MOVING = ("num_objects", "speed", "num_speeds", "friction", "color")
_WORLD = (*_MADE, "splits", "num_frames")
# What `config.record` must hold for each source, besides its name.
FIELDS = {
    "fashion_mnist": _STILL,
    "mnist": _STILL,
    "emoji": (*_STILL, "splits"),
    "images": (*_STILL, "splits", "images"),
    "moving_digits": (*_MADE, "splits", "num_frames", *_MOVING, "digits"),
    "two_rooms": (*_WORLD, "cross_rate", "wall"),
    "four_rooms": (*_WORLD, "expert_share"),
    "point_maze": (*_WORLD, "maze", "policy", "noise", "action_repeat"),
    **dict.fromkeys(("brown", "wordnet", "gcide", "spam_subjects", "headlines"), _TEXT),
}
_WORLDS = ("two_rooms", "four_rooms", "point_maze")
# The module that makes the data of each source.
MODULES = {
    **dict.fromkeys(("fashion_mnist", "mnist"), f"{__name__}.digits"),
    **dict.fromkeys(("emoji", "images"), f"{__name__}.pictures"),
    "moving_digits": f"{__name__}.moving_digits",
    **dict.fromkeys(_WORLDS, f"{__name__}.worlds"),
    **{name: f"{__name__}.texts" for name, fields in FIELDS.items() if fields == _TEXT},
}


def open_source(options: Mapping[str, Any]) -> "Collection":
    """The data set that `config.record` describes, checked and ready to be written.

    Args:
      options: `config.record`: "source", one of `FIELDS`, and the fields listed there.

    Raises:
      UserError: if a field is missing or cannot work, or the source is not installed or damaged.
    """
    name = options["source"]
    for field in FIELDS[name]:
        if field not in options:
            raise ConfigError(
                f"config.record.{field}",
                f"config.record.{field} is missing: the source {name!r} needs {', '.join(FIELDS[name])} there.",
            )
    if FIELDS[name] == _TEXT:
        from world_models.data.sources import texts

        return texts.collection(name, options["num_episodes"], dict(options["splits"]), options["seed"])
    size = tuple(options["image_size"])
    if len(size) != 2 or min(size) < 1:
        raise config_error("config.record.image_size", size, "be (height, width), both at least 1")
    seed, limit = options["seed"], options["num_episodes"]
    _check_least(options, "seed", 0)
    _check_least(options, "num_episodes", 1 if name in ("moving_digits", *_WORLDS) else 0)
    if "fit" in FIELDS[name]:
        check_fit(options["fit"])
    if name in ("fashion_mnist", "mnist"):
        from world_models.data.sources import digits

        return digits.collection(name, size, options["fit"], limit, seed)
    if name in ("emoji", "images"):
        from world_models.data.sources import pictures

        if name == "emoji":
            return pictures.emoji(size, options["fit"], limit, dict(options["splits"]), seed)
        return pictures.folder(options["images"], size, options["fit"], limit, dict(options["splits"]), seed)
    if name in _WORLDS:
        from world_models.data.sources import worlds

        _check_least(options, "num_frames", 2)
        return worlds.collection(options)
    from world_models.data.sources import moving_digits

    _check_least(options, "num_frames", 1)
    _check_least(options, "num_objects", 1)
    _check_least(options, "num_speeds", 1)
    if not 0 <= options["friction"] < 1:
        raise config_error("config.record.friction", options["friction"], "be at least 0 and below 1")
    if not 0 < options["speed"] <= min(size) / 2:
        raise ConfigError(
            "config.record.speed",
            f"config.record.speed={options['speed']} must be above 0 and at most half of the smaller side of "
            f"image_size={size}: digits that stand still, or jump farther, have no direction.",
        )
    if options["digits"] not in ("mnist", "fashion_mnist"):
        raise config_error("config.record.digits", options["digits"], "be 'mnist' or 'fashion_mnist'")
    how = {name: options[name] for name in _MOVING}
    scene = moving_digits.Scene(image_size=size, num_frames=options["num_frames"], seed=seed, **how)
    return moving_digits.collection(scene, limit, options["digits"], dict(options["splits"]))


def _check_least(options: Mapping[str, Any], field: str, least: int) -> None:
    if options[field] < least:
        raise config_error(f"config.record.{field}", options[field], f"be at least {least}")
