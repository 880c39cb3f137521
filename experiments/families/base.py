"""What families have in common, by the kind of data that they learn from."""

import pathlib

import ml_collections

from experiments.training.data import open_image_texts, open_text, open_windows
from experiments.training.experiment import Experiment
from world_models.core.specs import ImageTextSpec, TextSpec, VideoSpec
from world_models.data.dataset import Dataset


class VideoExperiment(Experiment):
    """A family that learns from clips (`Clip`)."""

    spec_type = VideoSpec

    @classmethod
    def open_data(
        cls, config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, spec: VideoSpec | None = None
    ) -> Dataset:
        """Clips of `config.data.clip_length` frames."""
        return open_windows(config, workdir, split, config.data.clip_length, config.data.stride, spec=spec)


class TextExperiment(Experiment):
    """A family that learns from text (`TextBatch`)."""

    spec_type = TextSpec

    @classmethod
    def open_data(
        cls, config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, spec: TextSpec | None = None
    ) -> Dataset:
        """Chunks of `config.data.text_length` tokens."""
        return open_text(config, workdir, split, spec=spec)


class ImageTextExperiment(Experiment):
    """A family that learns from images with a text each (`ImageTextBatch`)."""

    spec_type = ImageTextSpec

    @classmethod
    def open_data(
        cls, config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str, spec: ImageTextSpec | None = None
    ) -> Dataset:
        """Images, with texts of `config.data.text_length` tokens."""
        return open_image_texts(config, workdir, split, spec=spec)
