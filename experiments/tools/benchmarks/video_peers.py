"""The networks of `benchmarks.video` in plain PyTorch: the same arithmetic as ours, with the same names of parameters.

The space-time transformer of `world_models.models.video_transformer` with actions in the modulation, on patches of
pixels, with a window as long as the clip; and the U-Net of `world_models.models.video_diffusion`.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.models.video_transformer.options import VideoTransformerOptions
from world_models.nn.options import TransformerOptions, UNetOptions

GROUP_SIZE, HEAD_DIM, FRAME_STD = 32, 8, 0.5  # of the U-Net
TURN = 2**24  # a full turn of rotary positions


class FourierFeatures(nn.Module):
    """cos and sin of 2π·w·x."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("frequencies", torch.zeros(width // 2))

    def forward(self, x: Tensor) -> Tensor:
        """[...] -> [..., width]."""
        angles = 2 * math.pi * x[..., None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Conditions(nn.Module):
    """What both models know of noise level and actions."""

    def __init__(self, condition: int, actions: int, width: int):
        super().__init__()
        self.noise_embedding = FourierFeatures(condition)
        self.action_embedding = nn.ModuleDict({"table": nn.Embedding(actions, width)})
        self.condition_in, self.condition_out = nn.Linear(condition, condition), nn.Linear(condition, condition)

    def condition(self, level: Tensor, actions: Tensor) -> Tensor:
        """Levels [...], embedded actions [..., condition] -> [..., condition]."""
        return self.condition_out(functional.silu(self.condition_in(self.noise_embedding(level) + actions)))


class RMSNorm(nn.Module):
    """With a scale, in the dtype of its input, which autocast would not give it."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same."""
        return functional.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), eps=1e-6)


class Attention(nn.Module):
    """Within frames, or causally over time with rotary positions."""

    def __init__(self, options: TransformerOptions, time: int):
        """`time` is the number of frames that a block over time sees, 0 for one within frames."""
        super().__init__()
        heads, shared = options.heads, options.kv_heads or options.heads
        self.size, self.parts, self.causal = options.width // heads, (heads, shared, shared), time > 0
        self.qkv = nn.Linear(options.width, sum(self.parts) * self.size)
        self.out = nn.Linear(options.width, options.width)
        self.q_norm, self.k_norm = RMSNorm(self.size), RMSNorm(self.size)
        half = self.size // 2
        steps = np.round(10_000.0 ** -(np.arange(half) / half) * TURN / (2 * np.pi)).astype(np.int64)
        angles = torch.from_numpy(np.arange(time)[:, None] * steps % TURN * (2 * np.pi / TURN))
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def rotate(self, x: Tensor) -> Tensor:
        """[batch, heads, time, size] -> the same."""
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], dim=-1).type_as(x)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, tokens, width] -> the same."""
        shape = x.transpose(1, 2).shape if self.causal else x.shape
        x = (x.transpose(1, 2) if self.causal else x).flatten(0, 1)
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.size)).transpose(1, 2).split(self.parts, dim=1)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.causal:
            q, k = self.rotate(q), self.rotate(k)
        grouped = self.parts[0] != self.parts[1]
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=grouped)
        mixed = self.out(mixed.transpose(1, 2).flatten(2)).reshape(shape)
        return mixed.transpose(1, 2) if self.causal else mixed


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, options: TransformerOptions):
        super().__init__()
        self.up, self.gate = (nn.Linear(options.width, options.hidden) for _ in range(2))
        self.down = nn.Linear(options.hidden, options.width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same."""
        return self.down(functional.silu(self.gate(x)) * self.up(x))


def norm(x: Tensor) -> Tensor:
    """RMSNorm without a scale, over the last axis."""
    return functional.rms_norm(x, x.shape[-1:], eps=1e-6)


class Block(nn.Module):
    """Attention and MLP, each modulated by a condition (adaLN)."""

    def __init__(self, options: TransformerOptions, condition: int, time: int):
        super().__init__()
        self.attention, self.mlp = Attention(options, time), MLP(options)
        self.modulation = nn.Linear(condition, 6 * options.width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[batch, time, tokens, width], [batch, time, 1, condition] -> the first."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self.attention(norm(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(norm(x) * (1 + scale2) + shift2)


class Group(nn.Module):
    """Blocks within frames, then one over time."""

    def __init__(self, options: TransformerOptions, time_every: int, condition: int, time: int):
        super().__init__()
        self.space = nn.ModuleList([Block(options, condition, 0) for _ in range(time_every - 1)])
        self.time = Block(options, condition, time)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """As of `Block`."""
        for block in self.space:
            x = block(x, condition)
        return self.time(x, condition)


class Transformer(Conditions):
    """The space-time transformer."""

    def __init__(self, options: VideoTransformerOptions, image: int, time: int, actions: int):
        """For clips of `time` square frames of `image` pixels a side."""
        width, condition = options.network.width, options.condition
        super().__init__(condition, actions, condition)
        self.tokens, channels = (image // options.patch) ** 2, 3 * options.patch**2
        self.no_action = nn.Parameter(torch.zeros(condition))
        self.embed = nn.Linear(channels, width)
        self.positions = nn.Parameter(torch.zeros(self.tokens, width))
        self.registers = nn.Parameter(torch.zeros(options.registers, width))
        count = options.network.depth // options.time_every
        self.groups = nn.ModuleList([Group(options.network, options.time_every, condition, time) for _ in range(count)])
        self.modulation, self.head = nn.Linear(condition, 2 * width), nn.Linear(width, channels)

    def forward(self, noisy: Tensor, level: Tensor, actions: Tensor) -> Tensor:
        """[batch, time, tokens, channels], [batch, time], [batch, time − 1] -> clean tokens like the first."""
        actions = self.action_embedding["table"](actions)
        first = self.no_action.expand(len(actions), 1, -1)
        condition = self.condition(level, torch.cat([first, actions], dim=1))[:, :, None]
        x = self.embed(noisy)
        x = x + self.positions.to(x.dtype)
        x = torch.cat([self.registers.expand(*x.shape[:2], -1, -1).to(x.dtype), x], dim=2)
        for group in self.groups:
            x = group(x, condition)
        scale, shift = self.modulation(condition).chunk(2, dim=-1)
        return self.head(norm(x[:, :, -self.tokens :]) * (1 + scale) + shift)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


class GroupNorm(nn.GroupNorm):
    """With groups of 32 channels."""

    def __init__(self, channels: int, affine: bool = True):
        super().__init__(max(1, channels // GROUP_SIZE), channels, eps=1e-5, affine=affine)


class AdaptiveGroupNorm(nn.Module):
    """Scale and shift are linear in a condition."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.norm, self.modulation = GroupNorm(channels, affine=False), nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[batch, channels, h, w], [batch, condition] -> the first."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class SelfAttention(nn.Module):
    """Over all positions, added to the normalized input."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = GroupNorm(channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, h, w] -> the same."""
        x = self.norm(x)
        qkv = self.qkv(x).flatten(2).unflatten(1, (3, -1, HEAD_DIM)).transpose(-1, -2)
        mixed = functional.scaled_dot_product_attention(*qkv.unbind(1))
        return x + self.out(mixed.transpose(-1, -2).reshape(x.shape))


class ResidualBlock(nn.Module):
    """Two convolutions and a skip, perhaps attention."""

    def __init__(self, inputs: int, outputs: int, condition: int, attention: bool = False):
        super().__init__()
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.norm1, self.norm2 = AdaptiveGroupNorm(inputs, condition), AdaptiveGroupNorm(outputs, condition)
        self.conv1, self.conv2 = convolution(inputs, outputs), convolution(outputs, outputs)
        self.attention = SelfAttention(outputs) if attention else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[batch, inputs, h, w], [batch, condition] -> [batch, outputs, h, w]."""
        y = self.conv1(functional.silu(self.norm1(x, condition)))
        y = self.conv2(functional.silu(self.norm2(y, condition)))
        return self.attention(y + self.skip(x))


class UNet(nn.Module):
    """Levels of residual blocks, with attention in the middle."""

    def __init__(self, inputs: int, outputs: int, options: UNetOptions, condition: int):
        super().__init__()
        channels, blocks = options.channels, options.blocks
        levels = list(zip((channels[0], *channels[:-1]), channels))
        many = lambda widths, **how: nn.ModuleList([ResidualBlock(a, b, condition, **how) for a, b in widths])
        self.conv_in, self.conv_out = convolution(inputs, channels[0]), convolution(channels[0], outputs)
        self.down = nn.ModuleList([many([(a, b)] + [(b, b)] * (blocks - 1)) for a, b in levels])
        self.shrink = nn.ModuleList([convolution(a, a, stride=2) for a, _ in levels[1:]])
        self.middle = many([(channels[-1], channels[-1])] * 2, attention=True)
        self.up = nn.ModuleList([many([(2 * b, b)] * blocks + [(a + b, a)]) for a, b in reversed(levels)])
        self.grow = nn.ModuleList([convolution(a, a) for a, _ in reversed(levels[1:])])
        self.norm_out = GroupNorm(channels[0])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[batch, inputs, h, w], [batch, condition] -> [batch, outputs, h, w]."""
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
            x = x if level == 0 else self.grow[level - 1](functional.interpolate(x, scale_factor=2))
            for block in up:
                x = block(torch.cat([x, skips.pop()], dim=1), condition)
        return self.conv_out(functional.silu(self.norm_out(x)))


class Diamond(Conditions):
    """The U-Net with its conditions; frames are [batch, (context,) 3, h, w]."""

    def __init__(self, options: VideoDiffusionOptions, actions: int):
        self.context = options.context_frames
        super().__init__(options.condition, actions, options.condition // self.context)
        self.net = UNet(3 * (self.context + 1), 3, options.network, options.condition)

    def forward(self, scaled: Tensor, level: Tensor, context: Tensor, actions: Tensor) -> Tensor:
        """The network's output [batch, 3, h, w]; levels [batch], actions [batch, context]."""
        condition = self.condition(level, self.action_embedding["table"](actions).flatten(1))
        return self.net(torch.cat([context.flatten(1, 2) / FRAME_STD, scaled], dim=1), condition)
