"""Weights in Hugging Face's layout: the same loss and gradients as their models, and files that do not fit."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.errors import UserError
from world_models.masked_autoencoder import hugging_face
from world_models.masked_autoencoder.hugging_face_layout import to_tensors
from world_models.masked_autoencoder.model import MaskedAutoencoder, Options
from world_models.nn.transformer import TransformerOptions

safetensors = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[huggingface]' to test weight files")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which Hugging Face's VideoMAE knows by heart
IMAGE = Options(
    TransformerOptions(width=32, depth=2, heads=4),
    TransformerOptions(width=24, depth=3, heads=3),
    patch=4,
    pixel_mean=MEAN,
    pixel_std=STD,
)
VIDEO = dataclasses.replace(
    IMAGE,
    tubelet=2,
    masking="tube",
    mask_ratio=0.7,
    target="channel_normalized",
    class_token=False,
    positions="line",
    decoder_input_bias=False,
)
SIZES = {  # encoder and decoder as (width, depth, heads), patch, shape of the frames
    "vit_mae": [
        ((32, 2, 4), (24, 3, 3), 4, (1, 16, 16, 3)),
        ((96, 4, 3), (52, 2, 2), 7, (1, 28, 28, 1)),
        ((192, 2, 3), (128, 2, 8), 16, (1, 224, 224, 3)),
    ],
    "videomae": [
        ((32, 2, 4), (24, 3, 3), 4, (4, 16, 16, 3)),
        ((96, 4, 3), (52, 2, 2), 8, (6, 32, 32, 3)),
        ((192, 2, 3), (96, 2, 6), 16, (4, 224, 224, 3)),
    ],
}
CASES = [(kind, size, normalize) for kind in SIZES for size in range(3) for normalize in (True, False)]


def build(options=IMAGE, shape=(1, 16, 16, 3), seed=0):
    """A model all of whose parameters are noise, so that none can be taken for another."""
    model = nnx.eval_shape(lambda: MaskedAutoencoder(options, shape, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(seed)
    noise = lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape).astype(np.float32))
    nnx.update(model, jax.tree.map(noise, nnx.as_pure(nnx.state(model, nnx.Param))))
    return model


def params_of(model):
    return nnx.as_pure(nnx.state(model, nnx.Param))


def sized(kind, size, normalize):
    encoder, decoder, patch, shape = SIZES[kind][size]
    base = IMAGE if kind == "vit_mae" else VIDEO
    options = dataclasses.replace(
        base,
        encoder=TransformerOptions(*encoder),
        decoder=TransformerOptions(*decoder),
        patch=patch,
        target=base.target if normalize else "pixels",
        pixel_mean=MEAN[: shape[-1]],
        pixel_std=STD[: shape[-1]],
    )
    return options, shape


def peer(kind, options, shape, normalize):
    """Hugging Face's model, every parameter of which is noise."""
    reason = "pip install torch transformers to compare with Hugging Face's models"
    torch = pytest.importorskip("torch", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    encoder, decoder = options.encoder, options.decoder
    common = {
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": 4 * encoder.width,
        "decoder_hidden_size": decoder.width,
        "decoder_num_hidden_layers": decoder.depth,
        "decoder_num_attention_heads": decoder.heads,
        "decoder_intermediate_size": 4 * decoder.width,
        "layer_norm_eps": 1e-6,
        "image_size": shape[1],
        "patch_size": options.patch,
        "num_channels": shape[3],
        "norm_pix_loss": normalize,
    }
    torch.manual_seed(0)
    if kind == "vit_mae":
        model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**common, mask_ratio=options.mask_ratio))
    else:
        video = {"num_frames": shape[0], "tubelet_size": options.tubelet, "use_mean_pooling": False}
        model = transformers.VideoMAEForPreTraining(transformers.VideoMAEConfig(**common, **video))
        model.decoder.norm.eps = 1e-6  # theirs is 1e-5 whatever the config says; the paper's code has 1e-6
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    for name in ("vit.embeddings.position_embeddings", "decoder.decoder_pos_embed"):
        if kind == "vit_mae":  # transformers 5 leaves the decoder's at zero where nothing is loaded
            table = hugging_face._positions(nnx.eval_shape(lambda: MaskedAutoencoder(options, shape, rngs=nnx.Rngs(0))))
            side = "encoder" if name.startswith("vit.") else "decoder"
            target = model.get_parameter(name)
            if side == "encoder":
                np.testing.assert_allclose(target.detach().numpy(), table[side], atol=1e-6)
            target.data = torch.from_numpy(table[side].copy())
    return model.eval()


def inputs(kind, options, shape, model):
    """Pixels as Hugging Face wants them, the same as our frames, and one mask in both forms."""
    rng = np.random.default_rng(1)
    pixels = rng.normal(size=(2, *shape)).astype(np.float32)
    frames = (pixels.astype(np.float64) * np.float32(options.pixel_std) + np.float32(options.pixel_mean)) * 255
    noise = rng.random((2, model.num_patches)).astype(np.float32)
    if kind == "videomae":
        noise = np.tile(rng.random((2, 1, int(np.prod(model.grid[1:])))), (1, model.grid[0], 1)).reshape(2, -1)
    places = np.argsort(noise, axis=1, kind="stable")
    hidden = np.ones(noise.shape, bool)
    np.put_along_axis(hidden, places[:, : model.num_visible], False, axis=1)
    return pixels, frames.astype(np.float32), places, noise, hidden


def peer_loss(kind, peer_model, pixels, noise, hidden):
    import torch

    if kind == "vit_mae":
        images = torch.from_numpy(pixels[:, 0].transpose(0, 3, 1, 2).copy())
        return peer_model(images, noise=torch.from_numpy(noise)).loss
    return peer_model(
        torch.from_numpy(pixels.transpose(0, 1, 4, 2, 3).copy()), bool_masked_pos=torch.from_numpy(hidden)
    ).loss


@pytest.mark.parametrize(("kind", "size", "normalize"), CASES)
def test_loss_and_every_gradient_are_those_of_hugging_face(kind, size, normalize, tmp_path, monkeypatch):
    options, shape = sized(kind, size, normalize)
    theirs = peer(kind, options, shape, normalize)
    if kind == "videomae" and not normalize:  # their plain pixels are in 0..1, ours are normalized
        import transformers.models.videomae.modeling_videomae as module

        monkeypatch.setattr(module, "IMAGENET_DEFAULT_MEAN", (0.0, 0.0, 0.0))
        monkeypatch.setattr(module, "IMAGENET_DEFAULT_STD", (1.0, 1.0, 1.0))
    tensors = {name: x.detach().numpy() for name, x in theirs.state_dict().items()}
    safetensors.save_file(tensors, tmp_path / "weights.safetensors")
    ours = build(options, shape)
    nnx.update(ours, hugging_face.read(tmp_path / "weights.safetensors", ours).params)

    pixels, frames, places, noise, hidden = inputs(kind, options, shape, ours)
    expected = peer_loss(kind, theirs, pixels, noise, hidden)
    expected.backward()
    graphdef, params = nnx.split(ours)
    value, gradients = jax.jit(jax.value_and_grad(lambda p: nnx.merge(graphdef, p).loss_of(frames, places)))(params)
    assert abs(float(value) - expected.item()) < 1e-5
    compare_gradients(kind, gradients, theirs, ours)


def compare_gradients(kind, gradients, theirs, ours):
    wanted = {hugging_face.canonical(name, kind): p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    found = to_tensors(gradients, ours)
    assert set(found) == set(wanted)
    for name, gradient in found.items():
        target = wanted[name].numpy().astype(np.float64)
        scale = np.linalg.norm(target)
        if name.endswith("attention.key.bias"):
            # Zero but for rounding: it adds the same to all scores of a query.
            query = np.linalg.norm(found[name.replace(".key.", ".query.")])
            assert max(scale, np.linalg.norm(gradient)) < 1e-4 * query, name
        else:
            assert np.linalg.norm(gradient - target) < 1e-4 * scale, name
