"""Futures imagined from held-out contexts, measured and shown: the capability `imagine` of world models."""

import pathlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.evaluation import rollouts, steering
from experiments.reports import report
from experiments.runs.files import fresh_folder, write_json
from experiments.runs.metrics import finite_or_none, read_metrics
from world_models.core.types import ActionSpec

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun


def measure(run: "LoadedRun") -> dict[str, Any]:
    """The content of imagine/metrics.json."""
    return imagined(run)[1]


def write(run: "LoadedRun") -> pathlib.Path:
    """Imagines futures and writes imagine/: metrics.json, videos, pictures and report.html; returns the report."""
    results, metrics = imagined(run)
    path = run.workdir / "imagine"
    with fresh_folder(path) as folder:
        write_json(folder / "metrics.json", metrics)
        report.write_media(folder, _futures(run, results), fps=run.config.eval.imagine.fps)
        report.write_report(
            folder,
            title=f"Imagined futures: {run.workdir.name}",
            config=run.config.to_dict(),
            provenance=metrics["provenance"],
            metrics=metrics,
            history=read_metrics(run.workdir),
            fps=run.config.eval.imagine.fps,
        )
    return path / "report.html"


def imagined(run: "LoadedRun") -> tuple[rollouts.Rollouts, dict[str, Any]]:
    """Futures imagined from held-out contexts with the options `config.eval.imagine`, and their metrics."""
    options, data = run.config.eval.imagine, run.config.data
    length = options.num_context + options.horizon
    windows = run.windows(
        data.test_split, length, field="config.eval.imagine.num_context + config.eval.imagine.horizon"
    )
    training = run.windows(data.train_split, 1)
    key = jax.random.fold_in(jax.random.key(run.config.seed), 0)
    results = rollouts.run_rollouts(run.model, windows, options.num_context, options.num_contexts, key)
    metrics = rollouts.measure(results, rollouts.mean_frame(training), options.changed_threshold)
    others = run.experiment.future_measures(
        lambda split, length, field: run.windows(split, length, field=field), data.test_split
    )
    metrics |= {name: measure.measure(run.model) for name, measure in others.items()}
    metrics |= {"split": data.test_split, "step": run.step, "provenance": run.provenance_of(data.test_split)}
    return results, finite_or_none(metrics)


def _futures(run: "LoadedRun", results: rollouts.Rollouts) -> report.Futures:
    """What the report shows: some of the measured futures, branches under different actions, and samples."""
    options, clip = run.config.eval.imagine, results.clip
    shown = rollouts.spread(results.imagined, options.num_shown)
    effect = np.abs(results.imagined.astype(np.int16) - results.shuffled)
    chosen = int(np.argmax(effect.mean(axis=(1, 2, 3, 4))))  # where actions matter most
    context = clip.frames[chosen, : options.num_context]
    past = clip.actions[chosen, : options.num_context - 1]
    future = clip.actions[chosen, options.num_context - 1 : -1]
    labels, choices = held_actions(run.spec.actions, options.num_branches)

    def roll(actions: np.ndarray, seed: int) -> np.ndarray:
        """Futures of the one context under each row of `actions` [k, horizon, ...]."""
        before = np.broadcast_to(past, (len(actions), *past.shape))
        frames = np.broadcast_to(context, (len(actions), *context.shape))
        return np.asarray(run.imagine(frames, np.concatenate([before, actions], axis=1), seed))

    long_truth, long = _long(run) if options.long else (None, None)
    held = np.repeat(choices[:, None], options.horizon, axis=1)
    repeated = np.broadcast_to(future, (options.num_samples, *future.shape))
    return report.Futures(
        num_context=options.num_context,
        truth=clip.frames[shown],
        imagined=results.imagined[shown],
        branch_truth=clip.frames[chosen],
        branches=roll(held, 1),
        branch_labels=labels,
        sample_truth=clip.frames[chosen],
        samples=roll(repeated, 2),
        long_truth=long_truth,
        long=long,
    )


def _long(run: "LoadedRun") -> tuple[np.ndarray | None, np.ndarray]:
    """(what happened, what was imagined) over `config.eval.imagine.long` frames, from contexts of the test split.

    Under a policy there is nothing that happened: (None, imagined).
    """
    options, split = run.config.eval.imagine, run.config.data.test_split
    first = options.num_context
    if options.policy:
        policy = steering.make_policy(run)
        windows = run.windows(split, first, field="config.eval.imagine.num_context")
        clip = windows.load(rollouts.spread(windows, options.num_shown))
        return None, steering.steer(run.model, policy, clip.frames, clip.actions[:, :-1], options.long, 3)
    windows = run.windows(
        split, first + options.long, field="config.eval.imagine.num_context + config.eval.imagine.long"
    )
    clip = windows.load(rollouts.spread(windows, options.num_shown))
    return clip.frames, run.imagine(clip.frames[:, :first], clip.actions[:, :-1], 3)


def held_actions(spec: ActionSpec, count: int) -> tuple[list[str], np.ndarray]:
    """Up to `count` actions to hold for a whole future, with labels.

    Discrete spaces give their first actions. Continuous ones give, for each dimension in turn, its low and its high
    end with all others neutral (0, or the nearest bound); ends that equal the neutral value are left out.

    Returns:
      (labels, actions [n, ...]).
    """
    if spec.kind == "discrete":
        actions = np.arange(min(spec.size, count), dtype=np.int32)
        return [f"action {a}" for a in actions], actions
    low, high = np.array(spec.low, np.float32), np.array(spec.high, np.float32)
    neutral = np.clip(np.zeros_like(low), low, high)
    labels, actions = [], []
    for dim in range(spec.size):
        for end in (low[dim], high[dim]):
            if end != neutral[dim]:
                labels.append(f"action[{dim}] = {end:g}")
                actions.append(np.where(np.arange(spec.size) == dim, end, neutral))
    return labels[:count], np.array(actions[:count], np.float32)
