"""Checkpoints: kills lose nothing, the best is kept, folders may have any name, meshes may change."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import textwrap
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cpu_devices
from toy_checkpoints import abstract, assert_holds, trees, write

from world_models.checkpointing import checkpoints, checksums
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.checkpointing.parts import restore_parts
from world_models.core.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?b", "a\\b", "a\nb", "gs://a"])
def test_folders_whose_names_other_libraries_read_as_something_else_raise_before_anything_is_written(
    tmp_path, name, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="folder="):
        Checkpoints(pathlib.Path(name) / "x")
    with pytest.raises(UserError, match="folder="):
        restore_parts(pathlib.Path(name), None, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b", "a'b", "a%20b", "a#b", "é", "a]b"])
def test_folders_with_any_other_name_work_to_the_end(tmp_path, name):
    write(tmp_path / name, (2,))
    saver = Checkpoints(tmp_path / name, read_only=True)
    assert_holds(saver, 2)
    saver.close()


def test_manifests_name_every_file_of_the_items_and_go_with_their_checkpoints(tmp_path):
    write(tmp_path, (1, 2, 3, 4), keep=1)
    write(tmp_path, (5,), keep=1)
    assert sorted(p.name for p in (tmp_path / "checksums").iterdir()) == ["4.json", "5.json"]
    files = json.loads((tmp_path / "checksums" / "5.json").read_text())["files"]
    there = {str(p.relative_to(tmp_path / "5")) for p in (tmp_path / "5").rglob("*") if p.is_file()}
    assert there - set(files) == {"_CHECKPOINT_METADATA", "commit_success.txt"}
    assert set(files) <= there


def test_what_a_killed_save_left_is_never_used_and_removed(tmp_path):
    write(tmp_path, (2,))
    script = """
        import os, pathlib, signal, sys
        import jax.numpy as jnp
        from world_models.checkpointing import checkpoints
        from world_models.checkpointing import checksums

        folder, when = pathlib.Path(sys.argv[1]), sys.argv[2]
        write = checksums.write

        def die(*args):
            if when == "after":
                write(*args)
            os.kill(os.getpid(), signal.SIGKILL)

        checksums.write = die
        saver = checkpoints.Checkpoints(folder)
        saver.save(4, {"weights": {"kernel": jnp.ones(5000)}}, {"step": 4})
        saver.wait()
    """
    for when in ("before", "after"):
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), when]
        assert subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
        assert [p.name for p in tmp_path.glob("4*")] == ["4.orbax-checkpoint-tmp"]
        assert (tmp_path / "checksums" / "4.json").exists() == (when == "after")
    saver = Checkpoints(tmp_path)
    assert_holds(saver, 2)
    saver.save(4, trees(4), {"step": 4})
    saver.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "4", "checksums"]
    assert_holds(Checkpoints(tmp_path), 4)


def test_best_checkpoint_is_kept_beside_the_newest_and_the_milestones(tmp_path):
    steps = lambda: {int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()}
    saver = Checkpoints(tmp_path, keep=1, keep_every=4)
    for step in range(1, 8):
        if step == 3:
            saver.keep_best(3)
        saver.save(step, trees(step), {})
    saver.wait()
    assert steps() == {3, 4, 7}
    saver.close()

    saver = Checkpoints(tmp_path, keep=1, keep_every=4)
    saver.keep_best(3)  # from the record in the position
    saver.save(9, trees(9), {})
    saver.wait()
    assert steps() == {3, 4, 9}
    saver.keep_best(9)
    saver.save(10, trees(10), {})
    saver.save(11, trees(11), {})
    saver.close()
    assert steps() == {4, 9, 11}


def test_arrays_may_be_donated_as_soon_as_save_returns(tmp_path, monkeypatch):
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    given, save = [], checkpoints.ocp.CheckpointManager.save

    def spy(self, step, args):
        given.append(args["weights"].item["ema"]["kernel"].unsafe_buffer_pointer())
        return save(self, step, args=args)

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "save", spy)
    saver, state = Checkpoints(tmp_path, keep=9), trees(1, 100_000)
    kept = []
    for number in (1, 2, 3):
        kept.append(np.array(state["weights"]["ema"]["kernel"]))
        saver.save(number, state, {})
        assert given[-1] != state["weights"]["ema"]["kernel"].unsafe_buffer_pointer()
        state = step(state)
    assert given[1] == given[2]  # the same memory again
    for number, kernel in enumerate(kept, 1):
        found = saver.restore({"weights": abstract(state["weights"])}, number)[0]
        np.testing.assert_array_equal(found["weights"]["ema"]["kernel"], kernel)
    saver.close()


def test_existing_checkpoint_is_left_alone(tmp_path):
    write(tmp_path, (2,))
    saver = Checkpoints(tmp_path)
    saver.save(2, trees(3), {"step": 3})
    saver.wait()
    assert_holds(saver, 2)
    saver.close()


def test_a_disk_without_room_for_a_checkpoint_is_found_out_before_any_file_is_written(tmp_path, monkeypatch):
    saver = Checkpoints(tmp_path)
    free = 0.8 * sum(x.nbytes for x in jax.tree.leaves(trees(2)))
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=free - 100))
    with pytest.raises(UserError, match=r"No space left while writing checkpoint 2 .* newest complete one is none yet"):
        saver.save(2, trees(2), {})
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    saver.save(2, trees(2), {"step": 2})
    assert_holds(saver, 2)
    saver.close()


def test_disk_that_fills_up_in_the_background_leaves_the_last_whole_checkpoint(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    write(tmp_path, (2,))
    saver = Checkpoints(tmp_path)
    monkeypatch.setattr(checksums, "write", full)
    saver.save(4, trees(4), {"step": 4})
    with pytest.raises(UserError, match=r"No space left while writing a checkpoint .* newest complete one is step 2"):
        saver.save(6, trees(6), {"step": 6})
    monkeypatch.undo()
    saver.save(6, trees(6), {"step": 6})
    assert_holds(saver, 6)
    saver.close()
    assert not (tmp_path / "4").exists()


def test_values_do_not_change_from_eight_devices_to_two_to_one(tmp_path):
    script = """
        import pathlib, sys
        import jax, numpy as np
        from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
        from world_models.checkpointing.checkpoints import Checkpoints

        def where(devices, *shape):
            grid = np.array(jax.devices()[:devices]).reshape(shape)
            mesh = Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
            specs = {"a": P("fsdp", "data"), "b": P(("data", "fsdp")), "c": P(), "d": P("fsdp")}
            return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}

        rng = np.random.default_rng(0)
        values = {"a": rng.standard_normal((16, 6)), "b": rng.standard_normal(24), "c": rng.integers(0, 9, 5),
                  "d": rng.standard_normal((8, 3))}
        values = {name: x.astype(np.float32) for name, x in values.items()}
        state = jax.device_put(values, where(8, 2, 4))
        folder = pathlib.Path(sys.argv[1])
        for step, (devices, shape) in enumerate([(2, (1, 2)), (1, (1, 1)), (8, (1, 8))]):
            saver = Checkpoints(folder, keep=9)
            saver.save(step, {"state": state}, {})
            saver.close()
            target = where(devices, *shape)
            if devices == 8:
                target["a"] = target["c"]
            shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=target[n]) for n, x in values.items()}
            state = Checkpoints(folder, read_only=True).restore({"state": shapes})[0]["state"]
            for name, x in values.items():
                assert state[name].sharding == target[name], name
                assert np.array_equal(state[name], x), name
            assert len(state["d"].addressable_shards) == devices
        print("whole")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=cpu_devices(8), capture_output=True, text=True, timeout=120)
    assert done.stdout == "whole\n", done.stderr


@pytest.mark.slow
def test_killed_at_any_moment_the_next_process_finds_a_whole_checkpoint(tmp_path):
    script = """
        import pathlib, sys
        import jax.numpy as jnp
        from world_models.checkpointing.checkpoints import Checkpoints

        saver = Checkpoints(pathlib.Path(sys.argv[1]), keep=1)
        step = 0
        if saver.latest:
            state, position = saver.restore({})
            step = position["step"]
        print(step, flush=True)
        while True:
            step += 1
            saver.save(step, {"state": {str(i): jnp.full(2**20, step + i) for i in range(8)}}, {"step": step})
            saver.wait()
            print(step, flush=True)
    """
    draw, last = random.Random(0), 0
    for _ in range(10):
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert int(process.stdout.readline()) >= last
            time.sleep(draw.uniform(0, 1.5))
            process.kill()
            out, err = process.communicate()
        assert "damaged" not in err
        last = max([last, *map(int, out.split())])
        saver = Checkpoints(tmp_path, read_only=True)
        if saver.latest is None:
            assert last == 0
            continue
        assert saver.latest >= last
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = {str(i): jax.ShapeDtypeStruct((2**20,), jnp.int32, sharding=place) for i in range(8)}
        state, position = saver.restore({"state": shapes})
        assert position["step"] == saver.latest
        assert all((state["state"][str(i)] == saver.latest + i).all() for i in range(8))
    assert last > 5
