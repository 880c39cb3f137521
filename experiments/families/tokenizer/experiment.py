"""Experiment: a causal tokenizer of video, judged by how little is lost between frames and latents and back."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from experiments.evaluation.reconstructions import Pictures
from experiments.evaluation.rollouts import HeldOutLoss, mean_frame, spread
from experiments.families.checks import check_patches, check_pixels, check_transformer
from experiments.training.experiment import Evaluator, open_windows
from experiments.training.state import merge_model
from world_models.core import sharding as parallel
from world_models.core.errors import UserError
from world_models.core.types import Array, Clip
from world_models.data.clips import Windows
from world_models.data.dataset import DataSpec
from world_models.metrics import image
from world_models.models.tokenizer.model import CausalTokenizer
from world_models.models.tokenizer.options import TokenizerOptions
from world_models.nn.options import TransformerOptions

SHOWN_RATIO = 0.75  # of the patches are masked where masked frames are measured or shown
SATURATED = 0.99


class Experiment:
    """See `experiments.training.experiment.Experiment`."""

    caveat = ""
    stages = ("original", "from latents", "masked", "reconstructed")

    def __init__(self, config: ml_collections.ConfigDict, spec: DataSpec):
        """Checks `config.model`, `config.encoder`, `config.decoder` and `config.data` against each other."""
        self._config, self._frame_shape = config, spec.frame_shape
        self.options = make_options(config)
        _check(self.options, config, spec)

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return CausalTokenizer(self.options, self._frame_shape, rngs=rngs)

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The reconstruction loss of masked clips."""
        return model.loss(clip, keys)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """On held-out clips: the loss, how faithful reconstructions are, and a picture of some."""
        config, data, options = self._config, self._config.data, self._config.eval
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        training = open_windows(config, workdir, data.train_split, data.clip_length, data.stride)
        sizes = {"batch_size": config.train.batch_size, "count": options.num_examples, "seed": config.seed}
        return {
            "held_out": HeldOutLoss(self, held_out, **sizes),
            "fidelity": Fidelity(self, held_out, mean_frame(training), **sizes),
            "pictures": Pictures(self, held_out, workdir / "pictures" / "reconstructions.png", options.num_pictures),
        }

    def reconstructions(self, model: CausalTokenizer, clip: Clip, keys: Array) -> dict[str, jax.Array]:
        """What happened, what is left of it after encoding and decoding, and the same with patches masked.

        Returns:
          By the names in `stages`, uint8 like `clip.frames`; masked pixels are grey.
        """
        frames = jnp.asarray(clip.frames)
        hidden = model.mask(keys, frames.shape[1], SHOWN_RATIO)
        made = (
            frames,
            model.decode(model.encode(frames)),
            model.shown(frames, hidden),
            model.decode(model.encode(frames, hidden)),
        )
        return dict(zip(self.stages, made))


class Fidelity:
    """Evaluator: PSNR of reconstructions beside baselines that need no learning, and how the latents are spread.

    Per frame, over all pixels, and over all frames but a clip's first, which has no frame before it to copy.
    """

    def __init__(
        self, experiment: Any, windows: Windows, average: np.ndarray, *, batch_size: int, count: int, seed: int
    ):
        """Takes `count` windows, `batch_size` at a time; `average` is the mean frame of the training data."""
        self._experiment, self._windows, self._average, self._seed = experiment, windows, average, seed
        self._batch_size = min(batch_size, len(windows), count)
        self._indices = spread(windows, count)

    def __call__(self, graphdef: nnx.GraphDef, weights: Any) -> dict[str, float]:
        """Measures a model in functional form; rows that do not fill a last batch are left out."""
        batches = []
        for begin in range(0, len(self._indices) - self._batch_size + 1, self._batch_size):
            rows = self._indices[begin : begin + self._batch_size]
            inputs = parallel.place_beside(weights, (self._windows.load(rows), rows))
            batches.append(jax.tree.map(parallel.on_host, self._measure(graphdef, weights, *inputs)))
        found = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        latents = found.pop("latents")
        spreads = latents.std(axis=(0, 1))  # of every number of a frame's latents
        return {name: float(values.mean()) for name, values in found.items()} | {
            "latent_std_mean": float(spreads.mean()),
            "latent_std_least": float(spreads.min()),
            "latent_std_greatest": float(spreads.max()),
            "latents_saturated": float((np.abs(latents) > SATURATED).mean()),
        }

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def _measure(self, graphdef: nnx.GraphDef, weights: Any, clip: Clip, rows: Array) -> dict[str, Array]:
        model = merge_model(graphdef, *weights)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self._seed), rows)
        original, whole, _, masked = self._experiment.reconstructions(model, clip, keys).values()
        predictions = {
            "psnr": whole,
            "psnr_masked": masked,
            "psnr_mean_frame": jnp.broadcast_to(self._average, original.shape),
        }
        first = min(1, original.shape[1] - 1)
        found = {name: image.psnr(x[:, first:], original[:, first:]) for name, x in predictions.items()}
        if first:
            found["psnr_copy_previous"] = image.psnr(original[:, :-1], original[:, 1:])
        return found | {"latents": model.encode(original)}


def make_options(config: ml_collections.ConfigDict) -> TokenizerOptions:
    """The model's options, of the numbers in `config.model`, `config.encoder` and `config.decoder`."""
    numbers = config.model.to_dict()
    fields = {field.name for field in dataclasses.fields(TokenizerOptions)} - {"encoder", "decoder"}
    if set(numbers) != fields:
        raise UserError(f"config.model has {sorted(numbers)}; a tokenizer has {sorted(fields)}.")
    for name in ("pixel_mean", "pixel_std"):
        numbers[name] = tuple(numbers[name])
    return TokenizerOptions(
        encoder=TransformerOptions(**config.encoder.to_dict()),
        decoder=TransformerOptions(**config.decoder.to_dict()),
        **numbers,
    )


def _check(options: TokenizerOptions, config: ml_collections.ConfigDict, spec: DataSpec) -> None:
    check_patches(options.patch, spec.frame_shape)
    for name in ("latents", "latent_channels"):
        if getattr(options, name) < 1:
            raise UserError(f"config.model.{name}={getattr(options, name)} must be at least 1.")
    if not 0 <= options.mask_ratio_max < 1:
        raise UserError(f"config.model.mask_ratio_max={options.mask_ratio_max} must be at least 0 and below 1.")
    length = config.data.clip_length
    if length < 1:
        raise UserError(f"config.data.clip_length={length} must be at least 1.")
    if not 1 <= options.window <= length:
        raise UserError(
            f"config.model.window={options.window} must be from 1 to config.data.clip_length={length}: no clip in "
            "training is longer."
        )
    if options.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.model.dtype={options.dtype!r} must be 'float32' or 'bfloat16'.")
    check_pixels(options.pixel_mean, options.pixel_std, spec.frame_shape[-1])
    if options.time_every < 2:
        raise UserError(
            f"config.model.time_every={options.time_every} must be at least 2: a group of blocks is some within "
            "frames and one over time."
        )
    for name in ("encoder", "decoder"):
        network = getattr(options, name)
        check_transformer(f"config.{name}", network)
        if network.width // network.heads % 2:
            raise UserError(f"config.{name}.width={network.width} over heads={network.heads} must be even.")
        if network.depth % options.time_every:
            raise UserError(
                f"config.{name}.depth={network.depth} must be a multiple of config.model.time_every="
                f"{options.time_every}."
            )
