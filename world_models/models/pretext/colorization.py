"""Colorization: the colours of an image of which the encoder sees the lightness alone (Zhang et al. 2016)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from world_models.core.errors import config_error
from world_models.core.sharding import axes
from world_models.core.types import Array, Clip
from world_models.models.pretext.lab import gamut_bins, lab_to_rgb, rgb_to_lab, same_lightness
from world_models.models.pretext.options import ColorizationOptions, PretextOptions
from world_models.models.pretext.task import Encode, Task
from world_models.nn.constants import Constant

STEP = 10
"""Units of a and b between neighbouring bins."""
_DECAY = 0.99  # of the averages over training batches


class Colorization(Task):
    """Classifies the colour of every place of the encoder's map among the bins of sRGB, 313 of 10 units.

    The distribution of the bins and the mean colour are moving averages over the training batches.
    """

    stages = ("original", "grey", "colorized")

    @classmethod
    def check(cls, options: PretextOptions, frames_shape: tuple[int, int, int, int]) -> None:
        """Checks the options of the task against the shape of the clips."""
        task, field = options.task, "config.model.task"
        if frames_shape[-1] != 3:
            raise config_error(f"{field}.kind", "colorization", "be another task for grey frames: it needs colours")
        bins = len(gamut_bins(STEP))
        if not 1 <= task.neighbors <= bins:
            raise config_error(f"{field}.neighbors", task.neighbors, f"be from 1 to {bins}, the number of bins")
        if task.sigma <= 0:
            raise config_error(f"{field}.sigma", task.sigma, "be above 0")
        if not 0 < task.rebalance <= 1:
            raise config_error(f"{field}.rebalance", task.rebalance, "be above 0 and at most 1")
        if task.temperature <= 0:
            raise config_error(f"{field}.temperature", task.temperature, "be above 0")

    def __init__(
        self, options: ColorizationOptions, size: int, frames_shape: tuple[int, int, int, int], *, rngs: nnx.Rngs
    ):  # fmt: skip
        """Builds the head for features of so many numbers."""
        self.options = options
        bins = len(gamut_bins(STEP))
        self.out = nnx.Linear(size, bins, kernel_metadata=axes("width", "mlp"), rngs=rngs)
        # Moving averages: of the share of every bin, of (a, b), and of 1, which corrects for the start at zero.
        self.share, self.mean = Constant(jnp.zeros(bins)), Constant(jnp.zeros(2))
        self.seen = Constant(jnp.zeros(()))

    def view(self, frames: Array) -> Array:
        """Grey frames of the same lightness; see `Task`."""
        return same_lightness(frames)

    def loss(self, encode: Encode, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy with the soft encoding of the mean colour of every place, weighted by how rare the colour is.

        The metric "accuracy" is how often the most probable bin is the nearest.
        """
        frames = _flat(clip.frames)
        log_probability = jax.nn.log_softmax(self.out(encode(same_lightness(frames))))
        colors = jax.image.resize(rgb_to_lab(frames)[..., 1:], (*log_probability.shape[:3], 2), "linear")
        near, shares = soft_encoding(colors, self.options.neighbors, self.options.sigma)
        self._count(near, shares, colors)
        weights = rarity(self.prior(), self.options.rebalance)[near[..., 0]]
        errors = -jnp.sum(shares * jnp.take_along_axis(log_probability, near, axis=-1), axis=-1)
        loss = jnp.mean(jnp.mean(weights * errors, axis=(1, 2)))
        accuracy = jnp.mean(jnp.argmax(log_probability, axis=-1) == near[..., 0])
        return loss, {"loss": loss, "accuracy": accuracy}

    def _count(self, near: Array, shares: Array, colors: Array) -> None:
        """Adds a batch to the averages."""
        bins = len(gamut_bins(STEP))
        share = jnp.zeros(bins).at[near.reshape(-1)].add(shares.reshape(-1)) / (near.size / near.shape[-1])
        news = (share, colors.reshape(-1, 2).mean(axis=0), jnp.ones(()))
        for average, new in zip((self.share, self.mean, self.seen), news):
            average[...] = _DECAY * average[...] + (1 - _DECAY) * jax.lax.stop_gradient(new)

    def prior(self) -> jax.Array:
        """The share of every bin in the training data, smoothed by the soft encoding: float32 [bins]."""
        bins = self.share.shape[0]
        return jnp.where(self.seen[...] > 0, self.share[...] / jnp.maximum(self.seen[...], 1e-6), 1 / bins)

    def mean_color(self) -> jax.Array:
        """The mean (a, b) of the training data."""
        return self.mean[...] / jnp.maximum(self.seen[...], 1e-6)

    def colors(self, encode: Encode, frames: Array) -> jax.Array:
        """The predicted (a, b) of frames [n, h, w, 3], as large as they are: the annealed mean over bins."""
        logits = self.out(encode(same_lightness(frames)))
        return jax.image.resize(annealed_mean(logits, self.options.temperature), (*frames.shape[:3], 2), "linear")

    def pictures(self, encode: Encode, clip: Clip, keys: Array) -> dict[str, Array]:
        """True colours, none, and those predicted; see `Task`."""
        frames = _flat(clip.frames)
        lab = jnp.concatenate([rgb_to_lab(frames)[..., :1], self.colors(encode, frames)], axis=-1)
        images = {"original": frames, "grey": same_lightness(frames), "colorized": lab_to_rgb(lab)}
        whole = lambda x: jnp.clip(jnp.round(x), 0, 255).astype(jnp.uint8).reshape(clip.frames.shape)
        return {name: whole(image) for name, image in images.items()}


def _flat(frames: Array) -> jax.Array:
    return jnp.asarray(frames).reshape(-1, *frames.shape[2:])


def soft_encoding(colors: Array, neighbors: int, sigma: float) -> tuple[jax.Array, jax.Array]:
    """Colours as distributions over their nearest bins (Zhang et al. 2016, section 2.2).

    Args:
      colors: (a, b) [..., 2].
      neighbors: how many bins.
      sigma: of the Gaussian of the distance that gives their shares.

    Returns:
      (bins int32, shares float32), both [..., neighbors], the nearest first; shares sum to 1.
    """
    distances = jnp.sum((colors[..., None, :] - gamut_bins(STEP)) ** 2, axis=-1)

    def take(distances, _):  # jax.lax.top_k gathers the batch of all devices
        nearest = jnp.argmin(distances, axis=-1)
        taken = nearest[..., None] == jnp.arange(distances.shape[-1])
        return jnp.where(taken, jnp.inf, distances), (nearest, jnp.min(distances, axis=-1))

    _, (near, least) = jax.lax.scan(take, distances, length=neighbors)
    return jnp.moveaxis(near, 0, -1), jax.nn.softmax(jnp.moveaxis(-least, 0, -1) / (2 * sigma**2), axis=-1)


def rarity(prior: Array, rebalance: float) -> jax.Array:
    """Weights of bins, inverse to their shares `prior` [bins] mixed with the uniform distribution, 1 on average.

    With share λ = `rebalance` of the uniform: w ∝ 1 / ((1 − λ) p + λ / Q), and Σ p w = 1 (Zhang et al., equation 4).
    """
    weights = 1 / ((1 - rebalance) * prior + rebalance / prior.shape[0])
    return weights / jnp.sum(prior * weights)


def annealed_mean(logits: Array, temperature: float) -> jax.Array:
    """(a, b) [..., 2]: the mean of the bins under softmax(logits [..., bins] / temperature) (equation 5)."""
    return jnp.einsum("...q,qd->...d", jax.nn.softmax(logits / temperature), gamut_bins(STEP), precision="highest")


def nearest_bin(colors: Array) -> jax.Array:
    """The bin of colours (a, b) [..., 2] that sRGB has, or means of them: int32 [...]."""
    bins = np.round(gamut_bins(STEP) / STEP).astype(int)
    low = bins.min(axis=0)
    table = np.zeros(bins.max(axis=0) - low + 1, np.int32)
    table[tuple((bins - low).T)] = np.arange(len(bins))
    cell = jnp.clip(jnp.round(colors / STEP).astype(jnp.int32) - low, 0, np.array(table.shape) - 1)
    return jnp.asarray(table)[cell[..., 0], cell[..., 1]]
