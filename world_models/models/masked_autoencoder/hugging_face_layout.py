"""How tensors of a Hugging Face file correspond to parts of our parameters."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import nnx

from world_models.core.errors import UserError
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.weight_files import Tensor, leaves, plain

BASE = {"vit_mae": "vit", "videomae": "videomae"}
_MODULES = {
    "vit_mae": {
        "encoder.class_token": "vit.embeddings.cls_token",
        "encoder.embed": "vit.embeddings.patch_embeddings.projection",
        "encoder.transformer.blocks": "vit.encoder.layer",
        "encoder.norm": "vit.layernorm",
        "decoder.embed": "decoder.decoder_embed",
        "decoder.mask_token": "decoder.mask_token",
        "decoder.transformer.blocks": "decoder.decoder_layers",
        "decoder.norm": "decoder.decoder_norm",
        "decoder.head": "decoder.decoder_pred",
    },
    "videomae": {
        "encoder.embed": "videomae.embeddings.patch_embeddings.projection",
        "encoder.transformer.blocks": "videomae.encoder.layer",
        "encoder.norm": "videomae.layernorm",
        "decoder.embed": "encoder_to_decoder",
        "decoder.mask_token": "mask_token",
        "decoder.transformer.blocks": "decoder.decoder_layers",
        "decoder.norm": "decoder.norm",
        "decoder.head": "decoder.head",
    },
}
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attention.out": "attention.output.dense",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
}
POSITIONS = {"encoder": "vit.embeddings.position_embeddings", "decoder": "decoder.decoder_pos_embed"}
# Names of transformers 5 in memory, and of ViTMAE's decoder after `save_pretrained`.
_RENAMED = [
    (r"^((vit\.)?)layers\.", r"\1encoder.layer."),
    (r"^decoder\.decoder_encoder\.layer\.", "decoder.decoder_layers."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
]
_RENAMED_VIDEO = [
    (r"\.attention\.query\.bias$", ".attention.q_bias"),
    (r"\.attention\.value\.bias$", ".attention.v_bias"),
]


def architecture(model: MaskedAutoencoder) -> str:
    """The corresponding model of Hugging Face: "vit_mae" or "videomae".

    Raises:
      UserError: if it is neither.
    """
    options = model.options
    found = (options.class_token, options.positions, options.decoder_input_bias)
    if not options.encode_mask_tokens:
        if found == (True, "grid", True) and options.tubelet == model.grid[0] == 1:
            return "vit_mae"
        if found == (False, "line", False):
            return "videomae"
    raise UserError(
        f"config.model with class_token={found[0]}, positions={found[1]!r}, decoder_input_bias={found[2]}, tubelet="
        f"{options.tubelet}, encode_mask_tokens={options.encode_mask_tokens} has no layout at Hugging Face: ViTMAE is "
        "of single images (True, 'grid', True, 1, False), VideoMAE is (False, 'line', False, any, False)."
    )


def to_tensors(params: Any, model: MaskedAutoencoder) -> dict[str, np.ndarray]:
    """Parameters of a model, or anything shaped like them (gradients), by Hugging Face's names and in its shapes."""
    arrays = {path: np.asarray(leaf) for path, leaf in nnx.to_flat_state(nnx.as_pure(params))}
    return {tensor.name: tensor.take(arrays[tensor.path]) for tensor in layout(model)}


def layout(model: MaskedAutoencoder) -> list[Tensor]:
    """All tensors that a file of this model holds, besides fixed positions."""
    kind, options = architecture(model), model.options
    names, found = _MODULES[kind], []
    for path, leaf in leaves(model):
        module, blocks = ".".join(path[:-1]), ".".join(path[:3])
        if blocks.endswith(".blocks"):
            for layer in range(leaf.shape[0]):
                found += _of_block(f"{names[blocks]}.{layer}", path, layer, leaf.shape[1:], kind)
        elif module == "encoder.embed" and path[-1] == "kernel":
            time = (options.tubelet,) if kind == "videomae" else ()
            factors = (*time, options.patch, options.patch, model.channels, leaf.shape[-1])
            last = len(factors) - 1
            order = (last, last - 1, *range(last - 1))
            found.append(Tensor(f"{names[module]}.weight", path, (), factors, order))
        elif module in names:
            found.append(plain(names[module], path, (), leaf.shape))
        else:
            found.append(Tensor(names[".".join(path)], path, (), leaf.shape, tuple(range(leaf.ndim))))
    return found


def _of_block(prefix: str, path: tuple[str, ...], layer: int, shape: tuple[int, ...], kind: str) -> Iterator[Tensor]:
    module = ".".join(path[3:-1])
    if module != "attention.qkv":
        yield plain(f"{prefix}.{_IN_BLOCK[module]}", path, (layer,), shape)
        return
    for i, name in enumerate(("query", "key", "value")):
        if path[-1] == "kernel":
            yield plain(
                f"{prefix}.attention.attention.{name}", path, (layer, slice(None), i), (shape[0], *shape[2:]), 1
            )
        elif kind == "vit_mae":
            yield plain(f"{prefix}.attention.attention.{name}", path, (layer, i), (int(np.prod(shape[1:])),))
        elif name != "key":
            size = int(np.prod(shape[1:]))
            yield Tensor(f"{prefix}.attention.attention.{name[0]}_bias", path, (layer, i), (size,), (0,))


def canonical(name: str, kind: str) -> str:
    """The name in the public checkpoints of a tensor with a later name."""
    for pattern, instead in _RENAMED if kind == "vit_mae" else _RENAMED_VIDEO:
        name = re.sub(pattern, instead, name)
    return name
