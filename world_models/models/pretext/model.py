"""An encoder of single frames in training on a pretext task."""

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.types import Array, Clip
from world_models.models.latent_dynamics.encoders import make_encoder
from world_models.models.pretext.classification import Classification
from world_models.models.pretext.color_tracking import ColorTracking
from world_models.models.pretext.colorization import Colorization
from world_models.models.pretext.direction import Direction
from world_models.models.pretext.exemplar import Exemplar
from world_models.models.pretext.next_frame import NextFrame
from world_models.models.pretext.options import (
    ClassificationOptions,
    ColorizationOptions,
    ColorTrackingOptions,
    DirectionOptions,
    ExemplarOptions,
    NextFrameOptions,
    OrderOptions,
    PretextOptions,
    RelativePositionOptions,
)
from world_models.models.pretext.order import Order
from world_models.models.pretext.relative_position import RelativePosition
from world_models.models.pretext.task import Task
from world_models.nn.pixels import Pixels

TASKS: dict[type, type[Task]] = {
    RelativePositionOptions: RelativePosition,
    ColorizationOptions: Colorization,
    ExemplarOptions: Exemplar,
    OrderOptions: Order,
    DirectionOptions: Direction,
    ColorTrackingOptions: ColorTracking,
    NextFrameOptions: NextFrame,
    ClassificationOptions: Classification,
}
POOLS = ("mean", "quadrants")


class PretextModel(nnx.Module):
    """An encoder and a task; the names of the encoder's parameters are those of other families' encoders."""

    def __init__(self, options: PretextOptions, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs):
        """Builds both for clips of (time, height, width, channel)."""
        self.options = options
        self.pixels = Pixels(options.pixels)
        self.encoder, _ = make_encoder(options.encoder, frames_shape[1:], dtype=options.dtype, rngs=rngs)
        maps = jax.eval_shape(
            lambda encoder, frames: encoder.maps(frames),
            self.encoder,
            jax.ShapeDtypeStruct((1, *frames_shape[1:]), jnp.float32),
        )
        self.task = TASKS[type(options.task)](options.task, maps.shape[-1], frames_shape, rngs=rngs)

    def encode(self, frames: Array) -> jax.Array:
        """Feature maps float32 [n, rows, columns, size] of frames, or equal parts of them, [n, h, w, c] in 0..255."""
        return self.encoder.maps(self.pixels.normalize(frames)).astype(jnp.float32)

    def features(self, frames: Array, pool: str = "mean") -> jax.Array:
        """One vector per clip, of frames [batch, time, h, w, c]: those of its frames, one after the other.

        Args:
          frames: in 0..255, any number a clip.
          pool: "mean" over the map of a frame, or "quadrants": the means over its four quarters.

        Returns:
          float32 [batch, time·size], or [batch, time·4·size].
        """
        return self.frame_features(frames, pool).reshape(len(frames), -1)

    def frame_features(self, frames: Array, pool: str = "mean") -> jax.Array:
        """The same with an axis of time: float32 [batch, time, size]."""
        batch, time = frames.shape[:2]
        maps = self.encode(self.task.view(frames.reshape(-1, *frames.shape[2:])))
        return pooled(maps, pool).reshape(batch, time, -1)

    def loss(self, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of the task, see `Task.loss`."""
        return self.task.loss(self.encode, clip._replace(frames=jnp.asarray(clip.frames)), keys)


def pooled(maps: Array, pool: str) -> jax.Array:
    """Maps [n, rows, columns, size] as vectors [n, size] ("mean"), or [n, 4·size] ("quadrants")."""
    if pool == "mean":
        return maps.mean(axis=(1, 2))
    rows, columns = (max(side // 2, 1) for side in maps.shape[1:3])
    parts = (maps[:, :rows, :columns], maps[:, :rows, -columns:], maps[:, -rows:, :columns], maps[:, -rows:, -columns:])
    return jnp.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=-1)
