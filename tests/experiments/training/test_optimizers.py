"""Named optimizers of parameter groups: rates, frozen groups, clipping, shardings and checkpoints."""

import json
import os
import subprocess
import sys
import textwrap

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict

from experiments.training.experiment import Experiment
from experiments.training.optimizers import make_adamw, make_optimizer
from experiments.training.state import TrainState, create_state, make_step
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.core import sharding as parallel
from world_models.core.errors import UserError

OPTIONS = ConfigDict(
    {
        "learning_rate": 1e-2,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip_norm": 1.0,
    }
)


def options(**changes):
    """AdamW with changes."""
    return ConfigDict(OPTIONS.to_dict() | changes)


class Net(nnx.Module):
    """An encoder, an actor and a critic of one matrix each."""

    def __init__(self, rngs):
        self.encoder = nnx.Linear(4, 4, use_bias=False, rngs=rngs)
        self.actor = nnx.Linear(4, 2, use_bias=False, rngs=rngs)
        self.critic = nnx.Linear(4, 1, use_bias=False, rngs=rngs)


class ActorCritic(Experiment):
    """Two groups with different learning rates on a frozen encoder."""

    def init(self, rngs):
        return Net(rngs)

    def loss(self, model, batch, keys):
        features = model.encoder(batch)
        loss = jnp.mean((model.actor(features) - 1) ** 2) + 1000 * jnp.mean((model.critic(features) + 1) ** 2)
        return loss, {"loss": loss}

    def optimizers(self):
        return {
            "actor": (options(learning_rate=1e-2), nnx.PathContains("actor")),
            "critic": (options(learning_rate=1e-3, clip_norm=0.5), nnx.PathContains("critic")),
            "frozen": (None, ...),
        }


def config():
    """What a training state needs."""
    train = {"num_steps": 3, "accumulate": 1, "ema_decay": 0.9}
    rules = (("width", "fsdp"),)
    return ConfigDict({"seed": 0, "train": train, "sharding": rules, "runtime": {"sharding": rules}})


def test_groups_learn_at_their_rates_and_the_frozen_one_stays():
    mesh = parallel.make_mesh((1, 1, -1))
    experiment = ActorCritic(config(), None)
    init, _, merge, optimizer = create_state(experiment, config(), mesh)
    state, first = init(), init()
    batch = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    state, metrics = jax.jit(make_step(merge, experiment, config(), optimizer))(state, batch, np.zeros(1, bool))
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a - b)), dict(state.params), dict(first.params))
    # Adam's first step is the learning rate in every number, whatever the gradient.
    np.testing.assert_allclose(moved["actor"]["kernel"], 1e-2, rtol=1e-3)
    np.testing.assert_allclose(moved["critic"]["kernel"], 1e-3, rtol=1e-3)
    np.testing.assert_array_equal(moved["encoder"]["kernel"], 0)
    assert float(metrics["learning_rate/actor"]) == pytest.approx(1e-2)
    assert float(metrics["learning_rate/critic"]) == pytest.approx(1e-3)
    both = [float(metrics[f"grad_norm/{name}"]) for name in ("actor", "critic")]
    assert float(metrics["grad_norm"]) == pytest.approx(np.hypot(*both), rel=1e-5)
    assert len(jax.tree.leaves(state.optimizer)) == 2 * (1 + 2 + 1)  # Adam's count and moments, the schedule's count


def test_each_group_is_clipped_by_its_own_norm():
    params = {"actor": jnp.zeros(2), "critic": jnp.zeros(2)}
    plain = options(b1=0.0, b2=0.0, eps=1e6, learning_rate=1e6)  # so large an eps makes Adam plain gradient descent
    groups = {name: (plain, nnx.PathContains(name)) for name in params}
    transform = make_optimizer(groups, params, 10).transform
    grads = {"actor": jnp.array([3.0, 4.0]), "critic": jnp.array([300.0, 400.0])}
    updates, _ = transform.update(grads, transform.init(params), params)
    for name in params:  # by their common norm the actor's would be next to nothing
        np.testing.assert_allclose(updates[name], [-0.6, -0.8], rtol=1e-4)


def test_one_group_is_the_optimizer_itself():
    params = {"net": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    optimizer = make_optimizer({"all": (OPTIONS, ...)}, params, 10)
    plain, _ = make_adamw(OPTIONS, 10)
    state = optimizer.transform.init(params)
    assert jax.tree.structure(state) == jax.tree.structure(plain.init(params))
    assert list(optimizer.learning_rates(jnp.int32(0))) == ["learning_rate"]
    norm, more = optimizer.norms(params)
    assert (float(norm), more) == (pytest.approx(float(optax.global_norm(params))), {})


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"actor": (OPTIONS, nnx.PathContains("actor"))}, r"critic\.kernel is in no group .*\(actor\)"),
        ({"all": (OPTIONS, ...), "late": (OPTIONS, nnx.PathContains("actor"))}, "'late' .* has no parameter"),
        ({"frozen": (None, ...)}, "trains none of its groups"),
        ({"all": (options(schedule="linear"), ...)}, "schedule='linear' must be 'constant' or 'cosine'"),
    ],
)
def test_groups_that_do_not_fit_the_parameters_raise(groups, message):
    params = {"actor": {"kernel": jnp.zeros(2)}, "critic": {"kernel": jnp.zeros(2)}}
    with pytest.raises(UserError, match=message):
        make_optimizer(groups, params, 10)


def test_a_state_of_several_groups_is_saved_and_restored(tmp_path):
    mesh = parallel.make_mesh((1, 1, -1))
    experiment = ActorCritic(config(), None)
    init, shapes, merge, optimizer = create_state(experiment, config(), mesh)
    step = jax.jit(make_step(merge, experiment, config(), optimizer))
    batch = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    state, _ = step(init(), batch, np.zeros(1, bool))
    saver = Checkpoints(tmp_path)
    saver.save(1, state.trees(), {})
    trees, _ = saver.restore(shapes.trees())
    saver.close()
    restored = TrainState.from_trees(trees)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(
        np.testing.assert_array_equal, step(restored, batch, np.zeros(1, bool)), step(state, batch, np.zeros(1, bool))
    )


SHARDED = """
    import json, sys
    sys.path[:0] = sys.argv[1:]
    import jax
    from test_optimizers import ActorCritic, config
    from experiments.training.state import create_state
    from world_models.core import sharding as parallel

    state = create_state(ActorCritic(config(), None), config(), parallel.make_mesh((1, 4, 1))).init()
    specs = lambda tree: {
        ".".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path): str(x.sharding.spec)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }
    print(json.dumps([specs(state.params), specs(state.optimizer)]))
"""


def test_moments_of_all_groups_lie_where_their_parameters_lie():
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(SHARDED),
        os.path.dirname(__file__),
        os.path.dirname(conftest.__file__),
    ]
    result = subprocess.run(command, capture_output=True, text=True, env=conftest.cpu_devices(4), timeout=200)
    assert result.returncode == 0, result.stderr[-3000:]
    params, moments = json.loads(result.stdout.splitlines()[-1])
    assert all("fsdp" in found for found in params.values())
    for kind in ("mu", "nu"):
        for group in ("actor", "critic"):
            (found,) = [
                spec for path, spec in moments.items() if f".{kind}." in path and path.endswith(f"{group}.kernel")
            ]
            assert found == params[f"{group}.kernel"]
