"""Starting from parts of another run's weights: what is read, where it lands, and what is said about the rest."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from world_models.checkpointing.checkpoints import Checkpoints
from world_models.checkpointing.parts import restore_parts
from world_models.core.errors import UserError


class Model(nnx.Module):
    """A model with a list of layers, as wide as asked for."""

    def __init__(self, seed, width=4, **extra):
        rngs = nnx.Rngs(seed)
        self.encoder = nnx.List([nnx.Linear(3, 5, rngs=rngs), nnx.Linear(5, width, rngs=rngs)])
        self.encoder_norm = nnx.LayerNorm(5, rngs=rngs)
        self.decoder = nnx.Linear(width, 3, rngs=rngs)
        for name, module in extra.items():
            setattr(self, name, module)


def pure(model):
    return nnx.as_pure(nnx.state(model, nnx.Param))


def shapes(tree, dtype=None):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
    where = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype or x.dtype, sharding=where), tree)


def named(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves}


def write(folder, model, step=7):
    saver = Checkpoints(folder, keep=9)
    params = pure(model)
    weights = {"ema": jax.tree.map(lambda x: x + 1, params), "constants": {"scale": jnp.ones(2)}}
    saver.save(step, {"weights": weights, "params": params}, {"step": step})
    saver.close()
    return named(weights["ema"])


def test_only_the_parts_asked_for_are_read_bit_by_bit(tmp_path):
    saved = write(tmp_path, Model(0))
    shutil.rmtree(tmp_path / "7" / "params")  # other items need not be there
    before = sorted(tmp_path.rglob("*"))
    wanted = shapes(pure(Model(1)))
    found = restore_parts(tmp_path, None, wanted, ("encoder",))
    assert found.step == 7
    assert set(named(found.arrays)) == {f"encoder.{i}.{name}" for i in (0, 1) for name in ("kernel", "bias")}
    for name, x in named(found.arrays).items():
        np.testing.assert_array_equal(x, saved[name])
        assert x.sharding == named(wanted)[name].sharding
    assert found.left_out == [
        "decoder.bias: in the checkpoint, not asked for",
        "decoder.kernel: in the checkpoint, not asked for",
        "encoder_norm.bias: in the checkpoint, not asked for",
        "encoder_norm.scale: in the checkpoint, not asked for",
        "scale: in the checkpoint, not asked for",
    ]
    assert sorted(tmp_path.rglob("*")) == before
    merged = jax.tree.map(
        lambda new, own: own if new is None else new, found.arrays, wanted, is_leaf=lambda x: x is None
    )
    assert jax.tree.structure(merged) == jax.tree.structure(wanted)


def test_everything_is_read_without_parts_in_the_type_asked_for(tmp_path):
    saved = write(tmp_path, Model(0))
    found = restore_parts(tmp_path, 7, shapes(pure(Model(1)), jnp.bfloat16))
    assert found.left_out == ["scale: in the checkpoint, not in this model"]
    assert set(named(found.arrays)) == set(saved)
    for name, x in named(found.arrays).items():
        np.testing.assert_array_equal(x, saved[name].astype(jnp.bfloat16))


def test_what_was_held_constant_is_read_too(tmp_path):
    params = pure(Model(0))
    frozen = {"encoder": params.pop("encoder")}  # as of a run that trained the others on it
    saver = Checkpoints(tmp_path)
    saver.save(7, {"weights": {"ema": params, "constants": frozen}}, {})
    saver.close()
    for parts in ((), ("encoder",)):
        found = restore_parts(tmp_path, 7, shapes(pure(Model(1))), parts)
        assert not [said for said in found.left_out if "not in the checkpoint" in said]
        np.testing.assert_array_equal(found.arrays["encoder"][0]["kernel"], frozen["encoder"][0]["kernel"])


def test_any_item_can_be_read_as_a_whole(tmp_path):
    write(tmp_path, Model(0))
    kernel = restore_parts(tmp_path, 7, {"decoder": shapes(pure(Model(1)))["decoder"]}, item="params", subtrees=())
    np.testing.assert_array_equal(kernel.arrays["decoder"]["kernel"], Model(0).decoder.kernel[...])


def test_what_does_not_fit_is_named(tmp_path):
    write(tmp_path, Model(0, old=nnx.Embed(3, 2, rngs=nnx.Rngs(0))))
    many = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0)) for _ in range(3)])
    found = restore_parts(tmp_path, 7, shapes(pure(Model(1, width=6, actions=many))))
    assert set(named(found.arrays)) == {
        "encoder.0.kernel", "encoder.0.bias", "encoder_norm.scale", "encoder_norm.bias", "decoder.bias"
    }  # fmt: skip
    assert found.left_out == [
        "actions.0.bias: not in the checkpoint",
        "actions: 5 more not in the checkpoint",
        "decoder.kernel: shape (4, 3) there, (6, 3) here",
        "encoder.1.bias: shape (4,) there, (6,) here",
        "encoder.1.kernel: shape (5, 4) there, (5, 6) here",
        "old.embedding: in the checkpoint, not in this model",
        "scale: in the checkpoint, not in this model",
    ]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("encodr", r"nothing for part 'encodr' .*has decoder, encoder, encoder_norm, scale: did you mean 'encoder'\?"),
        ("encoder.2", r"nothing for part 'encoder.2' .*did you mean 'encoder.[01]'\?"),
        ("enc", r"nothing for part 'enc' \(no array is called so, here or there\)"),
        ("actions", r"nothing for part 'actions' \(actions.bias: not in the checkpoint; .*has decoder, encoder, enc"),
    ],
)
def test_part_that_gives_nothing_is_refused(part, message, tmp_path):
    write(tmp_path, Model(0))
    wanted = shapes(pure(Model(1, actions=nnx.Linear(2, 2, rngs=nnx.Rngs(0)))))
    with pytest.raises(UserError, match=message):
        restore_parts(tmp_path, 7, wanted, ("decoder", part))


def test_damaged_and_missing_sources(tmp_path, capsys):
    saved = write(tmp_path, Model(0), 7)
    write(tmp_path, Model(2), 8)
    file = max((p for p in (tmp_path / "8" / "weights").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    os.truncate(file, 10)
    wanted = shapes(pure(Model(1)))
    with pytest.raises(UserError, match=f"checkpoint 8 is damaged .weights/.*{file.name} has 10 bytes"):
        restore_parts(tmp_path, 8, wanted)
    found = restore_parts(tmp_path, None, wanted)
    assert found.step == 7
    np.testing.assert_array_equal(found.arrays["decoder"]["kernel"], saved["decoder.kernel"])
    assert "checkpoint 8 is damaged" in capsys.readouterr().err
    assert (tmp_path / "8").is_dir()
    with pytest.raises(UserError, match=r"no 'weights' in a checkpoint 9; it has \[7, 8\]"):
        restore_parts(tmp_path, 9, wanted)
    with pytest.raises(UserError, match="has no checkpoint; it has"):
        restore_parts(tmp_path / "nowhere", None, wanted)
    with pytest.raises(UserError, match="has no 'average'; it has 'constants', 'ema'"):
        restore_parts(tmp_path, 7, wanted, subtrees=("average",))
