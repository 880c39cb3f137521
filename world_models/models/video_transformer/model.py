"""Video diffusion by a causal space-time transformer with a noise level per frame, streamed with a key/value cache.

Diffusion forcing (Chen et al. 2024, arXiv 2407.01392): in training every frame of a clip has a noise level of its own,
so that the model learns to denoise a frame given a past of any noise level. Teacher forcing: given the past as a
rollout shows it, which takes a second pass over the clip. A rollout denoises one new frame at a time
beside a cached past of little noise. Backbone and shortcut process are those of Dreamer 4 (Hafner et al. 2025, arXiv
2509.24527, section 3), with one difference: noise level, step size and action modulate the blocks (adaLN) instead of
being tokens.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from world_models.core.sharding import axes, split_batch
from world_models.core.types import ActionSpec, Array, Clip, Prediction
from world_models.diffusion.flow import Shortcut
from world_models.diffusion.process import Process, vmap_keys
from world_models.models.tokenizer.model import CausalTokenizer
from world_models.models.video_transformer.codecs import Codec, PatchCodec, TokenizerCodec
from world_models.models.video_transformer.options import VideoTransformerOptions
from world_models.nn.constants import freeze
from world_models.nn.embeddings import ActionEmbedding, FourierFeatures
from world_models.nn.heads import Heads, step_targets
from world_models.nn.space_time import Cache, SpaceTimeTransformer
from world_models.nn.transformer import make_norm, modulation

ACTION_TOKENS = 4  # what frames attend to with `actions="cross"`: of one token alone all would get the same
_small = nnx.initializers.normal(0.02)


class State(NamedTuple):
    """A stream after its newest frame.

    Attributes:
      cache: keys and values of past frames, the newest included.
      decoder: what the codec needs to decode the next frame.
      latents: of the newest frame, without noise: [batch, tokens, channels].
      frame: the newest frame, uint8 [batch, h, w, c].
    """

    cache: Cache
    decoder: Any
    latents: Array
    frame: Array


class VideoTransformer(nnx.Module):
    """A `WorldModel` that samples each next frame by diffusion, given all that its window holds."""

    def __init__(
        self,
        options: VideoTransformerOptions,
        process: Process,
        frame_shape: tuple[int, int, int],
        actions: ActionSpec,
        *,
        sinks: int = 0,
        rngs: nnx.Rngs,
    ):
        """Builds the model for a diffusion process, frames of (height, width, channel) and an action space.

        The first `sinks` frames of a stream stay in its window, which has to have more.
        """
        self.options, self.process, self.frame_shape = options, process, frame_shape
        owned = options.tokenizer is not None
        self.tokenizer = CausalTokenizer(options.tokenizer, frame_shape, rngs=rngs) if owned else None
        if owned:
            freeze(self.tokenizer)
        tokens, channels = self.codec.latent_shape
        dtype, network, width = jnp.dtype(options.dtype), options.network, options.network.width
        condition = options.condition
        self.noise_embedding = FourierFeatures(condition, rngs=rngs)
        sizes = process.num_sizes if isinstance(process, Shortcut) else 0
        self.size_embedding = nnx.Embed(sizes, condition, rngs=rngs) if sizes else None
        self.action_embedding = ActionEmbedding(actions, condition, dtype=dtype, rngs=rngs)
        self.no_action = nnx.Param(_small(rngs.params(), (condition,)), **axes("condition"))
        linear = lambda inputs, outputs, *names, **how: nnx.Linear(
            inputs, outputs, kernel_metadata=axes(*names), dtype=dtype, rngs=rngs, **how
        )
        self.condition_in = linear(condition, condition, "condition", None)
        self.condition_out = linear(condition, condition, "condition", None)
        entries = {"modulation": 0, "add": 1, "film": 2, "token": 1, "cross": ACTION_TOKENS}[options.actions]
        self.action_in = linear(condition, entries * width, "condition", "width") if entries else None
        cross = {
            "kernel_metadata": axes("width", "heads", None),
            "bias_metadata": axes("heads", None),
            "out_kernel_metadata": axes("heads", None, "width"),
            "out_bias_metadata": axes("width"),
            "decode": False,
            "keep_rngs": False,
        }
        self.action_attention = (
            nnx.MultiHeadAttention(network.heads, width, dtype=dtype, rngs=rngs, **cross)
            if options.actions == "cross"
            else None
        )
        self.embed = linear(channels, width, None, "width")
        learned = lambda count: nnx.Param(_small(rngs.params(), (count, width)), **axes(None, "width"))
        self.positions = learned(tokens)
        self.registers = learned(options.registers) if options.registers else None
        self.transformer = SpaceTimeTransformer(
            network, options.time_every, options.window, condition, sinks=sinks, dtype=dtype, rngs=rngs
        )
        self.norm = make_norm(network, learned=False, dtype=dtype, rngs=rngs)
        self.modulation = modulation(condition, 2 * width, dtype=dtype, rngs=rngs)
        self.head = linear(width, channels, "width", None, kernel_init=nnx.initializers.zeros_init())
        self.heads = Heads(options.heads, width, rngs=rngs) if options.heads.any else None

    @property
    def codec(self) -> Codec:
        """What frames are made of here."""
        if self.tokenizer is not None:
            return TokenizerCodec(self.tokenizer)
        return PatchCodec(self.frame_shape, self.options.patch, self.options.pixels)

    def loss(self, clip: Clip, keys: Array) -> tuple[Array, dict[str, Array]]:
        """The denoising loss of all frames of clips; `options.forcing` says at what noise, and given what.

        Args:
          clip: windows within an episode.
          keys: a random key an example, [batch].

        Returns:
          (loss, metrics): the process's weighted errors, plus the weighted losses of the heads; and the parts by name.
        """
        latents = self.codec.encode(clip.frames)
        actions = self._embed_actions(jnp.asarray(clip.actions)[:, :-1])
        frame_keys = jax.vmap(lambda key: jax.random.split(key, latents.shape[1]))(keys)
        forcing, past, x = self.options.forcing, None, None
        if forcing in ("teacher", "self") or self.heads is not None:
            noise = vmap_keys(lambda key: jax.random.normal(jax.random.fold_in(key, 1), latents.shape[2:]), frame_keys)
            known = self._own_future(latents, actions, noise, keys[0]) if forcing == "self" else latents
            entries, x = self.transformer.remember(*self._as_context(known, noise, actions))
            past = entries if forcing in ("teacher", "self") else None

        def network(scaled: Array, level: Array, size: Array | None = None, rows: slice = slice(None)) -> Array:
            wide = lambda z: jnp.broadcast_to(z.T, scaled.shape[1::-1]).T  # [batch] or [batch, time], to the latter
            size = None if size is None else wide(size)
            tokens, condition = self._inputs(scaled, wide(level), size, actions[rows])
            seen = jax.tree.map(lambda entry: entry[:, rows], past)
            return self._output(self.transformer(tokens, condition, seen), condition)

        loss = jnp.mean(self.process.errors(network, latents, keys if forcing == "sequence" else frame_keys))
        if self.heads is None:
            return loss, {"loss": loss}
        # Heads are trained where a rollout reads them: at frames of little noise.
        extra, parts = self.heads.loss(self._features(x)[:, 1:], *step_targets(clip))
        return loss + extra, {"loss": loss + extra, "denoising": loss} | parts

    def _own_future(self, latents: Array, actions: Array, noise: Array, key: Array) -> Array:
        """Clips whose frames after the first `own_after` are imagined, under embedded actions; no gradient passes."""
        first = self.options.own_after
        noise = jnp.moveaxis(noise, 1, 0)

        def step(cache: Cache, inputs: tuple[Array, Array, Array]) -> tuple[Cache, Array]:
            action, noise, key = inputs
            latents = self._sample(cache, action, key)
            return self._remember(cache, latents, action, noise)[0], latents

        begin = self._as_context(latents[:, :first], jnp.moveaxis(noise[:first], 0, 1), actions[:, :first])
        cache, _ = self.transformer.observe(*begin)
        keys = jax.random.split(key, latents.shape[1] - first)
        _, own = jax.lax.scan(step, cache, (jnp.moveaxis(actions, 1, 0)[first:], noise[first:], keys))
        return jax.lax.stop_gradient(jnp.concatenate([latents[:, :first], jnp.moveaxis(own, 0, 1)], axis=1))

    def denoise(self, noisy: Array, level: Array, actions: Array, size: Array | None = None) -> Array:
        """Estimates of the clean tokens of all frames of clips at once; no frame depends on a later one.

        Args:
          noisy: tokens with noise, [batch, time, tokens, channels].
          level: noise levels [batch, time], in the process's unit.
          actions: those between the frames, [batch, time − 1, ...].
          size: of a shortcut model: the sizes of the steps that are made, 2^−size, int [batch, time].

        Returns:
          float32 like `noisy`.
        """
        scaled, shown = self.process.network_input(noisy, level)
        tokens, condition = self._inputs(scaled, shown, size, self._embed_actions(actions))
        output = self._output(self.transformer(tokens, condition), condition)
        return self.process.denoised(noisy, output, level)

    def observe(self, frames: Array, actions: Array, rng: Array) -> State:
        """Conditions on uint8 frames [batch, time, h, w, c].

        Args:
          frames: at least one a row.
          actions: those between the frames, [batch, time − 1, ...].
          rng: for the noise on the context.

        Raises:
          ValueError: if there is no frame, the actions are not one fewer, or with sinks there are more frames than the
            window has.
        """
        if not frames.shape[1] or actions.shape[1] != frames.shape[1] - 1:
            raise ValueError(
                f"observe got {frames.shape[1]} frames and {actions.shape[1]} actions; it needs at least one frame and "
                "the actions between them, one fewer than frames."
            )
        latents = self.codec.encode(frames)
        noise = jax.random.normal(rng, latents.shape)
        cache, _ = self.transformer.observe(*self._as_context(latents, noise, self._embed_actions(actions)))
        return State(cache, *self.codec.decode_context(latents)[:1], latents[:, -1], frames[:, -1])

    def step(self, state: State, action: Array, rng: Array) -> tuple[State, Prediction]:
        """Samples the next frame under `action` [batch, ...]; predicts reward and termination where it has heads."""
        action = self.action_embedding(action)
        sample_key, context_key = jax.random.split(rng)
        latents = self._sample(state.cache, action, sample_key)
        decoder, frame = self.codec.decode_step(state.decoder, latents)
        cache, x = self._remember(state.cache, latents, action, jax.random.normal(context_key, latents.shape))
        prediction = Prediction() if self.heads is None else self.heads.predict(self._features(x))
        return State(cache, decoder, latents, frame), prediction

    def _sample(self, cache: Cache, action: Array, key: Array) -> Array:
        """Tokens of the frame after a cached past, [batch, tokens, channels], under an embedded action."""

        def denoise(noisy: Array, level: Array, size: Array | None = None) -> Array:
            level = jnp.broadcast_to(level, noisy.shape[:1])
            scaled, shown = self.process.network_input(noisy, level)
            tokens, condition = self._inputs(scaled, shown, size, action)
            x = self.transformer.attend(cache, tokens, condition)
            return self.codec.clip(self.process.denoised(noisy, self._output(x, condition), level))

        return self.codec.clip(self.process.sample(denoise, key, (len(action), *self.codec.latent_shape)))

    def decode(self, state: State) -> Array:
        """The newest frame, uint8 [batch, h, w, c]."""
        return state.frame

    def _remember(self, cache: Cache, latents: Array, action: Array, noise: Array) -> tuple[Cache, Array]:
        """The cache with a known frame, and the transformer's outputs there."""
        return self.transformer.step(cache, *self._as_context(latents, noise, action))

    def _as_context(self, latents: Array, noise: Array, actions: Array) -> tuple[Array, Array]:
        """(tokens, condition) of known frames [batch, (time,) tokens, channels], shown with the context's noise."""
        level = jnp.full(latents.shape[:-2], self.options.context_level)
        scaled, shown = self.process.network_input(self.process.add_noise_of(latents, level, noise), level)
        finest = None if self.size_embedding is None else self.process.num_sizes - 1
        return self._inputs(scaled, shown, finest, actions)

    def _embed_actions(self, actions: Array) -> Array:
        """What led to each frame, [batch, time, condition]: no action, then `actions`, [batch, time − 1, ...]."""
        embedded = self.action_embedding(actions)
        first = jnp.broadcast_to(self.no_action[...], (embedded.shape[0], 1, embedded.shape[-1]))
        return jnp.concatenate([first.astype(embedded.dtype), embedded], axis=1)

    def _inputs(self, scaled: Array, level: Array, size: Array | int | None, actions: Array) -> tuple[Array, Array]:
        """What the transformer reads of frames at noise levels and step sizes [batch(, time)], under actions.

        Args:
          scaled: the noisy frames, [batch, (time,) tokens, channels].
          level, size: [batch(, time)].
          actions: embedded, [batch, (time,) condition].

        Returns:
          (tokens, those that belong to no patch first, [batch, (time,) more + tokens, width]; condition).
        """
        condition = self.noise_embedding(level)
        if self.size_embedding is not None:
            condition += self.size_embedding(jnp.asarray(size))
        x = self.embed(scaled) + self.positions[...].astype(self.embed.dtype)
        more = []
        if self.registers is not None:
            registers = self.registers[...].astype(x.dtype)
            more.append(jnp.broadcast_to(registers, (*x.shape[:-2], *registers.shape)))
        if self.action_in is None:
            condition += actions
        else:
            entry = self.action_in(actions)[..., None, :]
            if self.options.actions == "token":
                more.append(entry)
            elif self.options.actions == "film":
                scale, shift = jnp.split(entry, 2, axis=-1)
                x = x * (1 + scale) + shift
            elif self.options.actions == "cross":
                told = entry.reshape(*entry.shape[:-2], ACTION_TOKENS, -1)
                x += self.action_attention(x, told)
            else:
                x += entry
        tokens = jnp.concatenate([*more, x], axis=-2)
        return tokens, self.condition_out(nnx.silu(self.condition_in(split_batch(condition))))

    def _output(self, x: Array, condition: Array) -> Array:
        """Outputs of the network, float32, at the tokens of frames."""
        scale, shift = jnp.split(self.modulation(condition)[..., None, :], 2, axis=-1)
        x = self.norm(x[..., -len(self.positions[...]) :, :]) * (1 + scale) + shift
        return self.head(x).astype(jnp.float32)

    def _features(self, x: Array) -> Array:
        """What the heads read: the mean over all tokens of a frame, [batch, (time,) width]."""
        return self.norm(x).mean(axis=-2)
