"""Weights that are packed from a run and used without it."""

import json

import jax
import numpy as np
from conftest import run_command
from flax import nnx

import experiments
from experiments.runs import shipped
from experiments.tools import weights


def test_packed_weights_imagine_without_the_run_that_they_came_from(
    workdir, square_data, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    target = tmp_path / "weights" / "square"
    pack = ["", "pack", str(workdir), str(square_data), str(target)]
    assert weights.main(pack) == 0
    assert weights.main(pack) == 1  # it is there
    new = tmp_path / "new"
    own = experiments.load(workdir)
    status, last, _ = run_command(capsys, "eval", "--weights=square", f"--workdir={new}")
    assert (status, last) == (0, str(new / "eval" / "2.json"))
    assert run_command(capsys, "eval", "--weights=square", f"--workdir={new}")[0] == 0  # goes on with what is there
    packed = experiments.load(new)
    for mine, theirs in zip(jax.tree.leaves(nnx.state(own.model)), jax.tree.leaves(nnx.state(packed.model))):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=2**-8)
    assert sum(path.stat().st_size for path in (target / "checkpoints").rglob("*") if path.is_file()) < 10 * 2**20
    for word, folder, said in (("circle", new, "square"), ("square", tmp_path, "holds something other")):
        status, _, err = run_command(capsys, "imagine", f"--weights={word}", f"--workdir={folder}")
        assert (status, len(err.splitlines())) == (1, 1)
        assert said in err
    record = json.loads((square_data / "metadata.json").read_text())["record"]
    assert (
        json.loads((new / "data_spec.json").read_text())["record"] == record
    )  # of these data: `play` makes them again
    monkeypatch.setattr(shipped, "LIMIT", 1000)
    assert weights.main([*pack[:-1], str(tmp_path / "other")]) == 1
    assert "at most 1,000" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
