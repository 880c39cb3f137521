"""How far sets of imagined clips are from real ones, and how much futures differ: `config.eval.distances`."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.evaluation.features import FeatureSpace, Open
from experiments.evaluation.rollouts import roll_out_all, spread
from world_models.core.errors import config_error
from world_models.metrics import lpips, tensor_files
from world_models.metrics.frechet import frechet_distance
from world_models.metrics.intervals import bootstrap_interval
from world_models.metrics.kernel import kernel_distance
from world_models.metrics.windows import clip_features, pairwise_distance, shuffled_pixels

FIELD = "config.eval.distances"
MEASURES = {"frechet": frechet_distance, "kernel": kernel_distance}
PAIRS = 64  # of frames at once in LPIPS


class Distances:
    """Evaluator: distances of imagined clips from real ones of the training split, beside those of other real clips.

    All sets have the same number of clips, and are compared with the same one of the training split: imagined futures
    of held-out contexts; what happened there ("real", the least that can be reached); the last context frame repeated
    ("copy_last"); and the real ones with their pixels shuffled, which any space should find far off.
    """

    def __init__(self, config: Any, space: FeatureSpace, open_windows: Open, split: str):
        """Checks the options and opens the data.

        Args:
          config: a config, whose `eval` is a `DiffusionEval`.
          space: of the features of the data's frames.
          open_windows: see `Open`.
          split: where contexts are from.

        Raises:
          UserError: if an option is wrong or a file cannot be read.
        """
        self._options, self._seed = config.eval.distances, config.seed
        _check(self._options)
        space.check_length(self._options.length, _LENGTH)
        self._space = space
        self._num_context = config.eval.open_loop.num_context
        self._training = config.data.train_split, open_windows(config.data.train_split, self._options.length, _LENGTH)
        length = self._num_context + self._options.length
        self._contexts = open_windows(split, length, f"config.eval.open_loop.num_context + {_LENGTH}")
        self._lpips = lpips.load(self._options.lpips, f"{FIELD}.lpips") if self._options.lpips else None
        if self._lpips and min(space.frame_shape[:2]) < lpips.LEAST_SIDE[self._lpips.name]:
            valid = f"be empty or of another network for frames of {space.frame_shape}"
            raise config_error(f"{FIELD}.lpips", self._options.lpips, valid)

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """The numbers of `measure` under names with the label of the feature space."""
        found, label = self.measure(model), self._space.label
        numbers = {"num_clips": float(found["num_clips"])}
        for name, sets in found["sets"].items():
            numbers |= {f"{name}_{label}_{of}": value["distance"] for of, value in sets.items()}
            numbers |= {f"{name}_{label}_imagined_{bound}": sets["imagined"][bound] for bound in ("low", "high")}
        if "diversity" in found:
            numbers |= {f"diversity_{label}_{of}": found["diversity"][of] for of in ("imagined", "real", "low", "high")}
        if "lpips" in found:
            network = found["lpips"]["network"]
            numbers |= {f"lpips_{network}_{of}": np.mean(found["lpips"][of]) for of in ("imagined", "copy_last")}
        return {name: float(value) for name, value in numbers.items()}

    def measure(self, model: nnx.Module) -> dict[str, Any]:
        """All that is known of a `WorldModel`, for JSON.

        Returns:
          "features", "num_clips", "clip_frames", "reference" (a split); "sets": by "frechet_frames", "frechet_clips",
          "kernel_frames" and "kernel_clips" the distance of each set with its interval; "diversity" and "lpips" where
          the config asks for them.
        """
        first, options = self._num_context, self._options
        clip = self._contexts.load(spread(self._contexts, options.num_clips))
        split, training = self._training
        reference = training.load(spread(training, options.num_clips)).frames
        past, actions = clip.frames[:, :first], clip.actions[:, :-1]
        truth = clip.frames[:, first:]
        sets = {
            "imagined": roll_out_all(model, first, past, actions, jax.random.key(self._seed)),
            "real": truth,
            "copy_last": np.broadcast_to(clip.frames[:, first - 1 : first], truth.shape),
            "shuffled_pixels": shuffled_pixels(truth),
        }
        features = {name: self._space(frames) for name, frames in sets.items()}
        found: dict[str, Any] = {
            "features": self._space.name,
            "num_clips": len(truth),
            "clip_frames": options.length,
            "reference": split,
            "sets": set_distances(features, self._space(reference), of_frames=self._space.least_frames == 1),
        }
        if options.num_samples:
            found["diversity"] = self._diversity(model, past, actions, features["real"])
        if self._lpips:
            found["lpips"] = {"network": self._lpips.name, "file": tensor_files.fingerprint(_tensors(self._lpips))}
            found["lpips"] |= {of: self._perceptual(sets[of], truth) for of in ("imagined", "copy_last")}
        return found

    def _diversity(
        self, model: nnx.Module, past: np.ndarray, actions: np.ndarray, real: np.ndarray
    ) -> dict[str, float | int]:
        """Mean distance of the pairs of futures of one context, over contexts, and of the pairs of real clips."""
        samples = self._options.num_samples
        rows = np.unique(np.linspace(0, len(past) - 1, max(2, len(past) // samples)).round().astype(int))
        repeated = np.repeat(rows, samples)
        key = jax.random.key(self._seed)
        futures = roll_out_all(model, self._num_context, past[repeated], actions[repeated], key)
        features = clip_features(self._space(futures))
        own = pairwise_distance(features.reshape(len(rows), samples, -1))
        interval = bootstrap_interval(own)
        return {
            "imagined": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "real": float(pairwise_distance(clip_features(real)[None])[0]),
            "num_contexts": len(rows),
            "num_samples": samples,
        }

    def _perceptual(self, frames: np.ndarray, truth: np.ndarray) -> list[float]:
        """LPIPS of every frame of the clips, as means over clips."""
        pairs = [x.reshape(-1, *x.shape[2:]) for x in (frames, truth)]
        found = []
        for begin in range(0, len(pairs[0]), PAIRS):
            rows = np.arange(begin, begin + PAIRS)
            rows = np.where(rows < len(pairs[0]), rows, begin)
            found.append(np.asarray(_lpips(self._lpips, *(x[rows] for x in pairs)))[: len(pairs[0]) - begin])
        return np.concatenate(found).reshape(truth.shape[:2]).mean(axis=0).tolist()


_lpips = jax.jit(lpips.lpips)
_LENGTH = f"{FIELD}.length"


def set_distances(
    sets: dict[str, np.ndarray], reference: np.ndarray, *, of_frames: bool = True
) -> dict[str, dict[str, dict[str, float]]]:
    """Fréchet and kernel distances of sets of clips from one, on features of frames and of whole clips.

    Args:
      sets: features [clips, moments, d] by name.
      reference: features [clips, moments, d].
      of_frames: whether a moment is a frame; else only whole clips are compared.

    Returns:
      By "frechet_frames" and so on, and by set, the fields of the distance.
    """
    by_clip = lambda x: np.repeat(np.arange(len(x)), x.shape[1])
    flat = lambda x: x.reshape(-1, x.shape[-1])
    found = {}
    for name, measure in MEASURES.items():
        groups = by_clip(reference)
        if of_frames:
            found[f"{name}_frames"] = {
                of: measure(flat(x), flat(reference), by_clip(x), groups)._asdict() for of, x in sets.items()
            }
        found[f"{name}_clips"] = {
            of: measure(clip_features(x), clip_features(reference))._asdict() for of, x in sets.items()
        }
    return found


def _tensors(weights: lpips.Weights) -> dict[str, np.ndarray]:
    linear = {f"linear {i}": x for i, x in enumerate(weights.linear)}
    return linear | {str(number): kernel for number, (kernel, _) in weights.layers.items()}


def _check(options: Any) -> None:
    for name, least in (("num_clips", 2), ("length", 1)):
        if getattr(options, name) < least:
            raise config_error(f"{FIELD}.{name}", getattr(options, name), f"be at least {least}")
    if options.num_samples < 0 or options.num_samples == 1:
        raise config_error(f"{FIELD}.num_samples", options.num_samples, "be at least 2, or 0 for no such measure")
