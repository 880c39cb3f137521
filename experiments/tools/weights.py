"""Weights of masked autoencoders from and to Hugging Face's files: `python -m experiments.tools.weights`."""

import pathlib
import sys

import jax
from flax import nnx

from experiments.runs.loading import load
from experiments.tools.launchers import last_line
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.core.errors import UserError
from world_models.models.masked_autoencoder import hugging_face

USAGE = """  python -m experiments.tools.weights import FOLDER CHECKPOINTS
      safetensors and config.json -> a new folder of checkpoints, for --config.init_from.checkpoints
  python -m experiments.tools.weights export WORKDIR FOLDER
      a trained run -> a new folder for `from_pretrained`"""


def import_weights(source: pathlib.Path, target: pathlib.Path) -> list[str]:
    """Makes a checkpoint, in the new folder `target`, of weights that lie beside their config.json.

    Returns:
      Sentences on what was not read.

    Raises:
      UserError: if the weights cannot be read, or the folder is there already.
    """
    if target.exists():
        raise UserError(f"{target} is there already: name a new folder for the checkpoint.")
    found = hugging_face.read(source, hugging_face.described(source))
    there = [(path, x) for path, x in nnx.to_flat_state(found.params) if isinstance(x, jax.Array)]
    saver = Checkpoints(target)
    saver.save(0, {"weights": {"ema": nnx.from_flat_state(there), "constants": {}}}, {})
    saver.close()
    return found.left_out


def export_weights(workdir: pathlib.Path, target: pathlib.Path) -> None:
    """Writes the newest averaged weights of a run in Hugging Face's layout.

    Raises:
      UserError: if the run's family does not offer that.
    """
    run = load(workdir)
    run.experiment.capability("export").write(run, target)


def main(argv: list[str]) -> int:
    """Runs one of the two; the last line on standard output is what was made."""
    if len(argv) != 4 or argv[1] not in ("import", "export"):
        print(USAGE, file=sys.stderr)
        return 2
    source, target = map(pathlib.Path, argv[2:])
    try:
        said = import_weights(source, target) if argv[1] == "import" else export_weights(source, target)
    except UserError as error:
        print(f"weights {argv[1]}: {last_line(str(error))}", file=sys.stderr)
        return 1
    print("\n".join([*(said or ()), str(target)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
