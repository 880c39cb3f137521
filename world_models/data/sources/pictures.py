"""Still colour images from files: a folder of class folders, and emoji with their names."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from world_models.core.errors import ConfigError, UserError, config_error
from world_models.data import rlds
from world_models.data.episodes import describe_fit, encode
from world_models.data.sources import packages
from world_models.data.sources.collection import Collection, Split

SUFFIXES = (".png", ".jpg", ".jpeg")
LOOKED_AT = 50  # files of a folder whose sizes are said
SPLIT_FOLDERS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
# Code points that make a variant of an emoji, not another one: joiners, presentation, sex, direction, skin tones.
_VARIANT = {0x200D, 0xFE0F, 0x2640, 0x2642, 0x27A1, *range(0x1F3FB, 0x1F400)}
# Code points, and what is left of sequences of them, that differ from another emoji in sex or number only.
_NEUTRAL = {
    0x1F468: 0x1F9D1,  # man, woman: person
    0x1F469: 0x1F9D1,
    0x1F466: 0x1F9D2,  # boy, girl: child
    0x1F467: 0x1F9D2,
    0x1F474: 0x1F9D3,  # old man, old woman: older person
    0x1F475: 0x1F9D3,
    0x1F46C: 0x1F46B,  # two men, two women holding hands
    0x1F46D: 0x1F46B,
    0x1F934: 0x1FAC5,  # prince, princess: person with crown
    0x1F478: 0x1FAC5,
    0x1F930: 0x1FAC4,  # pregnant woman, pregnant man: pregnant person
    0x1FAC3: 0x1FAC4,
    0x1F936: 0x1F385,  # Mrs. Claus, Santa Claus
    0x1F57A: 0x1F483,  # man, woman dancing
}
_NEUTRAL_SEQUENCES = {
    "1F9D1-1F384": "1F385",  # Mx Claus
    "1F9D1-1F91D-1F9D1": "1F46B",  # people holding hands
    "1F9D1-2764-1F9D1": "1F491",  # couple with heart
    "1F9D1-2764-1F48B-1F9D1": "1F48F",  # kiss
}
_FAMILY = "1F46A"
_TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark", "1F3FF": "dark"}


def read_image(path: pathlib.Path) -> np.ndarray:
    """An image file as uint8 RGB [height, width, 3]; what is transparent shows white.

    Raises:
      UserError: if it cannot be decoded.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is not None and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255
        image = np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    elif image is not None:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)  # this one turns photographs the right way up
    if image is None:
        raise UserError(f"{path} cannot be decoded as an image: mend it or move it away.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _features(image_size: tuple[int, int], classes: Sequence[str]) -> dict[str, Any]:
    return {
        "image": tfds.features.Image(shape=(*image_size, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=list(classes)),
    }


def _below(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """Files and folders below a folder, sorted, without those that a system hides there, such as `._photo.jpg`."""
    found = (p for p in folder.glob(pattern) if not any(x.startswith(".") for x in p.relative_to(folder).parts))
    return sorted(found)


def _images_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The image files of all class folders.

    Raises:
      ConfigError: for a link that leads nowhere.
    """
    found = [p for p in _below(folder, "*/**/*") if p.suffix.lower() in SUFFIXES and not p.is_dir()]
    broken = next((p for p in found if not p.exists()), None)
    if broken is not None:
        raise ConfigError("config.record.images", f"config.record.images: {broken} is a link to nothing: remove it.")
    return found


def folder(
    path: str, image_size: tuple[int, int], fit: str, limit: int, fractions: dict[str, float], seed: int
) -> Collection:
    """A folder of class folders of png and jpg files as a data set of {"image", "label"}.

    A folder that holds nothing but train, val(idation) and test, with class folders in each, is split as it is; else
    `fractions` say how. Images lie in an order drawn from `seed`.

    Args:
      path: the folder.
      image_size: (height, width).
      fit: how images of other sizes get there; see `world_models.data.episodes.fitted`.
      limit: at most so many images in each split; 0 for all.
      fractions: split name -> share.
      seed: of split and order.

    Raises:
      UserError: if there is no such folder, or no image in it.
    """
    top = pathlib.Path(path).expanduser()
    below = [p for p in _below(top, "*") if p.is_dir()] if path and top.is_dir() else []
    if not below:
        raise config_error("config.record.images", path, "be a folder that holds a folder of images for each class")
    is_split = len({SPLIT_FOLDERS.get(p.name, "") for p in below} - {""}) == len(below)
    tops = {SPLIT_FOLDERS[p.name]: p for p in below} if is_split else {"": top}
    files = {name: _images_in(t) for name, t in tops.items()}
    empty = next((tops[name] for name, found in files.items() if not found), None)
    if empty is not None:
        raise ConfigError(
            "config.record.images",
            f"config.record.images={path!r}: there is no {', '.join(SUFFIXES)} in a class folder of {empty}.",
        )
    class_of = lambda file, name: file.relative_to(tops[name]).parts[0]
    classes = sorted({class_of(file, name) for name, found in files.items() for file in found})
    if not is_split:
        dealt = rlds.split_episodes(range(len(files[""])), fractions, seed)
        tops = dict.fromkeys(dealt, top)
        files = {name: [files[""][i] for i in chosen] for name, chosen in dealt.items()}

    def split(name: str) -> Split:
        found = _shuffled(files[name], seed)[: limit or None]
        example = lambda i: {"image": encode(read_image(found[i]), image_size, fit), "label": class_of(found[i], name)}
        return Split(len(found), example)

    everything = [file for found in files.values() for file in found]
    some = everything[:: -(-len(everything) // LOOKED_AT)]
    return Collection(
        name="images",
        description=f"Images of {len(classes)} classes from a folder.",
        features=_features(image_size, classes),
        splits={name: split(name) for name in files},
        licence="unknown: the user's own files",
        source=f"folder {top}",
        summary=describe_fit([read_image(file).shape[:2] for file in some], image_size, fit),
    )


def _shuffled(items: Sequence, seed: int) -> list:
    return [items[i] for i in np.random.default_rng([seed, 0x5EED]).permutation(len(items))]


def base(unified: str) -> str:
    """What an emoji and its variants in skin tone, sex and direction have in common.

    Args:
      unified: its code points in hex, joined by "-".
    """
    points = [int(part, 16) for part in unified.split("-")]
    kept = [_NEUTRAL.get(point, point) for point in points if point not in _VARIANT]
    if len(kept) > 1 and set(kept) <= {0x1F9D1, 0x1F9D2}:
        return _FAMILY
    joined = "-".join(f"{point:X}" for point in kept) or unified
    return _NEUTRAL_SEQUENCES.get(joined, joined)


def _read_emoji(place: pathlib.Path) -> list[dict[str, str]]:
    """Every emoji that has an image: file, category, caption and base; variants in skin tone are emoji of their own."""
    path = place / "emoji.json"
    try:
        listed = json.loads(path.read_text())
        found = []
        for entry in listed:
            for tones, one in (("", entry), *entry.get("skin_variations", {}).items()):
                if not one["has_img_google"]:
                    continue
                name = entry["name"] or entry["short_name"].replace("_", " ")
                shades = [f"{_TONES[tone]} skin tone" for tone in tones.split("-") if tone]
                found.append(
                    {
                        "file": one["image"],
                        "category": entry["category"],
                        "caption": ", ".join([name.lower(), *shades]),
                        "base": base(entry["unified"]),
                    }
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}): delete its folder and {packages.REMEDY}.") from error
    return found


def emoji(image_size: tuple[int, int], fit: str, limit: int, fractions: dict[str, float], seed: int) -> Collection:
    """Emoji on white as a data set of {"image", "label", "caption"}; variants of one emoji stay in one split.

    Args:
      image_size: (height, width); the files are 64x64.
      fit: see `folder`.
      limit: at most so many images in each split; 0 for all.
      fractions: split name -> share of the base emoji.
      seed: of split and order.

    Raises:
      UserError: if the source is not installed or damaged.
    """
    place = packages.EMOJI.locate()
    found = _read_emoji(place)
    classes = sorted({one["category"] for one in found})
    names = {name: number for number, name in enumerate(sorted({one["base"] for one in found}))}
    dealt = rlds.split_episodes([names[one["base"]] for one in found], fractions, seed)

    def split(chosen: list[int]) -> Split:
        mine = [found[i] for i in _shuffled(chosen, seed)[: limit or None]]

        def example(i: int) -> dict[str, Any]:
            image = encode(read_image(place / "img/google/64" / mine[i]["file"]), image_size, fit)
            return {"image": image, "label": mine[i]["category"], "caption": mine[i]["caption"]}

        return Split(len(mine), example)

    return Collection(
        name="emoji",
        description="Emoji in colour on white, with their category and name; the splits share no emoji.",
        features={**_features(image_size, classes), "caption": tfds.features.Text()},
        splits={name: split(chosen) for name, chosen in dealt.items()},
        licence=packages.EMOJI.licence,
        source=packages.EMOJI.source,
        summary=describe_fit([(64, 64)], image_size, fit),
    )
