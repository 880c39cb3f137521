"""Masks that a model's features carry through clips, read from a data set on disk."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import write_tfds
from flax import nnx

from configs import moving_mae
from experiments.evaluation import tracking
from experiments.evaluation.options import TrackingOptions
from experiments.families.masked_autoencoder.options import MaskedAutoencoderConfig
from experiments.runs.config import read
from world_models.core.errors import ConfigError
from world_models.data.sources import moving_digits
from world_models.probes.options import PropagationOptions

SCENE = moving_digits.Scene((32, 32), 6, 2, 2.0, seed=0)
BLOCK = (np.full((1, 28, 28, 1), 255, np.uint8), np.array([7]))


class Brightness(nnx.Module):
    """Its features are right where objects differ in brightness."""

    def __init__(self):
        self.levels = nnx.Param(jax.numpy.array([0.0, 153.0, 255.0]))


def encode(model, frames):
    level = frames[..., 0].astype(jax.numpy.float32)
    return jax.numpy.exp(-((level[..., None] - model.levels[...]) ** 2) / 100)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run's folder with eight episodes of two squares that move."""
    path = tmp_path_factory.mktemp("run")
    examples = [moving_digits._example(SCENE, BLOCK)(i) for i in range(4)]
    features = moving_digits._features(SCENE, moving_digits.digits.DIGIT_CLASSES)
    write_tfds(path, features, {"train": examples, "test": examples}).rename(path / "data")
    return path


def config_of(image_size=(), **fields):
    config = read(moving_mae.get_config("debug"), MaskedAutoencoderConfig)
    made = TrackingOptions(num_clips=4, num_shown=2, **fields)
    data = dataclasses.replace(config.data, image_size=image_size)
    return dataclasses.replace(config, data=data, eval=SimpleNamespace(tracking=made))


class Untrained:
    """An experiment whose new model sees nothing."""

    def init(self, rngs):
        model = Brightness()
        model.levels[...] = jax.numpy.full(3, 1e4)
        return model


def test_features_that_tell_objects_apart_are_scored_beside_the_baselines(workdir):
    evaluator = tracking.Tracking(Untrained(), encode, config_of(), workdir)
    found = evaluator(Brightness())
    assert found["j_and_f"] > 97
    assert found["nearest_color_j_and_f"] > 97
    assert found["j_and_f"] > found["identity_j_and_f"] + 20
    assert found["j_and_f"] > found["random_init_j_and_f"] + 20
    assert 0 < found["optical_flow_j_and_f"] <= 100
    assert found["masks"].frames.shape[0] == 6
    assert (workdir / "pictures" / "tracking.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"instances_key": "observation/nothing"}, "instances_key"),
        ({"image_size": (16, 16)}, "instances_key"),
        ({"length": 7}, "length"),
        ({"length": 1}, "length"),
        ({"propagation": PropagationOptions(temperature=0.0)}, "propagation.temperature"),
        ({"propagation": PropagationOptions(context=-1)}, "propagation.context"),
    ],
)
def test_what_cannot_be_tracked_names_the_field(workdir, fields, field):
    with pytest.raises(ConfigError) as caught:
        tracking.Tracking(Untrained(), encode, config_of(**fields), workdir)
    assert caught.value.field == f"config.eval.tracking.{field}"


def test_clips_of_a_mixture_are_not_tracked(workdir):
    config = config_of()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, mixture={"here": 1.0}))
    with pytest.raises(ConfigError) as caught:
        tracking.Tracking(Untrained(), encode, config, workdir)
    assert caught.value.field == "config.eval.tracking.num_clips"
