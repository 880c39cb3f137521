"""Images with texts, against what was written."""

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import write_tfds

from world_models.core import specs
from world_models.core.errors import ConfigError
from world_models.data.clips import Windows
from world_models.data.image_text import ImageTexts
from world_models.data.stored_episodes import Episodes
from world_models.data.tokenizers import CharacterTokenizer, TextEncoder

NAMES = ("cat", "horse")
ENCODER = TextEncoder(CharacterTokenizer("abcdefghijklmnopqrstuvwxyz "), 8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Five images of 6x6 with captions and class labels; the first pixel is the number of the image."""
    png = lambda i: cv2.imencode(".png", np.full((6, 6, 3), i, np.uint8))[1].tobytes()
    examples = [{"image": png(i), "caption": f"number {i}", "label": i % 2} for i in range(5)]
    label = tfds.features.ClassLabel(names=list(NAMES))
    features = {"image": tfds.features.Image(shape=(6, 6, 3)), "caption": tfds.features.Text(), "label": label}
    return write_tfds(tmp_path_factory.mktemp("pictures"), features, {"train": examples})


@pytest.mark.parametrize("key", ["caption", "label"])
def test_images_come_with_their_texts(pictures, key):
    data = ImageTexts(Episodes(str(pictures), "train", image_key="image"), key, ENCODER)
    assert len(data) == 5
    rows = np.array([4, 0, 3])
    batch = data.load(rows)
    np.testing.assert_array_equal(batch.images[:, 0, 0, 0], rows)
    expected = [NAMES[i % 2] if key == "label" else "number \ufffd" for i in rows]
    assert [ENCODER.tokenizer.decode(tokens) for tokens in batch.text.tokens] == expected
    assert specs.from_dict(data.spec.to_dict()) == data.spec
    assert data.fingerprint == Episodes(str(pictures), "train", image_key="image").fingerprint


def test_clips_get_the_text_of_their_episode(square_data):
    windows = Windows(Episodes(str(square_data), "train"), 5, text_key="environment", encoder=ENCODER)
    clip = windows.load(np.array([0, 3]))
    assert [ENCODER.tokenizer.decode(tokens) for tokens in clip.text.tokens] == ["square"] * 2
    assert windows.spec.text == ENCODER.spec


def test_labels_without_names_are_no_texts(stripes_data):
    with pytest.raises(ConfigError) as error:
        ImageTexts(Episodes(str(stripes_data), "train", image_key="image"), "label", ENCODER)
    assert error.value.field == "config.data.text_key"
