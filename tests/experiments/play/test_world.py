"""The engine, the tree of moments, controls and messages, without a server."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_scene import ACTIONS, SIDE, frame_of, toy_scene, unpacked

from experiments.play import controls, messages
from experiments.play.engine import Engine
from experiments.play.tree import MOST_BRANCHES, MOST_NODES, Tree
from world_models.core.errors import UserError
from world_models.core.types import ActionSpec

LOUD, QUIET = (("loud", 255),), (("loud", 0),)


@pytest.fixture(scope="module")
def engine():
    scene = toy_scene()
    made = Engine(scene.variant, ACTIONS, 4)
    yield made
    made.stop()


def begin(engine, variant=LOUD, index=3):
    return engine.begin(variant, toy_scene().starts[index], 0).result(60)


def test_steps_are_a_function_of_state_seed_and_depth(engine):
    start = begin(engine)
    step = lambda **changed: engine.step(LOUD, start.state, **({"action": 1, "seed": 7, "depth": 1} | changed))
    first, again, other, later = step(), step(), step(seed=8), step(depth=2)
    np.testing.assert_array_equal(first.result().frame, again.result().frame)
    np.testing.assert_array_equal(first.result().frame[:-1], frame_of(4)[:-1])
    assert (first.result().frame != other.result().frame).any()
    assert (first.result().frame != later.result().frame).any()
    assert first.result().reward == 4.0
    assert first.result().terminal is None


def test_worlds_that_wait_are_stepped_together_and_keep_apart(engine):
    start = begin(engine)
    engine.prepare_batches(LOUD, start.state)
    alone = [engine.step(LOUD, start.state, a % 3, a, 1).result() for a in range(6)]
    blocker = engine.begin(QUIET, toy_scene().starts[0], 0)  # so that requests meet in the queue
    blocker.result()
    together = [engine.step(LOUD, start.state, a % 3, a, 1) for a in range(6)]
    for one, other in zip(alone, together):
        np.testing.assert_array_equal(one.frame, other.result().frame)
    assert max(moment.result().batch for moment in together) > 1


def test_a_setting_changes_the_model_and_not_the_state(engine):
    start = begin(engine)
    engine.prepare(QUIET, start.state).result(60)
    assert engine.step(LOUD, start.state, 0, 0, 1).result().frame[-1].any()
    assert not engine.step(QUIET, start.state, 0, 0, 1).result().frame[-1].any()


def test_a_failing_step_fails_alone(engine):
    start = begin(engine)
    bad = engine.step(LOUD, (1, 2, 3), 0, 0, 1)
    with pytest.raises(Exception, match=r".*"):
        bad.result(30)
    assert engine.step(LOUD, start.state, 0, 0, 1).result(30).frame.shape == (SIDE, SIDE, 3)


def test_another_action_in_the_middle_begins_a_branch():
    tree = Tree(frame_of(0), "s0", 100)
    for i in range(5):
        tree.grow(np.int32(1), frame_of(i), f"s{i + 1}")
    end = tree.now
    assert [branch.id for branch in tree.branches] == [0]
    tree.back(3)
    assert (tree.now.depth, tree.now.state) == (2, "s2")
    tree.grow(np.int32(2), frame_of(9), "other")
    assert [(branch.parent, branch.root) for branch in tree.branches] == [(-1, 0), (0, 2)]
    assert tree.go(0) is end
    with pytest.raises(ValueError, match="branch"):
        tree.go(17)
    assert [node.depth for node in end.path()] == list(range(6))


def test_memory_is_bounded_and_heads_stay():
    tree = Tree(frame_of(0), "first", 10)
    tree.fork()
    for i in range(MOST_NODES + 500):
        tree.grow(np.int32(0), frame_of(i % SIDE), i)
        if i % 150 == 0:
            tree.fork()
    path = tree.now.path()
    assert MOST_NODES - MOST_BRANCHES - 1 <= len(path) <= MOST_NODES
    assert sum(node.state is not None for node in path) <= 10 + MOST_BRANCHES + 1
    assert len(tree.branches) == MOST_BRANCHES
    assert all(branch.head.state is not None for branch in tree.branches)
    depth = tree.now.depth
    assert depth - tree.back(100).depth <= 11  # states are kept that far back


@pytest.mark.parametrize(
    ("spec", "record", "kind", "keys"),
    [
        (ActionSpec("discrete", 5), {"environment": "CarRacing-v3"}, "buttons", ["2", "ArrowRight"]),
        (ActionSpec("discrete", 18), {}, "buttons", ["2"]),
        (ActionSpec("continuous", 2, (-1, -1), (1, 1)), {}, "stick", None),
        (ActionSpec("continuous", 3, (-1, 0, 0), (1, 1, 1)), {"environment": "CarRacing-v3"}, "sliders", None),
        (ActionSpec("continuous", 7, (-1,) * 7, (1,) * 7), {}, "sliders", None),
    ],
)
def test_controls_come_from_the_action_space(spec, record, kind, keys):
    made = controls.describe(spec, record)
    assert made["kind"] == kind
    if kind == "buttons":
        assert len(made["buttons"]) == spec.size
        assert made["buttons"][1]["keys"] == keys
        bound = [key for button in made["buttons"] for key in button["keys"]]
    else:
        assert controls.check(spec, made["rest"]).tolist() == made["rest"]
        bound = [key for axis in made["axes"] for key in axis["keys"]]
        for axis in made["axes"]:
            assert all(axis["low"] <= value <= axis["high"] for value in axis["keys"].values())
    assert len(bound) == len(set(bound))  # no key does two things


def test_actions_of_atari_are_named_and_know_what_they_combine():
    buttons = controls.describe(ActionSpec("discrete", 18), {"environment": "ALE/Boxing-v5"})["buttons"]
    keys = {button["name"]: button["keys"][-1] for button in buttons if button["keys"]}
    assert [keys[name] for name in ("up", "right", "left", "down", "fire")] == [
        *("ArrowUp", "ArrowRight", "ArrowLeft", "ArrowDown", " ")
    ]
    of = {button["name"]: [buttons[i]["name"] for i in button["of"]] for button in buttons if button["of"]}
    assert of["down left fire"] == ["down", "left", "fire"]
    assert len(of) == 12  # four diagonals, and these and the four directions with fire
    car = controls.describe(ActionSpec("discrete", 5), {"environment": "CarRacing-v3"})["buttons"]
    assert not any(button["of"] for button in car)


def test_an_atari_game_with_fewer_actions_is_asked_for_their_names(monkeypatch):
    names = lambda size, environment: [
        button["name"] for button in controls.describe(ActionSpec("discrete", size), environment)["buttons"]
    ]

    class Game:
        unwrapped = property(lambda self: self)

        def get_action_meanings(self):
            return ["NOOP", "UP", "DOWNLEFT", "UPRIGHTFIRE"]

        def close(self):
            pass

    monkeypatch.setattr(controls, "make", lambda name, kwargs, observation: Game())
    assert names(4, {"environment": "ALE/X-v5"}) == ["coast", "up", "down left", "up right fire"]
    assert names(5, {"environment": "ALE/X-v5"})[1] == "action 1"  # the model's actions are others
    assert names(4, {"environment": "CartPole-v1"})[1] == "action 1"

    def missing(name, kwargs, observation):
        raise UserError("not installed")

    monkeypatch.setattr(controls, "make", missing)
    assert names(4, {"environment": "ALE/X-v5"})[1] == "action 1"
    assert names(18, {"environment": "ALE/X-v5"})[1] == "fire"


def test_pedals_share_the_vertical_arrows():
    spec = ActionSpec("continuous", 3, (-1, 0, 0), (1, 1, 1))
    steering, gas, brake = controls.describe(spec, {"environment": "CarRacing-v3"})["axes"]
    assert steering["keys"] == {"ArrowLeft": -1, "ArrowRight": 1}
    assert (gas["keys"], brake["keys"]) == ({"ArrowUp": 1}, {"ArrowDown": 1})


@pytest.mark.parametrize(
    "spec",
    [
        ActionSpec("discrete", 5000),
        ActionSpec("continuous", 3),
        ActionSpec("continuous", 2, (-np.inf, 0), (1, 1)),
        ActionSpec("continuous", 60, (-1,) * 60, (1,) * 60),
    ],
)
def test_spaces_without_controls_are_explained(spec):
    with pytest.raises(UserError, match="actions"):
        controls.describe(spec, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, database=None)
@given(JSON)
def test_actions_from_outside_are_valid_or_raise(value):
    for spec in (ACTIONS, ActionSpec("continuous", 2, (-1, -1), (1, 2))):
        try:
            action = controls.check(spec, value)
        except ValueError:
            continue
        assert action.shape == spec.shape
        assert action.dtype == spec.dtype
        low, high = (0, spec.size - 1) if spec.kind == "discrete" else (spec.low, spec.high)
        assert ((low <= action) & (action <= high)).all()


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.text(max_size=40)
    | st.sampled_from(list(messages.FIELDS)).flatmap(
        lambda kind: st.fixed_dictionaries({"type": st.just(kind)}, optional=dict.fromkeys(messages.FIELDS[kind], JSON))
    )
)
def test_messages_are_of_the_schema_or_raise(found):
    import json

    text = found if isinstance(found, str) else json.dumps(found)
    try:
        message = messages.read(text)
    except messages.BadMessage:
        return
    assert set(message) == {"type", *messages.FIELDS[message["type"]]}


def test_frames_are_packed_exactly_when_small_and_as_jpeg_when_large():
    small, large = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3), np.full((160, 200, 1), 77, np.uint8)
    data = messages.pack({"type": "frame"}, [("a", small), ("b", large)])
    header, images = unpacked(data)
    assert header["type"] == "frame"
    np.testing.assert_array_equal(np.frombuffer(images["a"], np.uint8).reshape(4, 6, 3), small)
    assert images["b"].startswith(b"\xff\xd8")
