"""THE training loop: one for all families, devices and sizes. `Experiment` says what is trained, the config how."""

import collections
import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments import workdir as workdirs
from experiments.experiment import Evaluator, make_experiment, open_windows
from experiments.progress import Meter, Progress, StopSignal, Writers
from experiments.state import TrainState, create_state, make_optimizer, make_step
from world_models import checkpoints, parallel
from world_models.data import clips
from world_models.errors import UserError

LAG = 2  # steps between a step and the look at its metrics, so that the device never waits for the host


class Diverged(UserError):
    """The loss or a gradient was not finite."""


@dataclasses.dataclass
class Run:
    """What the loop works with."""

    config: ml_collections.ConfigDict
    workdir: pathlib.Path
    state: TrainState
    step: Any
    batches: Iterator
    saver: checkpoints.Checkpoints
    writers: Writers
    evaluators: dict[str, Evaluator]
    graphdef: Any
    position: dict[str, Any]


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """Trains the experiment of `config` in `workdir`, from its newest checkpoint if there is one.

    Returns:
      The folder of the checkpoints.

    Raises:
      UserError: if the config, the data or the workdir cannot work.
      Diverged: if the loss is not finite; the last good checkpoint stays.
    """
    run = prepare(config, workdir)
    progress = Progress(config.train.num_steps, int(run.state.step))
    with StopSignal() as stop:
        try:
            finished = _loop(run, progress, stop)
        finally:
            progress.close()
            run.writers.close()
    _save(run)
    run.saver.close()
    done = int(run.state.step)
    if not finished:
        print(f"{stop.received}: saved step {done} of {config.train.num_steps}; the same command goes on from there.")
    return workdir / "checkpoints"


def prepare(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Run:
    """Data, mesh, model, optimizer, state and everything else of a run, checked and ready for the first step."""
    data, options = config.data, config.train
    mesh = parallel.make_mesh(config.mesh)
    parallel.check_batch_size(options.batch_size, options.accumulate, mesh)
    windows = open_windows(config, workdir, data.train_split, data.clip_length, data.stride)
    experiment = make_experiment(config, windows.episodes.spec)
    optimizer, rate = make_optimizer(options)
    graphdef, init, shapes = create_state(experiment, optimizer, config.seed, mesh)
    workdirs.claim(workdir, config)
    workdirs.write_json(workdir / "data_spec.json", windows.episodes.spec.to_dict())
    origin = {"seed": config.seed, "data": windows.episodes.name, "data_fingerprint": windows.episodes.fingerprint}
    workdirs.add_launch(workdir, workdirs.provenance(**origin))

    iterator = iter(
        clips.batches(
            windows,
            options.batch_size,
            seed=config.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_threads=data.num_threads,
        )
    )
    saver = checkpoints.Checkpoints(workdir / "checkpoints", keep=options.keep, keep_every=options.keep_every)
    position = {"data": iterator.get_state(), "data_fingerprint": windows.episodes.fingerprint}
    if saver.latest is None:
        state = init()
    else:
        trees, saved = saver.restore(shapes.trees())
        if saved["data_fingerprint"] != position["data_fingerprint"]:
            raise UserError(
                f"{windows.episodes.name} is not the data set that {workdir} was trained on (fingerprint "
                f"{position['data_fingerprint']}, was {saved['data_fingerprint']}): choose another --workdir."
            )
        state, position = TrainState.from_trees(trees), saved
        iterator.set_state(position["data"])
    rows = parallel.batch_sharding(mesh)
    step = _compile(make_step(graphdef, experiment, config, optimizer, rate), shapes, windows, options, rows)
    writers = Writers(workdir, config, from_step=int(state.step))
    evaluators = experiment.evaluators(workdir)
    batches = clips.to_device(iterator, rows)
    return Run(config, workdir, state, step, batches, saver, writers, evaluators, graphdef, position)


def _compile(step: Any, shapes: TrainState, windows: clips.Windows, options: Any, rows: Any) -> Any:
    """The step, compiled ahead, after saying what it will need."""
    example = windows.load(np.zeros(1, int))
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((options.batch_size, *x.shape[1:]), x.dtype, sharding=rows), example
    )
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    start = time.monotonic()
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, parallel.replicated(rows.mesh)))
    compiled = jitted.lower(shapes, batch).compile()
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes.params))
    memory = compiled.memory_analysis()
    needed = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20 if memory else float("nan")
    _say(
        f"{count:,} parameters, {len(windows):,} windows of {windows.clip_length} steps, "
        f"{jax.device_count()} device(s); compiled in {time.monotonic() - start:.1f} s, {needed:,.0f} MiB a device."
    )
    return compiled


def _loop(run: Run, progress: Progress, stop: StopSignal) -> bool:
    """Trains to the end (true) or until asked to stop (false)."""
    options = run.config.train
    step = int(run.state.step)
    pending: collections.deque = collections.deque()
    meter = Meter(options.batch_size * run.config.data.clip_length, step)
    first = step
    while step < options.num_steps:
        if stop.received:
            _check(run, pending, 0)
            return False
        profile_here = bool(run.config.profile) and step == first + 3
        if profile_here:
            jax.profiler.start_trace(str(run.workdir / "profile"))
        with meter.waiting():
            batch, position = next(run.batches)
        with jax.transfer_guard("disallow"):
            run.state, metrics = run.step(run.state, batch)
        if profile_here:
            jax.block_until_ready(metrics)
            jax.profiler.stop_trace()
        step += 1
        run.position = run.position | {"data": position}
        pending.append((step, position, metrics))
        for values in _check(run, pending, LAG if step < options.num_steps else 0):
            progress.show(step, f"loss {float(values['loss']):.4f} | {meter}")
        if step % options.log_every == 0 or step == options.num_steps:
            values = jax.device_get(metrics)
            run.writers.write(step, {f"train/{name}": value for name, value in values.items()} | meter.rates(step))
        if step % options.eval_every == 0 or step == options.num_steps:
            _check(run, pending, 0)
            with meter.paused():
                run.writers.write(step, evaluate(run.evaluators, run.graphdef, run.state))
        if step % options.checkpoint_every == 0:
            _check(run, pending, 0)
            _save(run)
    return True


def _check(run: Run, pending: collections.deque, lag: int) -> list[dict[str, Any]]:
    """Looks at the metrics of all but the last `lag` steps and stops where one was not finite."""
    seen = []
    while len(pending) > lag:
        step, position, metrics = pending.popleft()
        values = jax.device_get(metrics)
        if values["nonfinite"]:
            run.saver.wait()
            raise Diverged(
                f"The loss or a gradient was not finite at step {step} (loss {float(values['loss'])}, gradient norm "
                f"{float(values['grad_norm'])}, data position {position}); the last good checkpoint is step "
                f"{run.saver.latest}: lower config.train.learning_rate or clip_norm, or look at that batch."
            )
        seen.append(values)
    return seen


def evaluate(evaluators: dict[str, Evaluator], graphdef: Any, state: TrainState) -> dict[str, float]:
    """All evaluators on the averaged weights: {"eval/<name>/<metric>": value}."""
    weights = (state.ema, state.constants)
    found = {}
    for name, evaluator in evaluators.items():
        found |= {f"eval/{name}/{metric}": value for metric, value in evaluator(graphdef, weights).items()}
    return found


def _save(run: Run) -> None:
    run.saver.save(int(run.state.step), run.state.trees(), run.position)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
