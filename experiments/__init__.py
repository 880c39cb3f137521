"""What can be launched. `experiments.load(workdir)` opens a trained run from a notebook."""

from typing import Any


def load(workdir: Any, step: int | None = None, *, trusted: Any = ()) -> Any:
    """Opens a run: its model, config and data. See `experiments.runs.loading.load`."""
    from experiments.runs.loading import load as load_run  # workers that record must not import JAX

    return load_run(workdir, step, trusted=trusted)
