"""Toy data sets and configs that many tests share."""

import gc
import importlib.metadata
import json
import os
import pathlib
import shutil
import signal
import struct
import sys
import textwrap

if os.environ.setdefault("JAX_PLATFORMS", "cpu") != "cpu":  # what tests compare with is exact; TF32 products are not
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# Tests compile more than they compute: what they start in turn takes this over, unless it sets flags of its own.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA ends the process at a flag that it does not know
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"  # they take a third of the compiler's time
# Hundreds of small programs, 20 to 300 ms each, are the same in every test run: a command keeps only the longer ones.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from toy_table import TOY

import launch
from experiments.runs import runtime
from world_models.data import records, rlds
from world_models.data.episodes import Episode, encode
from world_models.data.sources import collection

SIZE = 16


def pytest_configure(config):
    """Compiled programs are shared between test runs and processes; Ctrl-C works in the processes that tests start.

    A shell that starts tests in the background has them ignore it, and what is ignored is inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    runtime.setup()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    jax.monitoring.register_event_duration_secs_listener(_count)


COMPILATIONS = [0, 0.0]  # programs that the test processes compiled or read from the cache, and seconds


def _count(event, seconds, **_):
    if event.endswith("backend_compile_duration"):
        COMPILATIONS[0] += 1
        COMPILATIONS[1] += seconds


MAPPED = [0]  # of COMPILATIONS, when mappings were last counted


def pytest_runtest_teardown():
    """Forgets compiled programs before there are too many.

    A program on a CPU maps some pages of memory for each of its kernels. Linux gives a process 65,530 mappings
    (vm.max_map_count); with one more, XLA crashes where it compiles or reads the next program.
    """
    maps = pathlib.Path("/proc/self/maps")
    if COMPILATIONS[0] < MAPPED[0] + 50 or not maps.exists():
        return
    MAPPED[0] = COMPILATIONS[0]
    if maps.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()
        gc.collect()


def pytest_sessionfinish(session):
    """Hands the count of a worker process over to the one that prints the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["compilations"] = COMPILATIONS


def pytest_testnodedown(node):
    """Adds the count of a worker process."""
    for i, more in enumerate(getattr(node, "workeroutput", {}).get("compilations", ())):
        COMPILATIONS[i] += more


def pytest_terminal_summary(terminalreporter):
    """Tells how much of the time went to compilation in the test processes themselves."""
    count, seconds = COMPILATIONS
    terminalreporter.write_line(f"{count} programs compiled or read from the cache in {seconds:.0f} s")


@pytest.fixture(autouse=True, scope="session")
def _own_index_cache(tmp_path_factory):
    """Tests leave nothing in the user's cache but compiled programs."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


def cpu_devices(count: int) -> dict[str, str]:
    """The environment of a process with so many CPU devices.

    Collectives block a thread each; XLA has as many as NPROC says, and with too few they wait for each other.
    """
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    return os.environ | {"XLA_FLAGS": flags, "NPROC": str(8 * count), "JAX_PLATFORMS": "cpu"}


def square_world(length: int, seed: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """An exact world: a square goes round a ring, forward under action 1, back under action 0.

    Returns:
      (frames uint8 [length, size, size, 3], actions int64 [length]).
    """
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 2, length)
    place = rng.integers(0, size // 4) + np.concatenate([[0], np.cumsum(2 * actions[:-1] - 1)])
    frames = np.zeros((length, size, size, 3), np.uint8)
    for t, column in enumerate(place):
        left = 4 * (int(column) % (size // 4))
        frames[t, 6:10, left : left + 4] = (255, 128, 32)
    return frames, actions


def write_dataset(
    folder: pathlib.Path,
    lengths: dict[str, list[int]],
    *,
    action: dict | None = None,
    actions_of=lambda actions: actions,
    size: int = SIZE,
) -> pathlib.Path:
    """Writes `square_world` episodes of the given lengths per split as an RLDS data set to `folder`/data."""
    scratch = folder / "episodes"
    scratch.mkdir(parents=True)
    splits, index = {}, 0
    for name, split_lengths in lengths.items():
        splits[name] = []
        for length in split_lengths:
            frames, actions = square_world(length, index, size)
            rewards = np.arange(length, dtype=np.float32)
            episode = Episode([encode(f, (size, size)) for f in frames], actions_of(actions), rewards, True)
            path = scratch / str(index)
            episode.save(path)
            splits[name].append(rlds.Stored(index, path, {"environment": "square", "policy": "random"}))
            index += 1
    action = action or {"kind": "discrete", "size": 2, "low": [], "high": []}
    description = rlds.Description((size, size), action, "A square that moves.", {}, {})
    output = folder / "data"
    rlds.write(output, folder / "scratch", description, splits)
    return output


def write_tfds(folder: pathlib.Path, features: dict, splits: dict[str, list[dict]]) -> pathlib.Path:
    """Writes examples by split as a TFDS data set to `folder`/tfds."""
    made = {name: collection.Split(len(examples), examples.__getitem__) for name, examples in splits.items()}
    whole = collection.Collection("examples", "", features, made, "", "")
    collection.write(folder / "tfds", folder / "scratch", whole, {})
    return folder / "tfds"


def as_tfrecord(source, target):
    """The same data set in TFRecord files; the checksum of a record's length, which readers may skip, is left out."""
    shutil.copytree(source, target)
    for path in target.glob("*array_record*"):
        with open(str(path).replace("array_record", "tfrecord"), "wb") as file:
            for record in ArrayRecordDataSource(path):
                file.write(struct.pack("<QI", len(record), 0) + record + records.tfrecord_checksum(record))
        path.unlink()
    info = target / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord").replace("ARRAY_RECORD", "TFRECORD"))
    return target


@pytest.fixture(scope="session")
def square_data(tmp_path_factory) -> pathlib.Path:
    """An RLDS data set of the square world: 6 training episodes, 2 for validation, 2 for tests."""
    lengths = {"train": [30, 17, 9, 24, 30, 5], "validation": [20, 20], "test": [20, 24]}
    return write_dataset(tmp_path_factory.mktemp("square"), lengths)


@pytest.fixture(scope="session")
def text_data(tmp_path_factory) -> pathlib.Path:
    """A folder of documents in which animals do what their kind does: a file, a split."""
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    does = {"cat": ("purrs", "milk"), "dog": ("barks", "bones"), "bird": ("sings", "seeds"), "cow": ("moos", "grass")}
    for split, count in (("train", 60), ("validation", 12), ("test", 12)):
        lines = []
        for _ in range(count):
            animal = rng.choice(list(does))
            sound, food = does[animal]
            text = [f"the {animal} {sound} .", f"a {animal} likes {food} and {sound} .", f"it eats {food} every day ."]
            lines.append(json.dumps({"text": "\n".join(rng.permutation(text * 2)), "label": str(animal)}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tiny_config(square_data):
    """The demo's debug variant on the square world."""
    from configs.car_unet import get_config

    config = get_config("debug")
    config.data.dataset = str(square_data)
    return config


@pytest.fixture(scope="session")
def _trained(tmp_path_factory, square_data):
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ["--config=configs/car_unet.py:debug", f"--workdir={folder}", f"--config.data.dataset={square_data}"]
    assert launch.main(["launch.py", "train", *words]) == 0
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, _trained):
    """A run trained for two steps through the command line; each file of tests has its own copy."""
    return shutil.copytree(_trained, tmp_path_factory.mktemp("trained") / "run")


def run_command(capsys, *words):
    """(exit status, last line of stdout, stderr) of `python launch.py <words>`, in this process."""
    status = launch.main(["launch.py", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out.strip().splitlines()[-1] if out.strip() else "", err


@pytest.fixture(scope="module")
def server():
    """A server of the toy scene for up to three players: (address, PlayServer)."""
    from toy_scene import serving, toy_scene  # in the folder of the tests that ask for it

    with serving(toy_scene(), max_players=3) as (address, players):
        players.warm()
        yield address, players


def set_fields(config, **values):
    """Sets fields by their last name, in `train`, `train.optimizer`, `eval` or `runtime`; returns the config."""
    for name, value in values.items():
        blocks = [config.train, config.train.optimizer, config.eval, config.runtime]
        (block,) = [own for own in blocks if name in own]
        block[name] = value
    return config


def set_field(config, field, value):
    """Sets a field by its dotted name below the config."""
    *blocks, name = field.split(".")
    for block in blocks:
        config = config[block]
    config[name] = value


def stripes(index: int) -> np.ndarray:
    """An image uint8 [16, 16, 1] of one of three classes that only the direction of its stripes tells."""
    rng = np.random.default_rng(index)
    row, column = np.mgrid[:SIZE, :SIZE]
    across = (column, row, row + column)[index % 3]
    bright = (across + rng.integers(4)) % 4 < 2
    return (bright * 160 + rng.integers(0, 60, (SIZE, SIZE)))[..., None].astype(np.uint8)


@pytest.fixture(scope="session")
def stripes_data(tmp_path_factory) -> pathlib.Path:
    """A data set of labelled images: `stripes`, 60 for training and 30 for tests."""
    return write_stripes(tmp_path_factory.mktemp("stripes"), {"train": 60, "test": 30})


def write_stripes(folder: pathlib.Path, counts: dict[str, int]) -> pathlib.Path:
    """Writes so many `stripes` a split as a data set of labelled images to `folder`/data."""
    features = {
        "image": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    example = lambda begin: lambda i: {"image": encode(stripes(begin + i), (SIZE, SIZE)), "label": (begin + i) % 3}
    splits = {name: collection.Split(count, example(1000 * count)) for name, count in counts.items()}
    made = collection.Collection("stripes", "", features, splits, "", "")
    collection.write(folder / "data", folder / "scratch", made, {})
    return folder / "data"


@pytest.fixture
def tables(tmp_path):
    """A folder with the table `toy`."""
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "toy.py").write_text(textwrap.dedent(TOY))
    return folder
