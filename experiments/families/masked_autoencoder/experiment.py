"""Experiment: a masked autoencoder of images or video, judged by what its encoder knows."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from experiments.evaluation.fine_tuning import cropped
from experiments.evaluation.probes import make_probes
from experiments.evaluation.reconstructions import Pictures
from experiments.evaluation.rollouts import HeldOutLoss
from experiments.families.checks import check_patches, check_pixels, check_transformer
from experiments.training.experiment import Evaluator, open_windows
from world_models.core.errors import UserError
from world_models.core.types import Array, Clip
from world_models.data.dataset import DataSpec
from world_models.models.masked_autoencoder import masking, targets
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import POSITIONS, MaskedAutoencoderOptions
from world_models.nn.options import TransformerOptions
from world_models.nn.patches import grid_of


class Experiment:
    """See `experiments.training.experiment.Experiment`."""

    stages = ("original", "masked", "reconstructed")

    def __init__(self, config: ml_collections.ConfigDict, spec: DataSpec):
        """Checks `config.model`, `config.encoder`, `config.decoder` and `config.augment` against the data."""
        self._config = config
        self.frames_shape = (config.data.clip_length, *spec.frame_shape)
        self.options = make_options(config)
        _check(self.options, config, self.frames_shape)
        self.caveat = (
            "A normalized target says nothing of a patch's mean and deviation: reconstructions are given the true ones."
            if self.options.target.endswith("normalized")
            else ""
        )

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return MaskedAutoencoder(self.options, self.frames_shape, rngs=rngs)

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss on removed patches, of randomly cropped clips if the config asks for that."""
        augment = self._config.augment
        crops, masks = jax.vmap(jax.random.split, out_axes=1)(keys)
        frames = cropped(clip.frames, crops, tuple(augment.crop_scale), augment.flip)
        return model.loss(clip._replace(frames=frames), masks)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The loss on held-out clips, a picture of reconstructions, and the probes of `config.eval.probes`."""
        config, data, options = self._config, self._config.data, self._config.eval
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        batch = config.train.batch_size
        return {
            "held_out": HeldOutLoss(self, held_out, batch_size=batch, count=options.num_examples, seed=config.seed),
            "pictures": Pictures(self, held_out, workdir / "pictures" / "reconstructions.png", options.num_pictures),
            **make_probes(self, config, workdir),
        }

    def reconstructions(self, model: MaskedAutoencoder, clip: Clip, keys: Array) -> dict[str, jax.Array]:
        """Clips as they are, as the encoder saw them, and as the model filled them in: uint8, all of one shape."""
        frames = jnp.asarray(clip.frames)
        removed, filled = model.reconstruct(frames, model.mask(keys))
        grey = jnp.uint8(128)
        return {"original": frames, "masked": jnp.where(removed, grey, frames), "reconstructed": filled}


def make_options(config: ml_collections.ConfigDict) -> MaskedAutoencoderOptions:
    """The model's options, of the numbers in `config.model`, `config.encoder` and `config.decoder`."""
    numbers = config.model.to_dict()
    fields = {field.name for field in dataclasses.fields(MaskedAutoencoderOptions)} - {"encoder", "decoder"}
    if set(numbers) != fields:
        raise UserError(f"config.model has {sorted(numbers)}; a masked autoencoder has {sorted(fields)}.")
    for name in ("pixel_mean", "pixel_std"):
        numbers[name] = tuple(numbers[name])
    return MaskedAutoencoderOptions(
        encoder=TransformerOptions(**config.encoder.to_dict()),
        decoder=TransformerOptions(**config.decoder.to_dict()),
        **numbers,
    )


def _check(
    options: MaskedAutoencoderOptions, config: ml_collections.ConfigDict, frames_shape: tuple[int, int, int, int]
) -> None:
    time, *_, channels = frames_shape
    check_patches(options.patch, frames_shape[1:])
    if options.tubelet < 1 or time % options.tubelet:
        raise UserError(f"config.data.clip_length={time} must be a multiple of config.model.tubelet={options.tubelet}.")
    allowed = {
        "masking": masking.KINDS,
        "target": targets.KINDS,
        "positions": POSITIONS,
        "dtype": ("float32", "bfloat16"),
    }
    for name, values in allowed.items():
        if getattr(options, name) not in values:
            raise UserError(f"config.model.{name}={getattr(options, name)!r} must be one of {values}.")
    masking.num_visible(options.masking, options.mask_ratio, grid_of(frames_shape, options.patch, options.tubelet))
    pixels = options.tubelet * options.patch**2 * channels
    if options.target == "pca" and not 0 < options.pca_components <= pixels:
        raise UserError(
            f"config.model.pca_components={options.pca_components} must be from 1 to {pixels}, the values of a patch."
        )
    check_pixels(options.pixel_mean, options.pixel_std, channels)
    check_transformer("config.encoder", options.encoder)
    check_transformer("config.decoder", options.decoder)
    if config.eval.pool not in ("mean", "class") or (config.eval.pool == "class" and not options.class_token):
        raise UserError(
            f"config.eval.pool={config.eval.pool!r} must be 'mean', or 'class' with config.model.class_token=True."
        )
    scale = tuple(config.augment.crop_scale)
    if scale and not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
        raise UserError(
            f"config.augment.crop_scale={scale} must be (least, greatest) share of the area, within (0, 1], or ()."
        )
