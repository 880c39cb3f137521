"""The causal tokenizer as an experiment: trained, measured beside baselines, drawn."""

import json

import pytest
from conftest import set_fields

import launch
from configs.car_tokenizer import get_config
from experiments.evaluation.measure import measure
from experiments.runs.loading import load
from experiments.training.loop import train
from world_models.core.errors import UserError


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
    config.model.update({"latents": 8, "mask_ratio_max": 0.5})
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
    ("field", "value", "message"),
    [
        ("model.patch", 5, "Frames of 16x16 must be multiples of config.model.patch=5"),
        ("model.mask_ratio_max", 1.0, "config.model.mask_ratio_max=1.0 must be at least 0 and below 1"),
        ("model.latent_channels", 0, "config.model.latent_channels=0 must be at least 1"),
        ("model.window", 99, "config.model.window=99 must be from 1 to config.data.clip_length"),
        ("encoder.depth", 3, "config.model.encoder.depth=3 must be a multiple of config.model.time_every"),
    ],
)
def test_configs_that_cannot_work_are_refused(config, tmp_path, field, value, message):
    block, name = field.split(".")
    config[block][name] = value
    with pytest.raises(UserError, match=message):
        train(config, tmp_path)
