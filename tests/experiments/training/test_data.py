"""The data sets that a config names."""

import numpy as np
import pytest
from conftest import write_dataset
from ml_collections import ConfigDict

from experiments.families.base import ImageTextExperiment, VideoExperiment
from experiments.runs.config import override
from experiments.runs.workdir import claim, load_config
from experiments.training import data
from experiments.training.loop import train
from world_models.core.errors import ConfigError
from world_models.core.options import to_dict
from world_models.data.options import ImageTextDataOptions
from world_models.data.tokenizers import tokenizer_from_dict


def test_clips_have_texts_and_further_observations_on_request(tiny_config, tmp_path):
    tiny_config.data.update({"text_key": "policy", "text_length": 9, "observation_keys": ("discount",)})
    train(tiny_config, tmp_path)
    training = VideoExperiment.open_data(tiny_config, tmp_path, "train")
    held_out = VideoExperiment.open_data(tiny_config, tmp_path, "validation", training.spec)
    assert training.spec == held_out.spec
    clip = held_out.load(np.arange(2))
    assert tokenizer_from_dict(training.spec.text.tokenizer).decode(clip.text.tokens[0]) == "random"
    assert clip.observations["discount"].shape == (2, tiny_config.data.clip_length)


def test_images_with_texts(tiny_config, tmp_path):
    options = ImageTextDataOptions(
        dataset=tiny_config.data.dataset, image_key="observation/image", text_key="policy", text_length=9
    )
    tiny_config.unlock().data = ConfigDict(to_dict(options))
    images = ImageTextExperiment.open_data(tiny_config, tmp_path, "test")
    batch = images.load(np.arange(3))
    assert batch.images.shape == (3, 16, 16, 3)
    assert batch.text.mask.sum(axis=1).tolist() == [6] * 3


def test_a_mixture_trains_and_its_parts_are_in_the_provenance(tiny_config, square_data, tmp_path):
    other = write_dataset(tmp_path / "other", {"train": [12, 9], "validation": [12]})
    tiny_config.data.update({"dataset": "", "mixture": ((str(square_data), 0.75), (str(other), 0.25))})
    train(tiny_config, tmp_path / "run")
    mixture = VideoExperiment.open_data(tiny_config, tmp_path, "train")
    assert mixture.weights == (0.75, 0.25)
    assert [part.name for part in mixture.parts] == [str(square_data), str(other)]
    assert mixture.fingerprint in (tmp_path / "run" / "provenance.json").read_text()


def test_mixtures_are_set_on_the_command_line_and_survive_json(tiny_config, tmp_path):
    override(tiny_config, ["--config.data.dataset=", "--config.data.mixture=(('here', 7), ('there', 0.5))"])
    assert data.sources(tiny_config, tmp_path) == [("here", 7.0), ("there", 0.5)]
    claim(tmp_path, tiny_config)
    assert data.sources(load_config(tmp_path), tmp_path) == [("here", 7.0), ("there", 0.5)]


@pytest.mark.parametrize("mixture", [("a", "b"), (("a", 0),), (("a", "b"),), (("a", 1, 2),)])
def test_mixtures_that_are_no_pairs_are_invalid(tiny_config, tmp_path, mixture):
    tiny_config.data.dataset = ""
    tiny_config.data.mixture = mixture
    with pytest.raises(ConfigError) as error:
        data.sources(tiny_config, tmp_path)
    assert error.value.field == "config.data.mixture"
