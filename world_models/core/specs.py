"""Specs: the shapes and dtypes of one example, and what else a model must know of its data. They are kept as JSON."""

import abc
import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from world_models.core.errors import UserError
from world_models.core.types import ActionSpec, Clip, ImageTextBatch, SentenceBatch, TextBatch


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """One array of an example: its shape without the batch axis, and the name of its NumPy dtype."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ArraySpec":
        """The inverse of `dataclasses.asdict`, from JSON."""
        return cls(tuple(values["shape"]), values["dtype"])


class Spec(abc.ABC):
    """Describes one example of a data set; subclasses are frozen dataclasses.

    Attributes:
      kind: what the data are, for messages, and the tag in JSON.
      unit: what throughput counts.
    """

    kind: ClassVar[str] = "data"
    unit: ClassVar[str] = "examples"

    @property
    @abc.abstractmethod
    def example(self) -> Any:
        """An example as a pytree like a batch, with an `ArraySpec` for every array."""

    @property
    def units(self) -> int:
        """How many of `unit` an example has."""
        return 1

    @classmethod
    @abc.abstractmethod
    def from_fields(cls, values: Mapping[str, Any]) -> "Spec":
        """The inverse of `dataclasses.asdict`, from JSON."""

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON; `from_dict` is the inverse."""
        cls = type(self)
        tag = cls.kind if KINDS.get(cls.kind) is cls else f"{cls.__module__}:{cls.__name__}"
        return {"kind": tag, **dataclasses.asdict(self)}

    def merged(self, other: "Spec") -> "Spec":
        """The spec of a mixture of data of this and another spec.

        Raises:
          UserError: if they differ in what batches or models depend on.
        """
        if type(self) is not type(other):
            raise UserError(f"a mixture must hold data of one kind, not {self.kind} and {other.kind}")
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.compare and mine != theirs:
                raise UserError(f"the data sets of a mixture must agree in {field.name}: {mine} and {theirs} differ")
        return self


@dataclasses.dataclass(frozen=True)
class TextSpec(Spec):
    """Texts of `length` tokens in [0, vocabulary_size); `tokenizer` describes the tokenizer (`Tokenizer.to_dict`)."""

    kind: ClassVar[str] = "text"
    unit: ClassVar[str] = "tokens"

    length: int
    vocabulary_size: int
    tokenizer: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def example(self) -> TextBatch:
        """A `TextBatch` of [length] tokens and their mask."""
        return TextBatch(ArraySpec((self.length,), "int32"), ArraySpec((self.length,), "bool"))

    @property
    def units(self) -> int:
        """Tokens of an example, padding included."""
        return self.length

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> "TextSpec":
        """The inverse of `dataclasses.asdict`, from JSON."""
        return cls(values["length"], values["vocabulary_size"], values["tokenizer"])


@dataclasses.dataclass(frozen=True)
class SentenceSpec(TextSpec):
    """Rows of sentences with special tokens; `classes` names the labels of rows, if they have any."""

    kind: ClassVar[str] = "sentences"

    classes: tuple[str, ...] = ()

    @property
    def example(self) -> SentenceBatch:
        """A `SentenceBatch` of one row."""
        return SentenceBatch(*(ArraySpec((self.length,), "int32"),) * 4, ArraySpec((), "int32"))

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> "SentenceSpec":
        """The inverse of `dataclasses.asdict`, from JSON."""
        return cls(values["length"], values["vocabulary_size"], values["tokenizer"], tuple(values["classes"]))


@dataclasses.dataclass(frozen=True)
class VideoSpec(Spec):
    """Clips of frames with actions.

    Attributes:
      frame_shape: (height, width, channel).
      actions: action space.
      record: the `config.record` that recorded the data, where one did: plans are carried out in that environment.
      clip_length: frames of a clip.
      text: of `Clip.text`, or None.
      observations: of a step, by the path of its field, as in `Clip.observations`.
    """

    kind: ClassVar[str] = "video"
    unit: ClassVar[str] = "frames"

    frame_shape: tuple[int, int, int]
    actions: ActionSpec
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    clip_length: int = 1
    text: TextSpec | None = None
    observations: Mapping[str, ArraySpec] = dataclasses.field(default_factory=dict)

    @property
    def example(self) -> Clip:
        """A `Clip` of `clip_length` steps."""
        array = lambda shape, dtype: ArraySpec((self.clip_length, *shape), np.dtype(dtype).name)
        flag = array((), bool)
        return Clip(
            array(self.frame_shape, np.uint8),
            array(self.actions.shape, self.actions.dtype),
            array((), np.float32),
            flag,
            flag,
            flag,
            self.text and self.text.example,
            {name: array(own.shape, own.dtype) for name, own in self.observations.items()},
        )

    @property
    def units(self) -> int:
        """Frames of a clip."""
        return self.clip_length

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> "VideoSpec":
        """The inverse of `dataclasses.asdict`, from JSON; older files hold the first three fields."""
        text, observations = values.get("text"), values.get("observations", {})
        return cls(
            tuple(values["frame_shape"]),
            ActionSpec.from_dict(values["actions"]),
            values.get("record", {}),
            values.get("clip_length", 1),
            text and TextSpec.from_fields(text),
            {name: ArraySpec.from_dict(own) for name, own in observations.items()},
        )

    def merged(self, other: Spec) -> Spec:
        """As of every `Spec`; bounds of continuous actions hold both, and `record` stays if it is the same."""
        if not isinstance(other, VideoSpec):
            return super().merged(other)
        mine, theirs = self.actions, other.actions
        if (mine.kind, mine.size) != (theirs.kind, theirs.size):
            raise UserError(
                f"the data sets of a mixture must have the same actions, not {mine.size} {mine.kind} and {theirs.size} "
                f"{theirs.kind} ones (config.data.num_actions sets the number of discrete ones)"
            )
        low, high = tuple(map(min, mine.low, theirs.low)), tuple(map(max, mine.high, theirs.high))
        actions = dataclasses.replace(mine, low=low, high=high)
        record = self.record if self.record == other.record else {}
        mine = dataclasses.replace(self, actions=actions, record=record)
        return Spec.merged(mine, dataclasses.replace(other, actions=actions))


@dataclasses.dataclass(frozen=True)
class ImageTextSpec(Spec):
    """Images of shape (height, width, channel) with a text each."""

    kind: ClassVar[str] = "image_text"
    unit: ClassVar[str] = "images"

    image_shape: tuple[int, int, int]
    text: TextSpec

    @property
    def example(self) -> ImageTextBatch:
        """An `ImageTextBatch` of one image with its text."""
        return ImageTextBatch(ArraySpec(self.image_shape, "uint8"), self.text.example)

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> "ImageTextSpec":
        """The inverse of `dataclasses.asdict`, from JSON."""
        return cls(tuple(values["image_shape"]), TextSpec.from_fields(values["text"]))


KINDS: dict[str, type[Spec]] = {cls.kind: cls for cls in (VideoSpec, TextSpec, SentenceSpec, ImageTextSpec)}


def from_dict(values: Mapping[str, Any]) -> Spec:
    """The spec that `Spec.to_dict` described; one of a class elsewhere has the tag "module:Class"."""
    values = dict(values)
    tag = values.pop("kind", VideoSpec.kind)  # runs of before there were other kinds have no tag
    if tag in KINDS:
        return KINDS[tag].from_fields(values)
    module, _, name = tag.partition(":")
    return getattr(importlib.import_module(module), name).from_fields(values)


def batch_of(spec: Spec, rows: int, sharding: jax.sharding.Sharding | None = None) -> Any:
    """The shapes of a batch of so many examples, as a pytree of `jax.ShapeDtypeStruct`."""
    shape = lambda own: jax.ShapeDtypeStruct((rows, *own.shape), own.dtype, sharding=sharding)
    return jax.tree.map(shape, spec.example)
