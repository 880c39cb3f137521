"""Weights from and to files: `python -m experiments.tools.weights`.

Masked autoencoders and BERT in Hugging Face's layout, in both directions; the denoisers of DIAMOND's checkpoints, to
here; runs of this project to folders that are small enough to ship (`weights/`); and feature networks from PyTorch's
files, for `config.eval.features.path` and `config.eval.distances.lpips`.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.commands.common import split_overrides
from experiments.runs import config as configs
from experiments.runs import shipped
from experiments.runs import workdir as workdirs
from experiments.runs.loading import load
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.core.errors import UserError
from world_models.metrics import tensor_files
from world_models.models.language import hugging_face as bert
from world_models.models.language.model import LanguageModel
from world_models.models.masked_autoencoder import hugging_face
from world_models.models.video_diffusion import diamond
from world_models.models.weight_files import CONFIG, read_config


def import_weights(source: pathlib.Path, target: pathlib.Path) -> list[str]:
    """Writes weights as a checkpoint in the new folder `target`.

    Args:
      source: weights of a masked autoencoder or a BERT with their config.json beside them, or a .pt file of DIAMOND's.
      target: the new folder.

    Returns:
      Sentences on weights that were not read, and on the model that the others are for.

    Raises:
      UserError: if the weights cannot be read, or the folder is there already.
    """
    if target.exists():
        raise UserError(f"{target} exists: name a new folder for the checkpoint.")
    constants: Any = {}
    if source.suffix in diamond.SUFFIXES:
        denoiser = diamond.read(source)
        there, constants, options = nnx.to_flat_state(denoiser.params), denoiser.constants, denoiser.options
        said = [
            *denoiser.left_out,
            f"A model of {denoiser.actions.size} actions and frames of {denoiser.channels} channels, with "
            f"config.model.network.channels={options.network.channels}, "
            f"config.model.network.blocks={options.network.blocks}, config.model.condition={options.condition} and "
            f"config.model.context_offsets={options.context_offsets}",
        ]
    else:
        is_bert = read_config((source if source.is_dir() else source.parent) / CONFIG).get("model_type") == "bert"
        found = _read_bert(source) if is_bert else hugging_face.read(source, hugging_face.described(source))
        there = [(path, x) for path, x in nnx.to_flat_state(found.params) if isinstance(x, jax.Array)]
        said = found.left_out
    saver = Checkpoints(target)
    saver.save(0, {"weights": {"ema": nnx.from_flat_state(list(there)), "constants": constants}}, {})
    saver.close()
    return said


def _read_bert(source: pathlib.Path) -> bert.Imported:
    options, vocabulary_size = bert.described(source)
    found = bert.read(source, nnx.eval_shape(lambda: LanguageModel(options, vocabulary_size, rngs=nnx.Rngs(0))))
    size, own = options.transformer, "config.model"
    found.left_out.append(
        f"A model of {vocabulary_size} pieces, with {own}.transformer.width={size.width}, {own}.transformer.depth="
        f"{size.depth}, {own}.transformer.heads={size.heads}, {own}.transformer.mlp_ratio={size.mlp_ratio}, "
        f"{own}.positions={options.positions}, {own}.post_norm=True, {own}.norm_epsilon={options.norm_epsilon} and "
        f"config.data.vocabulary={source if source.is_dir() else source.parent}"
    )
    return found


def export_weights(workdir: pathlib.Path, target: pathlib.Path) -> None:
    """Writes the newest averaged weights of a run in Hugging Face's layout.

    Raises:
      UserError: if the run's family does not offer that.
    """
    run = load(workdir)
    run.experiment.capability("export").write(run, target)


def convert_tensors(sources: Sequence[pathlib.Path], target: pathlib.Path) -> None:
    """Writes the tensors of state dicts that PyTorch wrote to one file, .safetensors or .npz, under their names.

    Raises:
      UserError: if a file cannot be read, the target exists or its kind is another, or two files share a name.
    """
    if target.exists():
        raise UserError(f"{target} exists: name a new file.")
    tensors: dict[str, np.ndarray] = {}
    for source in sources:
        found = diamond.load_tensors(source)
        if shared := sorted(tensors.keys() & found):
            raise UserError(f"{source} has a tensor {shared[0]!r}, as a file before it has: give one of them.")
        tensors |= found
    tensor_files.write(target, tensors)


def main(argv: list[str]) -> int:
    """Runs one of the commands; the last line on standard output is the path of the result."""
    parser = argparse.ArgumentParser(prog="experiments.tools.weights", description=__doc__)
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    one = choices.add_parser("import", help="Weights to a checkpoint, for --config.init_from.checkpoints.")
    one.add_argument(
        "source", type=pathlib.Path, help="Folder with model.safetensors and config.json, or DIAMOND's .pt file."
    )
    one.add_argument("target", type=pathlib.Path, help="New folder of checkpoints.")
    one = choices.add_parser("export", help="A trained run to a folder for `from_pretrained`.")
    one.add_argument("source", type=pathlib.Path, help="Workdir of the run.")
    one.add_argument("target", type=pathlib.Path, help="New folder.")
    one = choices.add_parser("pack", help="A trained run, its config set by --config.…, to a folder for --weights.")
    one.add_argument("source", type=pathlib.Path, help="Workdir of the run.")
    one.add_argument("data", type=pathlib.Path, help="A small data set of the same kind, to imagine from.")
    one.add_argument("target", type=pathlib.Path, help="New folder, such as weights/my_model.")
    one = choices.add_parser("tensors", help="State dicts of PyTorch to one file of tensors, for feature networks.")
    one.add_argument("source", type=pathlib.Path, nargs="+", help="Files .pt or .pth of state dicts.")
    one.add_argument("target", type=pathlib.Path, help="New file .safetensors or .npz.")
    own, overrides = split_overrides(argv[1:])
    args = parser.parse_args(own)
    if args.command != "pack" and overrides:
        parser.error(f"{overrides[0]} sets a field of a config, and {args.command} reads none.")

    def pack(source: pathlib.Path, target: pathlib.Path) -> None:
        config = workdirs.load_config(source)
        configs.override(config, overrides)
        shipped.pack(load(source, config=config), args.data, target)

    commands = {"import": import_weights, "export": export_weights, "pack": pack, "tensors": convert_tensors}
    try:
        left_out = commands[args.command](args.source, args.target)
    except UserError as error:
        print(f"weights {args.command}: {error}", file=sys.stderr)
        return 1
    print("\n".join([*(left_out or ()), str(args.target)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
