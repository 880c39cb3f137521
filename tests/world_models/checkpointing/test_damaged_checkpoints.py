"""Damage to checkpoints is found, named and passed over."""

import json
import os
import pathlib
import shutil

import pytest
from toy_checkpoints import abstract, assert_holds, trees, write

from world_models.checkpointing import checksums
from world_models.checkpointing.checkpoints import Checkpoints
from world_models.core.errors import UserError


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


def test_files_that_have_no_checksum_are_not_needed(tmp_path):
    write(tmp_path, (2,))
    (tmp_path / "2" / "commit_success.txt").unlink()
    (tmp_path / "2" / "_CHECKPOINT_METADATA").write_bytes(b"\0{torn")
    saver = Checkpoints(tmp_path)
    assert_holds(saver, 2)
    saver.close()
