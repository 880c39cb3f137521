"""Files of weights in Hugging Face's layout: what is read, what does not fit, and what is not written."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from toy_autoencoders import CLIP, IMAGE, REASON, VIDEO, assert_same_params, build, params_of

from world_models.core.errors import ConfigError, UserError
from world_models.models.masked_autoencoder import hugging_face
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.nn.options import PixelOptions, TransformerOptions

safetensors = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[huggingface]' to test weight files")


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
