"""Folders of images as systems leave them, and images of other proportions."""

import cv2
import numpy as np
import pytest

from world_models.core.errors import ConfigError
from world_models.data.sources import pictures

HALVES = {"train": 0.5, "test": 0.5}


@pytest.fixture
def folder(tmp_path):
    """Two classes of four gray images each, 24x48."""
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for i in range(4):
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), np.full((24, 48, 3), 100, np.uint8))
    return tmp_path


def collect(folder, fit="crop"):
    """The folder at 8x8."""
    return pictures.folder(str(folder), (8, 8), fit, 0, HALVES, 0)


def test_files_and_folders_that_a_system_hides_are_left_out(folder):
    (folder / ".DS_Store").write_bytes(b"0")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "a.png").write_bytes(b"0")
    (folder / "ant" / "._0.png").write_bytes(b"0")
    found = collect(folder)
    assert found.features["label"].names == ["ant", "bee"]
    assert sum(split.size for split in found.splits.values()) == 8


def test_a_link_to_nothing_is_named(folder):
    (folder / "ant" / "gone.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(ConfigError, match=r"gone.png is a link to nothing") as error:
        collect(folder)
    assert error.value.field == "config.record.images"


@pytest.mark.parametrize(
    ("fit", "share", "how"), [("crop", 1.0, "cropped"), ("pad", 0.5, "padded"), ("stretch", 1.0, "stretched")]
)
def test_images_are_fitted_as_asked(folder, fit, share, how):
    found = collect(folder, fit)
    image = cv2.imdecode(np.frombuffer(found.splits["train"].example(0)["image"], np.uint8), 1)
    assert (image == 100).mean() == share
    assert "24x48" in found.summary
    assert how in found.summary
