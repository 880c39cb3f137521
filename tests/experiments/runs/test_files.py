"""Files and folders that are whole or as before, and locks that end with their holder."""

import contextlib
import errno
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
from unittest import mock

import pytest

from experiments.runs import files, lock
from experiments.runs import workdir as workdirs
from experiments.runs.files import ROOT, end_line, fresh_folder, read_json, replaced, write_json, write_text
from world_models.core.errors import UserError


def test_a_file_is_whole_or_the_one_before(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "first")
    with contextlib.suppress(RuntimeError), replaced(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("atomic", [True, False])
def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch, atomic):
    if not atomic:  # a system without renameat2
        monkeypatch.setattr(files.ctypes, "CDLL", lambda name: object())
    path = tmp_path / "imagine"
    for name in ("a", "b"):
        with fresh_folder(path) as folder:
            (folder / name).write_text(name)
            assert not (path / name).exists()
        assert [p.name for p in path.iterdir()] == [name]
    with contextlib.suppress(RuntimeError), fresh_folder(path) as folder:
        (folder / "c").write_text("c")
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["imagine"]


@pytest.mark.parametrize("content", ["", "{", '{"a": 1', b"\xff\xfe", "[1]", "3", '{"b": 1}'])
def test_damaged_json_is_named_with_what_to_do(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"a\.json is damaged .*: delete it\.") as error:
        read_json(path, "delete it", ["a"])
    assert "\n" not in str(error.value)


def test_json_that_is_missing_or_whole(tmp_path):
    with pytest.raises(UserError, match=r"a\.json is missing: delete it"):
        read_json(tmp_path / "a.json", "delete it")
    write_json(tmp_path / "a.json", {"a": [1]})
    assert read_json(tmp_path / "a.json", "delete it", ["a"]) == {"a": [1]}
    write_json(tmp_path / "b.json", [1])
    assert read_json(tmp_path / "b.json", "delete it", None) == [1]


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path):
    path = tmp_path / "run" / "lock"
    with lock.file_lock(path), pytest.raises(UserError, match="busy"), lock.file_lock(path, "busy"):
        pass
    assert not list(tmp_path.iterdir())
    with lock.file_lock(path):
        (path.parent / "made").touch()
    assert [p.name for p in path.parent.iterdir()] == ["made"]


def test_locks_exclude_each_other_though_their_file_comes_and_goes(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(30):
            with lock.file_lock(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 120
    assert not (tmp_path / "lock").exists()


def test_a_lock_ends_with_its_process(tmp_path):
    code = "import os, pathlib, sys; from experiments.runs.lock import exclusive\n"
    code += "lock = exclusive(pathlib.Path(sys.argv[1])); lock.__enter__(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT).returncode == 9
    assert (tmp_path / "lock").exists()
    with lock.exclusive(tmp_path):
        pass


def test_the_second_writer_is_told_who_the_first_is(tmp_path):
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    with (
        lock.exclusive(tmp_path, "training"),
        pytest.raises(UserError, match=f"another process is writing there.*{holder}, training"),
        lock.exclusive(tmp_path, "sweeping"),
    ):
        pass


def test_a_file_system_without_locks_is_said_to_have_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock.fcntl, "flock", mock.Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    with lock.exclusive(tmp_path):
        assert "cannot be locked (No locks available)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_two_that_replace_a_folder_at_once_leave_one_whole_set(tmp_path):
    path = tmp_path / "imagine"
    with fresh_folder(path) as folder:
        (folder / "a").touch()
        path.mkdir()  # the other one was faster
        (path / "b").touch()
    assert [p.name for p in path.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["imagine"]


def test_a_line_cut_short_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "a.jsonl"
    for before, after in ((None, b""), (b"", b""), (b"a\n", b"a\n"), (b"a\n{", b"a\n{\n")):
        if before is not None:
            path.write_bytes(before)
        end_line(path)
        assert path.read_bytes() == after


def test_a_disk_with_too_little_room_is_found_out(tmp_path):
    free = files.shutil.disk_usage(tmp_path).free
    files.check_writable(tmp_path / "new", free // 2)
    with pytest.raises(UserError, match=str(tmp_path)):
        files.check_writable(tmp_path, 2 * free)


def test_a_full_disk_is_found_out_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "write_bytes", mock.Mock(side_effect=OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match=str(tmp_path)) as error:
        files.check_writable(tmp_path)
    assert error.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_found_out(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        files.check_writable(tmp_path)


def test_fields_that_are_newer_than_a_folder_have_their_defaults_there(tiny_config, tmp_path):
    """Code gains fields; runs of before go on, unless one asks for another value."""
    workdirs.claim(tmp_path, tiny_config)
    path = tmp_path / "config.json"
    old = json.loads(path.read_text())
    del old["train"]["accumulate"], old["model"]["pixels"], old["init_from"]
    path.write_text(json.dumps(old))
    assert workdirs.load_config(tmp_path).train.accumulate == 1
    workdirs.claim(tmp_path, tiny_config)
    assert json.loads(path.read_text())["train"]["accumulate"] == 1
    path.write_text(json.dumps(old))
    tiny_config.train.accumulate = 2
    with pytest.raises(UserError, match=r"config\.train\.accumulate is 2, there it is 1"):
        workdirs.claim(tmp_path, tiny_config)
