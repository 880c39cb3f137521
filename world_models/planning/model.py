"""What a world model must offer to be planned in: latents at one or more time scales, and distances between them."""

import dataclasses
from typing import Any, Protocol

from world_models.core.types import ActionSpec, Array


@dataclasses.dataclass(frozen=True)
class LatentLevel:
    """A level of a `PlanningModel`.

    Attributes:
      action_size: numbers in one of its actions.
      stride: ticks of the level below in one of its own; 1 at level 1, whose ticks are environment steps.
      same_latents: whether its latents are those of the level below.
    """

    action_size: int
    stride: int = 1
    same_latents: bool = False


class PlanningModel(Protocol):
    """A world model with latents and a distance between them, at one or more levels, numbered from 1.

    Latents are float32 [..., width] and carries pytrees with the same leading axes, any number of them. Actions of
    level 1 are float32 vectors in the environment's units; those of the levels above, macro-actions, lie in [−1, 1].
    All methods are pure and can be traced by `jax.jit`, and the model itself is a pytree, as NNX modules are.

    Attributes:
      actions: of the environment.
      planning_levels: from level 1 up.
      can_decode: whether `decode_level` works.
    """

    actions: ActionSpec
    planning_levels: tuple[LatentLevel, ...]
    can_decode: bool

    def encode(self, frames: Array) -> Array:
        """Latents of level 1, [batch, time, width], of uint8 frames [batch, time, h, w, c]."""

    def lift(self, level: int, below: Array) -> Array:
        """Latents of `level` made of those of the level below at the same time; at level 1, the latents themselves."""

    def distance_embedding(self, level: int, z: Array) -> Array:
        """Where latents lie in the space whose mean squared differences are the distances that planners minimize."""

    def init_carry(self, level: int, z: Array) -> Any:
        """What `step_level` predicts from where only a latent is known."""

    def step_level(self, level: int, carry: Any, action: Array, rng: Array | None = None) -> Any:
        """The carry one tick later, under an action; `rng` is for models that draw from a distribution."""

    def observe_latent(self, level: int, carry: Any, action: Array, z: Array) -> Any:
        """The carry after an action really led to a latent."""

    def latent(self, level: int, carry: Any) -> Array:
        """The present latent of a carry."""

    def prior(self, level: int) -> tuple[Array, Array]:
        """Mean and standard deviation [action_size] of actions in training: where a search may begin."""

    def decode_level(self, level: int, z: Array) -> Array:
        """Frames uint8 [..., h, w, c] of latents. Raises UserError without a decoder."""
