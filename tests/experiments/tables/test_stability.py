"""The table `stability`: both models of a simulator are trained for as many floating-point operations."""

import jax
import numpy as np
import pytest
from flax import nnx

from configs.tables import stability
from experiments.evaluation.cost import Cost
from experiments.tables import definition
from experiments.training.experiment import experiment_class
from world_models.core.flops import count_flops
from world_models.core.specs import VideoSpec
from world_models.core.types import ActionSpec, Clip
from world_models.nn.options import ComputeOptions

SPEC = VideoSpec((64, 64, 3), ActionSpec("discrete", 5), {})


class Shapes:
    """Windows of which only the shapes count."""

    def __init__(self, length):
        self.length = length

    def load(self, indices):
        flag, number = np.zeros((len(indices), self.length), bool), np.zeros((len(indices), self.length), np.float32)
        frames = np.zeros((*flag.shape, *SPEC.frame_shape), np.uint8)
        return Clip(frames, flag.astype(np.int32), number, flag, flag, flag)


def prepared(config):
    if config.get("init_from"):
        config.init_from.checkpoints = "weights/car_racing/checkpoints"
    config.runtime.compute.ops = "library"
    return experiment_class(config)(config, SPEC), Shapes(config.data.clip_length)


def trained(config):
    """Operations of all training steps of a world model, encoding included."""
    experiment, windows = prepared(config)
    make = lambda: experiment.make(ComputeOptions(ops="library"), nnx.Rngs(0))
    found = Cost(config, make, experiment.encode, windows).measure(nnx.eval_shape(make))
    return (found["step_flops"] + found["encode_flops"]) * config.train.num_steps


def trained_tokenizer(config):
    experiment, windows = prepared(config)
    graph, params, rest = nnx.split(nnx.eval_shape(lambda: experiment.init(nnx.Rngs(0))), nnx.Param, ...)
    rows = config.train.batch_size
    clip = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), windows.load(np.zeros(1, int)))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
    loss = lambda params, rest, clip, keys: nnx.merge(graph, params, rest).loss(clip, keys)[0]
    return count_flops(jax.value_and_grad(loss), params, rest, clip, keys, unused=False) * config.train.num_steps


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_both_models_of_a_simulator_are_trained_for_as_many_operations(scale):
    table = definition.load("stability")
    step = {}  # operations of one, by what is trained
    for world in stability.WORLDS:
        ours, theirs = (f"{world} {kind}" for kind in stability.KINDS)
        configs = {
            "tokenizer": definition.resolve_pretraining(table, scale, ours, 0),
            "transformer": definition.resolve(table, scale, ours, 0),
            "U-Net": definition.resolve(table, scale, theirs, 0),
        }
        steps = {name: config.train.num_steps for name, config in configs.items()}
        if not step:
            step = {name: (trained_tokenizer if name == "tokenizer" else trained)(x) for name, x in configs.items()}
            step, first = {name: count / steps[name] for name, count in step.items()}, alike(configs)
        assert alike(configs) == first  # so that the first simulator's counts hold
        whole = {name: step[name] * steps[name] for name in step}
        assert abs(whole["U-Net"] / (whole["tokenizer"] + whole["transformer"]) - 1) < 0.03, world


def alike(configs):
    """What is trained, but for the number of steps and the weight of motion in the tokenizer's loss."""
    found = {}
    for name, config in configs.items():
        model, train = config.model.to_dict(), config.train.to_dict()
        {"tokenizer": model, "transformer": model.get("tokenizer", {}), "U-Net": {}}[name].pop("motion_weight", None)
        train.pop("num_steps")
        found[name] = (model, train)
    return found
