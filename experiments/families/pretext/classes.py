"""Clips with a class each: their labels, or which of a few chosen images they are."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from world_models.core.errors import ConfigError, UserError, config_error
from world_models.core.specs import ArraySpec, VideoSpec
from world_models.core.types import Clip
from world_models.data.clips import Windows
from world_models.data.dataset import Dataset
from world_models.models.pretext.classification import CLASS
from world_models.models.pretext.options import ClassificationOptions, ExemplarOptions


class Classes(Dataset):
    """Some windows with a class each, which `Clip.observations` holds under `CLASS`, int32 [batch, time]."""

    def __init__(self, windows: Windows, rows: np.ndarray, classes: np.ndarray):
        """The windows `rows` [n], rising, of `classes` [n]."""
        self.windows, self._rows = windows, rows
        self._class_of = np.full(len(windows), -1, np.int32)
        self._class_of[rows] = classes

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def name(self) -> str:
        """That of the windows."""
        return self.windows.name

    @property
    def fingerprint(self) -> str:
        """That of the windows."""
        return self.windows.fingerprint

    @property
    def damaged(self) -> Mapping[int, str]:
        """That of the windows."""
        return self.windows.damaged

    @property
    def spec(self) -> VideoSpec:
        """That of the windows, with the class among the observations."""
        own = self.windows.spec
        return dataclasses.replace(own, observations={**own.observations, CLASS: ArraySpec((), "int32")})

    def load(self, indices: np.ndarray) -> Clip:
        """The windows `indices` [batch]; one that holds a damaged record is replaced by the next one with a class.

        Raises:
          UserError: if more records are damaged than may be, or no window with a class can be read.
        """
        wanted = self._rows[indices]
        for _ in range(len(self) + 1):
            found, clip = self.windows.load_found(wanted)
            classes = self._class_of[found]
            if classes.min() >= 0:
                own = np.broadcast_to(classes[:, None], clip.frames.shape[:2])
                return clip._replace(observations={**clip.observations, CLASS: np.ascontiguousarray(own)})
            following = self._rows[np.searchsorted(self._rows, found, side="right") % len(self)]
            wanted = np.where(classes < 0, following, found)
        raise UserError(f"No window of {self.name} that has a class can be read: copy or make the data set again.")


def with_classes(task: Any, windows: Dataset, seed: int) -> Dataset:
    """A split of the data as a task needs it: with labels, as single images to tell apart, or as it is.

    Args:
      task: options of the task.
      windows: of the split.
      seed: of the choice of images.

    Raises:
      ConfigError: if there are not so many images or classes, or the data are a mixture.
    """
    labelled = isinstance(task, ClassificationOptions)
    if not labelled and not (isinstance(task, ExemplarOptions) and task.form == "classes"):
        return windows
    if not isinstance(windows, Windows):
        raise config_error("config.data.mixture", windows.name, "be empty where the task has classes")
    if labelled:
        field = "config.model.task.label_key"
        try:
            labels = windows.episodes.labels(task.label_key)[windows.episode]
        except ConfigError as error:
            raise config_error(field, task.label_key, f"be the path of an integer of an example ({error})") from error
        rows = np.flatnonzero(labels >= 0)
        if not len(rows):
            raise config_error(field, task.label_key, f"name labels that {windows.name} has; all are missing")
        if (largest := int(labels.max())) >= task.num_classes:
            valid = f"be at least {largest + 1}: the largest label under {field}={task.label_key!r} is {largest}"
            raise config_error("config.model.task.num_classes", task.num_classes, valid)
        return Classes(windows, rows, labels[rows])
    if task.num_images > len(windows):
        valid = f"be at most {len(windows)}, the clips of the training split of {windows.name}"
        raise config_error("config.model.task.num_images", task.num_images, valid)
    rows = np.sort(np.random.default_rng((seed, 2)).permutation(len(windows))[: task.num_images])
    return Classes(windows, rows, np.arange(task.num_images))
