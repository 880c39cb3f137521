"""Opening TFDS data sets that are on disk, without running code that their files name."""

import contextlib
import pathlib
import sys
import threading
from collections.abc import Iterator

import tensorflow_datasets as tfds

from world_models.core.errors import ConfigError, config_error

FEATURES = "tensorflow_datasets.core.features."
_OPENING = threading.Lock()
_WRITE = "read it in Python and write its episodes with world_models.data.writing.write_episodes, see docs/data.md"
_RECORD = "record it: launch.py record --config.record.source={source} --config.record.{source}={path}"
# What else people keep data in: (files that tell, what it is, what to do). The first that fits is named.
_FORMATS = (
    (("meta/info.json", "meta/episodes.jsonl"), "a LeRobot data set", _WRITE),
    (("data/main_data.hdf5", "main_data.hdf5"), "a Minari data set", _WRITE),
    ((".zgroup", ".zarray", "zarr.json", ".zmetadata"), "a Zarr store", _WRITE),
    (("*.zarr",), "a folder of Zarr stores", _WRITE),
    (("*.h5", "*.hdf5", "*/*.h5", "*/*.hdf5"), "a folder of HDF5 files", _WRITE),
    (("*.npz", "*/*.npz"), "a folder of NumPy files", _WRITE),
    (("*.parquet", "*/*.parquet"), "a folder of Parquet files", _WRITE),
    (("*.tfrecord*", "*.array_record*"), "record files without TFDS's dataset_info.json", "copy that file too"),
    (("*.mp4", "*.webm", "*.mkv", "*.avi", "*.mov"), "a folder of videos", _RECORD.replace("{source}", "videos")),
    (("*/*.png", "*/*.jpg", "*/*.jpeg"), "class folders of images", _RECORD.replace("{source}", "images")),
)
_FILES = {".h5": "an HDF5 file", ".hdf5": "an HDF5 file", ".npz": "a NumPy file", ".parquet": "a Parquet file"}
_FILES |= {".zarr": "a Zarr store", ".zip": "an archive"}


def find_builder(name: str) -> tfds.core.DatasetBuilder:
    """Opens a TFDS data set that is already on disk.

    Its `features.json` may name feature classes of TFDS, or classes in modules that this process has imported before;
    nothing else is imported.

    Args:
      name: a directory that holds `dataset_info.json` (or one below it does, as in `name/version`), or a TFDS name
        such as "fashion_mnist" or "robo_set:0.1.0" under the TFDS data directory.

    Raises:
      ConfigError: if there is no such data set, or it is unfinished, of another format, or names other classes.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_file():
        raise config_error("config.data.dataset", name, _not_a_file(path))
    if path.is_dir():
        found = sorted(path.glob("dataset_info.json")) or sorted(path.glob("*/dataset_info.json"))
        found = found or sorted(path.glob("*/*/dataset_info.json"))
        if not found:
            raise config_error("config.data.dataset", name, f"be a finished TFDS data set, and it {_state(path)}")
        try:
            with _imports_nothing(name):
                return tfds.builder_from_directory(found[-1].parent)
        except ConfigError:
            raise
        except Exception as error:
            raise config_error("config.data.dataset", name, f"be a TFDS data set ({error})") from error
    if path.is_absolute() or (len(path.parts) > 1 and not _is_tfds_name(name)):
        valid = f"exist{_partial_hint(path)}: record it (launch.py record), or name a data set that is there"
        raise config_error("config.data.dataset", name, valid)
    try:
        if _namespace(name):
            raise ValueError("TFDS runs code from elsewhere for names with a namespace")
        with _imports_nothing(name):
            return tfds.builder(name, try_gcs=False)
    except ConfigError:
        raise
    except Exception as error:
        valid = "be a directory, or the name of a TFDS data set that is prepared on this machine"
        raise config_error("config.data.dataset", name, valid) from error


@contextlib.contextmanager
def _imports_nothing(name: str) -> Iterator[None]:
    """Meanwhile TFDS, which imports whatever module `features.json` names, takes only its own feature classes.

    Classes in modules that are imported already stay usable, so that own feature classes are possible.
    """
    base = tfds.features.FeatureConnector
    original = base.__dict__["cls_from_name"]

    def checked(cls: type, class_name: str) -> type:
        if not class_name.startswith(FEATURES) and class_name.rpartition(".")[0] not in sys.modules:
            valid = f"have features of {FEATURES}*, and its features.json names {class_name!r}, which is not imported"
            raise config_error("config.data.dataset", name, valid)
        return original.__func__(cls, class_name)

    with _OPENING:
        base.cls_from_name = classmethod(checked)
        try:
            yield
        finally:
            base.cls_from_name = original


def _not_a_file(path: pathlib.Path) -> str:
    valid = "be the directory or the TFDS name of a data set, not a file"
    kind = _FILES.get(path.suffix.lower())
    return f"{valid}: it is {kind}, {_WRITE}" if kind else valid


def _state(path: pathlib.Path) -> str:
    """What a directory without a TFDS data set is, and what to do."""
    if not any(path.iterdir()):
        return "is empty: record it again, or name another directory"
    for patterns, kind, remedy in _FORMATS:
        if any(any(path.glob(pattern)) for pattern in patterns):
            return f"is {kind}: {remedy.replace('{path}', str(path))}"
    return "holds no dataset_info.json: record it again, or name another directory"


def _namespace(name: str) -> str | None:
    return tfds.core.naming.parse_builder_name_kwargs(name)[0].namespace


def _is_tfds_name(name: str) -> bool:
    try:
        return not _namespace(name) and bool(tfds.builder_cls(name))
    except Exception:
        return False


def _partial_hint(path: pathlib.Path) -> str:
    partial = path.with_name(path.name + ".partial")
    return f" (an unfinished recording is in {partial}: launch.py record finishes it)" if partial.exists() else ""
