"""Config files of users that fail: one sentence with the file and the line."""

import pytest

import launch


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def get_config(variant=''):\n    return width", ["NameError, line 2", "'width'"]),
        ("import no_such_package", ["line 1", "no_such_package"]),
        ("def get_config(:", ["SyntaxError", "line 1"]),
        ("def get_config(variant=''):\n    return {}['a']", ["KeyError, line 2"]),
        ("def get_config(variant=''):\n    return 3", ["ConfigDict", "int"]),
        ("x = 1", ["get_config"]),
    ],
)
def test_a_config_file_that_fails_is_named_with_the_line(tmp_path, capsys, code, names):
    (tmp_path / "mine.py").write_text(code)
    status = launch.main(["launch.py", "config", str(tmp_path / "mine.py")])
    err = capsys.readouterr().err
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert all(name in err for name in [str(tmp_path / "mine.py"), *names]), err
