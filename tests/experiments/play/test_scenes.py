"""What runs of the families, worlds and recordings become on the page; all models are tiny."""

import numpy as np
import pytest
from conftest import set_fields
from toy_scene import Client

from experiments.play import controls
from experiments.play.engine import Engine
from experiments.play.perfect import of_world
from experiments.play.run_scene import of_run
from experiments.play.simulators import JaxSimulator
from experiments.runs import recording
from experiments.runs.loading import load
from experiments.training.loop import train
from world_models.core.errors import ConfigError, UserError


def trained(config, folder):
    """A run of a step or two."""
    train(set_fields(config, every=0, checkpoint_every=config.train.num_steps), folder)
    return load(folder)


def play(scene, steps=3, settings=None):
    """Frames of a few steps under one action."""
    engine = Engine(scene.variant, scene.actions, 2)
    try:
        settings = settings or scene.defaults
        moment = engine.begin(settings, scene.starts[0], 0).result(120)
        frames = [moment.frame]
        for depth in range(1, steps + 1):
            moment = engine.step(settings, moment.state, controls.rest(scene.actions), 0, depth).result(120)
            frames.append(moment.frame)
        return frames
    finally:
        engine.stop()


@pytest.fixture(scope="module")
def diffusion_run(square_data, tmp_path_factory):
    from configs.demo import get_config

    config = get_config("debug")
    config.data.dataset = str(square_data)
    return trained(config, tmp_path_factory.mktemp("diffusion"))


def test_video_diffusion_is_played_from_held_out_contexts(diffusion_run):
    scene = of_run(diffusion_run, 5)
    assert len(scene.starts) == 5
    start = scene.starts[2]
    window = diffusion_run.windows("test", len(start.frames)).load([int(start.label.split()[1])])
    np.testing.assert_array_equal(window.frames[0], start.frames)
    np.testing.assert_array_equal(window.actions[0, :-1], start.actions)
    frames = play(scene)
    np.testing.assert_array_equal(frames[0], scene.starts[0].frames[-1])
    assert all(frame.shape == diffusion_run.spec.frame_shape for frame in frames)
    assert scene.simulator is None
    more = play(scene, 1, tuple({**dict(scene.defaults), "num_steps": 1}.items()))
    assert (more[1] != frames[1]).any()  # other denoising steps, other frames
    assert diffusion_run.model.process.num_steps == dict(scene.defaults)["num_steps"]  # the run's own is as before


def test_the_video_transformer_is_played(square_data, tmp_path):
    from configs.car_world import get_config

    config = get_config("debug")
    config.data.dataset = str(square_data)
    scene = of_run(trained(config, tmp_path), 2)
    assert "num_steps" in scene.settings
    assert len(play(scene, 2)) == 3


@pytest.fixture(scope="module")
def rooms_run(tmp_path_factory):
    from configs.two_rooms import get_config

    config, folder = get_config("debug"), tmp_path_factory.mktemp("rooms")
    recording.record(config, folder / "data")
    return trained(config, folder)


def test_the_world_beside_latent_dynamics_is_at_the_recorded_moment(rooms_run):
    scene = of_run(rooms_run, 4)
    simulator = scene.simulator()
    assert isinstance(simulator, JaxSimulator)
    for start in scene.starts:
        truth = simulator.begin(start)
        np.testing.assert_array_equal(truth.frame, start.frames[-1])
    action = np.float32([1.5, 0])
    first, again = simulator.step(truth.state, action), simulator.step(truth.state, action)
    np.testing.assert_array_equal(first.frame, again.frame)
    assert (first.frame != truth.frame).any()
    assert len(play(scene, 2)) == 3


def test_plan_mode_acts_and_shows_what_the_levels_aim_at(rooms_run):
    from toy_scene import serving

    scene = of_run(rooms_run, 2)
    with serving(scene) as (address, players):
        players.warm()
        with Client(address) as client:
            client.until("frame", lambda h: h["psnr"] is not None, timeout=60)
            client.send("plan", on=True)
            client.until("notice", lambda h: "goal" in h["text"])
            client.send("goal", x=0.0, y=0.0)
            client.until("notice", lambda h: "outside" in h["text"])
            client.send("goal", x=0.8, y=0.5)
            _, images = client.until("subgoals")
            assert list(images) == ["goal"]
            client.send("plan", on=True)
            header, images = client.until("subgoals", lambda h: len(h["images"]) > 1, timeout=120)
            names = [image["name"] for image in header["images"]]
            assert names == ["goal", "end of plan 2", "subgoal of level 1", "end of plan 1"]
            client.until("frame", lambda h: h["depth"] == 2, timeout=60)
            client.send("plan", on=False)
            client.until("plan", lambda h: not h["on"])


def test_a_world_is_its_own_perfect_model():
    from configs.point_maze import get_config

    scene = of_world(get_config("debug"), 3)
    simulator = scene.simulator()
    truth = simulator.begin(scene.starts[0])
    frames = play(scene, 3)
    np.testing.assert_array_equal(truth.frame, frames[0])
    for frame in frames[1:]:
        truth = simulator.step(truth.state, controls.rest(scene.actions))
        np.testing.assert_array_equal(truth.frame, frame)


def test_configs_without_a_world_name_the_field():
    from configs.demo import get_config

    with pytest.raises(ConfigError) as caught:
        of_world(get_config("debug"))
    assert caught.value.field == "config.record.source"


def test_models_that_cannot_be_played_are_explained(stripes_data, rooms_run, tmp_path):
    from configs.fashion_mae import get_config

    config = get_config("debug")
    config.data.dataset = str(stripes_data)
    run = trained(config, tmp_path)
    with pytest.raises(UserError, match="play"):
        run.experiment.capability("play")

    from configs.two_rooms import get_config as rooms

    config = rooms("debug")
    config.model.decoder.channels = ()
    config.data.dataset = str(rooms_run.workdir / "data")
    without = trained(config, tmp_path / "blind")
    with pytest.raises(ConfigError) as caught:
        of_run(without)
    assert caught.value.field == "config.model.decoder.channels"


def test_recorded_episodes_of_a_simulator_are_repeated(tmp_path):
    pytest.importorskip("gymnasium")
    from configs.my_environment import get_config

    config = get_config("debug")
    config.record.update({"environment": "CartPole-v1", "observation": "render", "num_workers": 1})
    config.record.update({"policy": "random", "modules": ()})
    recording.record(config, tmp_path / "data")
    scene = of_run(trained(config, tmp_path), 2)
    simulator = scene.simulator()
    try:
        for start in scene.starts:
            np.testing.assert_array_equal(simulator.begin(start).frame, start.frames[-1])
        first = simulator.begin(scene.starts[1])
        one = simulator.step(first.state, np.int32(1))
        two = simulator.step(one.state, np.int32(0))
        again = simulator.step(simulator.step(first.state, np.int32(1)).state, np.int32(0))  # goes back first
        np.testing.assert_array_equal(two.frame, again.frame)
    finally:
        simulator.close()
    with pytest.raises(UserError, match="ended"):
        simulator.step(two.state, np.int32(0))
