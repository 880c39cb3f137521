"""Progress, rates and metrics by step."""

import io
import json
import struct
import sys
import types

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from experiments.runs import metrics as metrics_module
from experiments.runs import progress as progress_module
from experiments.runs.metrics import MetricsWriter, read_metrics
from experiments.runs.progress import Meter, Progress
from experiments.runs.values import Video

WANDB = {"enabled": False, "project": "mine", "entity": "", "group": "g", "tags": ("a", "b"), "mode": "offline"}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = types.SimpleNamespace(time=100.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now.time)
    return now


def test_a_line_comes_every_ten_seconds_and_at_the_end_without_a_terminal(clock, capsys):
    progress = Progress(20, 10, unit="episode")
    for done in range(11, 15):
        clock.time += 4
        progress.show(done, f"loss {done}")
    progress.close()
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" | ")[:2] for line in lines] == [
        ["episode 11/20", "loss 11"],
        ["episode 14/20", "loss 14"],
    ]
    assert lines[-1].endswith("00:24 left")  # four took 16 s
    assert "4.00s/episode" in lines[-1]


def test_the_last_state_is_shown_at_once(clock, capsys):
    progress = Progress(2)
    progress.show(1, "a")
    progress.show(2, "b")
    progress.close()
    assert [line.split(" | ")[0] for line in capsys.readouterr().err.splitlines()] == ["step 1/2", "step 2/2"]


def test_rates_begin_anew_where_work_was_lost(clock, capsys):
    progress = Progress(100, 50)
    for done in (52, 10, 30, 40):
        clock.time += 10
        progress.show(done, "")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("|")[2].strip() for line in lines] == ["5.00s/step", "?step/s", "2.00step/s", "1.50step/s"]


def test_other_processes_are_quiet(capsys):
    progress = Progress(2, quiet=True)
    progress.show(2, "b")
    progress.close()
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress(2)
    progress.show(2, "loss 1.5")
    progress.close()
    err = capsys.readouterr().err
    assert "step 2/2" in err
    assert "loss 1.5" in err
    assert "\r" in err
    progress = Progress(20, 10)
    progress.show(5, "loss 1.5")
    progress.close()
    assert "step 5/20" in capsys.readouterr().err


def test_rates_count_what_they_are_told_to(clock):
    meter = Meter(50, 3, "tokens")
    assert str(meter) == "measuring"
    with meter.waiting():
        clock.time += 1
    with meter.paused():
        clock.time += 100
    clock.time += 3
    assert meter.rates(5) == {"tokens_per_second": 25.0, "data_wait": 0.25}
    assert str(meter) == "25 tokens/s | data wait 25 %"


def writer(workdir, step, **wandb):
    return MetricsWriter(workdir, ConfigDict({"runtime": {"wandb": WANDB | wandb}}), from_step=step)


def test_resuming_drops_what_is_done_again_and_a_torn_line_swallows_nothing(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    whole = "".join(json.dumps({"step": step, "train/loss": 1.0 / step}) + "\n" for step in range(1, 6))
    path.write_text(whole + '{"step": 6, "tra')
    metrics = writer(tmp_path, 3)
    metrics.write(4, {"train/loss": float("nan")})
    metrics.close()
    assert [(line["step"], line["train/loss"]) for line in read_metrics(tmp_path)] == [
        (1, 1.0), (2, 0.5), (3, 1 / 3), (4, None)
    ]  # fmt: skip
    assert len(path.read_text().splitlines()) == 4

    def killed(path, text):  # before anything has taken the file's place
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr(metrics_module, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        writer(tmp_path, 2)
    assert path.read_bytes() == before


def test_a_resumed_run_is_the_same_run_of_wandb(tmp_path, monkeypatch):
    started = []
    run = types.SimpleNamespace(log=lambda values, step: None, finish=lambda: None)
    fake = types.SimpleNamespace(init=lambda **options: started.append(options) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        writer(tmp_path, 0, enabled=True).close()
    first, second = started
    assert first["id"] == second["id"] == (tmp_path / "wandb_id").read_text()
    assert (first["project"], first["entity"], first["group"], first["mode"]) == ("mine", None, "g", "offline")
    assert first["tags"] == ["a", "b"]
    assert first["resume"] == "allow"


def images_of(workdir):
    """{tag: (step, encoded image)} of the last image of each tag in TensorBoard's files."""
    found = {}
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:  # length, its checksum, event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            images = [value for value in event.summary.value if value.HasField("image")]
            found |= {value.tag: (event.step, value.image.encoded_image_string) for value in images}
    return found


def test_videos_and_pictures_reach_tensorboard_and_wandb_and_no_json(tmp_path, monkeypatch):
    logged = []
    run = types.SimpleNamespace(log=lambda values, step: logged.append((step, values)), finish=lambda: None)
    kept = lambda kind: lambda data, **options: (kind, data, options)
    fake = types.SimpleNamespace(init=lambda **_: run, Image=kept("image"), Video=kept("video"))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    frames = np.random.default_rng(0).integers(0, 8, (5, 24, 32, 3), np.uint8) * 32
    metrics = writer(tmp_path, 0, enabled=True)
    metrics.write(7, {"eval/a/loss": 1.0, "eval/a/futures": Video(frames), "eval/a/picture": Video(frames[:1])})
    metrics.close()
    assert read_metrics(tmp_path) == [{"step": 7, "eval/a/loss": 1.0}]
    images = images_of(tmp_path)
    assert {tag: step for tag, (step, _) in images.items()} == {"eval/a/futures": 7, "eval/a/picture": 7}
    gif = Image.open(io.BytesIO(images["eval/a/futures"][1]))
    assert (gif.format, gif.n_frames, gif.size) == ("GIF", 5, (32, 24))
    picture = Image.open(io.BytesIO(images["eval/a/picture"][1]))
    assert picture.format == "PNG"
    np.testing.assert_array_equal(np.asarray(picture), frames[0])
    ((step, values),) = logged
    assert (step, values["eval/a/loss"]) == (7, 1.0)
    kind, data, options = values["eval/a/futures"]
    assert (kind, data.getvalue(), options) == ("video", images["eval/a/futures"][1], {"format": "gif"})
    assert values["eval/a/picture"][0] == "image"
    np.testing.assert_array_equal(values["eval/a/picture"][1], frames[0])
