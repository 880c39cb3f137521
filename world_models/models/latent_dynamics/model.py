"""K levels of latent dynamics (H-JEPA, arXiv 2610.06805; HWM, arXiv 2604.03208) on an encoder of frames.

Level 1 has one tick per frame. A tick of an upper level is `stride` ticks of the level below: its latent encodes the
latent below at that tick, its action, a macro-action, the actions below since its last tick. No tick depends on a later
one, so that `climb` on whole clips in training and `filter_step` frame by frame in acting give the same latents.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.types import ActionSpec, Array, Clip, Prediction
from world_models.models.latent_dynamics.decoder import Decoder
from world_models.models.latent_dynamics.encoders import make_encoder
from world_models.models.latent_dynamics.level import Level
from world_models.models.latent_dynamics.options import LatentDynamicsOptions
from world_models.nn.constants import freeze
from world_models.nn.embeddings import normalize_actions
from world_models.nn.heads import Heads, step_targets
from world_models.nn.pixels import Pixels
from world_models.planning.model import LatentLevel


class State(NamedTuple):
    """The state at a frame.

    Attributes:
      latents: the latent of each level at its last tick, float32 [batch, width of the level].
      actions: the last complete action of each level, [batch, its size]; zeros before the first.
      pending: for each upper level, the last `stride` actions of the level below, [batch, stride, their size].
      carry: input of level 1's predictor, see `Level.init_carry`.
      clock: int32 [batch], frames since the episode began.
    """

    latents: tuple[Array, ...]
    actions: tuple[Array, ...]
    pending: tuple[Array, ...]
    carry: Any
    clock: Array


class MultiLevelDynamics(nnx.Module):
    """A `WorldModel` and `PlanningModel` that predicts latents at K time scales. Levels are numbered from 1.

    An action of level 1 is a float vector in the environment's units, one-hot where actions are discrete; `vectors`
    makes them. Those of the levels above are macro-actions in [−1, 1].
    """

    def __init__(
        self, options: LatentDynamicsOptions, frame_shape: tuple[int, int, int], actions: ActionSpec, *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the model for frames of (height, width, channel) and an action space."""
        self.options, self.actions, self.frame_shape = options, actions, frame_shape
        self.pixels = Pixels(options.pixels)
        self.encoder, below = make_encoder(options.encoder, frame_shape, dtype=options.dtype, rngs=rngs)
        levels, size = [], actions.size
        for level in options.levels:
            levels.append(Level(level, below, size, rngs=rngs))
            if not level.weight:
                freeze(levels[-1])
            below, size = level.width, level.action
        self.levels = nnx.List(levels)
        shown = options.levels if options.decoder.channels else ()
        self.decoders = nnx.List([Decoder(options.decoder, own.width, frame_shape, rngs=rngs) for own in shown])
        inputs = 2 * options.levels[0].width + actions.size
        self.heads = Heads(options.heads, inputs, rngs=rngs) if options.heads.any else None

    def encode(self, frames: Array) -> jax.Array:
        """Latents of level 1, float32 [batch, time, width], of uint8 frames [batch, time, h, w, c]."""
        x = self.pixels.normalize(frames.reshape(-1, *frames.shape[2:]))
        return self.levels[0].lift(self.encoder(x)).reshape(*frames.shape[:2], -1)

    def vectors(self, actions: Array) -> jax.Array:
        """Actions of level 1, float32 [..., size], of the actions of a clip, int [...] or float [..., size]."""
        if self.actions.kind == "discrete":
            return jax.nn.one_hot(actions, self.actions.size)
        return jnp.asarray(actions, jnp.float32)

    def lift(self, level: int, below: Array) -> jax.Array:
        """Latents [..., width] of `level` at its ticks, of latents [..., width below] of the level below.

        At level 1, whose latents are the result of `encode`, the identity.
        """
        return below if level == 1 else self.levels[level - 1].lift(below)

    def distance_embedding(self, level: int, z: Array) -> jax.Array:
        """The embedding [..., width] in which planners measure distances, of latents [..., width] of `level`."""
        return self.levels[level - 1].distance_embedding(z)

    def pool(self, level: int, actions: Array) -> jax.Array:
        """The macro-action [..., size] of an upper level, of the actions below in a tick, [..., stride, size below]."""
        return self.levels[level - 1].pool(self._scaled(level - 1, actions))

    def init_carry(self, level: int, z: Array) -> Any:
        """The carry of `step_level` for a single latent [..., width], see `Level.init_carry`."""
        return self.levels[level - 1].init_carry(z)

    @property
    def planning_levels(self) -> tuple[LatentLevel, ...]:
        """The properties of its levels that planners need."""
        return tuple(LatentLevel(own.action, own.stride, own.encoder == "identity") for own in self.options.levels)

    @property
    def can_decode(self) -> bool:
        """Whether there are decoders of latents."""
        return bool(self.options.decoder.channels)

    def step_level(self, level: int, carry: Any, action: Array, rng: Array | None = None) -> Any:
        """The carry of `level` one predicted tick later, under an action [..., its size]; `rng` is unused."""
        return self.levels[level - 1].step(carry, self._scaled(level, action))

    def observe_latent(self, level: int, carry: Any, action: Array, z: Array) -> Any:
        """The carry of `level` after an action [..., its size] that led to an observed latent [..., width]."""
        return self.levels[level - 1].observe(carry, self._scaled(level, action), z)

    def latent(self, level: int, carry: Any) -> jax.Array:
        """The latent [..., width] of `level` in a carry."""
        return self.levels[level - 1].latent(carry)

    def rollout(self, level: int, z: Array, actions: Array) -> jax.Array:
        """The next n latents [..., n, width] of `level` alone, from a latent [..., width] under actions [..., n, size].

        At an upper level these are n predictions for n · (its period) frames.
        """
        return self.levels[level - 1].rollout(self.init_carry(level, z), self._scaled(level, actions))

    def prior(self, level: int) -> tuple[jax.Array, jax.Array]:
        """(mean, standard deviation), [size] each, of recent actions of `level` in training: a prior for planners."""
        return self.levels[level - 1].prior()

    def climb(self, z: Array, actions: Array, *, detach: bool = False) -> list[tuple[jax.Array, jax.Array]]:
        """Latents and actions of a clip at all levels.

        Args:
          z: latents of level 1, [batch, time, width].
          actions: those between the frames, from `vectors`, [batch, time − 1, size].
          detach: whether no gradient passes from a level to the one below.

        Returns:
          (latents [batch, ticks, width], actions between them [batch, ticks − 1, size]) of each level. A level has
          ticks at frame 0 and then once a period; an incomplete last period has no action.
        """
        found = [(z, actions)]
        for level, options in list(enumerate(self.options.levels, start=1))[1:]:
            z, actions = jax.lax.stop_gradient(found[-1]) if detach else found[-1]
            z = self.lift(level, z[:, :: options.stride])
            whole = actions[:, : (z.shape[1] - 1) * options.stride]
            chunks = whole.reshape(len(whole), z.shape[1] - 1, options.stride, whole.shape[-1])
            found.append((z, self.pool(level, chunks)))
        return found

    def loss(self, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of the losses of all levels, decoders and heads; updates the statistics of `prior`.

        Args:
          clip: windows of single episodes, long enough for the rollout of every level.
          keys: a random key an example, [batch].

        Returns:
          (total, metrics by name): those of `Level.loss` as "level_<l>_<name>".
        """
        total, metrics = jnp.zeros(()), {}
        between = self.vectors(clip.actions[:, :-1])
        levels = self.climb(self.encode(clip.frames), between, detach=self.options.detach_lower)
        for number, (level, (z, actions)) in enumerate(zip(self.levels, levels), start=1):
            key = jax.random.fold_in(keys[0], number)  # the same on all devices, as the projections must be
            level.update_prior(actions)
            parts = {}
            if level.options.weight:
                loss, parts = level.loss(z, self._scaled(number, actions), key)
                total += level.options.weight * loss
            if self.decoders:
                loss_decoder = self._loss_of_decoder(number, z, clip.frames, keys)
                parts["decoder"] = loss_decoder
                total += self.options.decoder.weight * loss_decoder
            metrics |= {f"level_{number}_{name}": value for name, value in parts.items()}
        if self.heads is not None:
            z = levels[0][0]
            features = self._head_features(z[:, :-1], between, z[:, 1:])
            extra, parts = self.heads.loss(features, *step_targets(clip))
            total, metrics = total + extra, metrics | parts
        return total, {"loss": total} | metrics

    def _head_features(self, z: Array, action: Array, following: Array) -> jax.Array:
        """Inputs of the heads: latents of level 1 [..., width] before and after a step, its action from `vectors`."""
        return jnp.concatenate([z, self._scaled(1, action), following], axis=-1)

    def rollout_errors(self, clip: Clip) -> dict[str, jax.Array]:
        """Errors of rollouts, and of latents held constant, after 1, 2, … ticks.

        A "transformer" starts from `history` true latents.

        Returns:
          "level_<l>_error" and "level_<l>_copy": mean squared errors [batch, rollout of the level].
        """
        found = {}
        levels = self.climb(self.encode(clip.frames), self.vectors(clip.actions[:, :-1]))
        for number, (level, (z, actions)) in enumerate(zip(self.levels, levels), start=1):
            predicted, true, held = level.rollouts(z, self._scaled(number, actions), level.options.history)
            for name, other in (("error", predicted), ("copy", held)):
                errors = jnp.mean((other - true) ** 2, axis=(1, 3))
                found[f"level_{number}_{name}"] = errors[:, level.options.history - 1 :]
        return found

    def start(self, batch: int) -> State:
        """The state before the first frame of an episode."""
        zeros = lambda *shape: jnp.zeros((batch, *shape))
        levels = self.options.levels
        pending = tuple(zeros(own.stride, below.action) for below, own in itertools.pairwise(levels))
        actions = tuple(zeros(own.action) for own in levels)
        latents, carry = tuple(zeros(own.width) for own in levels), self.levels[0].empty_carry((batch,))
        return State(latents, actions, pending, carry, jnp.full((batch,), -1, jnp.int32))

    def filter_step(self, state: State, frame: Array, action: Array, is_first: Array | None = None) -> State:
        """The state after one more frame.

        Args:
          state: at the frame before, or from `start`.
          frame: uint8 [batch, h, w, c].
          action: that led to it, [batch, ...] as in a clip; ignored where an episode begins.
          is_first: bool [batch], where an episode begins.
        """
        return self._tick(state, self.encode(frame[:, None])[:, 0], action, is_first)

    def _tick(self, state: State, z: Array, action: Array, is_first: Array | None = None) -> State:
        """`filter_step` with the latent of level 1 in place of the frame."""
        if is_first is not None:
            fresh = self.start(len(z))
            state = jax.tree.map(lambda a, b: _where(is_first, a, b), fresh, state)
        clock = state.clock + 1
        moved = clock > 0
        latents, actions, pending = [z], [_where(moved, self.vectors(action), state.actions[0])], []
        carry = self.observe_latent(1, state.carry, self.vectors(action), z)
        for number, period in list(enumerate(self.options.periods, start=1))[1:]:
            i = number - 1
            below_acted = moved & (clock % self.options.periods[i - 1] == 0)
            pushed = jnp.concatenate([state.pending[i - 1][:, 1:], actions[i - 1][:, None]], axis=1)
            pending.append(_where(below_acted, pushed, state.pending[i - 1]))
            ticks = clock % period == 0
            actions.append(_where(ticks & moved, self.pool(number, pending[-1]), state.actions[i]))
            latents.append(_where(ticks, self.lift(number, latents[-1]), state.latents[i]))
        return State(tuple(latents), tuple(actions), tuple(pending), carry, clock)

    def observe(self, frames: Array, actions: Array, rng: Array) -> State:
        """The state after uint8 frames [batch, time, h, w, c] and time − 1 actions between them; `rng` is unused."""
        z = jnp.moveaxis(self.encode(frames), 1, 0)
        zeros = jnp.zeros((len(frames), 1, *self.actions.shape), self.actions.dtype)
        led = jnp.moveaxis(jnp.concatenate([zeros, jnp.asarray(actions, zeros.dtype)], axis=1), 1, 0)
        body = lambda state, inputs: (self._tick(state, *inputs), None)
        return jax.lax.scan(body, self.start(len(frames)), (z, led))[0]

    def step(self, state: State, action: Array, rng: Array) -> tuple[State, Prediction]:
        """Predicts the next latent of level 1 under `action` [batch, ...]; levels above encode it at their ticks."""
        vector = self.vectors(action)
        z = self.latent(1, self.step_level(1, state.carry, vector))
        following = self._tick(state, z, action)
        if self.heads is None:
            return following, Prediction()
        return following, self.heads.predict(self._head_features(state.latents[0], vector, z))

    def decode(self, state: State) -> jax.Array:
        """The present frame, uint8 [batch, h, w, c]. Raises ConfigError if there is no decoder."""
        return self.decode_level(1, state.latents[0])

    def decode_level(self, level: int, z: Array) -> jax.Array:
        """Frames uint8 [..., h, w, c] of latents [..., width] of a level; raises ConfigError if there is no decoder."""
        if not self.decoders:
            raise config_error("config.model.decoder.channels", (), "not be empty to decode latents")
        return self.pixels.restore(self.decoders[level - 1](z))

    def _scaled(self, level: int, actions: Array) -> Array:
        """Actions of `level` as its networks take them: those of the environment scaled to [−1, 1]."""
        return normalize_actions(self.actions, actions) if level == 1 and self.actions.kind != "discrete" else actions

    def _loss_of_decoder(self, number: int, z: Array, frames: Array, keys: Array) -> jax.Array:
        """Squared error at a few ticks of every example, evenly spaced from a random one."""
        options, ticks = self.options.decoder, z.shape[1]
        z = jax.lax.stop_gradient(z) if options.detach else z
        apart = np.arange(min(options.frames, ticks)) * ticks // min(options.frames, ticks)
        first = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, number), (1,), 0, ticks))(keys)
        chosen = (first + apart) % ticks
        take = jax.vmap(lambda rows, indices: rows[indices])
        frames = take(frames, chosen * self.options.periods[number - 1])
        # Over normalized pixels, so that small objects which `pixels` enlarges count as much as for the encoder.
        return jnp.mean((self.decoders[number - 1](take(z, chosen)) - self.pixels.normalize(frames)) ** 2)


def _where(condition: Array, yes: Array, no: Array) -> jax.Array:
    """`jnp.where` for a condition [batch]."""
    return jnp.where(condition.reshape(-1, *(1,) * (yes.ndim - 1)), yes, no)
