"""The masked autoencoder of images (He et al. 2021, MAE) and video (Tong et al. 2022, VideoMAE): one model.

Images are clips of one frame. The decoder receives the visible tokens first and the mask tokens after them, each with
the position of its patch: attention does not depend on the order, so tokens are never sorted back.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.sharding import axes
from world_models.core.types import Array, Clip
from world_models.models.masked_autoencoder import masking, targets
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.patches import Grid, grid_of, line_positions, patchify, unpatchify
from world_models.nn.pixels import Pixels
from world_models.nn.transformer import EPSILON, Transformer, sincos_positions

_token = nnx.initializers.normal(0.02)
_xavier = nnx.initializers.xavier_uniform()


class Positions(nnx.Module):
    """Positions of all patches of a grid; the class token has none."""

    def __init__(self, kind: str, grid: Grid, width: int, *, rngs: nnx.Rngs):
        """Positions of patches, as `MaskedAutoencoderOptions.positions` names them."""
        time, rows, columns = grid
        self.grid, self.kind, self.width = grid, kind, width
        if kind == "separable":
            self.space = nnx.Param(_token(rngs.params(), (rows * columns, width)), **axes(None, "width"))
            self.time = nnx.Param(_token(rngs.params(), (time, width)), **axes(None, "width"))

    def __call__(self) -> Array:
        """Float32 [tokens, width]."""
        time, rows, columns = self.grid
        if self.kind == "separable":
            return (self.time[:, None] + self.space[None]).reshape(-1, self.width)
        if self.kind == "line":
            return line_positions(time * rows * columns, self.width)
        space = np.tile(sincos_positions(rows, columns, self.width), (time, 1))
        return space if time == 1 else space + np.repeat(line_positions(time, self.width), rows * columns, axis=0)


def _linear(inputs: int, outputs: int, names: tuple, *, use_bias: bool = True, dtype, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=use_bias,
        kernel_init=_xavier,
        kernel_metadata=axes(*names),
        bias_metadata=axes(names[-1]),
        dtype=dtype,
        rngs=rngs,
    )


def _new_token(width: int, rngs: nnx.Rngs) -> nnx.Param:
    return nnx.Param(_token(rngs.params(), (1, 1, width)), **axes(None, None, "width"))


class Encoder(nnx.Module):
    """A vision transformer over any subset of the patches (MAE, section 3)."""

    def __init__(self, options: MaskedAutoencoderOptions, grid: Grid, pixels: int, *, rngs: nnx.Rngs):
        """`pixels` is the number of values of a patch."""
        width, self.dtype = options.encoder.width, jnp.dtype(options.dtype)
        self.embed = _linear(pixels, width, (None, "width"), dtype=self.dtype, rngs=rngs)
        self.positions = Positions(options.positions, grid, width, rngs=rngs)
        self.class_token = _new_token(width, rngs) if options.class_token else None
        self.mask_token = _new_token(width, rngs) if options.encode_mask_tokens else None
        self.transformer = Transformer(options.encoder, dtype=self.dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, dtype=self.dtype, rngs=rngs)

    def __call__(
        self, patches: Array, indices: Array | None = None, hidden: Array | None = None, gates: Array | None = None
    ) -> Array:
        """Tokens of patches.

        Args:
          patches: normalized pixels [batch, n, pixels].
          indices: int32 [batch, n], index in the grid of each patch; None for all patches in order.
          hidden: bool [batch, n], which of them to replace by the mask token.
          gates: [depth, 2, batch], from `drop_path`.

        Returns:
          [batch, n (+ 1, the class token, first), width], after the last norm.
        """
        x = self.embed(patches)
        if hidden is not None:
            x = jnp.where(hidden[..., None], self.mask_token[...].astype(x.dtype), x)
        positions = jnp.asarray(self.positions(), x.dtype)
        x = x + (positions if indices is None else positions[indices])
        if self.class_token is not None:
            first = jnp.broadcast_to(self.class_token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
            x = jnp.concatenate([first, x], axis=1)
        return self.norm(self.transformer(x, gates=gates))


class Decoder(nnx.Module):
    """A narrow transformer from encoded tokens to the content of the patches that were removed."""

    def __init__(self, options: MaskedAutoencoderOptions, grid: Grid, outputs: int, *, rngs: nnx.Rngs):
        """`outputs` is the number of values to predict per patch."""
        width, self.dtype = options.decoder.width, jnp.dtype(options.dtype)
        bias = options.decoder_input_bias
        self.embed = _linear(options.encoder.width, width, ("width", None), use_bias=bias, dtype=self.dtype, rngs=rngs)
        self.positions = Positions(options.positions, grid, width, rngs=rngs)
        self.mask_token = None if options.encode_mask_tokens else _new_token(width, rngs)
        self.transformer = Transformer(options.decoder, dtype=self.dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, dtype=self.dtype, rngs=rngs)
        self.head = _linear(width, outputs, ("width", None), dtype=self.dtype, rngs=rngs)

    def __call__(self, tokens: Array, indices: Array, num_removed: int) -> Array:
        """Predictions for the removed patches.

        Args:
          tokens: from the encoder, [batch, (class token first, if there is one) + n, width].
          indices: int32 [batch, all patches], index in the grid of each token's patch, the removed ones last.
          num_removed: number of removed patches.

        Returns:
          [batch, num_removed, outputs].
        """
        x = self.embed(tokens)
        if self.mask_token is not None:
            mask = jnp.broadcast_to(self.mask_token[...].astype(x.dtype), (len(x), num_removed, x.shape[-1]))
            x = jnp.concatenate([x, mask], axis=1)
        positions = jnp.asarray(self.positions(), x.dtype)[indices]
        x = x + jnp.pad(positions, ((0, 0), (x.shape[1] - indices.shape[1], 0), (0, 0)))  # the class token has none
        return self.head(self.norm(self.transformer(x)[:, -num_removed:]))


class MaskedAutoencoder(nnx.Module):
    """A masked autoencoder: encodes the visible patches of a clip and predicts the removed ones."""

    def __init__(self, options: MaskedAutoencoderOptions, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs):
        """Builds the model for clips of `frames_shape` = (time, height, width, channel)."""
        self.options, self.channels = options, frames_shape[-1]
        self.pixels = Pixels(options.pixels)
        self.grid = grid_of(frames_shape, options.patch, options.tubelet)
        pixels = options.tubelet * options.patch**2 * self.channels
        self.num_patches = int(np.prod(self.grid))
        self.num_visible = masking.num_visible(options.masking, options.mask_ratio, self.grid)
        self.encoder = Encoder(options, self.grid, pixels, rngs=rngs)
        self.decoder = Decoder(options, self.grid, pixels, rngs=rngs)

    def patches(self, frames: Array) -> Array:
        """Frames [batch, time, h, w, c], uint8 or float in 0..255, as patches of unchanged values."""
        return patchify(frames, self.options.patch, self.options.tubelet)

    def normalized(self, patches: Array) -> jax.Array:
        """Patches of 0..255 pixels, less the data's mean and over its standard deviation; float32."""
        return self.pixels.normalize(patches)

    def tokens(self, frames: Array, gates: Array | None = None) -> jax.Array:
        """All tokens of unmasked frames [batch, time, h, w, c]: [batch, (class token first) + patches, width]."""
        return self.encoder(self.normalized(self.patches(frames)), gates=gates)

    def features(self, frames: Array, pool: str = "mean") -> jax.Array:
        """One vector per clip, float32 [batch, width]: the mean over patches ("mean"), or the class token ("class")."""
        tokens = self.tokens(frames).astype(jnp.float32)
        if pool == "class":
            return tokens[:, 0]
        return tokens[:, int(self.options.class_token) :].mean(axis=1)

    def mask(self, keys: Array) -> jax.Array:
        """Samples a mask for every example: patch indices [batch, patches], visible ones first, see `masking.order`."""
        return masking.order(self.options.masking, keys, self.grid)

    def predict(self, frames: Array, indices: Array) -> tuple[jax.Array, jax.Array]:
        """Predicts the removed patches.

        Args:
          frames: [batch, time, h, w, c], 0..255.
          indices: int32 [batch, patches]: patch indices from `mask`, the first `num_visible` of which are visible.

        Returns:
          (predictions, their targets in pixel space): float32 [batch, removed, pixels], of patches
          indices[:, num_visible:]. The second is normalized pixels, see `targets.target`.
        """
        patches, visible = self.patches(frames), self.num_visible
        removed = self.num_patches - visible
        sorted_patches = self.normalized(jnp.take_along_axis(patches, indices[..., None], axis=1))
        if self.options.encode_mask_tokens:
            hidden = jnp.broadcast_to(jnp.arange(self.num_patches) >= visible, indices.shape)
            tokens = self.encoder(sorted_patches, indices, hidden)
        else:
            tokens = self.encoder(sorted_patches[:, :visible], indices[:, :visible])
        predictions = self.decoder(tokens, indices, removed)
        return predictions.astype(jnp.float32), sorted_patches[:, visible:]

    def loss(self, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean squared error on removed patches, with a mask for every example sampled from `keys` [batch]."""
        loss = self.loss_of(clip.frames, self.mask(keys))
        return loss, {"loss": loss}

    def loss_of(self, frames: Array, indices: Array) -> jax.Array:
        """The loss of frames [batch, time, h, w, c] under given masks, see `predict`."""
        predictions, patches = self.predict(frames, indices)
        error = predictions - targets.target(self.options.target, self._for_target(patches), self.channels)
        if self.options.target == "pca":
            basis = targets.principal_subspace(patches, self.options.pca_components)
            error = error @ basis
        # Mean of means: one long float32 sum would round differently on every mesh, by more than a millionth.
        return jnp.mean(jnp.mean(jnp.mean(error**2, axis=-1), axis=-1))

    def reconstruct(self, frames: Array, indices: Array) -> tuple[jax.Array, jax.Array]:
        """Reconstructions of frames [batch, time, h, w, c] under given masks.

        A normalized target lacks the patch's mean and scale: they are those of the true patch, as is usual.

        Returns:
          (removed, frames): bool, true where pixels were removed, and uint8, visible patches as they were; both
          [batch, time, h, w, c].
        """
        options, visible = self.options, self.num_visible
        predictions, patches = self.predict(frames, indices)
        pixels = targets.to_pixels(options.target, predictions, self._for_target(patches), self.channels)
        if options.target != "channel_normalized":
            pixels = self.pixels.intensities(pixels)
        pixels = jnp.clip(jnp.round(255 * pixels), 0, 255).astype(jnp.uint8)
        everything = self.patches(frames).astype(jnp.uint8)
        put = jax.vmap(lambda all_patches, where, values: all_patches.at[where].set(values))
        filled = put(everything, indices[:, visible:], pixels)
        gone = put(jnp.zeros(everything.shape, bool), indices[:, visible:], jnp.ones(pixels.shape, bool))
        back = lambda patches: unpatchify(patches, self.grid, options.patch, options.tubelet)
        return back(gone), back(filled)

    def _for_target(self, patches: Array) -> Array:
        """VideoMAE's target is made of pixels in 0..1, MAE's of pixels normalized by the data's statistics."""
        return self.pixels.intensities(patches) if self.options.target == "channel_normalized" else patches
