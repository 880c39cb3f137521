"""Specs describe what data sets load, and survive JSON."""

import dataclasses
import json

import jax
import pytest

from world_models.core import specs
from world_models.core.errors import UserError
from world_models.core.specs import ArraySpec, ImageTextSpec, Spec, TextSpec, VideoSpec
from world_models.core.types import ActionSpec, Clip

TEXT = TextSpec(12, 30, {"kind": "characters", "characters": "ab\u00e9\U0001f600"})
ARM = ActionSpec("continuous", 2, (-1.0, -2.0), (1.0, 2.0))
ALL = [
    TEXT,
    VideoSpec((16, 12, 3), ActionSpec("discrete", 4), {"environment": "Rooms", "splits": {"train": 0.9}}, 5),
    VideoSpec(
        (16, 12, 1), ARM, clip_length=2, text=TEXT, observations={"observation/state": ArraySpec((7,), "float32")}
    ),
    ImageTextSpec((8, 8, 3), TEXT),
]


@dataclasses.dataclass(frozen=True)
class Sound(Spec):
    """A spec of somebody else's data."""

    samples: int

    @property
    def example(self):
        return {"sound": ArraySpec((self.samples,), "float32")}

    @classmethod
    def from_fields(cls, values):
        return cls(values["samples"])


@pytest.mark.parametrize("spec", [*ALL, Sound(100)], ids=lambda spec: type(spec).__name__)
def test_json_round_trip(spec):
    again = specs.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert getattr(again, "record", None) == getattr(spec, "record", None)
    assert again.example == spec.example


def test_specs_of_earlier_runs_are_of_video():
    old = {"frame_shape": [8, 8, 3], "actions": {"kind": "discrete", "size": 3, "low": [], "high": []}, "record": {}}
    assert specs.from_dict(old) == VideoSpec((8, 8, 3), ActionSpec("discrete", 3))


def test_batches_have_the_shapes_of_the_example():
    batch = specs.batch_of(ALL[2], 6)
    assert batch.frames.shape == (6, 2, 16, 12, 1)
    assert batch.actions.shape == (6, 2, 2)
    assert batch.text.tokens.shape == (6, 12)
    assert batch.observations["observation/state"].shape == (6, 2, 7)
    assert len(jax.tree.leaves(specs.batch_of(ALL[1], 1))) == 6


def test_absent_fields_of_clips_hold_no_arrays():
    assert len(jax.tree.leaves(Clip(*range(6)))) == 6


def test_merged_specs_hold_the_bounds_of_both():
    other = dataclasses.replace(ALL[2], actions=ActionSpec("continuous", 2, (-3.0, 0.0), (0.5, 5.0)), record={"a": 1})
    merged = ALL[2].merged(other)
    assert (merged.actions.low, merged.actions.high) == ((-3.0, -2.0), (1.0, 5.0))
    assert merged.record == {}
    assert specs.from_dict(merged.to_dict()) == merged


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (dataclasses.replace(ALL[1], frame_shape=(8, 8, 3)), "frame_shape"),
        (dataclasses.replace(ALL[1], actions=ActionSpec("discrete", 5)), "num_actions"),
        (dataclasses.replace(ALL[1], clip_length=6), "clip_length"),
        (TEXT, "text"),
    ],
)
def test_specs_that_differ_cannot_be_merged(changed, named):
    with pytest.raises(UserError, match=named):
        ALL[1].merged(changed)
