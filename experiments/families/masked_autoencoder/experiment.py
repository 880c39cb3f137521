"""Experiment: a masked autoencoder of images or video, judged by what its encoder knows."""

import pathlib

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from experiments.evaluation.fine_tuning import cropped
from experiments.evaluation.probes import make_probes
from experiments.evaluation.reconstructions import Pictures
from experiments.evaluation.rollouts import HeldOutLoss
from experiments.families.base import VideoExperiment
from experiments.families.checks import check_one_of, check_patches, check_pixels, check_transformer
from experiments.families.masked_autoencoder.options import MaskedAutoencoderConfig
from experiments.runs.config import read
from experiments.training.data import open_windows
from experiments.training.experiment import Capability, Evaluator
from world_models.core.errors import UserError, config_error
from world_models.core.specs import VideoSpec
from world_models.core.types import Array, Clip
from world_models.models.masked_autoencoder import masking, targets
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import POSITIONS, MaskedAutoencoderOptions
from world_models.nn.options import with_compute
from world_models.nn.patches import grid_of


class Experiment(VideoExperiment):
    """A masked autoencoder: trained to fill in removed patches, judged by probes of its encoder."""

    stages = ("original", "masked", "reconstructed")

    def __init__(self, config: ml_collections.ConfigDict, spec: VideoSpec):
        """Checks `config.model`, its encoder and decoder, and `config.augment` against the data."""
        super().__init__(config, spec)
        self.config = read(config, MaskedAutoencoderConfig)
        self.frames_shape = (self.config.data.clip_length, *spec.frame_shape)
        self.options = with_compute(self.config.model, self.config.runtime.compute)
        _check(self.options, self.config, self.frames_shape)
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
        augment = self.config.augment
        crops, masks = jax.vmap(jax.random.split, out_axes=1)(keys)
        frames = cropped(clip.frames, crops, tuple(augment.crop_scale), augment.flip)
        return model.loss(clip._replace(frames=frames), masks)

    def features(self, model: MaskedAutoencoder, frames: Array) -> jax.Array:
        """The mean over patches of every `config.data.clip_length` frames."""
        batch, time = frames.shape[:2]
        length = self.frames_shape[0]
        if time % length:
            raise UserError(f"This masked autoencoder encodes clips of {length} frames: {time} are no multiple.")
        return model.features(frames.reshape(-1, length, *frames.shape[2:])).reshape(batch, time // length, -1)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """The loss on held-out clips, a picture of reconstructions, and the probes of `config.eval.probes.names`."""
        config, data, options = self.config, self.config.data, self.config.eval
        pictures = workdir / "pictures" / "reconstructions.png"
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        batch = config.train.batch_size
        return {
            "held_out": HeldOutLoss(
                self, held_out, batch_size=batch, count=options.held_out.num_examples, seed=config.seed
            ),
            "pictures": Pictures(self.reconstructions, self.stages, held_out, pictures, options.num_pictures),
            **make_probes(self, config, workdir),
        }

    @staticmethod
    def reconstructions(model: MaskedAutoencoder, clip: Clip, keys: Array) -> dict[str, jax.Array]:
        """Clips as they are, as the encoder saw them, and as the model filled them in: uint8, all of one shape."""
        frames = jnp.asarray(clip.frames)
        removed, filled = model.reconstruct(frames, model.mask(keys))
        grey = jnp.uint8(128)
        return {"original": frames, "masked": jnp.where(removed, grey, frames), "reconstructed": filled}

    @classmethod
    def capabilities(cls) -> dict[str, Capability]:
        """It reconstructs, and its weights can be written in Hugging Face's layout."""
        return {
            **super().capabilities(),
            "imagine": Capability("experiments.evaluation.reconstructions"),
            "export": Capability("experiments.families.masked_autoencoder.export"),
        }


def _check(
    options: MaskedAutoencoderOptions, config: MaskedAutoencoderConfig, frames_shape: tuple[int, int, int, int]
) -> None:
    time, *_, channels = frames_shape
    check_patches(options.patch, frames_shape[1:])
    if options.tubelet < 1 or time % options.tubelet:
        raise config_error("config.model.tubelet", options.tubelet, f"divide config.data.clip_length={time}")
    check_one_of(
        "config.model",
        options,
        masking=masking.KINDS,
        target=targets.KINDS,
        positions=POSITIONS,
        dtype=("float32", "bfloat16"),
    )
    masking.num_visible(options.masking, options.mask_ratio, grid_of(frames_shape, options.patch, options.tubelet))
    values = options.tubelet * options.patch**2 * channels
    if options.target == "pca" and not 0 < options.pca_components <= values:
        valid = f"be from 1 to {values}, the values of a patch"
        raise config_error("config.model.pca_components", options.pca_components, valid)
    check_pixels(options.pixels, channels)
    check_transformer("config.model.encoder", options.encoder)
    check_transformer("config.model.decoder", options.decoder)
    pool = config.eval.probes.pool
    if pool not in ("mean", "class") or (pool == "class" and not options.class_token):
        raise config_error("config.eval.probes.pool", pool, "be 'mean', or 'class' with config.model.class_token=True")
    scale = config.augment.crop_scale
    if scale and not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
        valid = "be (least, greatest) share of the area, within (0, 1], or ()"
        raise config_error("config.augment.crop_scale", scale, valid)
