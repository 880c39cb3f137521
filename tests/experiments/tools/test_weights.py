"""Weights of masked autoencoders by command: from Hugging Face's files into checkpoints, and out of runs."""

import types

import numpy as np
import pytest
from flax import nnx

from experiments.families.masked_autoencoder import experiment as masked_autoencoder
from experiments.families.tokenizer import experiment as tokenizer
from experiments.tools import weights
from world_models.checkpointing.parts import restore_parts
from world_models.models.masked_autoencoder import hugging_face
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import TransformerOptions

safetensors = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[huggingface]' to test weight files")


def build(width=16):
    sizes = TransformerOptions(width=width, depth=2, heads=2)
    options = MaskedAutoencoderOptions(sizes, TransformerOptions(width=8, depth=1, heads=2), patch=4)
    return nnx.jit(lambda: MaskedAutoencoder(options, (1, 16, 16, 3), rngs=nnx.Rngs(0)))()


def test_imported_weights_are_a_checkpoint_to_begin_with(tmp_path, capsys):
    model = build()
    hugging_face.write(model, tmp_path / "there")
    tensors = safetensors.load_file(tmp_path / "there" / "model.safetensors")
    encoder = {name: x for name, x in tensors.items() if name.startswith("vit.")}
    safetensors.save_file(encoder, tmp_path / "there" / "model.safetensors")
    assert weights.main(["", "import", str(tmp_path / "there"), str(tmp_path / "start")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("decoder: not in")
    assert said[-1] == str(tmp_path / "start")

    params = nnx.as_pure(nnx.state(model, nnx.Param))
    found = restore_parts(tmp_path / "start", None, params, ("encoder",))
    own = dict(nnx.to_flat_state(params))
    for path, x in nnx.to_flat_state(found.arrays):
        if path[0] == "encoder":
            np.testing.assert_array_equal(x, own[path])
    assert weights.main(["", "import", str(tmp_path / "there"), str(tmp_path / "start")]) == 1
    assert f"{tmp_path / 'start'} exists" in capsys.readouterr().err


def test_a_run_is_exported_and_families_without_export_raise(tmp_path, capsys, monkeypatch):
    model = build()
    run = types.SimpleNamespace(model=model, experiment=masked_autoencoder.Experiment)
    monkeypatch.setattr(weights, "load", lambda workdir: run)
    assert weights.main(["", "export", str(tmp_path), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
    embed = safetensors.load_file(tmp_path / "out" / "model.safetensors")["decoder.decoder_embed.weight"]
    np.testing.assert_array_equal(embed, model.decoder.embed.kernel[...].T)
    run.experiment = tokenizer.Experiment
    assert weights.main(["", "export", str(tmp_path), str(tmp_path / "other")]) == 1
    assert "'export' does not work with config.experiment='experiments.families.tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    with pytest.raises(SystemExit) as error:
        weights.main([""])
    assert error.value.code == 2
