"""Next-frame diffusion from a stack of past frames and actions: the world model of DIAMOND (Alonso et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.sharding import axes, split_batch
from world_models.core.types import ActionSpec, Array, Clip, Prediction
from world_models.diffusion.process import Process, mean_square
from world_models.models.video_diffusion.heads import FrameHeads
from world_models.models.video_diffusion.options import VideoDiffusionOptions
from world_models.nn.embeddings import ActionEmbedding, FourierFeatures
from world_models.nn.heads import step_targets
from world_models.nn.options import TransformerOptions
from world_models.nn.pixels import Pixels
from world_models.nn.transformer import DiffusionTransformer
from world_models.nn.unet import UNet

FRAME_STD = 0.5  # of frames in [-1, 1]; context frames are divided by it


class State(NamedTuple):
    """The context of the next frame.

    Attributes:
      frames: model floats [batch, context, h, w, c], in [-1, 1] with the default `PixelOptions`.
      actions: those between the frames, [batch, context − 1, ...].
    """

    frames: Array
    actions: Array


class VideoDiffusion(nnx.Module):
    """A `WorldModel` that samples each next frame by diffusion."""

    def __init__(
        self,
        options: VideoDiffusionOptions,
        process: Process,
        frame_shape: tuple[int, int, int],
        actions: ActionSpec,
        *,
        rngs: nnx.Rngs,
    ):
        """Builds the model for a diffusion process, frames of (height, width, channel) and an action space."""
        self.options, self.pixels = options, Pixels(options.pixels)
        self.process = process
        self.actions = actions
        dtype, width, channels = jnp.dtype(options.dtype), options.condition, frame_shape[-1]
        count = len(options.context_offsets)
        self.noise_embedding = FourierFeatures(width, rngs=rngs)
        self.action_embedding = ActionEmbedding(actions, width // count, dtype=dtype, rngs=rngs)
        names = axes("condition", None)
        self.condition_in = nnx.Linear(width, width, kernel_metadata=names, dtype=dtype, rngs=rngs)
        self.condition_out = nnx.Linear(width, width, kernel_metadata=names, dtype=dtype, rngs=rngs)
        make = DiffusionTransformer if isinstance(options.network, TransformerOptions) else UNet
        self.net = make(
            (count + 1) * channels * options.patch**2,
            channels * options.patch**2,
            options.network,
            condition=width,
            dtype=dtype,
            rngs=rngs,
        )
        self.heads = FrameHeads(options.heads, frame_shape, actions, rngs=rngs) if options.heads.any else None

    def network(self, scaled: Array, level: Array, context: Array, actions: Array) -> Array:
        """The raw network F.

        Args:
          scaled: the noisy target, scaled to unit variance, [batch, h, w, c].
          level: noise level, [batch], as returned by `Process.network_input`.
          context: [batch, context, h, w, c] in [-1, 1].
          actions: [batch, context, ...], each done after seeing the context frame of its index.

        Returns:
          float32 [batch, h, w, c].
        """
        chosen = context.shape[1] - np.array(self.options.context_offsets)
        context, actions = context[:, chosen], actions[:, chosen]
        batch, time, height, width, channels = context.shape
        past = jnp.moveaxis(context, 1, 3).reshape(batch, height, width, time * channels) / FRAME_STD
        condition = self.noise_embedding(level) + self.action_embedding(actions).reshape(batch, -1)
        condition = self.condition_out(nnx.silu(self.condition_in(split_batch(condition))))
        dtype = jnp.dtype(self.options.dtype)
        x = jnp.concatenate([past, scaled], axis=-1).astype(dtype)
        return unfold(self.net(fold(x, self.options.patch), condition), self.options.patch).astype(jnp.float32)

    def denoise(self, noisy: Array, level: Array, context: Array, actions: Array) -> Array:
        """The denoiser D: an estimate of the clean target, quantized as frames are.

        Args:
          noisy: target with noise, [batch, h, w, c].
          level: noise level, [batch], in the process's unit.
          context, actions: as for `network`.
        """
        output = self.network(*self.process.network_input(noisy, level), context, actions)
        return self._quantize(self.process.denoised(noisy, output, level), context)

    def loss(self, clip: Clip, keys: Array) -> tuple[Array, dict[str, Array]]:
        """Denoising loss of a batch.

        The clip's length sets the steps: with `context_frames` + k frames the model predicts k frames in turn, from
        the second on with its own denoised frame (without gradient) in place of the true one as context.

        Args:
          clip: windows of at least `context_frames` + 1 steps.
          keys: a random key an example, [batch].

        Returns:
          (loss, metrics): mean squared error of F against its target, which has unit variance, plus the weighted losses
          of the heads, over all steps between true frames; and the parts by name.
        """
        context_frames = self.options.context_frames
        frames = self.pixels.normalize(clip.frames)
        context = frames[:, :context_frames]
        if self.options.context_noise:
            context += jax.vmap(self._context_noise, (0, None))(keys, context.shape[1:])
        losses = []
        for step in range(frames.shape[1] - context_frames):
            actions = clip.actions[:, step : step + context_frames]
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
            error, denoised = self._denoising_error(frames[:, step + context_frames], context, actions, step_keys)
            losses.append(error)
            context = jnp.concatenate([context[:, 1:], denoised[:, None]], axis=1)
        loss = jnp.mean(jnp.stack(losses))
        if self.heads is None:
            return loss, {"loss": loss}
        extra, parts = self._loss_of_heads(clip, frames)
        return loss + extra, {"loss": loss + extra, "denoising": loss} | parts

    def _loss_of_heads(self, clip: Clip, frames: Array) -> tuple[Array, dict[str, Array]]:
        """(weighted sum, its parts) over all steps between true frames."""
        before, after = (x.reshape(-1, *x.shape[2:]) for x in (frames[:, :-1], frames[:, 1:]))
        actions = jnp.asarray(clip.actions)[:, :-1]
        features = self.heads.features(before, actions.reshape(-1, *actions.shape[2:]), after)
        return self.heads.heads.loss(features.reshape(*actions.shape[:2], -1), *step_targets(clip))

    def _denoising_error(self, frame: Array, context: Array, actions: Array, keys: Array) -> tuple[Array, Array]:
        """(mean squared error [batch], the denoised frame without gradient) for the frame after a context."""
        target = frame - context[:, -1] if self.options.target == "change" else frame
        noisy, level, target, weight = self.process.add_noise(target, keys)
        output = self.network(*self.process.network_input(noisy, level), context, actions)
        denoised = self._quantize(self.process.denoised(noisy, output, level), context)
        error = weight * mean_square(output - target, 1)
        return error, jax.lax.stop_gradient(self._frame(denoised, context))

    def _context_noise(self, key: Array, shape: tuple[int, ...]) -> Array:
        level, pixels = jax.random.split(jax.random.fold_in(key, 2**31 - 1))
        return self.options.context_noise * jax.random.uniform(level) * jax.random.normal(pixels, shape)

    def _frame(self, target: Array, context: Array) -> Array:
        return target + context[:, -1] if self.options.target == "change" else target

    def _quantize(self, target: Array, context: Array) -> Array:
        """The target of the nearest frame that uint8 can hold."""
        frame = self.pixels.quantize(self._frame(target, context))
        return frame - (context[:, -1] if self.options.target == "change" else 0)

    def observe(self, frames: Array, actions: Array, rng: Array) -> State:
        """Conditions on the last `context_frames` of uint8 frames [batch, time, h, w, c].

        Args:
          frames: at least `context_frames` of them.
          actions: those between the frames, [batch, time − 1, ...].
          rng: unused.

        Raises:
          ValueError: if there are too few frames, or the actions are not one fewer.
        """
        length = self.options.context_frames
        if frames.shape[1] < length or actions.shape[1] != frames.shape[1] - 1:
            raise ValueError(
                f"observe got {frames.shape[1]} frames and {actions.shape[1]} actions; it needs at least {length} "
                "frames and the actions between them, one fewer than frames."
            )
        return State(self.pixels.normalize(frames[:, -length:]), actions[:, actions.shape[1] - (length - 1) :])

    def step(self, state: State, action: Array, rng: Array) -> tuple[State, Prediction]:
        """Samples the next frame under `action` [batch, ...]; predicts reward and termination where it has heads."""
        actions = jnp.concatenate([state.actions, action[:, None].astype(state.actions.dtype)], axis=1)

        def denoise(x: Array, level: Array) -> Array:
            return self.denoise(x, jnp.broadcast_to(level, x.shape[:1]), state.frames, actions)

        target = self.process.sample(denoise, rng, state.frames.shape[:1] + state.frames.shape[2:])
        frame = self._frame(self._quantize(target, state.frames), state.frames)
        frames = jnp.concatenate([state.frames[:, 1:], frame[:, None]], axis=1)
        following = State(frames, actions[:, 1:])
        if self.heads is None:
            return following, Prediction()
        return following, self.heads.heads.predict(self.heads.features(state.frames[:, -1], action, frame))

    def decode(self, state: State) -> Array:
        """The newest frame, uint8 [batch, h, w, c]."""
        return self.pixels.restore(state.frames[:, -1])


def fold(x: Array, patch: int) -> Array:
    """[batch, h, w, c] -> [batch, h / patch, w / patch, patch²·c]: every patch becomes one position."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // patch, width // patch, patch**2 * channels)


def unfold(x: Array, patch: int) -> Array:
    """The inverse of `fold`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, patch, patch, channels // patch**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * patch, width * patch, channels // patch**2)
