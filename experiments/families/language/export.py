"""Weights of a language model in Hugging Face's layout: the capability `export`."""

import pathlib
from typing import TYPE_CHECKING

from world_models.data.tokenizers import tokenizer_from_dict
from world_models.models.language import hugging_face

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun


def write(run: "LoadedRun", folder: pathlib.Path) -> pathlib.Path:
    """Writes the averaged weights and the vocabulary of a run to a new folder; see `hugging_face.write`."""
    hugging_face.write(run.model, tokenizer_from_dict(run.spec.tokenizer), folder)
    return folder
