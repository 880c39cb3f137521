"""Images with a text each: captions, or the names of their classes."""

from collections.abc import Mapping

import numpy as np

from world_models.core.specs import ImageTextSpec
from world_models.core.types import ImageTextBatch
from world_models.data.clips import Windows
from world_models.data.dataset import Dataset
from world_models.data.stored_episodes import Episodes
from world_models.data.tokenizers import TextEncoder


class ImageTexts(Dataset):
    """All images of a split with their texts, by index; of episodes every step, with the episode's text."""

    def __init__(self, episodes: Episodes, text_key: str, encoder: TextEncoder):
        """Reads the texts.

        Args:
          episodes: the images.
          text_key: path of a text, or of a label whose classes have names.
          encoder: of the texts.
        """
        self._windows = Windows(episodes, 1, text_key=text_key, encoder=encoder)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def name(self) -> str:
        """Directory of the data."""
        return self._windows.name

    @property
    def fingerprint(self) -> str:
        """That of the images."""
        return self._windows.fingerprint

    @property
    def damaged(self) -> Mapping[int, str]:
        """That of the images."""
        return self._windows.damaged

    @property
    def spec(self) -> ImageTextSpec:
        """Shape of an image, and what its text is."""
        spec = self._windows.spec
        return ImageTextSpec(spec.frame_shape, spec.text)

    def load(self, indices: np.ndarray) -> ImageTextBatch:
        """The images `indices` [batch] with their texts; damaged ones are replaced as in `Windows.load`."""
        clip = self._windows.load(indices)
        return ImageTextBatch(clip.frames[:, 0], clip.text)
