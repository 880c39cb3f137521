"""Checkpoints: damage is found and passed over, kills lose nothing, the best is kept, meshes may change."""

import json
import os
import pathlib
import random
import shutil
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

from world_models.checkpointing import checkpoints, checksums
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.checkpointing.parts import restore_parts
from world_models.core.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[3]


def trees(step, size=5000):
    """A state that tells its step."""
    numbers = np.random.default_rng(step).standard_normal(size, np.float32)
    weights = {"ema": {"kernel": jnp.asarray(numbers)}, "constants": {}}
    return {"weights": weights, "optimizer": {"step": jnp.int32(step), "moments": jnp.asarray(-numbers)}}


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def write(folder, steps, keep=9, **options):
    saver = Checkpoints(folder, keep=keep, **options)
    for step in steps:
        saver.save(step, trees(step), {"step": step})
    saver.close()


def assert_holds(saver, step, wanted=None):
    """Asserts that the newest checkpoint, or the wanted one, is that of `step`, in every bit."""
    state, position = saver.restore(abstract(trees(0)), wanted)
    assert position == {"step": step}
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), state, trees(step)))


def largest(checkpoint):
    return max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


FAULTS = {"has changed": flip, "bytes, not": truncate, "is missing": pathlib.Path.unlink}


def listing(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*"))


@pytest.mark.parametrize("what", FAULTS)
def test_damaged_checkpoint_is_named_moved_aside_and_passed_over(what, tmp_path, capsys):
    write(tmp_path, (2, 4, 6))
    file = largest(tmp_path / "6")
    FAULTS[what](file)
    saver = Checkpoints(tmp_path, keep=9)
    assert saver.latest == 4
    assert_holds(saver, 4)
    [line] = capsys.readouterr().err.splitlines()
    name = str(file.relative_to(tmp_path / "6"))
    assert "checkpoint 6 is damaged" in line
    assert name in line
    assert what in line
    assert "moved to 6.damaged; using checkpoint 4" in line
    assert (tmp_path / "6.damaged" / "optimizer").is_dir()
    assert name in json.loads((tmp_path / "6.damaged" / "checksums.json").read_text())["files"]

    saver.save(6, trees(6), {"step": 6})  # the run comes to the step again
    saver.close()
    flip(largest(tmp_path / "6"))
    Checkpoints(tmp_path).close()
    assert sorted(p.name for p in tmp_path.glob("6*")) == ["6.damaged", "6.damaged.1"]


def test_several_damaged_checkpoints_are_passed_over(tmp_path, capsys):
    write(tmp_path, (2, 4, 6))
    flip(largest(tmp_path / "6"))
    shutil.rmtree(tmp_path / "4" / "weights")  # as a deletion leaves it that was killed
    saver = Checkpoints(tmp_path)
    assert_holds(saver, 2)
    saver.close()
    first, second = capsys.readouterr().err.splitlines()
    assert "checkpoint 6 is damaged" in first
    assert "checkpoint 4 is damaged (weights/" in second
    assert "more)" in second


def test_no_whole_checkpoint_is_an_error_and_never_a_new_start(tmp_path):
    write(tmp_path, (2, 4))
    for step in ("2", "4"):
        flip(largest(tmp_path / step))
    before = listing(tmp_path)
    for read_only in (False, True):
        with pytest.raises(UserError, match=r"none is whole \(checkpoint 4: \S+ has changed; checkpoint 2: \S+ has ch"):
            assert Checkpoints(tmp_path, read_only=read_only).latest
    assert listing(tmp_path) == before
    shutil.rmtree(tmp_path / "2")
    (tmp_path / "4").rename(tmp_path / "4.damaged")
    with pytest.raises(UserError, match="none is whole"):
        Checkpoints(tmp_path)


def test_reading_passes_over_damage_and_changes_nothing(tmp_path, capsys):
    write(tmp_path, (2, 4))
    truncate(largest(tmp_path / "4"))
    torn = tmp_path / "6.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "2", torn)
    before = listing(tmp_path)
    saver = Checkpoints(tmp_path, read_only=True)
    assert_holds(saver, 2)
    assert saver.latest == 2
    with pytest.raises(UserError, match=r"checkpoint 4 is damaged \(\S+ has \d+ bytes, not \d+\).* are \[2, 4\]"):
        saver.restore(abstract(trees(0)), 4)
    assert_holds(saver, 2, wanted=2)
    saver.close()
    assert listing(tmp_path) == before
    [line] = capsys.readouterr().err.splitlines()
    assert "checkpoint 4 is damaged" in line
    assert "moved" not in line


def test_damage_behind_the_newest_is_found_when_asked_for(tmp_path):
    write(tmp_path, (2, 4))
    file = largest(tmp_path / "2")
    flip(file)
    saver = Checkpoints(tmp_path)
    with pytest.raises(UserError, match=f"checkpoint 2 is damaged .{file.relative_to(tmp_path / '2')} has changed"):
        saver.restore(abstract(trees(0)), 2)
    assert_holds(saver, 4)
    saver.close()


@pytest.mark.parametrize("manifest", [None, "torn", "{}", '{"files": {}}', '{"files": {"a": 3}}'])
def test_a_checkpoint_without_manifest_is_used_with_a_warning(manifest, tmp_path, capsys):
    write(tmp_path, (2,))
    path = tmp_path / "checksums" / "2.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    saver = Checkpoints(tmp_path)
    assert_holds(saver, 2)
    saver.close()
    assert f"{path} is missing or damaged: checkpoint 2 cannot be verified" in capsys.readouterr().err
    assert not checksums.is_verifiable(tmp_path, 2)


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


def test_files_that_have_no_checksum_are_not_needed(tmp_path):
    write(tmp_path, (2,))
    (tmp_path / "2" / "commit_success.txt").unlink()
    (tmp_path / "2" / "_CHECKPOINT_METADATA").write_bytes(b"\0{torn")
    saver = Checkpoints(tmp_path)
    assert_holds(saver, 2)
    saver.close()


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
