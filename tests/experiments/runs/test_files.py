"""Files and folders that are whole or as before, and locks that end with their holder."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from experiments.runs import files, workdir
from experiments.runs.files import ROOT, fresh_folder, read_json, replaced, write_json, write_text
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
    with workdir.file_lock(path), pytest.raises(UserError, match="busy"), workdir.file_lock(path, "busy"):
        pass
    assert not list(tmp_path.iterdir())
    with workdir.file_lock(path):
        (path.parent / "made").touch()
    assert [p.name for p in path.parent.iterdir()] == ["made"]


def test_locks_exclude_each_other_though_their_file_comes_and_goes(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(30):
            with workdir.file_lock(tmp_path / "lock"):
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
    code = "import os, pathlib, sys; from experiments.runs.workdir import only_writer\n"
    code += "lock = only_writer(pathlib.Path(sys.argv[1])); lock.__enter__(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT).returncode == 9
    assert (tmp_path / "lock").exists()
    with workdir.only_writer(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_found_out(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        files.check_writable(tmp_path)
