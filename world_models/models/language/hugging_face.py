"""Reads and writes weights in the layout of Hugging Face's `BertForPreTraining` and `BertForSequenceClassification`.

A file of `BertModel` alone, such as MiniLM's, leaves the heads as they are. Public weights need post-norm blocks and
`norm_epsilon` as their config.json says: `described` has both.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from world_models.core.errors import UserError, config_error
from world_models.data.wordpiece import TOKENIZER_FILE, VOCABULARY_FILE, WordPieceTokenizer
from world_models.models.language.model import LanguageModel, SentenceClassifier
from world_models.models.language.options import LanguageOptions
from world_models.models.weight_files import (
    CONFIG,
    WEIGHTS,
    Tensor,
    check_tensors,
    filled,
    leaves,
    load_file,
    plain,
    read_config,
    write_folder,
)
from world_models.nn.options import TransformerOptions

Model = LanguageModel | SentenceClassifier
_MODULES = {
    "encoder.tokens": "bert.embeddings.word_embeddings",
    "encoder.positions": "bert.embeddings.position_embeddings",
    "encoder.types": "bert.embeddings.token_type_embeddings",
    "encoder.embedding_norm": "bert.embeddings.LayerNorm",
    "pooler.linear": "bert.pooler.dense",
    "masked_head.linear": "cls.predictions.transform.dense",
    "masked_head.norm": "cls.predictions.transform.LayerNorm",
    "masked_head": "cls.predictions",
    "pair_head": "cls.seq_relationship",
    "head": "classifier",
}
_IN_BLOCK = {
    "norm1": "attention.output.LayerNorm",
    "norm2": "output.LayerNorm",
    "attention.out": "attention.output.dense",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
}
_BLOCKS = "encoder.transformer.blocks"
_NOT_WEIGHTS = "bert.embeddings.position_ids"  # a count that old files hold
_TIED = {  # names of older and newer files for tensors that others hold too
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_CHECKED = ("model_type", "num_attention_heads", "hidden_act")  # which shapes of tensors do not show


class Imported(NamedTuple):
    """Weights read from a file.

    Attributes:
      params: all parameters of the model, a pure `nnx.State` as `nnx.update` takes it, placed like the model's own.
      left_out: sentences about what was not read or could not be checked.
    """

    params: nnx.State
    left_out: list[str]


def read(path: str | pathlib.Path, model: Model) -> Imported:
    """Reads the parameters of a model from a file in Hugging Face's layout; the model is not changed.

    Modules that the file lacks (the heads of a `BertModel`) or the model lacks are left out; those of which the file
    has a part must be whole.

    Args:
      path: a safetensors file, or the folder that holds model.safetensors; a config.json beside it is checked.
      model: the model to read weights for, with arrays or shapes (`nnx.eval_shape`).

    Raises:
      UserError: if there is no such file, the model or the file does not have this layout, or names or shapes differ.
    """
    path = pathlib.Path(path)
    file = path / WEIGHTS if path.is_dir() else path
    tensors = _named(load_file(file))
    left_out = _check_config(file.parent / CONFIG, model)
    expected = layout(model)
    there, own = {_head(name) for name in tensors}, {_head(tensor.name) for tensor in expected}
    for head in sorted((there ^ own) - {""}):
        left_out.append(f"{head}: not in {file}, left as it is" if head in own else f"{head}: not in this model")
    expected = [tensor for tensor in expected if _head(tensor.name) in there]
    tensors = {name: x for name, x in tensors.items() if _head(name) in own}
    check_tensors(file, tensors, {tensor.name: tensor.shape for tensor in expected})
    return Imported(filled(model, tensors, expected), left_out)


def described(path: str | pathlib.Path) -> tuple[LanguageOptions, int]:
    """Options and vocabulary size of the model that a config.json describes.

    Args:
      path: config.json's folder, or a file in it.

    Raises:
      UserError: if there is no config.json, or it describes no BERT.
    """
    file = (pathlib.Path(path) if pathlib.Path(path).is_dir() else pathlib.Path(path).parent) / CONFIG
    theirs = read_config(file)
    try:
        if (theirs["model_type"], theirs.get("type_vocab_size", 2)) != ("bert", 2):
            raise UserError(f"{file} describes a {theirs['model_type']!r}, which is no BERT with two types of tokens.")
        width = theirs["hidden_size"]
        transformer = TransformerOptions(
            width,
            theirs["num_hidden_layers"],
            theirs["num_attention_heads"],
            theirs["intermediate_size"] / width,
        )
        options = LanguageOptions(
            transformer,
            theirs["max_position_embeddings"],
            post_norm=True,
            norm_epsilon=theirs["layer_norm_eps"],
        )
        return options, theirs["vocab_size"]
    except KeyError as error:
        raise UserError(f"{file} describes no BERT: {error} is missing.") from error


def write(model: Model, tokenizer: WordPieceTokenizer, path: str | pathlib.Path) -> None:
    """Writes a model into a new folder that `transformers` opens with `from_pretrained`.

    It holds model.safetensors, config.json and vocab.txt.

    Raises:
      UserError: if the folder is there already, or Hugging Face has no such model.
    """
    tensors = to_tensors(nnx.state(model, nnx.Param), model)
    config = {**_make_config(model), "vocab_size": tokenizer.vocabulary_size, "pad_token_id": tokenizer.special.padding}
    lower = {"do_lower_case": tokenizer.lowercase, "tokenizer_class": "BertTokenizer"}
    files = {CONFIG: config, TOKENIZER_FILE: lower}
    texts = {name: json.dumps(content, indent=2) + "\n" for name, content in files.items()}
    write_folder(pathlib.Path(path), tensors, {**texts, VOCABULARY_FILE: "\n".join(tokenizer.vocabulary) + "\n"})


def to_tensors(params: Any, model: Model) -> dict[str, np.ndarray]:
    """Parameters of a model, or anything shaped like them (gradients), by Hugging Face's names and in its shapes."""
    arrays = {path: np.asarray(leaf) for path, leaf in nnx.to_flat_state(nnx.as_pure(params))}
    return {tensor.name: tensor.take(arrays[tensor.path]) for tensor in layout(model)}


def layout(model: Model) -> list[Tensor]:
    """All tensors that a file of this model holds.

    Raises:
      ConfigError: if Hugging Face has no such model.
    """
    options, transformer = model.options, model.options.transformer
    if not options.post_norm:
        raise config_error("config.model.post_norm", False, "be True in the layout of Hugging Face's BERT")
    plain_ones = {"norm": "layer", "mlp": "gelu", "qk_norm": False, "kv_heads": 0}
    for name, value in plain_ones.items():
        if getattr(transformer, name) != value:
            field = f"config.model.transformer.{name}"
            raise config_error(field, getattr(transformer, name), f"be {value!r} in the layout of Hugging Face's BERT")
    found: list[Tensor] = []
    for path, leaf in leaves(model):
        module = ".".join(path[:-1])
        if module.startswith(f"{_BLOCKS}."):
            for layer in range(leaf.shape[0]):
                found += _of_block(f"bert.encoder.layer.{layer}", path, layer, leaf.shape[1:])
        elif path[-1] == "embedding":
            found.append(Tensor(f"{_MODULES[module]}.weight", path, (), leaf.shape, (0, 1)))
        else:
            found.append(plain(_MODULES[module], path, (), leaf.shape))
    return found


def _of_block(prefix: str, path: tuple[str, ...], layer: int, shape: tuple[int, ...]) -> Iterator[Tensor]:
    module = ".".join(path[3:-1])
    if module != "attention.qkv":
        yield plain(f"{prefix}.{_IN_BLOCK[module]}", path, (layer,), shape)
        return
    for i, name in enumerate(("query", "key", "value")):
        name = f"{prefix}.attention.self.{name}"
        if path[-1] == "kernel":
            yield plain(name, path, (layer, slice(None), i), (shape[0], *shape[2:]), 1)
        else:
            yield plain(name, path, (layer, i), (int(np.prod(shape[1:])),))


def _named(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a file by the names of `BertForPreTraining`, without those that stand for others."""
    if not any(name.startswith("bert.") for name in tensors):
        tensors = {f"bert.{name}": x for name, x in tensors.items()}  # the encoder alone
    renamed = {name.replace(".gamma", ".weight").replace(".beta", ".bias"): x for name, x in tensors.items()}
    return {name: x for name, x in renamed.items() if name != _NOT_WEIGHTS and _TIED.get(name) not in renamed}


def _head(name: str) -> str:
    """The head that a tensor belongs to; empty for the encoder."""
    heads = ("bert.pooler", "cls.predictions", "cls.seq_relationship", "classifier")
    return next((head for head in heads if name.startswith(f"{head}.")), "")


def _make_config(model: Model) -> dict[str, Any]:
    """The contents of config.json, as far as the model knows."""
    options, transformer = model.options, model.options.transformer
    classes = {} if isinstance(model, LanguageModel) else {"num_labels": model.head.out_features}
    return {
        "architectures": [
            "BertForPreTraining" if isinstance(model, LanguageModel) else "BertForSequenceClassification"
        ],
        "model_type": "bert",
        "hidden_size": transformer.width,
        "num_hidden_layers": transformer.depth,
        "num_attention_heads": transformer.heads,
        "intermediate_size": transformer.hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": options.positions,
        "type_vocab_size": 2,
        "layer_norm_eps": options.norm_epsilon,
        **({"id2label": {i: f"LABEL_{i}" for i in range(classes["num_labels"])}} if classes else {}),
    }


def _check_config(path: pathlib.Path, model: Model) -> list[str]:
    """Sentences about harmless differences between a config.json and a model; raises UserError for others."""
    if not path.exists():
        return [f"{path} is not there: the number of heads is not checked"]
    theirs, own = read_config(path), _make_config(model)
    differ = {name: theirs[name] for name in own if name in theirs and theirs[name] != own[name]}
    wrong = [f"{name}={differ[name]!r} where this model has {own[name]!r}" for name in _CHECKED if name in differ]
    if wrong:
        raise UserError(f"{path} has {', '.join(wrong)}.")
    if "layer_norm_eps" in differ:
        epsilon = differ["layer_norm_eps"]
        return [
            f"layer_norm_eps={epsilon} in {path}: set config.model.norm_epsilon so, here it is {own['layer_norm_eps']}"
        ]
    return []
