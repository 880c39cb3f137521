"""One level of latent dynamics: its latents, its actions and its predictor."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.types import Array
from world_models.models.latent_dynamics import history, regularizers
from world_models.models.latent_dynamics.options import TERMS, LevelOptions
from world_models.models.latent_dynamics.predictors import GRU, CausalTransformer, Perceptron, Residual
from world_models.nn.constants import Constant
from world_models.nn.transformer import LayerNorm

DECAY = 0.99  # of the moving statistics of actions: about the last hundred batches


class Level(nnx.Module):
    """Encoder, predictor and losses of a level. Level 1 encodes features of frames, an upper one latents below it."""

    def __init__(self, options: LevelOptions, below: int, action_below: int, *, rngs: nnx.Rngs):
        """Builds it.

        Args:
          options: of the level.
          below: width of the features or latents that it encodes.
          action_below: size of an action of the level below; unused at level 1.
          rngs: for the initial parameters.
        """
        self.options = options
        width, action, hidden = options.width, options.action, options.hidden
        ops = options.compute.ops
        self.norm = LayerNorm(width, ops=ops, rngs=rngs)  # of encoded and of predicted latents
        sizes = {"frames": (below, width), "mlp": (below, hidden, width), "identity": ()}[options.encoder]
        self.project = Perceptron(sizes, rngs=rngs) if sizes else None
        upper = options.encoder != "frames"
        pooled = (options.stride * action_below, hidden, action)
        self.pooler = Perceptron(pooled, rngs=rngs) if upper else None
        sizes_of_transformer = {"history": options.history, "depth": options.depth, "heads": options.heads}
        make = {
            "gru": lambda: GRU(width, action, rngs=rngs),
            "mlp": lambda: Residual(width, action, hidden, ops=ops, rngs=rngs),
            "transformer": lambda: CausalTransformer(width, action, hidden, **sizes_of_transformer, ops=ops, rngs=rngs),
        }
        self.cell = make[options.predictor]()
        inverse = (2 * width, hidden, hidden, action)
        self.inverse = Perceptron(inverse, rngs=rngs) if options.inverse else None
        embedding = (width, hidden, hidden, width)
        self.distance_head = Perceptron(embedding, rngs=rngs) if options.distance else None
        # Exponential moving averages of actions, of their squares, and of 1, which corrects for the start at zero.
        self.mean, self.square = Constant(jnp.zeros(action)), Constant(jnp.zeros(action))
        self.seen = Constant(jnp.zeros(()))

    def lift(self, below: Array) -> jax.Array:
        """Latents of this level, [..., width], of features or of latents of the level below, [..., below]."""
        return below if self.project is None else self.norm(self.project(below).astype(jnp.float32))

    def distance_embedding(self, z: Array) -> jax.Array:
        """The embedding in which planners measure distances: latents [..., width] -> [..., width].

        With a weight of "distance" it is the temporal-distance embedding, in which the root mean square difference of
        two latents approximates the ticks of a shortest path between them. Otherwise it is the latents themselves.
        """
        return z if self.distance_head is None else self.distance_head(z)

    def pool(self, actions: Array) -> jax.Array:
        """The macro-action in [−1, 1] of the actions below in a tick: [..., stride, action_below] -> [..., action]."""
        return jnp.tanh(self.pooler(actions.reshape(*actions.shape[:-2], -1)))

    def init_carry(self, z: Array) -> Any:
        """The carry of `step` for a single latent [..., width]: the latent itself, or a `History` for a transformer."""
        return self.observe(self.empty_carry(z.shape[:-1]), jnp.zeros((*z.shape[:-1], self.options.action)), z)

    def empty_carry(self, shape: tuple[int, ...]) -> Any:
        """The carry before the first latent, with leading axes `shape`."""
        options = self.options
        if options.predictor == "transformer":
            return history.empty(shape, options.history, options.width, options.action)
        return jnp.zeros((*shape, options.width))

    def observe(self, carry: Any, action: Array, z: Array) -> Any:
        """The carry after an action [..., action] that led to an observed latent [..., width]."""
        return history.append(carry, action, z) if self.options.predictor == "transformer" else z

    def latent(self, carry: Any) -> jax.Array:
        """The present latent, [..., width]."""
        return carry.latest if self.options.predictor == "transformer" else carry

    def step(self, carry: Any, action: Array) -> Any:
        """The carry one predicted tick later, under an action [..., action]."""
        if self.options.predictor != "transformer":
            return self.norm(self.cell(carry, action))
        done = history.set_row(carry.actions, carry.count - 1, action)
        following = history.get_row(self.cell(carry.latents, done), carry.count - 1)
        return history.append(carry, action, self.norm(following))

    def rollout(self, carry: Any, actions: Array) -> jax.Array:
        """The next n latents [..., n, width] from a carry, under actions [..., n, action]."""

        def body(carry: Any, action: Array) -> tuple[Any, jax.Array]:
            carry = self.step(carry, action)
            return carry, self.latent(carry)

        return jnp.moveaxis(jax.lax.scan(body, carry, jnp.moveaxis(actions, -2, 0))[1], 0, -2)

    def update_prior(self, actions: Array) -> None:
        """Adds actions [..., action] of a batch to the statistics of `prior`, in place."""
        rows = jax.lax.stop_gradient(actions).reshape(-1, actions.shape[-1])
        for average, new in ((self.mean, rows.mean(axis=0)), (self.square, (rows**2).mean(axis=0)), (self.seen, 1.0)):
            average.set_value(DECAY * average[...] + (1 - DECAY) * new)

    def prior(self) -> tuple[jax.Array, jax.Array]:
        """(mean, standard deviation) of recent actions, [action] each; 0 and 1 before there were any."""
        seen = jnp.where(self.seen[...] > 0, self.seen[...], 1)
        mean = self.mean[...] / seen
        spread = jnp.sqrt(jnp.maximum(self.square[...] / seen - mean**2, 1e-6))
        return mean, jnp.where(self.seen[...] > 0, spread, 1)

    def rollouts(self, z: Array, actions: Array, given: int = 1) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Predictions from every tick that has enough ticks after it.

        Args:
          z: [batch, ticks, width].
          actions: between them, [batch, ticks − 1, action].
          given: number of true latents that each rollout starts from, at most `options.history`. One tick is predicted
            from each of them but the last, and `options.rollout` from the last.

        Returns:
          (predicted, true, held): latents [batch, starts, given − 1 + rollout, width]; held is the last true latent
          that each prediction depends on.
        """
        ticks = np.arange(given - 1 + self.options.rollout)
        index = np.arange(z.shape[1] - len(ticks))[:, None] + ticks
        latents, done = z[:, index[:, :given]], actions[:, index]
        first = self.norm(self.cell(latents, done[..., :given, :]))
        carry = self.init_carry(latents[..., 0, :])
        for i in range(1, given):
            carry = self.observe(carry, done[..., i - 1, :], latents[..., i, :])
        carry = self.observe(carry, done[..., given - 1, :], first[..., -1, :])
        rest = self.rollout(carry, done[..., given:, :])
        held = z[:, index[:, :1] + np.minimum(ticks, given - 1)]
        return jnp.concatenate([first, rest], axis=-2), z[:, index + 1], held

    def loss(self, z: Array, actions: Array, key: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss of latents [batch, ticks, width] and the actions between them, [batch, ticks − 1, action].

        Targets have gradients too: the other terms keep latents from collapsing (eb_jepa; LeWM).

        Returns:
          (weighted sum, metrics): the parts by name; "copy", the error of latents held constant; "variance", the mean
          variance of a component of a latent.
        """
        options, rows = self.options, z.reshape(-1, z.shape[-1])
        predicted, true, held = self.rollouts(z, actions, options.history)
        terms = {"std": lambda: regularizers.variance(rows), "cov": lambda: regularizers.covariance(rows)}
        terms["time"] = lambda: regularizers.time_similarity(z)
        terms["sigreg"] = lambda: regularizers.sigreg(z, key)
        # Small errors of latents can be large distances, through a wall for instance, so the embedding of predictions
        # is trained as well. Its error grows with distances: divided by max_distance it does not outweigh the rest.
        embedding_error = lambda: jnp.mean(
            (self.distance_embedding(predicted) - jax.lax.stop_gradient(self.distance_embedding(true))) ** 2
        )
        spread = lambda: regularizers.temporal_distance(self.distance_embedding(z), options.max_distance)
        terms["distance"] = lambda: spread() + embedding_error() / options.max_distance
        pairs = lambda: jnp.concatenate([z[:, :-1], z[:, 1:]], axis=-1)
        terms["inverse"] = lambda: regularizers.inverse_dynamics(self.inverse(pairs()), actions)
        parts = {"prediction": jnp.mean((predicted - true) ** 2)}
        parts |= {name: terms[name]() for name in TERMS if getattr(options, name)}
        total = parts["prediction"] + sum(getattr(options, name) * parts[name] for name in TERMS if name in parts)
        others = {"copy": jnp.mean((held - true) ** 2), "variance": jnp.mean(jnp.var(rows, axis=0))}
        return total, parts | others
