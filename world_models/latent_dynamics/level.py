"""One level of latent dynamics: what its latents are, what its actions are, and how it predicts."""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.latent_dynamics import regularizers
from world_models.nn.embeddings import Constant
from world_models.nn.transformer import LayerNorm, modulation
from world_models.parallel import axes
from world_models.types import Array

ENCODERS = ("frames", "mlp", "identity")
PREDICTORS = ("gru", "mlp")
TERMS = ("std", "cov", "time", "inverse", "sigreg")
MEMORY = 0.99  # of the statistics of macro-actions: the last hundred batches


@dataclasses.dataclass(frozen=True)
class LevelOptions:
    """What a level is made of.

    Attributes:
      encoder: "frames" (level 1 alone: features of a frame), "mlp" on the latents of the level below (H-JEPA), or
        "identity" (HWM: both levels share one space).
      stride: ticks of the level below in one of this; 1 at level 1.
      width: of a latent; at an identity, that of the level below.
      action: numbers of an action: the environment's at level 1, above it of a macro-action in [−1, 1].
      predictor: "gru", whose hidden state is the latent (eb_jepa), or "mlp", two residual blocks that the action
        modulates (adaLN-zero, as LeWM's, with a history of one latent).
      hidden: width of all MLPs.
      rollout: ticks that are predicted in a row in training, from every tick that has so many after it.
      weight: of the level in the loss.
      std, cov, time, inverse, sigreg: weights of `regularizers` beside the prediction's squared error; 0 leaves one
        out. "inverse" predicts the action between two neighbouring latents.
    """

    encoder: str
    stride: int
    width: int
    action: int
    predictor: str = "gru"
    hidden: int = 256
    rollout: int = 8
    weight: float = 1.0
    std: float = 0.0
    cov: float = 0.0
    time: float = 0.0
    inverse: float = 0.0
    sigreg: float = 0.0


class Perceptron(nnx.Module):
    """Linear maps with ReLU between them."""

    def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs):
        """Maps sizes[0] numbers to sizes[-1]."""
        pairs = list(itertools.pairwise(sizes))
        names = [(None, "mlp")] + [("mlp", None)] * (len(pairs) - 1)
        made = [nnx.Linear(a, b, kernel_metadata=axes(*own), rngs=rngs) for (a, b), own in zip(pairs, names)]
        self.layers = nnx.List(made)

    def __call__(self, x: Array) -> jax.Array:
        """[..., sizes[0]] -> [..., sizes[-1]]."""
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class GRU(nnx.Module):
    """A gated recurrent unit (Cho et al. 2014; with the reset gate after the product, as cuDNN has it)."""

    def __init__(self, width: int, inputs: int, *, rngs: nnx.Rngs):
        """`width` of the state."""
        self.of_input = nnx.Linear(inputs, 3 * width, kernel_metadata=axes(None, "mlp"), rngs=rngs)
        self.of_state = nnx.Linear(width, 3 * width, kernel_metadata=axes("width", "mlp"), rngs=rngs)

    def __call__(self, state: Array, inputs: Array) -> jax.Array:
        """[..., width], [..., inputs] -> the next state."""
        reset, update, new = jnp.split(self.of_input(inputs), 3, axis=-1)
        own_reset, own_update, own_new = jnp.split(self.of_state(state), 3, axis=-1)
        candidate = jnp.tanh(new + nnx.sigmoid(reset + own_reset) * own_new)
        keep = nnx.sigmoid(update + own_update)
        return (1 - keep) * candidate + keep * state


class Residual(nnx.Module):
    """Two residual blocks; the action scales, shifts and gates them, and they start as the identity (adaLN-zero)."""

    def __init__(self, width: int, inputs: int, hidden: int, *, rngs: nnx.Rngs):
        """`width` of the state."""
        plain = lambda: LayerNorm(width, use_bias=False, use_scale=False, rngs=rngs)
        self.embed = Perceptron((inputs, hidden, hidden), rngs=rngs)
        self.norms = nnx.List([plain(), plain()])
        self.blocks = nnx.List([Perceptron((width, hidden, width), rngs=rngs) for _ in range(2)])
        self.modulations = nnx.List([modulation(hidden, 3 * width, rngs=rngs) for _ in range(2)])

    def __call__(self, state: Array, inputs: Array) -> jax.Array:
        """[..., width], [..., inputs] -> the next state."""
        condition = nnx.relu(self.embed(inputs))
        for norm, block, change in zip(self.norms, self.blocks, self.modulations):
            scale, shift, gate = jnp.split(change(condition), 3, axis=-1)
            state = state + gate * block(norm(state) * (1 + scale) + shift)
        return state


class Level(nnx.Module):
    """See the module. Level 1 lifts features of frames, an upper level latents of the one below."""

    def __init__(self, options: LevelOptions, below: int, action_below: int, *, rngs: nnx.Rngs):
        """Builds it.

        Args:
          options: of the level.
          below: width of what it encodes.
          action_below: numbers of an action of the level below; unused at level 1.
          rngs: for the initial parameters.
        """
        self.options = options
        width, action, hidden = options.width, options.action, options.hidden
        self.norm = LayerNorm(width, rngs=rngs)  # of encoded and of predicted latents
        sizes = {"frames": (below, width), "mlp": (below, hidden, width), "identity": ()}[options.encoder]
        self.project = Perceptron(sizes, rngs=rngs) if sizes else None
        upper = options.encoder != "frames"
        pooled = (options.stride * action_below, hidden, action)
        self.pooler = Perceptron(pooled, rngs=rngs) if upper else None
        make = {"gru": lambda: GRU(width, action, rngs=rngs), "mlp": lambda: Residual(width, action, hidden, rngs=rngs)}
        self.cell = make[options.predictor]()
        inverse = (2 * width, hidden, hidden, action)
        self.inverse = Perceptron(inverse, rngs=rngs) if options.inverse else None
        # Exponential averages of actions, of their squares, and of 1.
        self.mean, self.square = Constant(jnp.zeros(action)), Constant(jnp.zeros(action))
        self.seen = Constant(jnp.zeros(()))

    def lift(self, below: Array) -> jax.Array:
        """What this level makes of features or of latents of the level below: [..., below] -> [..., width]."""
        return below if self.project is None else self.norm(self.project(below).astype(jnp.float32))

    def pool(self, actions: Array) -> jax.Array:
        """The macro-action, in [−1, 1], of the actions in a tick: [..., stride, action_below] -> [..., action]."""
        return jnp.tanh(self.pooler(actions.reshape(*actions.shape[:-2], -1)))

    def step(self, z: Array, action: Array) -> jax.Array:
        """The next latent: [..., width], [..., action] -> [..., width]."""
        return self.norm(self.cell(z, action))

    def rollout(self, z: Array, actions: Array) -> jax.Array:
        """The next n latents: [..., width], [..., n, action] -> [..., n, width]."""

        def body(z: Array, action: Array) -> tuple[jax.Array, jax.Array]:
            z = self.step(z, action)
            return z, z

        return jnp.moveaxis(jax.lax.scan(body, z, jnp.moveaxis(actions, -2, 0))[1], 0, -2)

    def remember(self, actions: Array) -> None:
        """Adds actions [..., action] of a batch to the statistics that `prior` tells of."""
        rows = jax.lax.stop_gradient(actions).reshape(-1, actions.shape[-1])
        for kept, new in ((self.mean, rows.mean(axis=0)), (self.square, (rows**2).mean(axis=0)), (self.seen, 1.0)):
            kept.set_value(MEMORY * kept[...] + (1 - MEMORY) * new)

    def prior(self) -> tuple[jax.Array, jax.Array]:
        """(mean, standard deviation) of recent actions, [action] each; 0 and 1 before there were any."""
        seen = jnp.where(self.seen[...] > 0, self.seen[...], 1)
        mean = self.mean[...] / seen
        spread = jnp.sqrt(jnp.maximum(self.square[...] / seen - mean**2, 1e-6))
        return mean, jnp.where(self.seen[...] > 0, spread, 1)

    def rollouts(self, z: Array, actions: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rollouts from every tick that has `options.rollout` ticks after it.

        Args:
          z: [batch, ticks, width].
          actions: between them, [batch, ticks − 1, action].

        Returns:
          (predicted, true, held): latents [batch, starts, rollout, width]; held is the start, over and over.
        """
        length = self.options.rollout
        starts = z.shape[1] - length
        index = jnp.arange(starts)[:, None] + jnp.arange(length)
        predicted, true = self.rollout(z[:, :starts], actions[:, index]), z[:, index + 1]
        return predicted, true, jnp.broadcast_to(z[:, :starts, None], true.shape)

    def loss(self, z: Array, actions: Array, key: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(weighted sum, its parts and a few facts) for latents [batch, ticks, width] and the actions between them.

        Targets have gradients too: what keeps latents from collapsing are the other terms (eb_jepa; LeWM).
        "copy" is the error if latents stayed as they are, "variance" the mean variance of a number of a latent.
        """
        options, rows = self.options, z.reshape(-1, z.shape[-1])
        predicted, true, held = self.rollouts(z, actions)
        terms = {"std": lambda: regularizers.variance(rows), "cov": lambda: regularizers.covariance(rows)}
        terms["time"] = lambda: regularizers.time_similarity(z)
        terms["sigreg"] = lambda: regularizers.sigreg(z, key)
        pairs = lambda: jnp.concatenate([z[:, :-1], z[:, 1:]], axis=-1)
        terms["inverse"] = lambda: regularizers.inverse_dynamics(self.inverse(pairs()), actions)
        parts = {"prediction": jnp.mean((predicted - true) ** 2)}
        parts |= {name: terms[name]() for name in TERMS if getattr(options, name)}
        total = parts["prediction"] + sum(getattr(options, name) * parts[name] for name in TERMS if name in parts)
        facts = {"copy": jnp.mean((held - true) ** 2), "variance": jnp.mean(jnp.var(rows, axis=0))}
        return total, parts | facts
