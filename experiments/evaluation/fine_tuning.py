"""Fine-tuning a pretrained encoder on labels: all of it or its last blocks, on few labels or all."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.evaluation.options import FineTuneOptions
from experiments.training.state import split_model
from world_models.core import sharding as parallel
from world_models.core.errors import config_error
from world_models.core.types import Array
from world_models.models.masked_autoencoder.classifier import Classifier, learning_rate_factors
from world_models.probes.augment import mixup_cutmix, random_flip, random_resized_crop
from world_models.probes.rand_augment import RandAugment


def check(options: FineTuneOptions) -> None:
    """Raises ConfigError for a value of `config.eval.fine_tune` that cannot work."""
    for name, least in (("batch_size", 1), ("num_steps", 1), ("trained_blocks", -1)):
        if getattr(options, name) < least:
            raise config_error(f"config.eval.fine_tune.{name}", getattr(options, name), f"be at least {least}")


def from_scratch(options: FineTuneOptions) -> FineTuneOptions:
    """The same for new weights, which `layer_decay` and `trained_blocks` would hold back."""
    return dataclasses.replace(options, layer_decay=1.0, trained_blocks=-1)


def fine_tune(
    model: nnx.Module,
    options: FineTuneOptions,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    seed: int,
) -> float:
    """Test accuracy, 0..1, of `model` as a classifier fine-tuned with cross-entropy (MAE, appendix A.1, table 9).

    Args:
      model: a `MaskedAutoencoder`, pretrained or new; it stays as it is.
      options: how.
      train, test: (uint8 frames [n, time, h, w, c], int labels [n]).
      num_classes: how many classes there are.
      seed: of the head, the order and all augmentation.
    """
    classifier = Classifier(jax.tree.map(jnp.copy, model), num_classes, rngs=nnx.Rngs(seed))  # steps donate its arrays
    moments, rng, key = _init(classifier, options), np.random.default_rng(seed), jax.random.key(seed)
    augment = RandAugment(options.randaugment_ops, options.randaugment_magnitude)
    order: list[int] = []
    for i in range(options.num_steps):
        while len(order) < options.batch_size:
            order += rng.permutation(len(train[1])).tolist()
        rows, order = np.array(order[: options.batch_size]), order[options.batch_size :]
        frames = train[0][rows]
        if options.randaugment_ops:
            frames = np.stack([augment(clip, seed=int(rng.integers(2**31))) for clip in frames])
        batch = parallel.place_beside(classifier, (frames, train[1][rows].astype(np.int32)))
        classifier, moments = _step(classifier, moments, *batch, jax.random.fold_in(key, i), options, num_classes)
    found = in_batches(functools.partial(_predict, classifier), classifier, test[0], 256)
    return float(np.mean(found == test[1]))


def _optimizer(options: FineTuneOptions) -> optax.GradientTransformation:
    warmup = min(options.warmup_steps, options.num_steps - 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, options.learning_rate, warmup, options.num_steps)
    kernels = lambda params: jax.tree_util.tree_map_with_path(lambda path, _: "kernel" in str(path[-1]), params)
    return optax.adamw(rate, b1=0.9, b2=0.999, weight_decay=options.weight_decay, mask=kernels)


def _init(classifier: Classifier, options: FineTuneOptions) -> Any:
    return _optimizer(options).init(split_model(classifier)[1])


@functools.partial(jax.jit, static_argnames=("options", "num_classes"), donate_argnames=("classifier", "moments"))
def _step(
    classifier: Classifier,
    moments: Any,
    frames: Array,
    labels: Array,
    key: Array,
    options: FineTuneOptions,
    num_classes: int,
) -> tuple[Classifier, Any]:
    """One update: (classifier, state of the optimizer)."""
    crops, mixing, dropping = jax.random.split(key, 3)
    per_example = lambda key: jax.random.split(key, len(labels))
    frames = cropped(frames, per_example(crops), options.crop_scale, options.flip).astype(jnp.float32)
    targets = jax.nn.one_hot(labels, num_classes)
    frames, targets = mixup_cutmix(mixing, frames, targets, options.mixup, options.cutmix, options.label_smoothing)
    merge, params, constants = split_model(classifier)

    def loss(params: Any) -> jax.Array:
        logits = merge(params, constants)(frames, per_example(dropping), options.drop_path)
        return jnp.mean(optax.softmax_cross_entropy(logits, targets))

    updates, moments = _optimizer(options).update(jax.grad(loss)(params), moments, params)
    blocks = None if options.trained_blocks < 0 else options.trained_blocks
    factors = learning_rate_factors(params, classifier.depth, options.layer_decay, blocks)
    params = optax.apply_updates(params, jax.tree.map(jnp.multiply, updates, factors))
    return merge(params, constants), moments


@jax.jit
def _predict(classifier: Classifier, frames: Array) -> jax.Array:
    return jnp.argmax(classifier(frames), axis=-1)


def cropped(frames: Array, keys: Array, scale: tuple[float, ...], flip: bool) -> Array:
    """Clips [batch, time, h, w, c] in 0..255, each cropped and mirrored at random by its own key of `keys` [batch].

    Args:
      frames: uint8; the result is float32 if they are changed.
      keys: random keys.
      scale: (least, greatest) share of the area that a crop keeps, resized to the whole; () for no crop.
      flip: whether half of the clips are mirrored.
    """

    def change(key: Array, clip: Array) -> Array:
        crop, mirror = jax.random.split(key)
        clip = clip[None]
        if scale:
            clip = jnp.clip(random_resized_crop(crop, clip, scale), 0, 255)
        return (random_flip(mirror, clip) if flip else clip)[0]

    return jax.vmap(change)(keys, frames.astype(jnp.float32)) if scale or flip else frames


def in_batches(function: Any, model: nnx.Module, rows: np.ndarray, size: int) -> np.ndarray:
    """`function` of `rows` [n, ...], `size` at a time on the devices of `model`: NumPy [n, ...]."""
    found = []
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        filled = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])  # one shape, one compilation
        found.append(parallel.on_host(function(parallel.place_beside(model, filled)))[: len(part)])
    return np.concatenate(found)
