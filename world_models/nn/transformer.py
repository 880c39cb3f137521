"""The transformer that all families share: blocks scanned over depth, with or without a condition."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.sharding import axes, split_batch
from world_models.core.types import Array
from world_models.nn import cpu_ops
from world_models.nn.operations import operations
from world_models.nn.options import TransformerOptions

EPSILON = 1e-6
REMAT = {
    "none": None,
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(cpu_ops.PRODUCT),
    ),
    "full": jax.checkpoint_policies.nothing_saveable,
}
_zeros = nnx.initializers.zeros_init()
_xavier = nnx.initializers.xavier_uniform()  # of the joint matrix of queries, keys and values, as in MAE and DiT


class Attention(nnx.Module):
    """Multi-head self-attention with biases (Vaswani et al. 2017); if `causal`, a token attends to none after it."""

    def __init__(self, options: TransformerOptions, *, causal: bool = False, dtype=jnp.float32, rngs: nnx.Rngs):
        self.implementation, self.causal = options.compute.attention, causal
        self.ops = operations(options.compute.ops)
        self.heads, self.kv_heads = options.heads, options.kv_heads or options.heads
        self.qk_norm = options.qk_norm
        size = options.width // options.heads
        shared = {"kernel_init": _xavier, "dtype": dtype, "dot_general": self.ops.dot_general, "rngs": rngs}
        # With as many keys as queries one matrix for all three; the "heads" of either are split over devices alike.
        joint = (3, self.heads) if self.kv_heads == self.heads else (self.heads + 2 * self.kv_heads,)
        names = (*(None,) * (len(joint) - 1), "heads", None)
        self.qkv = nnx.LinearGeneral(
            options.width, (*joint, size), kernel_metadata=axes("width", *names), bias_metadata=axes(*names), **shared
        )
        self.out = nnx.LinearGeneral(
            (self.heads, size),
            options.width,
            axis=(-2, -1),
            kernel_metadata=axes("heads", None, "width"),
            bias_metadata=axes("width"),
            **shared,
        )
        if self.qk_norm:
            self.q_norm, self.k_norm = (nnx.RMSNorm(size, epsilon=EPSILON, dtype=dtype, rngs=rngs) for _ in range(2))

    def project(self, x: Array) -> tuple[Array, Array, Array]:
        """Queries [..., heads, size], keys and values [..., kv_heads, size] of tokens [..., width]."""
        qkv = self.qkv(x)
        if self.kv_heads == self.heads:
            q, k, v = (qkv[..., i, :, :] for i in range(3))
        else:
            q, k, v = jnp.split(qkv, (self.heads, self.heads + self.kv_heads), axis=-2)
        return (self.q_norm(q), self.k_norm(k), v) if self.qk_norm else (q, k, v)

    def mix(self, q: Array, k: Array, v: Array, window: int | None = None, mask: Array | None = None) -> Array:
        """Attention of queries [batch, tokens, heads, size] to keys and values [batch, tokens, kv_heads, size].

        If `window` is given, a token attends to the `window` newest alone, itself included; `mask` is as of
        `Transformer`.
        """
        if self.implementation == "xla" and window is None:
            return self.ops.attention(q, k, v, self.causal, mask)
        local = None if window is None else (window - 1, 0)
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            mask=None if mask is None else mask[:, None],
            is_causal=self.causal,
            local_window_size=local,
            implementation=self.implementation,
        )

    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """[batch, tokens, width] -> the same; `mask` is as of `Transformer`."""
        return self.out(self.mix(*self.project(x), mask=mask))


class MLP(nnx.Module):
    """Linear, exact GELU, linear; with `gated`, SwiGLU: silu(gate(x)) · up(x) between the two (Shazeer 2020)."""

    def __init__(
        self, width: int, hidden: int, *, gated: bool = False, ops: str = "auto", dtype=jnp.float32, rngs: nnx.Rngs
    ):
        self.ops = operations(ops)
        shared = {"kernel_init": _xavier, "dtype": dtype, "dot_general": self.ops.dot_general, "rngs": rngs}
        outward = {"kernel_metadata": axes("width", "mlp"), "bias_metadata": axes("mlp")}
        inward = {"kernel_metadata": axes("mlp", "width"), "bias_metadata": axes("width")}
        self.up = nnx.Linear(width, hidden, **outward, **shared)
        self.gate = nnx.Linear(width, hidden, **outward, **shared) if gated else None
        self.down = nnx.Linear(hidden, width, **inward, **shared)

    def __call__(self, x: Array) -> Array:
        """[..., width] -> the same."""
        if self.gate is not None:
            return self.down(jax.nn.silu(self.gate(x)) * self.up(x))
        return self.down(self.ops.gelu(self.up(x)))


class LayerNorm(nnx.LayerNorm):
    """Layer normalization (Ba et al. 2016) with float32 statistics, whatever the dtype."""

    def __init__(self, width: int, *, ops: str = "auto", rngs: nnx.Rngs, **settings):
        """`ops` as in `ComputeOptions`; `settings` as in `nnx.LayerNorm`."""
        super().__init__(width, use_fast_variance=False, rngs=rngs, **settings)
        self.ops = operations(ops)

    def __call__(self, x: Array) -> Array:
        """Normalizes [..., width] over the last axis."""
        if self.ops.layer_norm is None:
            return super().__call__(x)
        scale, bias = (None if own is None else own[...] for own in (self.scale, self.bias))
        return self.ops.layer_norm(x, scale, bias, self.epsilon).astype(self.dtype)


def make_norm(
    options: TransformerOptions, *, learned: bool, epsilon: float = EPSILON, dtype=jnp.float32, rngs: nnx.Rngs
) -> nnx.Module:
    """The normalization `options.norm` of tokens, with learned scale (and bias) or without; statistics are float32."""
    shared = {"epsilon": epsilon, "use_scale": learned, "dtype": dtype, "rngs": rngs}
    if options.norm == "rms":
        return nnx.RMSNorm(options.width, **shared)
    return LayerNorm(options.width, ops=options.compute.ops, use_bias=learned, **shared)


class Block(nnx.Module):
    """A pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)).

    A post-norm block, norm(x + attention(x)), then norm(x + mlp(x)) (Vaswani et al. 2017), has no condition.

    With a condition, scale and shift after each norm and a gate before each sum are linear in it, and start at zero,
    so that the block starts as the identity (adaLN-zero; Peebles & Xie 2022, section 3.2).
    """

    def __init__(
        self,
        options: TransformerOptions,
        condition: int = 0,
        *,
        causal: bool = False,
        post_norm: bool = False,
        epsilon: float = EPSILON,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        width, plain, ops = options.width, not condition, options.compute.ops
        if post_norm and condition:
            raise ValueError("post-norm blocks have no condition")
        self.post_norm, norm = post_norm, {"learned": plain, "epsilon": epsilon, "dtype": dtype, "rngs": rngs}
        self.norm1, self.norm2 = (make_norm(options, **norm) for _ in range(2))
        self.attention = Attention(options, causal=causal, dtype=dtype, rngs=rngs)
        gated = options.mlp == "swiglu"
        self.mlp = MLP(width, options.hidden, gated=gated, ops=ops, dtype=dtype, rngs=rngs)
        self.modulation = None if plain else modulation(condition, 6 * width, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Array, condition: Array | None = None, gates: Array | None = None, mask: Array | None = None
    ) -> Array:
        """Applies the block to tokens [batch, tokens, width].

        Args:
          x: tokens.
          condition: of all tokens, [batch, condition], or of each, [batch, tokens, condition]; None for a plain block.
          gates: [2, batch], factors of both branches of a plain block, from `drop_path`.
          mask: as of `Transformer`.

        Returns:
          Like `x`.
        """
        if self.post_norm:
            one, two = _factors(gates, x)
            x = self.norm1(x + one * self.attention(x, mask))
            return self.norm2(x + two * self.mlp(x))
        if condition is not None and condition.ndim < x.ndim:
            condition = condition[:, None]
        change = self.modulate(condition)
        return self.finish(x, self.attention(self.attention_input(x, change), mask), change, gates)

    def modulate(self, condition: Array | None) -> list[Array] | None:
        """(scale, shift, gate) of both branches, [..., width] each, of a condition [..., condition]; None if plain."""
        return None if self.modulation is None else jnp.split(self.modulation(condition), 6, axis=-1)

    def attention_input(self, x: Array, change: list[Array] | None) -> Array:
        """Normalized tokens [..., width], scaled and shifted by the result of `modulate`."""
        return self.norm1(x) if change is None else self.norm1(x) * (1 + change[0]) + change[1]

    def finish(self, x: Array, attended: Array, change: list[Array] | None, gates: Array | None = None) -> Array:
        """The rest of the block: adds the result of attention and the MLP to tokens [..., width]."""
        if change is None:
            one, two = _factors(gates, x)
            x = x + one * attended
            return x + two * self.mlp(self.norm2(x))
        _, _, gate1, scale2, shift2, gate2 = change
        x = x + gate1 * attended
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class Transformer(nnx.Module):
    """`depth` blocks whose parameters are stacked, [depth, ...]: compiled once, whatever the depth."""

    def __init__(
        self,
        options: TransformerOptions,
        condition: int = 0,
        *,
        causal: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
        **block: Any,
    ):
        """Builds the blocks; `condition` is the width of a condition, 0 for none; computes in `dtype`.

        `block` are further settings of `Block`: `post_norm`, and the `epsilon` of its norms.
        """
        self.options = options

        @nnx.split_rngs(splits=options.depth)
        @nnx.vmap(in_axes=(0,), transform_metadata={nnx.PARTITION_NAME: "layers"})
        def stacked(rngs: nnx.Rngs) -> Block:
            return Block(options, condition, causal=causal, dtype=dtype, rngs=rngs, **block)

        self.blocks = stacked(rngs)

    def __call__(
        self, x: Array, condition: Array | None = None, gates: Array | None = None, mask: Array | None = None
    ) -> Array:
        """Applies all blocks to tokens [batch, tokens, width].

        Args:
          x: tokens.
          condition: of all tokens, [batch, condition], or of each, [batch, tokens, condition]; None for plain blocks.
          gates: [depth, 2, batch], factors of both branches of every plain block, from `drop_path`.
          mask: bool [batch, tokens, tokens], whether a token (second axis) attends to another (third); None for all, or
            in a causal transformer for all that are not after it. Every token must attend to some.

        Returns:
          Like `x`.
        """
        graphdef, layers = nnx.split(self.blocks)

        def body(x: Array, layer) -> tuple[Array, None]:
            layer, own = layer
            return split_batch(nnx.merge(graphdef, layer)(x, condition, own, mask)), None

        if self.options.compute.remat != "none":
            body = jax.checkpoint(body, policy=REMAT[self.options.compute.remat], prevent_cse=False)
        return jax.lax.scan(body, split_batch(x), (nnx.as_pure(layers), gates), unroll=self.options.unroll)[0]


def _factors(gates: Array | None, x: Array) -> Any:
    """Factors of the two branches of a block, for tokens [batch, tokens, width]."""
    return (1, 1) if gates is None else gates[..., None, None].astype(x.dtype)


def block_mask(blocks: Array, *, causal: bool = False, together: Array | None = None) -> jax.Array:
    """The mask of rows that hold several sequences: tokens attend to those of their own block alone.

    Args:
      blocks: int [batch, tokens], the block of each token; padding is a block like others.
      causal: whether a token attends to none after it.
      together: int [batch, tokens], of causal rows the spans that see all of themselves, such as the patches of an
        image, by number (Zhou et al. 2024, Transfusion, section 3.1); 0 for tokens of none.

    Returns:
      Bool [batch, tokens, tokens], as `Transformer` takes it.
    """
    same = lambda own: own[:, :, None] == own[:, None, :]
    seen = same(blocks)
    if causal:
        before = np.tri(blocks.shape[1], dtype=bool)
        seen &= before if together is None else before | (same(together) & (together[:, None, :] > 0))
    return seen


def drop_path(keys: Array, rate: float, depth: int) -> Array:
    """Gates that leave out branches of a transformer at random (stochastic depth; Huang et al. 2016).

    Args:
      keys: [batch] random keys, one an example.
      rate: probability that a branch of the last block is left out; it rises linearly from 0 in the first block.
      depth: number of blocks.

    Returns:
      float32 [depth, 2, batch]: 0 where a branch is left out, elsewhere 1 / (probability that it is kept).
    """
    keep = 1 - jnp.linspace(0.0, rate, depth)[:, None]
    kept = jax.vmap(lambda key: jax.random.uniform(key, (depth, 2)) < keep, out_axes=-1)(keys)
    return kept / keep[..., None]


class DiffusionTransformer(nnx.Module):
    """A DiT (Peebles & Xie 2022): maps images to images of the same size under a condition; zero at initialization.

    Every pixel is a token: fold patches into channels before.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        options: TransformerOptions,
        *,
        condition: int,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the network.

        Args:
          inputs, outputs: channels in and out.
          options: of the transformer.
          condition: width of the condition.
          dtype: of the computation; parameters are float32.
          rngs: for the initial parameters.
        """
        self.embed = nnx.Linear(
            inputs,
            options.width,
            kernel_metadata=axes(None, "width"),
            bias_metadata=axes("width"),
            dtype=dtype,
            rngs=rngs,
        )
        self.transformer = Transformer(options, condition, dtype=dtype, rngs=rngs)
        plain = {"use_bias": False, "use_scale": False, "ops": options.compute.ops}
        self.norm = LayerNorm(options.width, epsilon=EPSILON, dtype=dtype, rngs=rngs, **plain)
        self.modulation = modulation(condition, 2 * options.width, dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(
            options.width, outputs, kernel_init=_zeros, kernel_metadata=axes("width", None), dtype=dtype, rngs=rngs
        )

    def __call__(self, x: Array, condition: Array) -> Array:
        """[batch, h, w, inputs], [batch, condition] -> [batch, h, w, outputs]."""
        batch, height, width, channels = x.shape
        tokens = self.embed(x.reshape(batch, height * width, channels))
        tokens = tokens + sincos_positions(height, width, tokens.shape[-1]).astype(tokens.dtype)
        condition = condition.astype(tokens.dtype)
        tokens = self.transformer(tokens, condition)
        scale, shift = jnp.split(self.modulation(condition)[:, None], 2, axis=-1)
        return self.head(self.norm(tokens) * (1 + scale) + shift).reshape(batch, height, width, -1)


def modulation(condition: int, outputs: int, *, dtype=jnp.float32, rngs: nnx.Rngs) -> nnx.Linear:
    """The map from a condition to scales, shifts and gates; zero at initialization."""
    return nnx.Linear(
        condition, outputs, kernel_init=_zeros, kernel_metadata=axes("condition", None), dtype=dtype, rngs=rngs
    )


def sincos_positions(height: int, width: int, channels: int) -> np.ndarray:
    """Fixed sine-cosine positions of a grid, float32 [height·width, channels]; `channels` divides by 4.

    The first half of the channels encodes the column, the second the row, each as sines, then cosines, of frequencies
    from 1 down to 1/10,000 (He et al. 2021, MAE, appendix A.1).
    """
    frequencies = 10_000.0 ** -(np.arange(channels // 4) / (channels / 4))
    rows, columns = np.divmod(np.arange(height * width), width)
    encode = lambda position: np.concatenate([f(position[:, None] * frequencies) for f in (np.sin, np.cos)], axis=1)
    return np.concatenate([encode(columns), encode(rows)], axis=1).astype(np.float32)
