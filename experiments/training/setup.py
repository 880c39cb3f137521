"""A run: all that the training loop works with, checked and ready for the first step."""

import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from experiments.runs import workdir as workdirs
from experiments.runs.files import check_writable, write_json
from experiments.runs.metrics import MetricsWriter
from experiments.training.experiment import Evaluator, experiment_class, make_experiment
from experiments.training.monitoring import Goodput, Incidents
from experiments.training.state import Merge, TrainState, create_state, make_step
from world_models.checkpointing import checkpoints
from world_models.checkpointing.parts import restore_parts
from world_models.core import sharding as parallel
from world_models.core.errors import UserError, config_error
from world_models.core.paths import local_path
from world_models.data import stream
from world_models.data.dataset import Dataset


@dataclasses.dataclass
class Run:
    """What the loop works with; `position` is the JSON part of a checkpoint."""

    config: ml_collections.ConfigDict
    workdir: pathlib.Path
    dataset: Dataset
    state: TrainState
    step: Any
    batches: Iterator
    stop_flags: dict[bool, jax.Array]
    saver: checkpoints.Checkpoints
    writers: MetricsWriter | None
    incidents: Incidents
    goodput: Goodput
    evaluators: dict[str, Evaluator]
    merge: Merge
    position: dict[str, Any]
    bad_in_a_row: int = 0


def prepare(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Run:
    """Data, mesh, model, optimizer, state and everything else of a run, checked and ready for the first step."""
    begin = time.monotonic()
    data, options, runtime = config.data, config.train, config.runtime
    main = parallel.is_main()
    mesh = parallel.make_mesh(config.runtime.mesh)
    parallel.check_batch_size(options.batch_size, options.accumulate, mesh)
    dataset = experiment_class(config).open_data(config, workdir, data.train_split)
    parallel.check_same(dataset.fingerprint, f"{dataset.name} (fingerprint of files and damage)")
    experiment = make_experiment(config, dataset.spec)
    experiment.check_data(dataset)
    init, shapes, merge, optimizer = create_state(experiment, config, mesh)
    workdirs.claim(workdir, config, write=False)
    if main:
        check_writable(workdir, checkpoints.least_size(shapes))
    origin = {"seed": config.seed, "data": dataset.name, "data_fingerprint": dataset.fingerprint}
    iterator = iter(
        stream.batches(
            dataset,
            options.batch_size,
            seed=config.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_threads=runtime.data.num_threads,
        )
    )
    saver = checkpoints.Checkpoints(workdir / "checkpoints", keep=runtime.keep, keep_every=runtime.keep_every)
    position = {"data": iterator.get_state(), "data_fingerprint": dataset.fingerprint}
    if saver.latest is None:
        state = _started_from(config.init_from, init(), shapes)
    else:
        trees, saved = saver.restore(shapes.trees())
        if saved["data_fingerprint"] != position["data_fingerprint"]:
            raise UserError(
                f"{dataset.name} is not the data set that {workdir} was trained on (fingerprint "
                f"{position['data_fingerprint']}, was {saved['data_fingerprint']}): choose another --workdir."
            )
        state, position = TrainState.from_trees(trees), saved
        iterator.set_state(position["data"])
        saver.keep_best(position.get("best", {}).get("step"))
    rows = parallel.batch_sharding(mesh)
    flags = parallel.per_device_flags(mesh)
    goodput = Goodput(begin)
    goodput.seconds["start"] = time.monotonic() - begin
    with goodput.spent_on("compile"):
        step = make_step(merge, experiment, config, optimizer)
        step = _compile(step, shapes, dataset, options.batch_size, rows, flags[False])
    if main:  # only now: after an error before, the folder is free for the corrected command
        workdirs.claim(workdir, config)
        write_json(workdir / "data_spec.json", dataset.spec.to_dict())
        workdirs.add_launch(workdir, workdirs.provenance(**origin))
    writers = MetricsWriter(workdir, config, from_step=int(state.step)) if main else None
    incidents = Incidents(workdir, jax.process_index())
    evaluators = experiment.evaluators(workdir)
    batches = stream.to_device(iterator, rows)
    return Run(
        config, workdir, dataset, state, step, batches, flags, saver, writers, incidents, goodput, evaluators, merge,
        position,
    )  # fmt: skip


def _started_from(options: ml_collections.ConfigDict, state: TrainState, shapes: TrainState) -> TrainState:
    """A new state, with those weights of another run that `config.init_from` asks for, and a word on the others."""
    if not options.checkpoints:
        return state
    step = None if options.step < 0 else options.step
    folder = local_path(options.checkpoints, "config.init_from.checkpoints")
    # Parameters and constants share no name. What was trained there may be a constant here: a frozen encoder.
    whole = nnx.merge_state(shapes.params, shapes.constants)
    above = tuple(jax.tree_util.DictKey(name) for name in filter(None, options.under.split(".")))
    try:
        own = functools.reduce(lambda tree, key: tree[key.key], above, whole)
    except KeyError as error:
        valid = f"name a module of this model: it has {', '.join(map(str, whole))}"
        raise config_error("config.init_from.under", options.under, valid) from error
    found = restore_parts(folder, step, own, tuple(options.parts))
    read = {(*above, *path): x for path, x in jax.tree_util.tree_leaves_with_path(found.arrays)}
    filled = lambda tree: jax.tree_util.tree_map_with_path(lambda path, own: read.get(path, own), tree)
    params, constants = filled(state.params), filled(state.constants)
    log_once("\n  ".join([f"Begins with weights of step {found.step} in {folder}.", *found.left_out]))
    return state._replace(params=params, constants=constants, ema=jax.tree.map(jnp.copy, params))


def _compile(step: Any, shapes: TrainState, dataset: Dataset, batch_size: int, rows: Any, flag: jax.Array) -> Any:
    """The step, compiled ahead, after saying what it will need."""
    example = dataset.load(np.zeros(1, int))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype, sharding=rows), example)
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    start = time.monotonic()
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, parallel.replicated(rows.mesh)))
    with jax.set_mesh(rows.mesh):
        compiled = jitted.lower(shapes, batch, flag).compile()
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes.params))
    memory = compiled.memory_analysis()
    needed = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20 if memory else float("nan")
    whole, held = (size / 2**20 for size in parallel.state_bytes(shapes))
    mesh = ", ".join(f"{axis} {size}" for axis, size in rows.mesh.shape.items() if size > 1) or "one device"
    log_once(
        f"{count:,} parameters; {len(dataset):,} examples of {dataset.spec.units} {dataset.spec.unit}; mesh: {mesh}; "
        f"compiled in {time.monotonic() - start:.1f} s; a device holds {held:,.0f} MiB of {whole:,.0f} MiB of state "
        f"and needs {needed:,.0f} MiB."
    )
    return compiled


def log_once(text: str) -> None:
    """Prints to standard error, once for all processes."""
    if parallel.is_main():
        print(text, file=sys.stderr, flush=True)
