"""Episodes written from Python are read back as they were."""

import pathlib
import re

import numpy as np
import pytest

from world_models.core.errors import UserError
from world_models.data.stored_episodes import Episodes
from world_models.data.writing import write_episodes

LENGTHS = [5, 3, 8, 1]
PAGE = pathlib.Path(__file__).parents[3] / "docs" / "data.md"


def episode(length, seed=0, *, channels=3, dim=0):
    """A random episode; of discrete actions if `dim` is 0."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-3, 3, (length, dim)) if dim else rng.integers(0, 4, length)
    frames = rng.integers(0, 256, (length, 6, 9, channels), dtype=np.uint8)
    return {"frames": frames, "actions": actions, "rewards": rng.normal(size=length), "terminal": seed % 2 == 0}


@pytest.mark.parametrize("dim", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_episodes_are_read_as_they_were_written(tmp_path, dim, channels):
    made = [episode(length, i, channels=channels, dim=dim) for i, length in enumerate(LENGTHS)]
    write_episodes(tmp_path / "a" / "data", iter(made), splits={"train": 1.0}, num_actions=0 if dim else 7)
    found = Episodes(str(tmp_path / "a" / "data"), "train")
    assert found.lengths.tolist() == LENGTHS
    assert (found.spec.frame_shape, found.spec.actions.size) == ((6, 9, 3), dim or 7)
    for i, want in enumerate(made):
        steps = found.read(i, 0, LENGTHS[i])
        np.testing.assert_array_equal(steps["frames"], np.broadcast_to(want["frames"], steps["frames"].shape))
        np.testing.assert_array_equal(steps["actions"], want["actions"].astype(steps["actions"].dtype))
        np.testing.assert_array_equal(steps["rewards"], want["rewards"].astype(np.float32))
        assert steps["is_terminal"][-1] == want["terminal"]
        assert not steps["is_terminal"][:-1].any()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["data"]


def test_the_last_action_and_what_is_optional_may_be_missing(tmp_path):
    frames = episode(4)["frames"]
    write_episodes(tmp_path / "a", [{"frames": frames, "actions": [1, 2, 1]}], splits={"train": 1.0})
    found = Episodes(str(tmp_path / "a"), "train")
    assert found.spec.actions.size == 3
    assert found.read(0, 0, 4)["actions"].tolist() == [1, 2, 1, 0]
    write_episodes(tmp_path / "b", [{"frames": frames}], splits={"train": 1.0})
    assert Episodes(str(tmp_path / "b"), "train").spec.actions.size == 1


def test_bounds_are_declared(tmp_path):
    made = [episode(length, dim=2) for length in LENGTHS]
    write_episodes(tmp_path / "a", made, splits={"train": 1.0}, bounds=([-4, -5], [4, 5]))
    spec = Episodes(str(tmp_path / "a"), "train").spec.actions
    assert (spec.low, spec.high) == ((-4.0, -5.0), (4.0, 5.0))


def wrong(**fields):
    return [episode(5), episode(5) | fields]


@pytest.mark.parametrize(
    ("episodes", "named"),
    [
        (wrong(frames=np.zeros((5, 6, 9, 3))), "Episode 1 has frames float64"),
        (wrong(frames=np.zeros((5, 3, 6, 9), np.uint8)), "Episode 1 has frames uint8"),
        (wrong(frames=np.zeros((5, 6, 8, 3), np.uint8)), "Episode 1 has frames"),
        (wrong(actions=np.zeros(3, int)), "Episode 1 has 5 frames and 3 actions"),
        (wrong(actions=np.zeros((5, 2))), "Episode 1 has .*actions of 2 numbers"),
        (wrong(actions=np.zeros(5)), "Episode 1 has actions float64"),
        (wrong(actions=np.full(5, -1)), "Episode 1 has the action -1"),
        (wrong(actions=np.full((5, 1), np.nan)), "Episode 1 has nan in actions at step 0"),
        (wrong(actions=np.full((5, 1), 1e10)), "Episode 1 has 1e\\+10 in actions at step 0"),
        (wrong(rewards=[0, 0, np.inf, 0, 0]), "Episode 1 has inf in rewards at step 2"),
        (wrong(images=0), "Episode 1 has .*'images'"),
        ([], "no episodes"),
        ([episode(5)], "splits"),
    ],
)
def test_what_cannot_be_written_is_named_and_nothing_is_left(tmp_path, episodes, named):
    with pytest.raises(UserError, match=named):
        write_episodes(tmp_path / "data", episodes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dim", "options"),
    [
        (0, {"num_actions": 2}),
        (2, {"bounds": ([0], [1])}),
        (0, {"splits": {"train": 0.5, "validation": 0.1}}),
        (0, {"splits": {"train": 0.5, "val": 0.5}}),
    ],
)
def test_options_that_do_not_fit_are_invalid(tmp_path, dim, options):
    with pytest.raises(UserError, match=next(iter(options))):
        write_episodes(tmp_path / "data", [episode(9, i, dim=dim) for i in range(4)], **options)
    assert not list(tmp_path.iterdir())


def test_data_that_exist_are_kept(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=str(tmp_path / "data")):
        write_episodes(tmp_path / "data", [episode(5)])


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?write_episodes.*?)```", PAGE.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    data = Episodes("my_data", "train")
    assert (len(data), data.spec.actions.low) == (18, (-1.0, -1.0))
