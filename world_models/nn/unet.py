"""The U-Net of DIAMOND (Alonso et al. 2024, appendix): residual blocks with adaptive group norm."""

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.sharding import axes, split_batch
from world_models.core.types import Array
from world_models.nn.options import UNetOptions

GROUP_SIZE = 32  # channels of a normalization group
HEAD_DIM = 8
EPSILON = 1e-5
_zeros = nnx.initializers.zeros_init()


def _conv(inputs: int, outputs: int, *, stride: int = 1, init=None, dtype=jnp.float32, rngs: nnx.Rngs) -> nnx.Conv:
    init = init or nnx.initializers.lecun_normal()
    pad = ((1, 1), (1, 1))
    names = axes(None, None, "channels_in", "channels_out")
    return nnx.Conv(
        inputs, outputs, (3, 3), stride, padding=pad, kernel_init=init, kernel_metadata=names, dtype=dtype, rngs=rngs
    )


def _linear(inputs: int, outputs: int, *, init=None, dtype=jnp.float32, rngs: nnx.Rngs) -> nnx.Linear:
    init = init or nnx.initializers.lecun_normal()
    names = axes("channels_in", "channels_out")
    return nnx.Linear(inputs, outputs, kernel_init=init, kernel_metadata=names, dtype=dtype, rngs=rngs)


def _group_norm(channels: int, *, affine: bool, dtype=jnp.float32, rngs: nnx.Rngs) -> nnx.GroupNorm:
    groups = max(1, channels // GROUP_SIZE)
    return nnx.GroupNorm(channels, groups, epsilon=EPSILON, use_bias=affine, use_scale=affine, dtype=dtype, rngs=rngs)


class AdaptiveGroupNorm(nnx.Module):
    """Group norm whose scale and shift are linear in a condition."""

    def __init__(self, channels: int, condition: int, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.norm = _group_norm(channels, affine=False, dtype=dtype, rngs=rngs)
        self.modulation = _linear(condition, 2 * channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, condition: Array) -> Array:
        """[batch, h, w, channels], [batch, condition] -> [batch, h, w, channels]."""
        scale, shift = jnp.split(self.modulation(condition)[:, None, None, :], 2, axis=-1)
        return self.norm(x) * (1 + scale) + shift


class SelfAttention(nnx.Module):
    """Multi-head attention over all positions of a feature map, added to its normalized input, as DIAMOND's code does.

    The attention is zero at initialization, so that the module is then a group norm alone.
    """

    def __init__(self, channels: int, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.norm = _group_norm(channels, affine=True, dtype=dtype, rngs=rngs)
        self.qkv = _linear(channels, 3 * channels, dtype=dtype, rngs=rngs)
        self.out = _linear(channels, channels, init=_zeros, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """[batch, h, w, channels] -> the same."""
        batch, height, width, channels = x.shape
        x = self.norm(x)
        qkv = self.qkv(x).reshape(batch, height * width, 3, channels // HEAD_DIM, HEAD_DIM)
        attended = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return x + self.out(attended.reshape(batch, height, width, channels))


class ResidualBlock(nnx.Module):
    """Two adaptive-norm, SiLU, 3x3-convolution stages and a skip; the second convolution starts at zero."""

    def __init__(
        self, inputs: int, outputs: int, condition: int, *, attention: bool, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        self.skip = _linear(inputs, outputs, dtype=dtype, rngs=rngs) if inputs != outputs else None
        self.norm1 = AdaptiveGroupNorm(inputs, condition, dtype=dtype, rngs=rngs)
        self.conv1 = _conv(inputs, outputs, dtype=dtype, rngs=rngs)
        self.norm2 = AdaptiveGroupNorm(outputs, condition, dtype=dtype, rngs=rngs)
        self.conv2 = _conv(outputs, outputs, init=_zeros, dtype=dtype, rngs=rngs)
        self.attention = SelfAttention(outputs, dtype=dtype, rngs=rngs) if attention else None

    def __call__(self, x: Array, condition: Array) -> Array:
        """[batch, h, w, inputs], [batch, condition] -> [batch, h, w, outputs]."""
        y = self.conv1(nnx.silu(self.norm1(x, condition)))
        y = self.conv2(nnx.silu(self.norm2(y, condition)))
        x = split_batch(y + (x if self.skip is None else self.skip(x)))
        return x if self.attention is None else self.attention(x)


class UNet(nnx.Module):
    """Maps images to images of the same size under a condition; exactly zero at initialization.

    Every level has `blocks` residual blocks in the contracting path and one more in the expanding path, whose last
    skip connection is the level's input. Only the middle has attention.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        options: UNetOptions,
        *,
        condition: int,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the network.

        Args:
          inputs, outputs: channels in and out.
          options: width and number of blocks of the levels.
          condition: width of the condition.
          dtype: of the computation; parameters are float32.
          rngs: for the initial parameters.
        """

        def block(a: int, b: int, attention: bool = False) -> ResidualBlock:
            return ResidualBlock(a, b, condition, attention=attention, dtype=dtype, rngs=rngs)

        channels, blocks = options.channels, options.blocks
        levels = list(zip((channels[0], *channels[:-1]), channels))
        middle = channels[-1]
        self.conv_in = _conv(inputs, channels[0], dtype=dtype, rngs=rngs)
        self.down = nnx.List([nnx.List([block(a if i == 0 else b, b) for i in range(blocks)]) for a, b in levels])
        self.shrink = nnx.List([_conv(a, a, stride=2, dtype=dtype, rngs=rngs) for a, _ in levels[1:]])
        self.middle = nnx.List([block(middle, middle, attention=True) for _ in range(2)])
        self.up = nnx.List(
            [nnx.List([block(2 * b, b) for _ in range(blocks)] + [block(a + b, a)]) for a, b in reversed(levels)]
        )
        self.grow = nnx.List([_conv(a, a, dtype=dtype, rngs=rngs) for a, _ in reversed(levels[1:])])
        self.norm_out = _group_norm(channels[0], affine=True, dtype=dtype, rngs=rngs)
        self.conv_out = _conv(channels[0], outputs, init=_zeros, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, condition: Array) -> Array:
        """[batch, h, w, inputs], [batch, condition] -> [batch, h, w, outputs]; h and w divide by 2^(levels − 1)."""
        x = self.conv_in(x)
        skips = []
        for level, down in enumerate(self.down):
            x = x if level == 0 else self.shrink[level - 1](x)
            skips.append(x)
            for block in down:
                x = block(x, condition)
                skips.append(x)
        for block in self.middle:
            x = block(x, condition)
        for level, up in enumerate(self.up):
            x = x if level == 0 else self.grow[level - 1](_double(x))
            for block in up:
                x = block(jnp.concatenate([x, skips.pop()], axis=-1), condition)
        return self.conv_out(nnx.silu(self.norm_out(x)))


def _double(x: Array) -> Array:
    """Nearest-neighbour upsampling by 2 of [batch, h, w, channels]."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)
