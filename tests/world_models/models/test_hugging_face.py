"""Weights in Hugging Face's layout: the same loss and gradients as their models, and files that do not fit."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from world_models.core.errors import ConfigError, UserError
from world_models.models.masked_autoencoder import hugging_face, targets
from world_models.models.masked_autoencoder.hugging_face_layout import canonical, to_tensors
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import PixelOptions, TransformerOptions

safetensors = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[huggingface]' to test weight files")

REASON = "pip install torch transformers to compare with Hugging Face's models"
CLIP = (4, 16, 16, 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which Hugging Face's VideoMAE knows by heart
IMAGE = MaskedAutoencoderOptions(
    TransformerOptions(width=32, depth=2, heads=4),
    TransformerOptions(width=24, depth=3, heads=3),
    patch=4,
    pixels=PixelOptions(MEAN, STD),
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
CASES = [(kind, *case) for kind in SIZES for case in ((0, True), (1, True), (2, True), (1, False))]


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


@pytest.mark.parametrize(("kind", "options", "shape"), [("vit_mae", IMAGE, (1, 16, 16, 3)), ("videomae", VIDEO, CLIP)])
def test_reading_what_was_written_gives_the_same_parameters(kind, options, shape, tmp_path):
    ours = build(options, shape)
    hugging_face.write(ours, tmp_path / "out")
    again = hugging_face.read(tmp_path / "out", build(options, shape, seed=1))
    assert_same_params(again.params, params_of(ours), kind)
    assert again.left_out == []
    shapes = nnx.eval_shape(lambda: MaskedAutoencoder(options, shape, rngs=nnx.Rngs(0)))
    assert_same_params(hugging_face.read(tmp_path / "out" / "model.safetensors", shapes).params, params_of(ours), kind)
    with pytest.raises(UserError, match="is there already"):
        hugging_face.write(ours, tmp_path / "out")


def assert_same_params(found, wanted, kind):
    found, wanted = dict(nnx.to_flat_state(found)), dict(nnx.to_flat_state(wanted))
    assert set(found) == set(wanted)
    for path, x in found.items():
        expected = np.array(wanted[path])
        if kind == "videomae" and path[-2:] == ("qkv", "bias"):
            assert np.any(expected[:, 1])
            expected[:, 1] = 0  # keys have no bias there
        np.testing.assert_array_equal(x, expected, err_msg=str(path))


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


def stored(tmp_path, options=IMAGE, shape=(1, 16, 16, 3)):
    """A folder as `write` leaves it, and its tensors."""
    hugging_face.write(build(options, shape, seed=2), tmp_path / "there")
    return tmp_path / "there", safetensors.load_file(tmp_path / "there" / "model.safetensors")


@pytest.mark.parametrize("prefix", ["vit.", ""])
def test_the_encoder_alone_leaves_the_decoder_as_it_is(prefix, tmp_path):
    folder, tensors = stored(tmp_path)
    encoder = {prefix + name.removeprefix("vit."): x for name, x in tensors.items() if name.startswith("vit.")}
    safetensors.save_file(encoder, folder / "encoder.safetensors")
    model, there = build(), dict(nnx.to_flat_state(params_of(build(seed=2))))
    found = hugging_face.read(folder / "encoder.safetensors", model)
    own = dict(nnx.to_flat_state(params_of(model)))
    for path, x in nnx.to_flat_state(found.params):
        np.testing.assert_array_equal(x, (own if path[0] == "decoder" else there)[path])
    assert [sentence.split(":")[0] for sentence in found.left_out] == ["decoder"]


def test_a_decoder_of_another_size_need_not_be_read(tmp_path):
    folder, _ = stored(tmp_path)
    other = build(dataclasses.replace(IMAGE, decoder=TransformerOptions(width=16, depth=1, heads=2)))
    with pytest.raises(UserError, match="decoder_num_attention_heads=3 where this model has 2"):
        hugging_face.read(folder, other)
    found = hugging_face.read(folder, other, decoder=False)
    assert "not asked for" in found.left_out[0]
    there = dict(nnx.to_flat_state(params_of(build(seed=2))))
    for path, x in nnx.to_flat_state(found.params):
        if path[0] == "encoder":
            np.testing.assert_array_equal(x, there[path])


def test_another_image_size_is_reported_and_other_positions_raise(tmp_path):
    folder, tensors = stored(tmp_path)
    larger = hugging_face.read(folder, build(shape=(1, 24, 24, 3)))
    assert "image_size=16 there, 24 here" in larger.left_out[0]
    assert "16 patches there, 36 here" in larger.left_out[1]
    tensors["vit.embeddings.position_embeddings"] += 0.1
    safetensors.save_file(tensors, folder / "learned.safetensors")
    with pytest.raises(UserError, match=r"vit.embeddings.position_embeddings are not MAE's fixed positions"):
        hugging_face.read(folder / "learned.safetensors", build())


def test_tensors_that_do_not_fit_are_listed(tmp_path):
    folder, tensors = stored(tmp_path)
    (folder / "config.json").unlink()
    wide = dataclasses.replace(IMAGE, encoder=TransformerOptions(width=48, depth=2, heads=4))
    words = r"embeddings.cls_token is \(1, 1, 32\) there, \(1, 1, 48\) here; .*; …"
    with pytest.raises(UserError, match=words):
        hugging_face.read(folder, build(wide))
    deep = dataclasses.replace(IMAGE, encoder=TransformerOptions(width=32, depth=3, heads=4))
    with pytest.raises(UserError, match=r"16 missing \(vit.encoder.layer.2.*; …\)"):
        hugging_face.read(folder, build(deep))
    shallow = dataclasses.replace(IMAGE, encoder=TransformerOptions(width=32, depth=1, heads=4))
    with pytest.raises(UserError, match=r"16 unexpected \(vit.encoder.layer.1.*; …\)"):
        hugging_face.read(folder, build(shallow))
    with pytest.raises(UserError, match="has tensors named 'vit': this model reads those of VideoMAEForPreTraining"):
        hugging_face.read(folder, build(VIDEO, CLIP))
    tensors["classifier.weight"] = np.zeros(3, np.float32)
    safetensors.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"1 unexpected \(classifier.weight\)"):
        hugging_face.read(folder, build())


def test_numbers_of_heads_are_checked_against_a_config(tmp_path):
    folder, _ = stored(tmp_path)
    other = build(dataclasses.replace(IMAGE, encoder=TransformerOptions(width=32, depth=2, heads=2)))
    with pytest.raises(UserError, match=r"config.json has num_attention_heads=4 where this model has 2"):
        hugging_face.read(folder, other)
    (folder / "config.json").write_text("[")
    with pytest.raises(UserError, match="is no config of a model"):
        hugging_face.read(folder, other)
    (folder / "config.json").unlink()
    assert "heads are not checked" in hugging_face.read(folder, other).left_out[0]


def test_files_that_are_not_there_or_broken_are_named(tmp_path):
    with pytest.raises(UserError, match=r"model.safetensors is not there"):
        hugging_face.read(tmp_path, build())
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"is no safetensors file that can be read"):
        hugging_face.read(tmp_path, build())


@pytest.mark.parametrize(
    "change", [{"positions": "separable"}, {"encode_mask_tokens": True}, {"class_token": False}, {"tubelet": 2}]
)
def test_models_that_hugging_face_has_not_are_refused(change, tmp_path):
    model = build(dataclasses.replace(IMAGE, **change), (2, 16, 16, 3) if "tubelet" in change else (1, 16, 16, 3))
    with pytest.raises(UserError, match=f"{next(iter(change))}=.* has no layout at Hugging Face"):
        hugging_face.write(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("base", "change", "shape", "field"),
    [
        (IMAGE, {"target": "pca", "pca_components": 3}, (1, 16, 16, 3), "config.model.target"),
        (IMAGE, {"target": "channel_normalized"}, (1, 16, 16, 3), "config.model.target"),
        (IMAGE, {"pixels": PixelOptions(color="opponent")}, (1, 16, 16, 3), "config.model.pixels.color"),
        (IMAGE, {}, (1, 16, 24, 3), "config.data.image_size"),
        (VIDEO, {"target": "patch_normalized"}, CLIP, "config.model.target"),
        (VIDEO, {"target": "pixels"}, CLIP, "config.model.target"),
    ],
)
def test_models_that_would_mean_something_else_there_are_refused(base, change, shape, field, tmp_path):
    with pytest.raises(ConfigError) as caught:
        hugging_face.write(build(dataclasses.replace(base, **change), shape), tmp_path / "out")
    assert caught.value.field == field
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("options", "shape"), [(IMAGE, (1, 16, 16, 3)), (VIDEO, (4, 16, 24, 3))])
def test_the_normalization_of_frames_is_written_and_compared(options, shape, tmp_path):
    options = dataclasses.replace(options, pixels=PixelOptions((0.1, 0.2, 0.3), (0.5,)))
    hugging_face.write(build(options, shape), tmp_path / "out")
    assert hugging_face.read(tmp_path / "out", build(options, shape)).left_out == []
    other = dataclasses.replace(options, pixels=PixelOptions(), target="pixels")
    said = hugging_face.read(tmp_path / "out", build(other, shape)).left_out
    assert ["norm_pix_loss" in said[0], "image_mean=[0.1, 0.2, 0.3]" in said[1], len(said)] == [True, True, 2]
    transformers = pytest.importorskip("transformers", reason=REASON)
    torch = pytest.importorskip("torch", reason=REASON)
    kind = {1: "ViTMAEForPreTraining", 4: "VideoMAEForPreTraining"}[shape[0]]
    _, said = getattr(transformers, kind).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(said.values()), said
    image = np.random.default_rng(0).integers(0, 256, shape[1:]).astype(np.uint8)
    content = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert content["size"] == {"height": shape[1], "width": shape[2]}
    processor = transformers.ViTImageProcessor.from_pretrained(tmp_path / "out")
    found = processor(torch.from_numpy(image).permute(2, 0, 1), return_tensors="pt")["pixel_values"][0]
    expected = (image / 255 - np.array([0.1, 0.2, 0.3])) / 0.5
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-5)


def test_the_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[huggingface\]'"):
        hugging_face.read(tmp_path, build())
    with pytest.raises(UserError, match=r"pip install -e '.\[huggingface\]'"):
        hugging_face.write(build(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("options", "shape"), [(IMAGE, (1, 16, 16, 3)), (VIDEO, CLIP)])
def test_a_config_file_describes_the_model(options, shape, tmp_path):
    folder, _ = stored(tmp_path, options, shape)
    found = hugging_face.described(folder)
    assert (found.grid, found.channels, found.options.target) == (build(options, shape).grid, 3, options.target)
    shapes = lambda model: jax.tree.map(lambda x: x.shape, params_of(model))
    assert shapes(found) == shapes(build(options, shape))
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match=r"describes no masked autoencoder of .* is missing"):
        hugging_face.described(folder)


def test_flat_patches_of_a_video_have_no_contrast():
    """Not even that of rounding: a mean of many equal numbers is off by 1e-7, a lot beside an epsilon of 1e-6."""
    patches = np.float32(np.broadcast_to([-2.1179039, 0.7, 0.3], (1, 4, 512, 3))).reshape(1, 4, -1)
    np.testing.assert_array_equal(targets.target("channel_normalized", jnp.asarray(patches), 3), 0)
