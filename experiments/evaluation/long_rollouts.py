"""How long futures stay like real frames and follow their actions: `config.eval.long_rollout`."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.evaluation.features import FeatureSpace, Open
from experiments.evaluation.rollouts import Rollouts, action_following, exchanged, roll_out_all, spread
from world_models.core.errors import config_error
from world_models.core.types import Array
from world_models.metrics import image
from world_models.metrics.kernel import kernel_distance
from world_models.metrics.windows import clip_features, cut, drift, motion, noise_like, shuffled_pixels

FIELD = "config.eval.long_rollout"


class LongRollouts:
    """Evaluator: drift, the kernel distance of windows of imagined frames from real ones against time; and motion.

    Beside drift stand the distance of other real windows, as many as there are futures at a time, and two controls that
    must be far off: real windows with shuffled pixels, and noise. Where they are not, the feature space cannot tell.

    Motion is the share of pixels that change from a frame to the next. A future that comes to rest may hardly drift,
    nor one that flickers: its motion falls below that of what happened, or rises above it.
    """

    def __init__(self, config: Any, space: FeatureSpace, open_windows: Open, split: str):
        """Checks the options and opens the data; the arguments are those of `Distances`."""
        self._options, self._seed = config.eval.long_rollout, config.seed
        self._num_context, self._threshold = config.eval.open_loop.num_context, config.eval.open_loop.changed_threshold
        options = self._options
        _check(options)
        space.check_length(options.window, f"{FIELD}.window")
        self._space = space
        self._horizons = tuple(h for h in options.horizons if h <= options.frames)
        self._known = max((*self._horizons, options.window))
        field = f"config.eval.open_loop.num_context + the last of {FIELD}.horizons"
        self._contexts = open_windows(split, self._num_context + self._known, field)
        self._real = open_windows(split, options.window, f"{FIELD}.window")
        self._training = open_windows(config.data.train_split, options.window, f"{FIELD}.window")

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        """The numbers of `measure` at the horizons and at the end, under names with the label of the feature space."""
        found, label = self.measure(model), self._space.label
        numbers = {f"drift_{label}_{name}": value["distance"] for name, value in found["baselines"].items()}
        for horizon in (*self._horizons, self._options.frames):
            index = self._window_of(horizon, len(found["frame"]))
            name = f"drift_{label}_imagined_{horizon}"
            numbers[name] = found["drift"]["imagined"][index]
            numbers |= {f"{name}_{bound}": found["drift"][bound][index] for bound in ("low", "high")}
            numbers[f"motion_imagined_{horizon}"] = found["motion"]["imagined"][index]
        numbers["motion_real"] = found["motion"]["real"]
        following = found["action_following"]
        for i, horizon in enumerate(following["horizon"]):
            numbers |= {f"action_following_{horizon}_{name}": following[name][i] for name in ("mean", "low", "high")}
        return {name: float(value) for name, value in numbers.items()} | {
            "control_found": float(found["control_found"])
        }

    def measure(self, model: nnx.Module) -> dict[str, Any]:
        """All that is known of a `WorldModel`, for JSON.

        Returns:
          "features", "num_contexts", "window", "num_reference"; "frame": the last frame of every window; "drift": lists
          "imagined", "low", "high" over windows; "motion": a list "imagined" over windows, and "real", the mean over
          the true futures up to the last horizon; "last": the last of both, and "motion_gap", how far motion is from
          the real; "baselines": the same distance of "real" windows, of "shuffled_pixels" and of "noise";
          "control_found": whether the intervals of both controls lie above that of real windows; "action_following":
          lists "horizon", "mean", "low", "high", each from the horizon before on; "at": means of all these, by horizon.
        """
        first, options = self._num_context, self._options
        clip = self._contexts.load(spread(self._contexts, options.num_contexts))
        past, actions, key = clip.frames[:, :first], clip.actions[:, :-1], jax.random.key(self._seed)
        imagined = roll_out_all(model, first, past, lengthened(actions, first, options.frames), key)
        windows = cut(imagined, options.window)
        moved = motion(np.concatenate([past[:, -1:], imagined], axis=1), self._threshold)
        moved = cut(moved, options.window).mean(axis=(0, 2))
        real_motion = motion(clip.frames[:, first - 1 :], self._threshold).mean()
        moving = lambda index: {"motion": float(moved[index]), "motion_gap": float(abs(moved[index] - real_motion))}
        reference = self._features(self._load(self._training, options.num_reference))
        futures = self._features(windows.reshape(-1, *windows.shape[2:])).reshape(*windows.shape[:2], -1)
        curve = drift(futures, reference)
        real = self._load(self._real, len(imagined))
        others = {"real": real, "shuffled_pixels": shuffled_pixels(real), "noise": noise_like(real)}
        whole = len(reference) + 1  # no blocks: windows are few
        baselines = {
            name: kernel_distance(self._features(frames), reference, block_size=whole)._asdict()
            for name, frames in others.items()
        }
        controls = min(baselines[name]["low"] for name in ("shuffled_pixels", "noise"))
        following = self._following(model, clip, imagined, key)
        at = {
            str(horizon): {"drift": curve[index].distance, **moving(index), "action_following": mean}
            for horizon, mean in zip(self._horizons, following["mean"])
            for index in [self._window_of(horizon, len(curve))]
        }
        return {
            "features": self._space.name,
            "num_contexts": len(imagined),
            "window": options.window,
            "num_reference": len(reference),
            "frame": [options.window * (i + 1) for i in range(len(curve))],
            "drift": {
                "imagined": [at.distance for at in curve],
                "low": [at.low for at in curve],
                "high": [at.high for at in curve],
            },
            "motion": {"imagined": moved.tolist(), "real": float(real_motion)},
            "last": {"frame": options.window * len(curve), "drift": curve[-1].distance, **moving(-1)},
            "baselines": baselines,
            "control_found": bool(controls > baselines["real"]["high"]),
            "action_following": following,
            "at": at,
        }

    def _window_of(self, horizon: int, count: int) -> int:
        """Which of `count` windows holds the frame at a horizon."""
        return min(-(-horizon // self._options.window), count) - 1

    def _features(self, clips: np.ndarray) -> np.ndarray:
        return clip_features(self._space(clips))

    def _load(self, windows: Any, count: int) -> np.ndarray:
        return windows.load(spread(windows, count)).frames

    def _following(self, model: nnx.Module, clip: Any, imagined: np.ndarray, key: Array) -> dict[str, list[float]]:
        """Action following between one horizon and the next."""
        found: dict[str, list[float]] = {"horizon": list(self._horizons), "mean": [], "low": [], "high": []}
        if not self._horizons:
            return found
        first, known = self._num_context, self._horizons[-1]
        other = exchanged(clip.actions[:, :-1], first)[:, : first - 1 + known]
        shuffled = roll_out_all(model, first, clip.frames[:, :first], other, key)
        clip = clip._replace(frames=clip.frames[:, : first + known])
        rollouts = Rollouts(clip, imagined[:, :known], shuffled, first)
        changed = lambda frames: np.asarray(image.changed_pixels(frames[first - 1 :], self._threshold))
        mask = np.stack([changed(frames) for frames in clip.frames])  # one by one: futures are long
        spans = [slice(begin, end) for begin, end in zip((0, *self._horizons), self._horizons)]
        for interval in action_following(rollouts, mask, spans):
            for name, value in interval.items():
                found[name].append(value)
        return found


def lengthened(actions: np.ndarray, num_context: int, frames: int) -> np.ndarray:
    """Actions of a context and its future, [n, time, ...], for a future of so many frames.

    The future's own actions are cut where they are more, and begin again where they are fewer.

    Returns:
      [n, num_context − 1 + frames, ...].
    """
    past, future = actions[:, : num_context - 1], actions[:, num_context - 1 :]
    return np.concatenate([past, np.take(future, np.arange(frames) % future.shape[1], axis=1)], axis=1)


def _check(options: Any) -> None:
    least = {"num_contexts": 2, "window": 1, "num_reference": 2}
    for name, value in least.items():
        if getattr(options, name) < value:
            raise config_error(f"{FIELD}.{name}", getattr(options, name), f"be at least {value}")
    if options.window > options.frames:
        raise config_error(f"{FIELD}.window", options.window, f"be at most {FIELD}.frames={options.frames}")
    if list(options.horizons) != sorted({h for h in options.horizons if h > 0}):
        raise config_error(f"{FIELD}.horizons", tuple(options.horizons), "be above 0 and rise")
