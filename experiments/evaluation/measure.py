"""What a trained run is worth, as named numbers: what the commands write and the tables read. Nothing is drawn here."""

from typing import Any

import jax

from experiments.evaluation import rollouts
from experiments.runs.loading import LoadedRun
from experiments.runs.metrics import finite_or_none


def futures(run: LoadedRun) -> tuple[rollouts.Rollouts, dict[str, Any]]:
    """Futures imagined from held-out contexts as `config.eval.imagine` says, and the content of imagine/metrics.json."""
    options, data = run.config.eval.imagine, run.config.data
    length = options.num_context + options.horizon
    windows = run.windows(
        data.test_split, length, field="config.eval.imagine.num_context + config.eval.imagine.horizon"
    )
    training = run.windows(data.train_split, 1)
    key = jax.random.fold_in(jax.random.key(run.config.seed), 0)
    results = rollouts.run_rollouts(run.graphdef, run.weights, windows, options.num_context, options.num_contexts, key)
    metrics = rollouts.measure(results, rollouts.mean_frame(training), options.changed_threshold)
    metrics |= {"split": data.test_split, "step": run.step, "provenance": run.provenance_of(data.test_split)}
    return results, finite_or_none(metrics)


def future_metrics(run: LoadedRun) -> dict[str, Any]:
    """The content of imagine/metrics.json."""
    return futures(run)[1]


def evaluation(run: LoadedRun) -> dict[str, Any]:
    """What all evaluators of a run say: {"step": …, "eval/<name>/<metric>": value, "provenance": …}."""
    found = {
        f"eval/{name}/{metric}": float(value)
        for name, evaluator in run.experiment.evaluators(run.workdir).items()
        for metric, value in evaluator(run.graphdef, run.weights).items()
    }
    return finite_or_none(
        {"step": run.step, **found, "provenance": run.provenance_of(run.config.data.validation_split)}
    )
