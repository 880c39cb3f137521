"""Latent dynamics as an experiment: what is refused, frozen encoders, statistics that are carried, another K."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import set_field
from flax import nnx

from configs import lewm
from configs.tables.two_rooms import PUBLISHED_MPPI
from configs.two_rooms import get_config
from experiments.evaluation.measure import measure
from experiments.families.latent_dynamics.experiment import Experiment
from experiments.planning.planners import make_settings
from experiments.runs import loading
from experiments.training.loop import train
from experiments.training.setup import _started_from
from experiments.training.state import create_state
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.core import sharding as parallel
from world_models.core.errors import ConfigError, UserError
from world_models.core.specs import VideoSpec
from world_models.core.types import ActionSpec
from world_models.models.masked_autoencoder.model import MaskedAutoencoder
from world_models.models.masked_autoencoder.options import MaskedAutoencoderOptions
from world_models.nn.options import TransformerOptions
from world_models.planning.planner import make_planner

SPEC = VideoSpec((16, 16, 3), ActionSpec("discrete", 2))
VIT = {"kind": "vit", "patch": 8, "class_token": True, "frozen": True}
SIZE = {"width": 8, "depth": 1, "heads": 2, "mlp_ratio": 2.0}


@pytest.fixture
def config(square_data):
    """The debug variant on the square world."""
    config = get_config("debug")
    config.data.dataset = str(square_data)
    return config


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("data.clip_length", 9, ""),
        ("data.clip_length", 2, ""),  # one tick of the upper level
        ("model.levels", (), ""),
        ("model.levels", ("bottom", *["upper"] * 4), ""),
        ("model.levels", ("bottom", "uper"), "model.levels[1]"),
        ("model.levels", ("bottom", "upper", "upper", "upper"), "data.clip_length"),
        ("model.level.upper.stride", 16, "data.clip_length"),
        ("model.level.upper.stride", 1, ""),
        ("model.level.upper.rollout", 4, ""),
        ("model.level.upper.encoder", "frames", ""),
        ("model.level.bottom.rollout", 8, ""),
        ("model.level.bottom.predictor", "lstm", ""),
        ("model.level.bottom.std", -1.0, ""),
        ("train.accumulate", 2, ""),
        ("data.across_episodes", True, ""),
        ("model.encoder.kind", "mlp", ""),
        ("model.pixels.std", (0.0,), ""),
        ("model.pixels.color", "hsv", ""),
        ("model.dtype", "int8", ""),
    ],
)
def test_configs_that_cannot_work_are_refused(field, value, named):
    config = get_config("debug")
    set_field(config, field, value)
    with pytest.raises(ConfigError) as caught:
        Experiment(config, SPEC)
    assert caught.value.field == f"config.{named or field}"


def test_something_is_left_to_train():
    config = get_config("debug")
    config.model.level.bottom.weight = config.model.level.upper.weight = 0.0
    Experiment(config, SPEC)  # the decoders
    config.model.decoder.channels = ()
    with pytest.raises(ConfigError, match="nothing is left to train") as caught:
        Experiment(config, SPEC)
    assert caught.value.field == "config.model.level.bottom.weight"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("history", 8, "history"),  # of the eight frames of a clip one is left to predict
        ("rollout", 7, "rollout"),  # two of the eight are given
        ("heads", 3, "heads"),
        ("depth", 0, "depth"),
        ("predictor", "gru", "history"),
        ("predictor", "transfomer", "predictor"),
    ],
)
def test_a_predictor_that_looks_back_is_told_how_far(field, value, named):
    config = get_config("debug")
    config.model.level.bottom.update({"predictor": "transformer", "history": 2, "depth": 1, "heads": 2})
    Experiment(config, SPEC)
    config.model.level.bottom[field] = value
    with pytest.raises(ConfigError) as caught:
        Experiment(config, SPEC)
    assert caught.value.field == f"config.model.level.bottom.{named}"


@pytest.mark.parametrize(("std", "valid"), [((0.5, 2.0), True), ((0.5, 2.0, 1.0), False)])
def test_a_standard_deviation_may_differ_by_action(std, valid):
    config, actions = lewm.get_config("debug"), ActionSpec("continuous", 2, (-2.0, -2.0), (2.0, 2.0))
    with config.ignore_type():
        config.eval.search.bottom.std = std
    model = nnx.jit(lambda: Experiment(config, dataclasses.replace(SPEC, actions=actions)).init(nnx.Rngs(0)))()
    if valid:
        assert make_settings(config, model)[0].std == std
        return
    with pytest.raises(ConfigError, match="tuple of dim=2") as caught:
        make_settings(config, model)
    assert caught.value.field == "config.eval.search.bottom"


def test_a_search_may_leave_the_environments_bounds():
    config, actions = lewm.get_config("debug"), ActionSpec("continuous", 2, (-2.0, -1.0), (2.0, 3.0))
    model = nnx.jit(lambda: Experiment(config, dataclasses.replace(SPEC, actions=actions)).init(nnx.Rngs(0)))()
    (level,) = make_settings(config, model)
    np.testing.assert_array_equal(level.search.box, [[-2, -1], [2, 3]])
    np.testing.assert_allclose(level.search.absolute(1.0), 2)
    overrides = {**PUBLISHED_MPPI, "eval.search.bottom.horizon": 4}
    for name, value in overrides.items():
        set_field(config, name, value)
    (level,) = make_settings(config, model)
    np.testing.assert_array_equal(level.search.box, [[-np.inf] * 2, [np.inf] * 2])
    np.testing.assert_array_equal(level.search.absolute(level.search.std), 2)
    assert (level.search.max_norm, level.search.temperature) == (0, 200)


def test_plans_go_on_from_the_latents_that_a_predictor_looks_back_on():
    """Six steps of an episode whose frames are given, with a plan every second step."""
    config, actions = lewm.get_config("debug"), ActionSpec("continuous", 2, (-2.0, -2.0), (2.0, 2.0))
    experiment = Experiment(config, dataclasses.replace(SPEC, actions=actions))
    model = nnx.jit(lambda: experiment.init(nnx.Rngs(0)))()
    planner = make_planner(model, make_settings(config, model))
    frames = np.random.default_rng(0).integers(0, 255, (1, 6, *SPEC.frame_shape), np.uint8)

    @jax.jit
    def play(z):
        planner_state, actions = planner.init(z[0]), []
        for clock in range(6):
            action, planner_state, _ = planner.act(
                planner_state, z[clock], z[0], clock, 6 - clock, jax.random.key(clock)
            )
            actions.append(action)
        return planner_state.carry, jnp.stack(actions)

    carry, actions = play(nnx.jit(lambda model, frames: model.encode(frames)[0])(model, frames))
    observe = nnx.jit(lambda model, frames, actions: model.observe(frames, actions, jax.random.key(0)))
    observed = observe(model, frames, actions[None, :5]).carry
    assert int(carry.count) == config.model.level.bottom.history == 3
    np.testing.assert_allclose(carry.latents, observed.latents[0], atol=1e-5)
    np.testing.assert_allclose(carry.actions[:2], observed.actions[0, :2], atol=1e-5)


def test_a_cnn_needs_channels():
    config = get_config("debug")
    config.model.encoder = {"kind": "cnn", "channels": (), "blocks": 1, "frozen": False}
    with pytest.raises(ConfigError) as caught:
        Experiment(config, SPEC)
    assert caught.value.field == "config.model.encoder.channels"


def test_a_level_need_not_say_that_it_has_no_map_and_a_map_has_an_end():
    config = get_config("debug")
    with config.unlocked():
        del config.model.level.upper["distance"]
    assert Experiment(config, SPEC).options.levels[1].distance == 0
    with config.unlocked():
        config.model.level.upper.update({"distance": 1.0, "max_distance": 0.0})
    with pytest.raises(ConfigError) as caught:
        Experiment(config, SPEC)
    assert caught.value.field == "config.model.level.upper.max_distance"


def test_an_identity_needs_the_width_below_and_patches_must_fit():
    config = get_config("debug")
    config.model.level.upper.update({"encoder": "identity", "width": 4})
    with pytest.raises(ConfigError, match="must be 8, that of the level below") as caught:
        Experiment(config, SPEC)
    assert caught.value.field == "config.model.level.upper.width"
    config.model.level.upper.width = 8
    config.model.encoder = VIT | SIZE | {"patch": 5}
    with pytest.raises(ConfigError) as caught:
        Experiment(config, SPEC)
    assert caught.value.field == "config.model.encoder.patch"


def test_an_upper_level_needs_clips_from_half_of_the_episodes():
    episodes = types.SimpleNamespace(lengths=np.array([4, 4, 20, 4, 30]), name="rooms")
    windows = types.SimpleNamespace(episodes=episodes, clip_length=8)
    windows.parts = [windows]
    config = get_config("debug")
    with pytest.raises(
        UserError, match=r"config.data.clip_length=8 fits into 40% of the episodes of rooms, and level 2"
    ):
        Experiment(config, SPEC).check_data(windows)
    episodes.lengths = np.array([4, 20, 30])
    Experiment(config, SPEC).check_data(windows)
    config.model.levels, episodes.lengths = ("bottom",), np.array([4, 4, 20])
    Experiment(config, SPEC).check_data(windows)  # there is no upper level


def test_a_run_is_measured_by_level_and_refuses_another_number_of_levels(config, tmp_path):
    config.eval.every = 0  # once, from the folder
    train(config, tmp_path)
    run = loading.load(tmp_path)
    assert float(run.model.levels[1].seen[...]) > 0  # what training saw of macro-actions is in the checkpoint
    found = measure(run)
    for level in (1, 2):
        assert np.isfinite(found[f"eval/rollout/level_{level}_last"])
    assert "eval/open_loop/action_following_mean" in found
    config.model.levels = ("bottom",)
    with pytest.raises(UserError, match=r"config.model.levels is \['bottom'\], there it is \['bottom', 'upper'\]"):
        train(config, tmp_path)
    with pytest.raises(
        UserError, match=r"checkpoint 2 does not fit .*config.model.levels is \['bottom'\], there it is"
    ):
        loading.load(tmp_path, config=config)


def test_a_frozen_encoder_begins_with_that_of_a_masked_autoencoder(tmp_path):
    network = TransformerOptions(8, 1, 2, 2.0)
    taught = MaskedAutoencoder(
        MaskedAutoencoderOptions(network, network, patch=8), (1, *SPEC.frame_shape), rngs=nnx.Rngs(7)
    )
    weights = nnx.as_pure(nnx.state(taught, nnx.Param))
    saver = Checkpoints(tmp_path)
    saver.save(0, {"weights": {"ema": weights, "constants": {}}}, {})
    saver.close()
    config = get_config("debug")
    config.model.levels, config.model.encoder = ("bottom",), VIT | SIZE
    config.init_from.update({"checkpoints": str(tmp_path), "parts": ("encoder",)})
    mesh = parallel.make_mesh((1, 1, -1))
    init, shapes, *_ = create_state(Experiment(config, SPEC), config, mesh)
    fresh = init()
    state = _started_from(config.init_from, fresh, shapes)
    assert "encoder" not in state.params
    jax.tree.map(np.testing.assert_array_equal, dict(state.constants["encoder"]), dict(weights["encoder"]))
    jax.tree.map(np.testing.assert_array_equal, dict(state.params), dict(fresh.params))
