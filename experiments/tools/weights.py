"""Weights of masked autoencoders from and to Hugging Face's files: `python -m experiments.tools.weights`."""

import argparse
import pathlib
import sys

import jax
from flax import nnx

from experiments.runs.loading import load
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.core.errors import UserError
from world_models.models.masked_autoencoder import hugging_face


def import_weights(source: pathlib.Path, target: pathlib.Path) -> list[str]:
    """Writes weights that have a config.json beside them as a checkpoint in the new folder `target`.

    Returns:
      Sentences on weights that were not read.

    Raises:
      UserError: if the weights cannot be read, or the folder is there already.
    """
    if target.exists():
        raise UserError(f"{target} exists: name a new folder for the checkpoint.")
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
    """Runs one of the two; the last line on standard output is the path of the result."""
    parser = argparse.ArgumentParser(prog="experiments.tools.weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    one = commands.add_parser("import", help="Weights to a checkpoint, for --config.init_from.checkpoints.")
    one.add_argument("source", type=pathlib.Path, help="Folder with model.safetensors and config.json.")
    one.add_argument("target", type=pathlib.Path, help="New folder of checkpoints.")
    one = commands.add_parser("export", help="A trained run to a folder for `from_pretrained`.")
    one.add_argument("source", type=pathlib.Path, help="Workdir of the run.")
    one.add_argument("target", type=pathlib.Path, help="New folder.")
    args = parser.parse_args(argv[1:])
    convert = import_weights if args.command == "import" else export_weights
    try:
        left_out = convert(args.source, args.target)
    except UserError as error:
        print(f"weights {args.command}: {error}", file=sys.stderr)
        return 1
    print("\n".join([*(left_out or ()), str(args.target)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
