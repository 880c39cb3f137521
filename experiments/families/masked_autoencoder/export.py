"""Weights of a masked autoencoder in Hugging Face's layout: the capability `export`."""

import pathlib
from typing import TYPE_CHECKING

from world_models.models.masked_autoencoder import hugging_face

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun


def write(run: "LoadedRun", folder: pathlib.Path) -> pathlib.Path:
    """Writes the averaged weights of a run to a new folder for `from_pretrained`; see `hugging_face.write`."""
    hugging_face.write(run.model, folder)
    return folder
