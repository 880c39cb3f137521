"""The training loop of all families, devices and sizes. `Experiment` says what is trained, the config how."""

import collections
import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from experiments.runs.progress import Meter, Progress
from experiments.runs.signals import StopSignal
from experiments.runs.values import Video, numbers
from experiments.training.experiment import Evaluator
from experiments.training.monitoring import Spikes, Watchdog
from experiments.training.setup import Run, log_once, prepare
from world_models.core import sharding as parallel
from world_models.core.errors import UserError

LAG = 2  # steps between a step and the look at its metrics, so that the device never waits for the host


class Diverged(UserError):
    """The loss or a gradient was not finite, too many times in a row."""


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """Trains the experiment of `config` in `workdir`, from its newest checkpoint if there is one.

    Returns:
      The folder of the checkpoints.

    Raises:
      UserError: if the config, the data or the workdir cannot work.
      Diverged: if the loss is not finite; the last good checkpoint stays.
    """
    run = prepare(config, workdir)
    progress = Progress(config.train.num_steps, int(run.state.step), quiet=not parallel.is_main())
    watchdog = Watchdog(config.runtime.watchdog_seconds)
    with StopSignal() as stop:
        try:
            finished = _loop(run, progress, watchdog, stop)
        finally:
            progress.close()
            watchdog.close()
            if run.writers:
                run.writers.close()
    with run.goodput.spent_on("checkpoint"):
        _save(run)
        run.saver.close()
    done = int(run.state.step)
    log_once(str(run.goodput))
    if not finished and parallel.is_main():
        why = stop.received or "Another process was told to stop"
        print(f"{why}: saved step {done} of {config.train.num_steps}; the same command goes on from there.")
    return workdir / "checkpoints"


def _loop(run: Run, progress: Progress, watchdog: Watchdog, stop: StopSignal) -> bool:
    """Trains to the end (true) or until asked to stop (false)."""
    options, runtime, every = run.config.train, run.config.runtime, run.config.eval.every
    step = first = int(run.state.step)
    pending: collections.deque = collections.deque()
    meter = Meter(options.batch_size * run.dataset.spec.units, step, run.dataset.spec.unit)
    spikes = Spikes(runtime.spike_sigmas)
    agreed = False

    def check(lag: int) -> list[dict[str, Any]]:
        nonlocal agreed
        looked = (pending.popleft() for _ in range(len(pending) - lag))
        seen = [{"step": one[0], **_look(run, spikes, *one)} for one in looked]
        if seen:
            watchdog.alive()
        agreed = agreed or any(values["stop"] for values in seen)
        return seen

    @contextlib.contextmanager
    def away(what: str) -> Iterator[None]:
        check(0)
        with meter.paused(), watchdog.paused(), run.goodput.spent_on(what):
            yield

    def judge() -> None:
        """Evaluates, and saves what is the best so far."""
        with away("eval"):
            found = evaluate(run.evaluators, run.merge(run.state.ema, run.state.constants))
        _write(run, step, found | {f"goodput/{what}": share for what, share in run.goodput.shares().items()})
        if _is_best(run, step, found):
            with away("checkpoint"):
                _save(run)

    if run.config.eval.first and not step:
        judge()
    while step < options.num_steps:
        # One process acts at once. Several agree: each learns from the step's metrics whether any was asked to stop.
        if agreed or (stop.received and jax.process_count() == 1):
            check(0)
            return False
        profile_here = bool(run.config.runtime.profile) and step == first + 3
        if profile_here:
            jax.profiler.start_trace(str(run.workdir / "profile"))
        with meter.waiting(), run.goodput.spent_on("data"):
            batch, position = next(run.batches)
        with jax.transfer_guard("disallow"):
            run.state, metrics = run.step(run.state, batch, run.stop_flags[bool(stop.received)])
        if profile_here:
            jax.block_until_ready(metrics)
            jax.profiler.stop_trace()
        step += 1
        run.position = run.position | {"data": position}
        pending.append((step, position, batch, metrics))
        for values in check(LAG if step < options.num_steps else 0):
            progress.show(values["step"], f"loss {float(values['loss']):.4f} | {meter}")
        if step % runtime.log_every == 0 or step == options.num_steps:
            values = jax.device_get(metrics)
            del values["stop"]
            _write(run, step, {f"train/{name}": value for name, value in values.items()} | meter.rates(step))
            _note_damage(run, step)
        if every and (step % every == 0 or step == options.num_steps):
            judge()
        if step % runtime.checkpoint_every == 0:
            with away("checkpoint"):
                _save(run)
    return True


def _look(run: Run, spikes: Spikes, step: int, position: Any, batch: Any, metrics: Any) -> dict[str, Any]:
    """Looks at the metrics of a step: notes a spike, keeps a batch that was not finite, stops at too many of them."""
    values = jax.device_get(metrics)
    loss, norm = float(values["loss"]), float(values["grad_norm"])
    facts = {"loss": repr(loss), "grad_norm": repr(norm), "position": position}
    if not values["nonfinite"]:
        run.bad_in_a_row = 0
        if spikes(loss):
            run.incidents.add("spike", step, **facts, mean=spikes.mean)
        return values
    run.bad_in_a_row += 1
    run.position = run.position | {"nonfinite": run.position.get("nonfinite", 0) + 1}
    path = run.incidents.keep(step, parallel.local_rows(batch))
    run.incidents.add("nonfinite", step, **facts, batch=str(path))
    if run.bad_in_a_row >= run.config.runtime.max_nonfinite:
        run.saver.wait()
        raise Diverged(
            f"The loss or a gradient was not finite at step {step}, for the {run.bad_in_a_row}th time in a row (loss "
            f"{loss}, gradient norm {norm}, data position {position}); the batch is in {path} and the last good "
            f"checkpoint is step {run.saver.latest}: look at that batch, or lower config.train.optimizer.learning_rate "
            "or clip_norm."
        )
    log_once(f"step {step}: loss {loss}, gradient norm {norm}: not finite, update skipped; the batch is in {path}.")
    return values


def _is_best(run: Run, step: int, found: dict[str, float | Video]) -> bool:
    """Whether an evaluation beats all before it; then it becomes the record."""
    options, record, found = run.config.eval, run.position.get("best"), numbers(found)
    value = found.get(options.best)
    if value is None or not np.isfinite(value):
        if options.best and value is None:
            log_once(f"config.eval.best={options.best!r} is not among what was evaluated: {', '.join(found)}.")
        return False
    sign = 1 if options.better == "lower" else -1
    if record and record["metric"] == options.best and sign * value >= sign * record["value"]:
        return False
    run.position = run.position | {"best": {"metric": options.best, "value": float(value), "step": step}}
    run.saver.keep_best(step)
    return True


def _note_damage(run: Run, step: int) -> None:
    """Adds records found damaged since the last look to the incidents."""
    for record, what in list(run.dataset.damaged.items()):
        if run.incidents.is_new(("damaged_record", record)):
            run.incidents.add("damaged_record", step, record=record, what=what)
            log_once(f"step {step}: skipped {what}")


def evaluate(evaluators: dict[str, Evaluator], model: nnx.Module) -> dict[str, float | Video]:
    """All evaluators of a model: {"eval/<name>/<metric>": value or video}."""
    found = {}
    for name, evaluator in evaluators.items():
        found |= {f"eval/{name}/{metric}": value for metric, value in evaluator(model).items()}
    return found


def _save(run: Run) -> None:
    run.saver.save(int(run.state.step), run.state.trees(), run.position)


def _write(run: Run, step: int, values: dict[str, Any]) -> None:
    if run.writers:
        run.writers.write(step, values)
