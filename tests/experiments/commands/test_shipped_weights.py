"""Weights that are packed from a run and used without it."""

import json

import jax
import numpy as np
import pytest
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


@pytest.mark.parametrize("name", shipped.names())
def test_each_shipped_model_imagines_better_than_what_needs_no_model(name, tmp_path, capsys):
    """No change of the code has made another function of its weights."""
    assert f"| `{name}` |" in (shipped.FOLDER / "README.md").read_text()
    futures = [f"--config.eval.imagine.{field}" for field in ("num_contexts=16", "horizon=4", "long=0")]
    status, _, _ = run_command(capsys, "imagine", f"--weights={name}", f"--workdir={tmp_path / 'run'}", *futures)
    assert status == 0
    psnr = json.loads((tmp_path / "run" / "imagine" / "metrics.json").read_text())["psnr_changed"]
    for horizon in (0, 3):
        assert psnr["imagined"][horizon] > max(psnr["copy_last"][horizon], psnr["mean_frame"][horizon]) + 0.5
