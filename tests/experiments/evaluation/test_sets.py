"""Distances of sets and long rollouts as evaluators and in `imagine`: perfect and broken models, and bad options."""

import dataclasses
import functools
import json
import math
import operator

import jax
import numpy as np
import pytest
from conftest import set_field, square_world
from flax import nnx
from ml_collections import ConfigDict

import launch
from configs import car_tokenizer, car_unet, lewm, moving_mae
from configs.tables import _columns
from experiments.evaluation.distances import Distances
from experiments.evaluation.features import make_features
from experiments.evaluation.long_rollouts import LongRollouts, lengthened
from experiments.evaluation.options import FeatureOptions
from experiments.evaluation.rollouts import OpenLoop
from experiments.reports.sets import distance_rows
from experiments.runs import loading
from experiments.tables.schema import Column
from experiments.training.data import open_windows
from experiments.training.experiment import experiment_class, make_experiment
from experiments.training.loop import train
from world_models.core.errors import ConfigError, UserError
from world_models.core.types import Prediction
from world_models.metrics import tensor_files
from world_models.metrics.windows import motion

SHAPE = (16, 16, 3)
RANDOM = make_features(FeatureOptions(), SHAPE)


class Square(nnx.Module):
    """The square world itself; `blind` to actions, it always goes forward.

    After `breaks` frames there is noise, after `rests` frames nothing moves.
    """

    def __init__(self, blind=False, breaks=10_000, rests=10_000):
        self.blind, self.breaks, self.rests = blind, breaks, rests
        self.weights = nnx.Param(jax.numpy.zeros(1))

    def observe(self, frames, actions, rng):
        return frames[:, -1], jax.numpy.zeros(len(frames), int)

    def step(self, state, action, rng):
        frame, time = state
        places = jax.numpy.where((action == 1) | self.blind, 4, -4)
        moved = jax.vmap(lambda x, by: jax.numpy.roll(x, by, axis=1))(frame, places * (time < self.rests))
        noise = jax.random.randint(rng, frame.shape, 0, 256).astype(frame.dtype)
        return (jax.numpy.where(time[0] >= self.breaks, noise, moved), time + 1), Prediction()

    def decode(self, state):
        return state[0]


@pytest.fixture
def config(square_data):
    config = car_unet.get_config("debug")
    config.data.dataset = str(square_data)
    return config


def opened(config, tmp_path):
    return lambda split, length, field: open_windows(config, tmp_path, split, length, 1, field=field)


def test_a_perfect_model_is_as_far_from_real_clips_as_real_ones(config, tmp_path):
    config.eval.distances.update({"num_clips": 24, "length": 6, "num_samples": 3})
    make = lambda: Distances(config, RANDOM, opened(config, tmp_path), "validation")
    found = make()(Square())
    for name in ("frechet_frames", "frechet_clips", "kernel_frames", "kernel_clips"):
        imagined, real, shuffled = (found[f"{name}_random_{of}"] for of in ("imagined", "real", "shuffled_pixels"))
        assert imagined == pytest.approx(real)
        assert shuffled > 2 * real
    assert found["frechet_clips_random_copy_last"] > found["frechet_clips_random_imagined"]
    assert found["frechet_clips_random_imagined_low"] < found["frechet_clips_random_imagined"]
    assert found["diversity_random_imagined"] == pytest.approx(0, abs=1e-6)  # the same actions, no chance
    assert found["diversity_random_real"] > 0.01
    wrong = make()(Square(breaks=0))
    assert wrong["kernel_frames_random_imagined_low"] > found["kernel_frames_random_real"]
    assert wrong["diversity_random_imagined"] > 0


def test_features_of_whole_clips_compare_no_frames_and_need_long_ones(config, tmp_path):
    whole = lambda clips: np.asarray(RANDOM.encode(clips)).mean(axis=1, keepdims=True)
    space = dataclasses.replace(RANDOM, label="clips", encode=whole, least_frames=6)
    config.eval.distances.update({"num_clips": 24, "length": 6, "num_samples": 3})
    evaluator = Distances(config, space, opened(config, tmp_path), "validation")
    found = evaluator.measure(Square())
    assert sorted(found["sets"]) == ["frechet_clips", "kernel_clips"]
    heads, rows = distance_rows(found)
    assert heads == ["", "Fréchet, clips", "kernel, clips"]
    assert {len(row) for row in rows} == {3}
    assert {"frechet_clips_clips_imagined", "diversity_clips_imagined"} <= evaluator(Square()).keys()
    config.eval.distances.length = 5
    config.eval.long_rollout.update(
        {"frames": 12, "num_contexts": 2, "window": 5, "num_reference": 8, "horizons": (4,)}
    )
    for make, field in ((Distances, "distances.length"), (LongRollouts, "long_rollout.window")):
        with pytest.raises(ConfigError, match="be at least 6") as caught:
            make(config, space, opened(config, tmp_path), "validation")
        assert caught.value.field == f"config.eval.{field}"


def test_drift_rises_where_a_model_breaks_and_the_controls_are_far_off(config, tmp_path):
    sizes = {"frames": 40, "num_contexts": 6, "window": 4, "num_reference": 40, "horizons": (2, 8, 999)}
    config.eval.long_rollout.update(sizes)
    evaluator = LongRollouts(config, RANDOM, opened(config, tmp_path), "validation")
    found = evaluator.measure(Square(breaks=20))
    assert found["frame"] == list(range(4, 41, 4))
    curve, real = np.array(found["drift"]["imagined"]), found["baselines"]["real"]
    assert found["control_found"]
    assert curve[:5].max() < real["high"] + 3 * real["error"]
    assert curve[5:].min() > 10 * abs(real["high"])
    assert found["baselines"]["noise"]["low"] > real["high"]
    following = found["action_following"]
    assert following["horizon"] == [2, 8]
    assert min(following["low"]) > 0
    moved = found["motion"]
    gaps = np.abs(np.array(moved["imagined"]) - moved["real"])
    assert found["at"]["8"] == {
        "drift": curve[1],
        "motion": moved["imagined"][1],
        "motion_gap": gaps[1],
        "action_following": following["mean"][1],
    }
    assert moved["imagined"][0] == pytest.approx(moved["real"], rel=0.2)  # the model is perfect until it breaks
    assert found["last"] == {
        "frame": 40,
        "drift": curve[-1],
        "motion": moved["imagined"][-1],
        "motion_gap": gaps[-1],
    }
    blind = evaluator(Square(blind=True))
    assert blind["action_following_8_mean"] == 0
    assert blind["control_found"] == 1
    assert {"drift_random_imagined_40", "drift_random_imagined_8_low", "drift_random_real"} <= blind.keys()
    resting = evaluator(Square(rests=20))  # its frames are all real ones: drift is far below that of noise
    assert resting["drift_random_imagined_40"] < 0.2 * curve[5:].min()
    assert resting["motion_imagined_40"] == 0
    assert resting["motion_imagined_8"] == pytest.approx(resting["motion_real"], rel=0.2)


def test_motion_is_the_share_of_pixels_that_change_by_more_than_the_threshold():
    frames = np.full((2, 4, 4, 5, 3), 200, np.uint8)
    frames[0, 1:, 0, 0, 1] = 209  # up, and stays
    frames[0, 3, 1, :2, 0] = 191  # down
    frames[0, 3, 2, 0] = 208  # by no more than the threshold
    frames[1, 2] = 0  # there and back
    np.testing.assert_allclose(motion(frames, 8), [[1 / 20, 0, 2 / 20], [0, 1, 1]])


def test_actions_begin_again_where_the_truth_ends():
    actions = np.arange(10)[None] + np.array([[0], [100]])
    found = lengthened(actions, 3, 12)
    np.testing.assert_array_equal(found[0], [0, 1, *range(2, 10), *range(2, 6)])
    np.testing.assert_array_equal(lengthened(actions, 3, 2)[1], [100, 101, 102, 103])


def test_open_loop_reports_the_horizons_that_exist(config, tmp_path):
    config.eval.open_loop.update({"horizon": 16, "num_contexts": 2, "num_shown": 0})
    windows = opened(config, tmp_path)
    held_out, training = windows("validation", 20, ""), windows("train", 8, "")
    horizons = lambda found: sorted(int(n.rpartition("_")[2]) for n in found if n.startswith("psnr_changed_imagined"))
    assert horizons(OpenLoop(held_out, training, config.eval.open_loop, 0)(Square())) == [1, 4, 8, 16]
    config.eval.open_loop.horizons = (2, 3)
    assert horizons(OpenLoop(held_out, training, config.eval.open_loop, 0)(Square())) == [2, 3]


def test_lpips_of_a_file_is_measured_beside_copying(config, tmp_path):
    rng, inputs, tensors = np.random.default_rng(0), 3, {}
    for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):  # VGG16 with two channels
        tensors[f"features.{number}.weight"] = rng.normal(size=(2, inputs, 3, 3)).astype(np.float32)
        tensors[f"features.{number}.bias"], inputs = np.ones(2, np.float32), 2
    tensors |= {f"lin{i}.model.1.weight": np.ones((1, 2, 1, 1), np.float32) for i in range(5)}
    tensor_files.write(tmp_path / "lpips.npz", tensors)
    config.eval.distances.update({"num_clips": 3, "length": 6, "num_samples": 0, "lpips": str(tmp_path / "lpips.npz")})
    found = Distances(config, RANDOM, opened(config, tmp_path), "validation")(Square())
    assert found["lpips_vgg16_imagined"] == 0
    assert found["lpips_vgg16_copy_last"] > 0.01
    assert "diversity_random_imagined" not in found


def switch_on(config):
    config.eval.distances.update({"num_clips": 4, "length": 2, "num_samples": 2})
    config.eval.long_rollout.update(
        {"frames": 12, "num_contexts": 2, "window": 4, "num_reference": 8, "horizons": (4,)}
    )


def test_both_are_in_metrics_and_in_the_report(config, tmp_path):
    switch_on(config)
    train(config, tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in logged for name in line}
    assert {"eval/distances/frechet_clips_random_imagined", "eval/long_rollout/drift_random_imagined_12"} <= names
    assert launch.main(["launch.py", "imagine", f"--workdir={tmp_path}"]) == 0
    metrics = json.loads((tmp_path / "imagine" / "metrics.json").read_text())
    assert metrics["distances"]["features"].startswith("random-convolutions-1")
    assert len(metrics["long_rollout"]["drift"]["imagined"]) == 3
    for column in (_columns.FRECHET_CLIPS, _columns.FRECHET_CLIPS_REAL, _columns.DRIFT_END):
        assert math.isfinite(functools.reduce(operator.getitem, Column(**column).path, metrics))
    report = (tmp_path / "imagine" / "report.html").read_text()
    for text in ("Distances from real clips", "Long rollouts", "other real clips", "Action following, frames 1 to 4"):
        assert text in report
    assert (tmp_path / "imagine" / "drift.png").exists()


def untrained(module, square_data, tmp_path):
    """An experiment of a config's debug variant on the square world."""
    config = module.get_config("debug")
    config.data.dataset = str(square_data)
    data = experiment_class(config).open_data(config, tmp_path, "train")
    return make_experiment(config, data.spec)


@pytest.mark.parametrize(("module", "size"), [(car_tokenizer, 16), (moving_mae, 16), (lewm, 8)])
def test_families_with_an_encoder_have_features_in_order_of_time(module, size, square_data, tmp_path):
    experiment = untrained(module, square_data, tmp_path)
    make = lambda frames: experiment.features(experiment.init(nnx.Rngs(0)), frames)
    shape = jax.eval_shape(make, jax.ShapeDtypeStruct((3, 8, *SHAPE), np.uint8)).shape
    assert (shape[0], shape[2]) == (3, size)
    assert 8 % shape[1] == 0
    with pytest.raises(UserError, match=r"video_diffusion.*no encoder"):
        untrained(car_unet, square_data, tmp_path).features(None, None)


def test_features_of_another_run_are_named_after_it(square_data, tmp_path, monkeypatch):
    experiment = untrained(moving_mae, square_data, tmp_path)
    model = nnx.jit(lambda: experiment.init(nnx.Rngs(0)))()
    config = ConfigDict({"experiment": "experiments.families.masked_autoencoder.experiment"})
    run = loading.LoadedRun(tmp_path / "encoder", config, experiment.spec, experiment, model, 7)
    monkeypatch.setattr(loading, "load", lambda path: run)
    make = lambda size, shape=SHAPE: make_features(FeatureOptions("encoder", "encoder", size=size), shape)
    space = make(0)
    assert space.label == "masked_autoencoder"
    assert "masked_autoencoder of run encoder, step 7, weights " in space.name
    length = experiment.frames_shape[0]
    frames = np.stack([square_world(2 * length, seed)[0] for seed in range(3)])
    features = space(frames)
    assert features.shape == (3, 2, 16)
    np.testing.assert_allclose(space(frames[1:2, length:])[0, 0], features[1, 1], atol=1e-5)
    assert make(4)(frames).shape == (3, 2, 4)
    for wrong in (lambda: make(0, (32, 32, 3)), lambda: space(frames[:, : length + 1])):
        with pytest.raises(ConfigError) as caught:
            wrong()
        assert caught.value.field == "config.eval.features.path"


def test_tensors_of_pytorch_become_a_file_that_is_read(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from experiments.tools import weights

    torch.save({"a.weight": torch.arange(3.0), "steps": torch.tensor(5)}, tmp_path / "a.pth")
    torch.save({"lin0": torch.ones(2)}, tmp_path / "b.pth")
    target = tmp_path / "out.safetensors"
    words = ["weights", "tensors", str(tmp_path / "a.pth"), str(tmp_path / "b.pth"), str(target)]
    assert weights.main(words) == 0
    found = tensor_files.read(target, "config.eval.features.path")
    assert sorted(found) == ["a.weight", "lin0", "steps"]
    np.testing.assert_array_equal(found["a.weight"], [0, 1, 2])
    assert weights.main(words) == 1
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eval.features.kind", "vgg"),
        ("eval.features.kind", "i3d"),
        ("eval.features.kind", "inception"),
        ("eval.features.path", "somewhere"),
        ("eval.features.size", -1),
        ("eval.distances.num_clips", 1),
        ("eval.distances.length", 0),
        ("eval.distances.length", 90),
        ("eval.distances.num_samples", 1),
        ("eval.distances.lpips", "no_such_file.npz"),
        ("eval.long_rollout.num_contexts", 1),
        ("eval.long_rollout.window", 13),
        ("eval.long_rollout.window", 0),
        ("eval.long_rollout.num_reference", 1),
        ("eval.long_rollout.horizons", (4, 2)),
    ],
)
def test_options_that_cannot_work_raise(config, tmp_path, field, value):
    switch_on(config)
    set_field(config, field, value)
    spec = open_windows(config, tmp_path, "train", 5, 1).spec
    experiment = make_experiment(config, spec)
    with pytest.raises(ConfigError) as caught:
        experiment.evaluators(tmp_path)
    named = (
        dict.fromkeys(("inception", "i3d"), "eval.features.path").get(value, field) if isinstance(value, str) else field
    )
    assert named in caught.value.field
