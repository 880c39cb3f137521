"""The video transformer as an experiment: trained on pixels and on a tokenizer's latents, measured, imagined with."""

import json

import jax
import numpy as np
import pytest
from conftest import set_field, set_fields
from flax import nnx
from ml_collections import ConfigDict

import launch
from configs import car_tokenizer, car_world
from experiments.evaluation import rollouts
from experiments.families.video_transformer.experiment import Experiment
from experiments.runs.loading import load
from experiments.training.loop import train
from world_models.core.errors import ConfigError
from world_models.core.options import to_dict
from world_models.core.specs import VideoSpec
from world_models.core.types import ActionSpec
from world_models.diffusion.options import FlowOptions, FlowSamplerOptions, ShortcutOptions, ShortcutSamplerOptions
from world_models.nn.options import ComputeOptions


@pytest.fixture
def config(square_data):
    """The debug variant on the square world."""
    config = car_world.get_config("debug")
    config.data.dataset = str(square_data)
    return config


def test_it_learns_where_actions_lead(config, tmp_path):
    """The square goes forward or back under its actions: futures are exact where the last frame is far off."""
    set_fields(config, num_steps=400, learning_rate=3e-3, batch_size=16, every=0, log_every=100)
    set_fields(config, warmup_steps=20, checkpoint_every=400, ema_decay=0.98)
    config.model.network.update({"width": 48, "depth": 4, "heads": 4})
    config.model.update({"condition": 64, "patch": 8, "registers": 0})
    with config.unlocked():  # noise alone is where actions matter most: the ramp would give it a tenth of the weight
        config.diffusion = ConfigDict({"process": "flow", **to_dict(FlowOptions(data_std=0.5, weight="uniform"))})
        config.eval.sampler = ConfigDict({"process": "flow", **to_dict(FlowSamplerOptions())})
    train(config, tmp_path)
    run = load(tmp_path)
    results = rollouts.run_rollouts(run.model, run.windows("test", 4 + 3), 4, 16, jax.random.key(0))
    error = lambda frames: np.sqrt(np.mean((frames.astype(float) - results.truth) ** 2, axis=(0, 2, 3, 4)))
    copied = np.broadcast_to(results.clip.frames[:, 3:4], results.truth.shape)
    assert error(results.imagined).max() < 5 < 40 < error(copied).min()
    assert error(results.shuffled).mean() > error(results.imagined).mean() + 10


def test_a_tokenizer_of_another_run_is_used_and_not_changed(config, square_data, tmp_path, capsys):
    own = car_tokenizer.get_config("debug")
    own.data.dataset = str(square_data)
    train(set_fields(own, every=0), tmp_path / "tokenizer")
    with config.unlocked():
        config.model.tokenizer = own.model
    with pytest.raises(ConfigError, match="under='tokenizer'") as caught:
        train(config, tmp_path / "world")
    assert caught.value.field == "config.init_from.checkpoints"
    config.init_from.checkpoints = str(tmp_path / "tokenizer" / "checkpoints")
    config.init_from.under = "coder"
    with pytest.raises(ConfigError, match="tokenizer") as caught:
        train(config, tmp_path / "world")
    assert caught.value.field == "config.init_from.under"
    config.init_from.under = "tokenizer"
    train(config, tmp_path / "world")
    weights = [dict(nnx.to_flat_state(nnx.state(load(tmp_path / name).model))) for name in ("tokenizer", "world")]
    for path, value in weights[0].items():
        np.testing.assert_array_equal(value[...], weights[1]["tokenizer", *path][...], err_msg=str(path))
    capsys.readouterr()
    assert launch.main(["launch.py", "imagine", f"--workdir={tmp_path / 'world'}"]) == 0
    metrics = json.loads((tmp_path / "world" / "imagine" / "metrics.json").read_text())
    assert len(metrics["psnr"]["imagined"]) == config.eval.imagine.horizon
    assert jax.tree.leaves(metrics["psnr"])


def test_sinks_are_of_the_model_and_not_of_training(config):
    spec = VideoSpec((64, 64, 3), ActionSpec("discrete", 2), {})
    config.model.window, config.eval.sinks = 4, 2
    make = lambda: Experiment(config, spec).make(ComputeOptions(), nnx.Rngs(0))
    assert nnx.eval_shape(make).transformer.sinks == 2
    config.model.forcing = "self"  # which streams in training
    with pytest.raises(ConfigError, match=r"clips longer than config\.model\.window") as caught:
        make()
    assert caught.value.field == "config.eval.sinks"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.patch", 5),
        ("model.window", 99),
        ("model.network.depth", 3),
        ("model.network.kv_heads", 3),
        ("model.condition", 15),
        ("model.registers", -1),
        ("model.time_every", 0),
        ("model.context_level", 1.5),
        ("model.forcing", "student"),
        ("model.own_after", 0),
        ("model.actions", "none"),
        ("data.across_episodes", True),
        ("eval.open_loop.num_context", 9),
        ("eval.imagine.num_context", 0),
        ("eval.sinks", -1),
        ("eval.sinks", 8),
        ("eval.sampler.num_steps", 3),
        ("eval.sampler.num_steps", 64),
        ("diffusion.max_steps", 12),
        ("diffusion.self_share", 2.0),
    ],
)
def test_configs_that_cannot_work_are_refused(config, tmp_path, field, value):
    if field.startswith(("diffusion", "eval.sampler")):
        with config.unlocked():
            config.diffusion = ConfigDict({"process": "shortcut", **to_dict(ShortcutOptions(max_steps=16))})
            config.eval.sampler = ConfigDict({"process": "shortcut", **to_dict(ShortcutSamplerOptions())})
    set_field(config, field, value)
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path)
    assert caught.value.field == f"config.{field}"
