"""Types that all modules share: batches, action spaces, and the interface of a world model."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array | np.ndarray


class TextBatch(NamedTuple):
    """A batch of texts as tokens.

    Attributes:
      tokens: int32 [batch, length], in [0, vocabulary size); 0 where `mask` is false.
      mask: bool [batch, length], true where there is a token, false for padding at the end.
    """

    tokens: Array
    mask: Array


class SentenceBatch(NamedTuple):
    """A batch of rows of sentences as tokens, with special tokens.

    Attributes:
      tokens: int32 [batch, length], in [0, vocabulary size).
      blocks: int32 [batch, length], which of a row's sequences a token is of, from 1; 0 for padding. Tokens see those
        of their own block alone.
      positions: int32 [batch, length], place within the sequence.
      types: int32 [batch, length], 0 in the first segment of a sequence, 1 in the second.
      labels: int32 [batch], class of the row; −1 where it has none.
    """

    tokens: Array
    blocks: Array
    positions: Array
    types: Array
    labels: Array


class ImageTextBatch(NamedTuple):
    """A batch of images with a text each.

    Attributes:
      images: uint8 [batch, height, width, channel], 0..255.
      text: caption, or name of the class.
    """

    images: Array
    text: TextBatch


class Clip(NamedTuple):
    """A batch of windows of experience, in the RLDS alignment.

    `actions[:, t]` was done after seeing `frames[:, t]` and led to `frames[:, t + 1]`, with reward `rewards[:, t]`.
    The last two fields are there where the config asks for them; else they hold no arrays.

    Attributes:
      frames: uint8 [batch, time, height, width, channel], 0..255.
      actions: int32 [batch, time] (discrete) or float32 [batch, time, dim] (continuous, in the environment's units).
      rewards: float32 [batch, time].
      is_first: bool [batch, time], true where an episode begins.
      is_last: bool [batch, time], true at an episode's last step, whose action and reward are undefined.
      is_terminal: bool [batch, time], true where the environment ended the episode (false when it was cut).
      text: what the first episode of each window is about, such as an instruction, or None.
      observations: further observations by the path of their field in a step: [batch, time, ...], in its dtype.
    """

    frames: Array
    actions: Array
    rewards: Array
    is_first: Array
    is_last: Array
    is_terminal: Array
    text: TextBatch | None = None
    observations: dict[str, Array] = {}  # noqa: RUF012 (shared, and never changed)


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """An action space.

    Attributes:
      kind: "discrete" (int32 scalars in [0, size)) or "continuous" (float32 vectors of `size` numbers).
      size: number of actions, or length of the vector.
      low, high: for continuous actions, the bounds that map to [-1, 1]; tuples of `size` floats.
    """

    kind: str
    size: int
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "ActionSpec":
        """The inverse of `dataclasses.asdict`, from JSON (lists become tuples)."""
        return cls(d["kind"], int(d["size"]), tuple(d.get("low", ())), tuple(d.get("high", ())))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return () if self.kind == "discrete" else (self.size,)

    @property
    def dtype(self) -> Any:
        """NumPy dtype of an action."""
        return np.int32 if self.kind == "discrete" else np.float32


class Prediction(NamedTuple):
    """Predictions of a world model about its last step; None for what it does not predict.

    Attributes:
      rewards: float32 [batch], reward of the step, or None.
      terminals: float32 [batch], probability that the episode ended, or None.
    """

    rewards: Array | None = None
    terminals: Array | None = None


class WorldModel(Protocol):
    """A model of an environment, stepped by actions. Methods are pure and can be jitted; the state is any pytree."""

    def observe(self, frames: Array, actions: Array, rng: Array) -> Any:
        """Conditions on a context: uint8 frames [batch, time, h, w, c] and the time − 1 actions between them."""

    def step(self, state: Any, action: Array, rng: Array) -> tuple[Any, Prediction]:
        """One step of the world under `action` [batch, ...]."""

    def decode(self, state: Any) -> Array:
        """The current frame of `state`: uint8 [batch, height, width, channel]."""


class Encoder(Protocol):
    """Maps frames to latents, a smaller space for other models.

    Attributes:
      latent_shape: (latents, channels) of a frame.
    """

    latent_shape: tuple[int, int]

    def encode(self, frames: Array) -> Array:
        """Float32 latents [batch, time, latents, channels] in [-1, 1], of uint8 frames [batch, time, h, w, c]."""


class Decoder(Protocol):
    """Maps latents to frames."""

    def decode(self, latents: Array) -> Array:
        """Uint8 frames [batch, time, h, w, c], of float32 latents [batch, time, latents, channels] in [-1, 1]."""
