"""Fine-tuning a pretrained encoder on labels: all of it or its last blocks, on few labels or all."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

from experiments.state import merge_model, split_model
from world_models import parallel
from world_models.errors import UserError
from world_models.masked_autoencoder.classifier import Classifier, learning_rate_factors
from world_models.probes.augment import mixup_cutmix, random_flip, random_resized_crop
from world_models.probes.rand_augment import RandAugment
from world_models.types import Array


def fine_tune(
    model: nnx.Module,
    options: ml_collections.ConfigDict,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    seed: int,
) -> float:
    """Test accuracy, 0..1, of `model` as a classifier fine-tuned with cross-entropy (MAE, appendix A.1, table 9).

    Args:
      model: a `MaskedAutoencoder`, pretrained or new; it is used up.
      options: `config.fine_tune`.
      train, test: (uint8 frames [n, time, h, w, c], int labels [n]).
      num_classes: how many classes there are.
      seed: of the head, the order and all augmentation.
    """
    if options.batch_size < 1 or options.num_steps < 1:
        raise UserError(
            f"config.fine_tune.batch_size={options.batch_size} and num_steps={options.num_steps} must be at least 1."
        )
    classifier = Classifier(model, num_classes, rngs=nnx.Rngs(seed))
    graphdef, params, constants = split_model(classifier)
    blocks = None if options.trained_blocks < 0 else options.trained_blocks
    factors = learning_rate_factors(params, classifier.depth, options.layer_decay, blocks)
    optimizer = make_optimizer(options)
    step, moments = _step(graphdef, optimizer, _Augment.of(options), num_classes), optimizer.init(params)
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    order: list[int] = []
    augment = RandAugment(options.randaugment_ops, options.randaugment_magnitude) if options.randaugment_ops else None
    for i in range(options.num_steps):
        while len(order) < options.batch_size:
            order += rng.permutation(len(train[1])).tolist()
        rows, order = np.array(order[: options.batch_size]), order[options.batch_size :]
        frames = train[0][rows]
        if augment:
            frames = np.stack([augment(f, seed=int(rng.integers(2**31))) for f in frames])
        batch = parallel.place_beside(params, (frames, train[1][rows].astype(np.int32)))
        params, moments = step(params, constants, moments, factors, *batch, jax.random.fold_in(key, i))
    predict = jax.jit(lambda params, frames: jnp.argmax(merge_model(graphdef, params, constants)(frames), axis=-1))
    found = in_batches(lambda frames: predict(params, frames), params, test[0], 256)
    return float(np.mean(found == test[1]))


def make_optimizer(options: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW with a linear warm-up and half a cosine; weight decay on kernels."""
    warmup = min(options.warmup_steps, options.num_steps - 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, options.learning_rate, warmup, options.num_steps)
    kernels = lambda params: jax.tree_util.tree_map_with_path(lambda path, _: "kernel" in str(path[-1]), params)
    return optax.adamw(rate, b1=0.9, b2=0.999, weight_decay=options.weight_decay, mask=kernels)


class _Augment(tuple):
    """The augmentation on the device, hashable: (crop_scale, flip, mixup, cutmix, smoothing, drop_path)."""

    @classmethod
    def of(cls, o: ml_collections.ConfigDict) -> "_Augment":
        return cls((tuple(o.crop_scale), o.flip, o.mixup, o.cutmix, o.label_smoothing, o.drop_path))


def _step(graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, augment: _Augment, num_classes: int) -> Any:
    crop_scale, flip, mixup, cutmix, smoothing, rate = augment

    @functools.partial(jax.jit, donate_argnums=(0, 2))
    def step(params, constants, moments, factors, frames, labels, key):
        crops, mixing, dropping = jax.random.split(key, 3)
        per_example = lambda key: jax.random.split(key, len(labels))
        frames = cropped(frames, per_example(crops), crop_scale, flip).astype(jnp.float32)
        frames, targets = mixup_cutmix(mixing, frames, jax.nn.one_hot(labels, num_classes), mixup, cutmix, smoothing)

        def loss(params):
            logits = merge_model(graphdef, params, constants)(frames, per_example(dropping), rate)
            return jnp.mean(optax.softmax_cross_entropy(logits, targets))

        grads = jax.grad(loss)(params)
        updates, moments = optimizer.update(grads, moments, params)
        updates = jax.tree.map(jnp.multiply, updates, factors)
        return optax.apply_updates(params, updates), moments

    return step


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


def in_batches(function: Any, weights: Any, rows: np.ndarray, size: int) -> np.ndarray:
    """`function` of `rows` [n, ...], `size` at a time on the devices of `weights`: NumPy [n, ...]."""
    found = []
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        filled = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])  # one shape, one compilation
        found.append(parallel.on_host(function(parallel.place_beside(weights, filled)))[: len(part)])
    return np.concatenate(found)
