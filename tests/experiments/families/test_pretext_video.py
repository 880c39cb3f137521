"""Pretext tasks of video as an experiment: trained, held out, probed for motion, and their masks scored."""

import numpy as np
import pytest
from conftest import set_fields, write_tfds

from configs.moving_pretext import TASKS, get_config
from experiments.evaluation.measure import measure
from experiments.runs.loading import load
from experiments.training.experiment import make_experiment
from experiments.training.loop import train
from world_models.core.errors import ConfigError
from world_models.core.specs import VideoSpec
from world_models.core.types import ActionSpec
from world_models.data.sources import moving_digits

SCENE = moving_digits.Scene((32, 32), 8, 2, 3.0, seed=0, num_speeds=2, color=True)
IMAGES = (np.full((1, 28, 28, 1), 255, np.uint8), np.array([7]))


@pytest.fixture(scope="module")
def moving_data(tmp_path_factory):
    """Coloured squares that move: 24 episodes for training, 12 for tests."""
    make = moving_digits._example(SCENE, IMAGES)
    splits = {"train": [make(i) for i in range(24)], "test": [make(24 + i) for i in range(12)]}
    return write_tfds(
        tmp_path_factory.mktemp("moving"), moving_digits._features(SCENE, moving_digits.digits.DIGIT_CLASSES), splits
    )


def config_of(data, task):
    config = get_config(f"{task}-debug")
    config.data.dataset = str(data)
    return config


@pytest.mark.parametrize("task", TASKS)
def test_the_debug_variants_fit_clips_of_eight_frames(task):
    config = get_config(f"{task}-debug")
    make_experiment(config, VideoSpec((48, 48, 3), ActionSpec("discrete", 1), clip_length=8))
    config.data.clip_length = 2
    if task != "direction":
        with pytest.raises(ConfigError) as caught:
            make_experiment(config, VideoSpec((48, 48, 3), ActionSpec("discrete", 1), clip_length=2))
        assert caught.value.field == "config.data.clip_length"


def test_tracking_is_trained_probed_and_scored(moving_data, tmp_path):
    config = config_of(moving_data, "color_tracking")
    config.eval.probes.names = ("ridge",)
    set_fields(config, num_steps=2, every=0)
    train(config, tmp_path)
    found = measure(load(tmp_path))
    assert 0 <= found["eval/held_out/accuracy"] <= 1
    assert 0 <= found["eval/held_out/copy_accuracy"] <= 1
    for name in ("j", "f", "j_and_f", *(f"{own}_j_and_f" for own in ("identity", "optical_flow", "nearest_color"))):
        assert 0 < found[f"eval/tracking/{name}"] <= 100
    assert 0 <= found["eval/ridge/accuracy"] <= 100
    assert (tmp_path / "pictures" / "tracking.png").exists()


def test_masks_that_are_not_there_are_named(stripes_data, tmp_path):
    config = config_of(stripes_data, "direction")
    config.data.clip_length = 2
    config.data.across_episodes = True
    spec = VideoSpec((16, 16, 1), ActionSpec("discrete", 1), clip_length=2)
    with pytest.raises(ConfigError) as caught:
        make_experiment(config, spec).evaluators(tmp_path)
    assert caught.value.field == "config.eval.tracking.instances_key"
