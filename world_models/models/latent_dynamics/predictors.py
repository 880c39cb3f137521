"""Predictors of the next latent from a latent and an action."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array
from world_models.nn.options import ComputeOptions, TransformerOptions
from world_models.nn.transformer import LayerNorm, Transformer, modulation


class Perceptron(nnx.Module):
    """Linear maps with ReLU between them."""

    def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs):
        """Builds layers of widths `sizes`, inputs first."""
        pairs = list(itertools.pairwise(sizes))
        names = [(None, "mlp")] + [("mlp", None)] * (len(pairs) - 1)
        layers = [nnx.Linear(a, b, kernel_metadata=axes(*own), rngs=rngs) for (a, b), own in zip(pairs, names)]
        self.layers = nnx.List(layers)

    def __call__(self, x: Array) -> jax.Array:
        """[..., sizes[0]] -> [..., sizes[-1]]."""
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class GRU(nnx.Module):
    """A gated recurrent unit (Cho et al. 2014; with the reset gate after the product, as in cuDNN and PyTorch).

    Not `nnx.GRUCell`, which has no bias inside the reset gate: its parameters and results would differ.
    """

    def __init__(self, width: int, inputs: int, *, rngs: nnx.Rngs):
        """Builds the cell for states [..., width] and inputs [..., inputs]."""
        self.dense_i = nnx.Linear(inputs, 3 * width, kernel_metadata=axes(None, "mlp"), rngs=rngs)
        self.dense_h = nnx.Linear(width, 3 * width, kernel_metadata=axes("width", "mlp"), rngs=rngs)

    def __call__(self, state: Array, inputs: Array) -> jax.Array:
        """The next state [..., width], of a state [..., width] and inputs [..., inputs]."""
        reset, update, new = jnp.split(self.dense_i(inputs), 3, axis=-1)
        own_reset, own_update, own_new = jnp.split(self.dense_h(state), 3, axis=-1)
        candidate = jnp.tanh(new + nnx.sigmoid(reset + own_reset) * own_new)
        keep = nnx.sigmoid(update + own_update)
        return (1 - keep) * candidate + keep * state


class Residual(nnx.Module):
    """Two residual blocks; the action scales, shifts and gates them, and they start as the identity (adaLN-zero)."""

    def __init__(self, width: int, inputs: int, hidden: int, *, ops: str = "auto", rngs: nnx.Rngs):
        """Builds the blocks for states [..., width] and inputs [..., inputs]; `ops` as in `ComputeOptions`."""
        plain = lambda: LayerNorm(width, ops=ops, use_bias=False, use_scale=False, rngs=rngs)
        self.embed = Perceptron((inputs, hidden, hidden), rngs=rngs)
        self.norms = nnx.List([plain(), plain()])
        self.blocks = nnx.List([Perceptron((width, hidden, width), rngs=rngs) for _ in range(2)])
        self.modulations = nnx.List([modulation(hidden, 3 * width, rngs=rngs) for _ in range(2)])

    def __call__(self, state: Array, inputs: Array) -> jax.Array:
        """The next state [..., width], of a state [..., width] and inputs [..., inputs]."""
        condition = nnx.relu(self.embed(inputs))
        for norm, block, change in zip(self.norms, self.blocks, self.modulations):
            scale, shift, gate = jnp.split(change(condition), 3, axis=-1)
            state = state + gate * block(norm(state) * (1 + scale) + shift)
        return state


class CausalTransformer(nnx.Module):
    """A causal transformer over latents, conditioned on actions by adaLN-zero (LeWM).

    LeWM's outputs the next latent; this one its difference from the latent, zero at initialization.
    """

    def __init__(
        self,
        width: int,
        inputs: int,
        hidden: int,
        *,
        history: int,
        depth: int,
        heads: int,
        ops: str = "auto",
        rngs: nnx.Rngs,
    ):
        """Builds it for `history` latents of `width` at most; `hidden` is the width of all MLPs."""
        options = TransformerOptions(
            width, depth, heads, mlp_ratio=hidden / width, compute=ComputeOptions(unroll=-1, ops=ops)
        )
        self.embed = Perceptron((inputs, hidden, hidden), rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (history, width)), **axes(None, "width"))
        self.transformer = Transformer(options, hidden, causal=True, rngs=rngs)
        self.norm = LayerNorm(width, ops=ops, use_bias=False, use_scale=False, rngs=rngs)
        zeros = nnx.initializers.zeros_init()
        self.out = nnx.Linear(width, width, kernel_init=zeros, kernel_metadata=axes("width", None), rngs=rngs)

    def __call__(self, latents: Array, actions: Array) -> jax.Array:
        """Next latents [..., n, width], of latents [..., n, width] and the actions after each, [..., n, inputs]."""
        tokens = (latents + self.positions[: latents.shape[-2]]).reshape(-1, *latents.shape[-2:])
        condition = nnx.relu(self.embed(actions)).reshape(*tokens.shape[:2], -1)
        return latents + self.out(self.norm(self.transformer(tokens, condition))).reshape(latents.shape)
