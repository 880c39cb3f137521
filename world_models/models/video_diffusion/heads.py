"""Reward and termination of a step between two frames: a small network of its own (cf. Alonso et al. 2024)."""

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.types import ActionSpec, Array
from world_models.nn.embeddings import ActionEmbedding
from world_models.nn.heads import Heads
from world_models.nn.options import HeadOptions

CHANNELS = (16, 32, 32)  # of its convolutions, each of which halves the image


class FrameHeads(nnx.Module):
    """Heads on convolutional features of [last frame, next frame] and an embedding of the action."""

    def __init__(self, options: HeadOptions, frame_shape: tuple[int, int, int], actions: ActionSpec, *, rngs: nnx.Rngs):
        """Builds the heads for frames of (height, width, channel) and an action space."""
        height, width, channels = frame_shape
        layers, inputs = [], 2 * channels
        for outputs in CHANNELS:
            layers.append(nnx.Conv(inputs, outputs, (3, 3), strides=2, rngs=rngs))
            inputs, height, width = outputs, -(-height // 2), -(-width // 2)
        self.layers = nnx.List(layers)
        self.action_embedding = ActionEmbedding(actions, options.hidden, rngs=rngs)
        self.heads = Heads(options, height * width * inputs + options.hidden, rngs=rngs)

    def features(self, before: Array, action: Array, after: Array) -> jax.Array:
        """[batch, h, w, c] normalized, action [batch, ...], [batch, h, w, c] -> [batch, features]."""
        x = jnp.concatenate([before, after], axis=-1)
        for layer in self.layers:
            x = nnx.silu(layer(x))
        return jnp.concatenate([x.reshape(len(x), -1), self.action_embedding(action)], axis=-1)
