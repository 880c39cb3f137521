"""Reads and writes weights in the layout of Hugging Face's `ViTMAEForPreTraining` and `VideoMAEForPreTraining`.

Three differences are not visible in a file:

- Hugging Face's layer norms add `layer_norm_eps` to the variance, 1e-12 unless the config says otherwise; ours add the
  papers' 1e-6, which is what `write` puts into config.json. The last norm of Hugging Face's VideoMAE decoder adds 1e-5
  whatever its config says. Both change outputs only where a token hardly varies.
- VideoMAE's keys have no bias, ours have. It has no effect, since the softmax is invariant to adding the same number to
  all scores of a query. It is zero after `read`, and `write` leaves it out.
- Frames must be normalized by the mean and standard deviation that the weights were trained with:
  `MaskedAutoencoderOptions.pixels`; those of ImageNet for the public weights. `write` puts them into
  preprocessor_config.json, and `read` says where that has others.
"""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from world_models.core.errors import UserError, config_error
from world_models.models.masked_autoencoder.hugging_face_layout import (
    BASE,
    POSITIONS,
    architecture,
    canonical,
    layout,
    to_tensors,
)
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.models.weight_files import (
    CONFIG,
    WEIGHTS,
    check_tensors,
    filled,
    load_file,
    read_config,
    write_folder,
)
from world_models.nn.options import TransformerOptions
from world_models.nn.transformer import EPSILON, sincos_positions

PREPROCESSOR = "preprocessor_config.json"
_CLASSES = {"vit_mae": "ViTMAEForPreTraining", "videomae": "VideoMAEForPreTraining"}
_TARGETS = {"vit_mae": "patch_normalized", "videomae": "channel_normalized"}
_PROCESSORS = {"vit_mae": "ViTImageProcessor", "videomae": "VideoMAEImageProcessor"}
# Fields that shapes of tensors do not show; weights would be wrong without an error.
_CHECKED = ("model_type", "num_attention_heads", "decoder_num_attention_heads", "hidden_act")
_GRID = ("image_size", "num_frames")


class Imported(NamedTuple):
    """Weights read from a file.

    Attributes:
      params: all parameters of the model, a pure `nnx.State` as `nnx.update` takes it, placed like the model's own.
      left_out: sentences about what was not read or could not be checked.
    """

    params: nnx.State
    left_out: list[str]


def read(path: str | pathlib.Path, model: MaskedAutoencoder, *, decoder: bool = True) -> Imported:
    """Reads the parameters of a model from a file in Hugging Face's layout; the model is not changed.

    A file of the encoder alone (`ViTMAEModel`, `VideoMAEModel`) leaves the decoder as it is. Fixed positions are not
    parameters here: those of the file must be the same, or of another square grid, and the model's own are used.

    Args:
      path: a safetensors file, or the folder that holds model.safetensors; a config.json beside it is checked.
      model: the model to read weights for, with arrays or shapes (`nnx.eval_shape`).
      decoder: False leaves the decoder as it is whatever the file holds, so that it may be of another size.

    Raises:
      UserError: if there is no such file, the model or the file does not have this layout, or names or shapes differ.
    """
    path = pathlib.Path(path)
    file = path / WEIGHTS if path.is_dir() else path
    tensors, expected, left_out = _named(file, model), layout(model), []
    in_decoder = {tensor.name for tensor in expected if tensor.path[0] == "decoder"} | {POSITIONS["decoder"]}
    if not decoder or not in_decoder & set(tensors):
        decoder = False
        left_out.append(f"decoder: {'not asked for' if in_decoder & set(tensors) else f'not in {file}'}, left as it is")
        tensors = {name: x for name, x in tensors.items() if not (name.startswith("decoder.") or name in in_decoder)}
        expected = [tensor for tensor in expected if tensor.name not in in_decoder]
    left_out += _check_config(file.parent / CONFIG, model, decoder)
    left_out += _check_preprocessor(file.parent / PREPROCESSOR, model)
    tables = {side: tensors.pop(name) for side, name in POSITIONS.items() if name in tensors}
    check_tensors(file, tensors, {tensor.name: tensor.shape for tensor in expected})
    left_out += _check_positions(file, tables, model)
    return Imported(filled(model, tensors, expected), left_out)


def described(path: str | pathlib.Path) -> MaskedAutoencoder:
    """The model that a config.json describes, with shapes in place of arrays.

    Args:
      path: config.json's folder, or a file in it.

    Raises:
      UserError: if there is no config.json, or it describes no supported model.
    """
    file = (pathlib.Path(path) if pathlib.Path(path).is_dir() else pathlib.Path(path).parent) / CONFIG
    theirs = read_config(file)
    sized = lambda side: TransformerOptions(
        theirs[f"{side}hidden_size"],
        theirs[f"{side}num_hidden_layers"],
        theirs[f"{side}num_attention_heads"],
        theirs[f"{side}intermediate_size"] / theirs[f"{side}hidden_size"],
    )
    try:
        image, kind = theirs["model_type"] == "vit_mae", theirs["model_type"]
        frames, tubelet = (1, 1) if image else (theirs["num_frames"], theirs["tubelet_size"])
        options = MaskedAutoencoderOptions(
            sized(""),
            sized("decoder_"),
            theirs["patch_size"],
            tubelet,
            target=_TARGETS[kind] if theirs["norm_pix_loss"] else "pixels",
            class_token=image,
            positions="grid" if image else "line",
            decoder_input_bias=image,
        )
        size = theirs["image_size"]
        shape = (frames, *(size if isinstance(size, list) else (size, size)), theirs["num_channels"])
    except KeyError as error:
        raise UserError(f"{file} describes no masked autoencoder of {sorted(_TARGETS)}: {error} is missing.") from error
    return nnx.eval_shape(lambda: MaskedAutoencoder(options, shape, rngs=nnx.Rngs(0)))


def write(model: MaskedAutoencoder, path: str | pathlib.Path) -> None:
    """Writes a model into a new folder that `transformers` opens with `from_pretrained`.

    It holds model.safetensors, under the names of the public checkpoints, config.json, and preprocessor_config.json
    with the size, mean and standard deviation of frames.

    Raises:
      UserError: if the folder is there already, or Hugging Face has no such model (see `architecture`) or one whose
        predictions mean something else.
    """
    folder = pathlib.Path(path)
    _check_meaning(model)
    config, tensors = _make_config(model), to_tensors(nnx.state(model, nnx.Param), model)
    tensors |= {POSITIONS[side]: table for side, table in _positions(model).items()}
    contents = {CONFIG: config, PREPROCESSOR: _make_preprocessor(model)}
    write_folder(folder, tensors, {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()})


def _check_meaning(model: MaskedAutoencoder) -> None:
    """Raises UserError for what Hugging Face's models can hold but would take for something else."""
    kind, options = architecture(model), model.options
    targets = (_TARGETS[kind], *(("pixels",) if kind == "vit_mae" else ()))
    if options.target not in targets:
        # VideoMAE's plain pixels are in 0..1 where ours are normalized by `pixels`.
        raise config_error("config.model.target", options.target, f"be {' or '.join(targets)} in a {_CLASSES[kind]}")
    if options.pixels.color != "rgb":
        raise config_error("config.model.pixels.color", options.pixels.color, f"be 'rgb' in a {_CLASSES[kind]}")
    height, width = (count * options.patch for count in model.grid[1:])
    if kind == "vit_mae" and height != width:
        raise config_error(
            "config.data.image_size", (height, width), f"be square in a {_CLASSES[kind]}, whose positions are"
        )


def _make_preprocessor(model: MaskedAutoencoder) -> dict[str, Any]:
    """The contents of preprocessor_config.json: how images become the model's floats."""
    height, width = (count * model.options.patch for count in model.grid[1:])
    return {
        "image_processor_type": _PROCESSORS[architecture(model)],
        "do_resize": True,
        "size": {"height": height, "width": width},
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        **_statistics(model),
    }


def _statistics(model: MaskedAutoencoder) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel in 0..1, by their names in preprocessor_config.json."""
    pixels = model.options.pixels
    return {f"image_{name}": np.resize(getattr(pixels, name), model.channels).tolist() for name in ("mean", "std")}


def _check_preprocessor(path: pathlib.Path, model: MaskedAutoencoder) -> list[str]:
    """Sentences about frames that were normalized in another way than this model's."""
    theirs = read_config(path) if path.exists() else {}
    own = _statistics(model)
    return [
        f"{name}={theirs[name]} in {path}: set config.model.pixels so, here it is {own[name]}"
        for name in own
        if name in theirs and not (np.shape(theirs[name]) == (model.channels,) and np.allclose(theirs[name], own[name]))
    ]


def _positions(model: MaskedAutoencoder) -> dict[str, np.ndarray]:
    """Fixed positions as ViTMAE's files hold them, float32 [1, 1 + patches, width]; VideoMAE's hold none."""
    if architecture(model) != "vit_mae":
        return {}
    return {side: _with_class_token(np.asarray(getattr(model, side).positions())) for side in POSITIONS}


def _with_class_token(table: np.ndarray) -> np.ndarray:
    return np.pad(table, ((1, 0), (0, 0)))[None]


def _named(file: pathlib.Path, model: MaskedAutoencoder) -> dict[str, np.ndarray]:
    """The tensors of a file, by the names of the public checkpoints."""
    kind = architecture(model)
    base, other = BASE[kind], next(base for key, base in BASE.items() if key != kind)
    tensors = {canonical(name, kind): x for name, x in load_file(file).items()}
    if any(name.startswith(f"{other}.") for name in tensors):
        raise UserError(f"{file} has tensors named {other!r}: this model reads those of {_CLASSES[kind]}, {base!r}.")
    if any(name.startswith(f"{base}.") for name in tensors):
        return tensors
    return {f"{base}.{name}": x for name, x in tensors.items()}  # the encoder alone


def _check_positions(file: pathlib.Path, tables: dict[str, np.ndarray], model: MaskedAutoencoder) -> list[str]:
    """Raises UserError for positions that are not MAE's fixed ones; returns sentences about other grids."""
    said, own = [], _positions(model)
    for side, found in tables.items():
        table = own[side]
        if found.shape[1:2] != table.shape[1:2]:
            rows = round((found.shape[1] - 1) ** 0.5)
            said.append(f"{POSITIONS[side]}: of {found.shape[1] - 1} patches there, {table.shape[1] - 1} here")
            table = _with_class_token(sincos_positions(rows, rows, table.shape[-1]))
        if found.shape != table.shape or not np.allclose(found, table, atol=5e-3):  # bfloat16 is off by 2e-3
            raise UserError(f"{file}: {POSITIONS[side]} are not MAE's fixed positions, and this model has no others.")
    return said


def _make_config(model: MaskedAutoencoder) -> dict[str, Any]:
    """The contents of config.json. Hugging Face's only targets are plain and normalized pixels, `norm_pix_loss`."""
    options, kind = model.options, architecture(model)
    encoder, decoder = options.encoder, options.decoder
    height, width = (count * options.patch for count in model.grid[1:])
    video = {
        "num_frames": model.grid[0] * options.tubelet,
        "tubelet_size": options.tubelet,
        "qv_bias": True,
        "use_mean_pooling": False,  # with it the encoder has no last norm
    }
    image = {"mask_ratio": options.mask_ratio, "qkv_bias": True}
    return {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": encoder.hidden,
        "decoder_hidden_size": decoder.width,
        "decoder_num_hidden_layers": decoder.depth,
        "decoder_num_attention_heads": decoder.heads,
        "decoder_intermediate_size": decoder.hidden,
        "hidden_act": "gelu",
        "layer_norm_eps": EPSILON,
        "image_size": height if height == width else [height, width],
        "patch_size": options.patch,
        "num_channels": model.channels,
        "norm_pix_loss": options.target == _TARGETS[kind],
        **(video if kind == "videomae" else image),
    }


def _check_config(path: pathlib.Path, model: MaskedAutoencoder, decoder: bool) -> list[str]:
    """Compares a config.json with a model, as far as the shapes of tensors do not.

    Returns:
      Sentences about harmless differences.

    Raises:
      UserError: if the weights would mean something else in this model.
    """
    if not path.exists():
        return [f"{path} is not there: the numbers of heads are not checked"]
    theirs = read_config(path)
    own = _make_config(model)
    differ = {name for name, value in own.items() if name in theirs and theirs[name] != value}
    names = [name for name in _CHECKED if name in differ and (decoder or not name.startswith("decoder_"))]
    if names:
        said = ", ".join(f"{name}={theirs[name]!r} where this model has {own[name]!r}" for name in names)
        raise UserError(f"{path} has {said}.")
    grid = [f"{name}={theirs[name]} there, {own[name]} here" for name in _GRID if name in differ]
    said = [f"positions are this model's: {', '.join(grid)}"] if grid else []
    if decoder and "norm_pix_loss" in differ:
        said.append(
            f"the decoder predicts another target: norm_pix_loss={theirs['norm_pix_loss']} in {path}, "
            f"config.model.target={model.options.target!r} here"
        )
    return said
