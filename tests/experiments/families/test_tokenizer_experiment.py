"""The causal tokenizer as an experiment: trained, measured beside baselines, drawn."""

import json

import pytest
from conftest import set_field, set_fields

import launch
from configs.car_tokenizer import get_config
from experiments.evaluation.measure import measure
from experiments.runs.loading import load
from experiments.training.loop import train
from world_models.core.errors import ConfigError


@pytest.fixture
def config(square_data):
    """The debug variant on the square world."""
    config = get_config("debug")
    config.data.dataset = str(square_data)
    return config


def test_it_learns_to_see_through_its_latents(config, tmp_path, capsys):
    set_fields(config, num_steps=400, learning_rate=1e-3, batch_size=8, every=400, log_every=10)
    set_fields(config, warmup_steps=20, checkpoint_every=400)
    config.model.encoder.width = config.model.decoder.width = 32
    config.model.update({"latents": 8, "layout": "queries", "mask_ratio_max": 0.5})
    train(config, tmp_path)
    found = measure(load(tmp_path))
    assert found["eval/fidelity/psnr"] > found["eval/fidelity/psnr_mean_frame"] + 1
    assert found["eval/fidelity/psnr"] > found["eval/fidelity/psnr_masked"]
    assert 0 <= found["eval/fidelity/latents_saturated"] < 0.1
    assert (tmp_path / "pictures" / "reconstructions.png").exists()
    capsys.readouterr()
    more = "--config.eval.imagine.num_shown=1000"  # than there are
    assert launch.main(["launch.py", "imagine", f"--workdir={tmp_path}", more]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "imagine" / "report.html")
    metrics = json.loads((tmp_path / "imagine" / "metrics.json").read_text())
    assert set(metrics["psnr"]) == {"from latents", "masked", "reconstructed", "mean_frame"}
    assert (tmp_path / "imagine" / "reconstructions.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.patch", 5),
        ("model.mask_ratio_max", 1.0),
        ("model.motion_weight", 1.0),
        ("model.latent_channels", 0),
        ("model.window", 99),
        ("model.encoder.depth", 3),
        ("model.encoder.kv_heads", 3),
        ("model.decoder.norm", "batch"),
        ("model.decoder.mlp", "relu"),
        ("model.latents", 3),
        ("model.layout", "ring"),
    ],
)
def test_configs_that_cannot_work_are_refused(config, tmp_path, field, value):
    set_field(config, field, value)
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path)
    assert caught.value.field == f"config.{field}"
