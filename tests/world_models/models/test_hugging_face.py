"""Weights in Hugging Face's layout: the same loss and gradients as their models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toy_autoencoders import CLIP, IMAGE, MEAN, REASON, STD, VIDEO, assert_same_params, build, params_of

from world_models.models.masked_autoencoder import hugging_face, targets
from world_models.models.masked_autoencoder.hugging_face_layout import canonical, to_tensors
from world_models.nn.options import PixelOptions, TransformerOptions

safetensors = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[huggingface]' to test weight files")

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
CASES = [(kind, *case) for kind in SIZES for case in ((0, True), (1, True), (2, True), (1, False))]


def sized(kind, size, normalize):
    encoder, decoder, patch, shape = SIZES[kind][size]
    base = IMAGE if kind == "vit_mae" else VIDEO
    options = dataclasses.replace(
        base,
        encoder=TransformerOptions(*encoder),
        decoder=TransformerOptions(*decoder),
        patch=patch,
        target=base.target if normalize else "pixels",
        pixels=PixelOptions(MEAN[: shape[-1]], STD[: shape[-1]]),
    )
    return options, shape


def positions(rows, width):
    """MAE's table, float32 [1, 1 + rows², width]: nothing for the class token, then the column, then the row."""
    table = np.zeros((1 + rows**2, width))
    for place in range(rows**2):
        for i in range(width // 4):
            for half, angle in enumerate((place % rows, place // rows)):
                at, angle = half * width // 2 + i, angle / 10_000 ** (i / (width // 4))
                table[1 + place, [at, at + width // 4]] = np.sin(angle), np.cos(angle)
    return table[None].astype(np.float32)


def peer(kind, options, shape, normalize):
    """Hugging Face's model, every parameter of which is noise."""
    torch = pytest.importorskip("torch", reason=REASON)
    transformers = pytest.importorskip("transformers", reason=REASON)
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
    if kind == "vit_mae":  # transformers 5 leaves both tables at zero where none is loaded
        rows = shape[1] // options.patch
        model.vit.embeddings.position_embeddings.data = torch.from_numpy(positions(rows, encoder.width))
        model.decoder.decoder_pos_embed.data = torch.from_numpy(positions(rows, decoder.width))
    return model.eval()


def inputs(options, shape, model):
    """The same frames as pixels for Hugging Face and for us, and one mask in both forms."""
    rng = np.random.default_rng(1)
    pixels = rng.normal(size=(2, *shape)).astype(np.float32)
    frames = (pixels.astype(np.float64) * np.float32(options.pixels.std) + np.float32(options.pixels.mean)) * 255
    noise = rng.random((2, model.num_patches)).astype(np.float32)
    if options.masking == "tube":
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

    pixels, frames, places, noise, hidden = inputs(options, shape, ours)
    expected = peer_loss(kind, theirs, pixels, noise, hidden)
    expected.backward()
    graphdef, params = nnx.split(ours)
    value, gradients = jax.jit(jax.value_and_grad(lambda p: nnx.merge(graphdef, p).loss_of(frames, places)))(params)
    assert abs(float(value) - expected.item()) < 1e-5
    assert_same_gradients(kind, gradients, theirs, ours)


def assert_same_gradients(kind, gradients, theirs, ours):
    wanted = {canonical(name, kind): p.grad.numpy() for name, p in theirs.named_parameters() if p.requires_grad}
    found = to_tensors(gradients, ours)
    assert set(found) == set(wanted)
    for name, gradient in found.items():
        size = np.linalg.norm(wanted[name])
        if name.endswith("attention.key.bias"):  # nothing but rounding
            size = np.linalg.norm(wanted[name.replace(".key.", ".query.")])
        assert np.linalg.norm(gradient - wanted[name]) < 1e-4 * size, name


@pytest.mark.parametrize("kind", ["vit_mae", "videomae"])
def test_written_weights_open_in_transformers_with_the_same_loss(kind, tmp_path):
    options, shape = sized(kind, 0, True)
    pytest.importorskip("torch", reason=REASON)
    transformers = pytest.importorskip("transformers", reason=REASON)
    ours = build(options, shape)
    hugging_face.write(ours, tmp_path / "out")
    family = {"vit_mae": transformers.ViTMAEForPreTraining, "videomae": transformers.VideoMAEForPreTraining}[kind]
    theirs, said = family.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(said.values()), said
    pixels, frames, places, noise, hidden = inputs(options, shape, ours)
    loss = peer_loss(kind, theirs.eval(), pixels, noise, hidden).item()
    assert abs(float(ours.loss_of(frames, places)) - loss) < 1e-5 * loss
    theirs.save_pretrained(tmp_path / "back")  # under the names of this version of transformers
    back = hugging_face.read(tmp_path / "back", build(options, shape, seed=1))
    assert_same_params(back.params, params_of(ours), kind)
    assert back.left_out == []


def test_a_bias_of_the_keys_changes_nothing():
    model = build(VIDEO, CLIP)
    frames, places = (
        np.random.default_rng(0).integers(0, 256, (2, *CLIP)),
        model.mask(jax.random.split(jax.random.key(0), 2)),
    )
    before = model.loss_of(frames, places)
    for side in (model.encoder, model.decoder):
        bias = side.transformer.blocks.attention.qkv.bias
        bias[...] = bias[...].at[:, 1].set(0)
    np.testing.assert_allclose(model.loss_of(frames, places), before, rtol=1e-6)


def test_flat_patches_of_a_video_have_no_contrast():
    """Not even that of rounding: a mean of many equal numbers is off by 1e-7, a lot beside an epsilon of 1e-6."""
    patches = np.float32(np.broadcast_to([-2.1179039, 0.7, 0.3], (1, 4, 512, 3))).reshape(1, 4, -1)
    np.testing.assert_array_equal(targets.target("channel_normalized", jnp.asarray(patches), 3), 0)
