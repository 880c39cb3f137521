"""Clips with labels, as probes take them."""

import numpy as np
import tensorflow_datasets as tfds
from conftest import write_tfds
from ml_collections import ConfigDict

from experiments.evaluation.probes import Examples, Labelled
from world_models.data.clips import Windows
from world_models.data.episodes import encode
from world_models.data.stored_episodes import Episodes


def test_undeclared_labels_are_those_of_both_splits(tmp_path):
    image = tfds.features.Image(shape=(8, 8, 1), encoding_format="png")
    example = lambda label: {"image": encode(np.zeros((8, 8, 1), np.uint8), (8, 8)), "label": label}
    splits = {"train": [0, 1, 0], "test": [1, 4]}
    made = {name: [example(label) for label in labels] for name, labels in splits.items()}
    data = write_tfds(tmp_path, {"image": image, "label": tfds.features.Scalar(np.int64)}, made)
    train, test = (Windows(Episodes(str(data), name, image_key="image"), 1) for name in splits)
    config = ConfigDict({"eval": {"probes": {"num_train": 0, "num_test": 0}}})
    found = Labelled(Examples(None, train, test, config), "label")
    assert found.num_classes == 5
    assert found.test[1].tolist() == [1, 4]
