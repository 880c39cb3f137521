"""What watches a long run: spikes, the watchdog, and the account of time."""

import json
import re
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from experiments.training.monitoring import HUNG, Goodput, Incidents, Spikes
from world_models.core.types import Clip, TextBatch


def test_a_spike_is_told_from_noise_and_does_not_move_the_mean():
    rng = np.random.default_rng(0)
    spikes = Spikes(6.0)
    losses = 1 + 0.1 * rng.standard_normal(200)
    losses[[5, 100, 101]] = 10  # the first comes before there is a mean to compare with
    assert [i for i, loss in enumerate(losses) if spikes(loss)] == [100, 101]
    assert spikes.mean == pytest.approx(1, abs=0.1)
    never = Spikes(0)
    assert not any(never(loss) for loss in losses)


def test_a_falling_loss_is_no_spike():
    spikes = Spikes(6.0)
    assert not any(spikes(loss) for loss in np.exp(-np.arange(100) / 20))


WATCHED = """
    import time
    from experiments.training.monitoring import Watchdog

    def waits_for_a_dead_peer():
        time.sleep(60)

    dog = Watchdog(1.0)
    time.sleep(1.5)
    for _ in range(6):
        time.sleep(0.3)
        dog.alive()
    with dog.paused():
        time.sleep(2)
    print("still here", flush=True)
    waits_for_a_dead_peer()
"""


def test_a_step_that_hangs_ends_the_process_with_every_stack():
    begin = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WATCHED)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == HUNG
    assert time.monotonic() - begin < 30
    assert result.stdout == "still here\n"
    assert "No step ended for 1 s (config.runtime.watchdog_seconds)" in result.stderr
    assert "waits_for_a_dead_peer" in result.stderr


def test_shares_of_time_add_up():
    goodput = Goodput(time.monotonic() - 10)
    goodput.seconds["start"] = 2.0
    with goodput.spent_on("eval"):
        time.sleep(0.2)
    with goodput.spent_on("eval"):
        time.sleep(0.1)
    shares = goodput.shares()
    assert list(shares) == ["steps", "start", "eval"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["start"] == pytest.approx(0.2, abs=0.02)
    assert shares["eval"] == pytest.approx(0.03, abs=0.01)
    assert re.fullmatch(r"goodput: steps 7\d % of 10 s \(start (19|20) %, eval [34] %\)", str(goodput))


def test_incidents_of_every_process_are_kept_apart(tmp_path):
    for process in (0, 1):
        incidents = Incidents(tmp_path, process)
        incidents.add("spike", 3, loss="2.0")
        numbers = np.full((2, 3), process)
        clip = Clip(*[numbers] * 6, text=TextBatch(numbers + 1, numbers > 0), observations={"arm/state": numbers + 2})
        path = incidents.keep(4, clip)
        with np.load(path) as kept:
            assert len(kept) == 9
            np.testing.assert_array_equal(kept["actions"], clip.actions)
            np.testing.assert_array_equal(kept["text.tokens"], clip.text.tokens)
            np.testing.assert_array_equal(kept["observations.arm/state"], clip.observations["arm/state"])
    with np.load(incidents.keep(5, numbers)) as kept:
        np.testing.assert_array_equal(kept["batch"], numbers)
    assert json.loads((tmp_path / "incidents.jsonl").read_text()) == {"kind": "spike", "step": 3, "loss": "2.0"}
    assert (tmp_path / "incidents.1.jsonl").exists()
    assert sorted(p.name for p in (tmp_path / "incidents").iterdir()) == [
        "batch_4.1.npz",
        "batch_4.npz",
        "batch_5.1.npz",
    ]
    assert incidents.is_new("a")
    assert not incidents.is_new("a")
