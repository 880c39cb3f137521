"""Experiment: a causal tokenizer of video, judged by how little is lost between frames and latents and back."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from experiments.evaluation.reconstructions import Pictures
from experiments.evaluation.rollouts import HeldOutLoss, held_out_rows, mean_frame
from experiments.families.base import VideoExperiment
from experiments.families.checks import check_tokenizer
from experiments.families.tokenizer.options import TokenizerConfig
from experiments.runs.config import read
from experiments.training.data import open_windows
from experiments.training.experiment import Capability, Evaluator
from world_models.core import sharding as parallel
from world_models.core.specs import VideoSpec
from world_models.core.types import Array, Clip
from world_models.data.clips import Windows
from world_models.metrics import image
from world_models.models.tokenizer.model import CausalTokenizer
from world_models.nn.options import with_compute

SHOWN_RATIO = 0.75  # of the patches are masked where masked frames are measured or shown
SATURATED = 0.99


class Experiment(VideoExperiment):
    """A causal tokenizer: trained to reconstruct masked clips, judged by how faithful reconstructions are."""

    caveat = ""
    stages = ("original", "from latents", "masked", "reconstructed")

    def __init__(self, config: ml_collections.ConfigDict, spec: VideoSpec):
        """Checks `config.model`, its encoder and decoder, and `config.data` against each other."""
        super().__init__(config, spec)
        self.config = read(config, TokenizerConfig)
        self.options = with_compute(self.config.model, self.config.runtime.compute)
        check_tokenizer("config.model", self.options, spec.frame_shape, self.config.data.clip_length)

    def init(self, rngs: nnx.Rngs) -> nnx.Module:
        """A new model."""
        return CausalTokenizer(self.options, self.spec.frame_shape, rngs=rngs)

    def loss(self, model: nnx.Module, clip: Clip, keys: Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The reconstruction loss of masked clips."""
        return model.loss(clip, keys)

    def features(self, model: CausalTokenizer, frames: Array) -> jax.Array:
        """The latents of every frame."""
        return model.encode(frames).reshape(*frames.shape[:2], -1)

    def evaluators(self, workdir: pathlib.Path) -> dict[str, Evaluator]:
        """On held-out clips: the loss, how faithful reconstructions are, and a picture of some."""
        config, data, options = self.config, self.config.data, self.config.eval
        pictures = workdir / "pictures" / "reconstructions.png"
        held_out = open_windows(config, workdir, data.validation_split, data.clip_length, data.stride)
        training = open_windows(config, workdir, data.train_split, data.clip_length, data.stride)
        sizes = {"batch_size": config.train.batch_size, "count": options.held_out.num_examples, "seed": config.seed}
        average = mean_frame(training)
        return {
            "held_out": HeldOutLoss(self, held_out, **sizes),
            "fidelity": Fidelity(held_out, average, options.changed_threshold, **sizes),
            "pictures": Pictures(self.reconstructions, self.stages, held_out, pictures, options.num_pictures),
        }

    @staticmethod
    def reconstructions(model: CausalTokenizer, clip: Clip, keys: Array) -> dict[str, jax.Array]:
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
        return dict(zip(Experiment.stages, made))

    @classmethod
    def capabilities(cls) -> dict[str, Capability]:
        """It reconstructs."""
        return {**super().capabilities(), "imagine": Capability("experiments.evaluation.reconstructions")}


class Fidelity:
    """Evaluator: PSNR of reconstructions beside baselines that need no learning, and how the latents are spread.

    Per frame, over all frames but a clip's first, which has no frame before it to copy: over all pixels, and over those
    that changed since the clip's first frame, as in the evaluation of world models.
    """

    def __init__(
        self, windows: Windows, average: np.ndarray, threshold: float, *, batch_size: int, count: int, seed: int
    ):
        """Takes `count` windows, `batch_size` at a time.

        `average` is the mean frame of the training data, uint8; a pixel changes by more than `threshold`, of 255.
        """
        self._windows, self._average, self._threshold, self._seed = windows, average, threshold, seed
        self._batch_size = min(batch_size, len(windows), count)
        self._indices = held_out_rows(windows, count)

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """Measures a `CausalTokenizer`; rows that do not fill a last batch are left out."""
        batches = []
        for begin in range(0, len(self._indices) - self._batch_size + 1, self._batch_size):
            rows = self._indices[begin : begin + self._batch_size]
            inputs = parallel.place_beside(model, (self._windows.load(rows), rows))
            found = _fidelity(model, *inputs, self._seed, self._average, self._threshold)
            batches.append(jax.tree.map(parallel.on_host, found))
        found = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        latents = found.pop("latents")
        spreads = latents.std(axis=(0, 1))  # of every number of a frame's latents
        # Where no pixel of any clip changes, there is no PSNR over those that do.
        means = {name: float(np.nanmean(x)) for name, x in found.items() if not np.isnan(x).all()}
        return means | {
            "latent_std_mean": float(spreads.mean()),
            "latent_std_least": float(spreads.min()),
            "latent_std_greatest": float(spreads.max()),
            "latents_saturated": float((np.abs(latents) > SATURATED).mean()),
        }


@functools.partial(jax.jit, static_argnames="threshold")
def _fidelity(
    model: CausalTokenizer, clip: Clip, rows: Array, seed: int, average: Array, threshold: float
) -> dict[str, Array]:
    """PSNR [batch, frames] by what the original is compared with, and the latents of the clips.

    Over the pixels that changed, NaN in a frame without any.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)
    original, whole, _, masked = Experiment.reconstructions(model, clip, keys).values()
    predictions = {
        "psnr": whole,
        "psnr_masked": masked,
        "psnr_mean_frame": jnp.broadcast_to(average, original.shape),
    }
    latents = {"latents": model.encode(original)}
    if original.shape[1] == 1:
        return {name: image.psnr(x, original) for name, x in predictions.items()} | latents
    mask = image.changed_pixels(original, threshold)
    predictions = {name: x[:, 1:] for name, x in predictions.items()} | {"psnr_copy_previous": original[:, :-1]}
    found = {name: image.psnr(x, original[:, 1:]) for name, x in predictions.items()}
    changed = {f"{name}_changed": image.psnr(x, original[:, 1:], mask) for name, x in predictions.items()}
    return found | changed | latents
