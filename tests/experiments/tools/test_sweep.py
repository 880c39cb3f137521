"""Sweeps: reading get_sweep(), which members are trained, and what is written. A script stands in for training."""

import csv
import functools
import json
import pathlib
import sys
import textwrap

import pytest

from experiments.tools import sweep_settings as sweep_plan
from experiments.tools.sweep import sweep
from tests.experiments.tools.test_launchers import fake_slurm
from world_models.core.errors import UserError

CONFIG = """
from ml_collections import ConfigDict, config_dict

def get_config(variant=""):
    return ConfigDict({
        "data": {"dataset": ""},
        "model": {"channels": (8,), "name": "net", "big": False, "limit": config_dict.placeholder(int)},
        "train": {"optimizer": {"learning_rate": 1e-3}, "num_steps": 4},
        "eval": {"held_out": {"num_examples": 8}},
    })
"""

# Does what `launch.py train` does for a sweep: reads flags, claims the folder, writes metrics and a checkpoint.
# The loss is least at a learning rate of 1e-3; above 1 it "diverges".
LAUNCH = """
import json, math, pathlib, sys
from absl import flags
from ml_collections import config_flags
from experiments.runs import workdir as workdirs
command = sys.argv.pop(1)
assert command == "train"
values = flags.FlagValues()
flags.DEFINE_string("workdir", None, "", flag_values=values)
config_flags.DEFINE_config_file("config", None, "", flag_values=values)
values(sys.argv)
config, folder = values.config, pathlib.Path(values.workdir)
workdirs.claim(folder, config)
with open(folder / "launches", "a") as file:
    file.write(json.dumps(config.to_dict()) + "\\n")
rate = config.train.optimizer.learning_rate
if rate > 1:
    sys.exit("The loss was not finite at step 1.")
if rate == 0:
    sys.exit(0)
with open(folder / "metrics.jsonl", "w") as file:
    for step in range(1, config.train.num_steps + 1):
        loss = 0.1 + abs(math.log10(rate / 1e-3)) / step
        file.write(json.dumps({"step": step, "eval/held_out/loss": loss, "eval/score": -loss}) + "\\n")
(folder / "checkpoints" / str(config.train.num_steps)).mkdir(parents=True)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a config file with a get_sweep() returning its argument and gives its path."""
    (tmp_path / "launch.py").write_text(LAUNCH)
    monkeypatch.setattr(sweep_plan, "LAUNCH", (sys.executable, str(tmp_path / "launch.py")))
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).resolve().parents[3]))

    def write(asked):
        path = tmp_path / "config.py"
        path.write_text(f"{CONFIG}\ndef get_sweep():\n    import numpy as np\n    return {asked}\n")
        return str(path)

    return write


def run(path, workdir, *overrides, parallel="local"):
    """Sweeps the config file; returns sweep.json."""
    config = {}
    exec(pathlib.Path(path).read_text(), config)
    config = config["get_config"]()
    for word in overrides:
        field, _, value = word.removeprefix("--config.").partition("=")
        config.update_from_flattened_dict({field: json.loads(value)})
    assert sweep(path, config, workdir, overrides, parallel) == workdir.absolute() / "sweep.md"
    return json.loads((workdir / "sweep.json").read_text())


def told(found):
    """{name of a member: (status, error without the path of its log)}."""
    return {m["name"]: (m["status"], m["error"].partition(" (log: ")[0]) for m in found["members"]}


def launches(workdir):
    """{name of a member: the configs it was launched with}."""
    return {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (workdir / "members").glob("*/launches")
    }


def test_a_product_is_trained_and_written_best_first(tmp_path, write):
    path = write("{'vary': {'train.optimizer.learning_rate': [1e-4, 1e-3], 'model.channels': [(8, 16), [4]]}}")
    found = run(path, tmp_path / "sweep")
    assert found["fields"] == ["train.optimizer.learning_rate", "model.channels"]
    assert (found["metric"], found["better"]) == ("eval/held_out/loss", "lower")
    names = [
        "train.optimizer.learning_rate=0.001,model.channels=8-16",
        "train.optimizer.learning_rate=0.001,model.channels=4",
        "train.optimizer.learning_rate=0.0001,model.channels=8-16",
        "train.optimizer.learning_rate=0.0001,model.channels=4",
    ]
    assert [member["name"] for member in found["members"]] == names
    assert found["best"] == names[0]
    assert [member["value"] for member in found["members"]] == pytest.approx([0.1, 0.1, 0.35, 0.35])
    assert found["members"][0] == {
        "name": names[0],
        "workdir": f"members/{names[0]}",
        "overrides": {"train.optimizer.learning_rate": 1e-3, "model.channels": [8, 16]},
        "status": "done",
        "value": pytest.approx(0.1),
        "error": "",
    }
    for member in found["members"]:
        (seen,) = launches(tmp_path / "sweep")[member["name"]]
        assert seen["model"]["channels"] == member["overrides"]["model.channels"]
        assert seen["train"]["optimizer"]["learning_rate"] == member["overrides"]["train.optimizer.learning_rate"]
        assert seen["data"]["dataset"] == str(tmp_path / "sweep" / "data")
    text = (tmp_path / "sweep" / "sweep.md").read_text()
    assert text.index("= 0.1 (lower is better)") < text.index("| eval/held_out/loss |") < text.index("| 0.35 |")
    assert "| 0.1 | 0.001 | (8, 16) | [" in text
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    assert [row["model.channels"] for row in rows] == ["(8, 16)", "(4,)", "(8, 16)", "(4,)"]


def test_a_list_of_settings_of_every_type_reaches_the_members(tmp_path, write):
    settings = [
        {},
        {"model.name": 'it\'s a "net" | ☃', "model.big": True},
        {"model.channels": (), "train.optimizer.learning_rate": 1},
        {"model.limit": 3, "train.num_steps": 2},
        {"model.limit": None, "model.big": False},
    ]
    path = write(f"{{'vary': {settings!r}, 'metric': 'eval/score', 'better': 'higher'}}")
    found = run(path, tmp_path / "sweep", "--config.eval.held_out.num_examples=9", parallel="local:2")
    by_fields = {tuple(member["overrides"]): member for member in found["members"]}
    assert len(by_fields) == 5
    assert {member["status"] for member in found["members"]} == {"done"}
    assert found["members"][-1]["overrides"] == {"model.channels": [], "train.optimizer.learning_rate": 1.0}
    for setting in settings:
        (seen,) = launches(tmp_path / "sweep")[by_fields[tuple(setting)]["name"]]
        assert seen["eval"]["held_out"]["num_examples"] == 9
        for field, value in setting.items():
            assert functools.reduce(dict.get, field.split("."), seen) == (
                list(value) if isinstance(value, tuple) else value
            )
    assert by_fields[()]["name"] == "base"


def test_names_are_stable_readable_safe_and_distinct():
    def name(**fields):
        return sweep_plan._name({f"model.{key}": value for key, value in fields.items()})

    assert name(rate=1e-5, big=True, channels=(8, 16), limit=None) == (
        "model.rate=1e-05,model.big=True,model.channels=8-16,model.limit=None"
    )
    odd = [name(path=text) for text in ("a/b", "a_b", "a b", "../..", "a=b,c", "x" * 300, "x" * 301, "", "☃")]
    odd += [name(words=words) for words in (("a-b",), ("a", "b"), (), ((1, 2), 3))]
    assert len(set(odd)) == len(odd)
    assert all(len(text) < 120 and "/" not in text and text.isascii() for text in odd)
    assert name(path="a/b") == "model.path=a_b-" + name(path="a/b")[-8:]
    assert name(path="a/b") == name(path="a/b")


def test_finished_members_are_reused_and_others_go_on(tmp_path, write):
    workdir = tmp_path / "sweep"
    run(write("{'vary': {'train.optimizer.learning_rate': [1e-3, 1e-2]}}"), workdir)
    (workdir / "members" / "train.optimizer.learning_rate=0.01" / "checkpoints" / "4").rename(
        workdir / "members" / "train.optimizer.learning_rate=0.01" / "checkpoints" / "2"
    )
    found = run(write("{'vary': {'train.optimizer.learning_rate': np.logspace(-4, -2, 3)}}"), workdir)
    assert len(found["members"]) == 3
    times = {name: len(seen) for name, seen in launches(workdir).items()}
    assert times == {
        "train.optimizer.learning_rate=0.001": 1,
        "train.optimizer.learning_rate=0.01": 2,
        "train.optimizer.learning_rate=0.0001": 1,
    }
    run(write("{'vary': {'train.optimizer.learning_rate': [1e-3]}}"), workdir)
    assert {name: len(seen) for name, seen in launches(workdir).items()} == times


def test_a_failed_member_is_reported_and_the_others_finish(tmp_path, write, capsys):
    found = run(write("{'vary': {'train.optimizer.learning_rate': [10.0, 1e-3, 0.0]}}"), tmp_path)
    assert told(found) == {
        "train.optimizer.learning_rate=0.001": ("done", ""),
        "train.optimizer.learning_rate=10.0": ("failed", "The loss was not finite at step 1."),
        "train.optimizer.learning_rate=0.0": ("failed", "It ended at step 0 of 4."),
    }
    err = capsys.readouterr().err
    assert "train.optimizer.learning_rate=10.0 failed: The loss was not finite at step 1." in err
    assert "step 4/12 | 1 of 3 members done" in err
    assert "- train.optimizer.learning_rate=10.0: The loss was not finite" in (tmp_path / "sweep.md").read_text()
    with pytest.raises(
        UserError, match=r"All 1 members failed, train.optimizer.learning_rate=10.0 with: The loss was not"
    ):
        run(write("{'vary': {'train.optimizer.learning_rate': [10.0]}}"), tmp_path / "other")


def test_a_folder_of_another_config_raises_an_error(tmp_path, write):
    path = write("{'vary': {'train.optimizer.learning_rate': [1e-3]}}")
    run(path, tmp_path)
    with pytest.raises(UserError, match=r"config.model.big is True, there it is False"):
        run(path, tmp_path, "--config.model.big=true")
    for _ in range(2):
        with pytest.raises(UserError, match=r"was measured with config.eval.held_out.num_examples=8, not 9"):
            run(path, tmp_path, "--config.eval.held_out.num_examples=9")


def test_slurm_submits_what_is_missing_and_collects_later(tmp_path, write, monkeypatch, capsys):
    cluster = fake_slurm(tmp_path / "bin", monkeypatch)
    (cluster / "keep").write_text("1")
    path = write("{'vary': {'train.optimizer.learning_rate': [1e-3, 1e-2, 10.0]}, 'slurm': ('--partition=gpu',)}")
    workdir = tmp_path / "sweep"
    found = run(path, workdir, parallel="slurm")
    assert {member["status"] for member in found["members"]} == {"missing"}
    assert found["best"] is None
    assert "SLURM job 100: 3 members. The same command collects" in capsys.readouterr().err
    assert "#SBATCH --partition=gpu" in (workdir / "slurm-1.sbatch").read_text()
    (cluster / "keep").unlink()
    found = run(path, workdir, parallel="slurm")
    assert "SLURM job 101: 1 members; 1 members are queued or running already." in capsys.readouterr().err
    assert told(found) == {
        "train.optimizer.learning_rate=0.001": ("done", ""),
        "train.optimizer.learning_rate=0.01": ("missing", "It is queued or running."),
        "train.optimizer.learning_rate=10.0": (
            "missing",
            "Submitted again; last time: The loss was not finite at step 1.",
        ),
    }
    assert found["best"] == "train.optimizer.learning_rate=0.001"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("{'vary': {'train.optimizer.learning_rat': [1.0]}}", "did you mean train.optimizer.learning_rate?"),
        ("{'vary': {'train': [1.0]}}", "train, which the config does not have"),
        (
            "{'vary': {'train.optimizer.learning_rate': []}}",
            r"varies train.optimizer.learning_rate over \[\]: give it a list",
        ),
        ("{'vary': {'train.optimizer.learning_rate': 0.1}}", "over 0.1: give it a list"),
        ("{'vary': {}}", "vary is required"),
        ("{'varies': {}}", "the keys vary, metric, better"),
        ("None", "returns None"),
        ("{'vary': ['a']}", "the setting 'a'"),
        ("{'vary': {'train.num_steps': [0.5]}}", "sets train.num_steps to 0.5, which is float where .* has int"),
        ("{'vary': {'train.num_steps': [True]}}", "to True, which is bool where the config has int"),
        ("{'vary': {'model.name': [None]}}", "to None, which is NoneType where the config has str"),
        ("{'vary': {'train.optimizer.learning_rate': [1, 1.0]}}", "asks twice for train.optimizer.learning_rate=1.0"),
        ("{'vary': {'train.num_steps': [1]}, 'better': 'more'}", "better='more'"),
        (
            "{'vary': {'train.num_steps': [1]}, 'metric': 'eval/los'}",
            "has 'eval/los', .* it has eval/held_out/loss, eval/",
        ),
    ],
)
def test_bad_sweeps_raise_one_sentence(tmp_path, write, asked, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        run(write(asked), tmp_path / "sweep")
    assert "\n" not in str(error.value)


def test_bad_calls_raise_one_sentence(tmp_path, write):
    path = write("{'vary': {'train.num_steps': [1]}}")
    for parallel in ("local:0", "local:", "slurm:2", "cloud", ""):
        with pytest.raises(UserError, match=f"--parallel={parallel} "):
            run(path, tmp_path, parallel=parallel)
    pathlib.Path(path).write_text(CONFIG)
    with pytest.raises(UserError, match=r"config.py has no get_sweep\(\)"):
        run(path, tmp_path)


def test_a_real_sweep_of_the_demo(tmp_path, square_data, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent("""
            from configs.car_unet import get_config

            def get_sweep():
                return {"vary": {"model.network.channels": [(8,), (8, 16)]}}
        """)
    )
    from configs.car_unet import get_config

    config = get_config("debug")
    config.data.dataset = str(square_data)
    words = [f"--config.data.dataset={square_data}"]
    page = sweep(f"{path}:debug", config, tmp_path / "sweep", words, "local:2")
    found = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [member["status"] for member in found["members"]] == ["done", "done"]
    for member in found["members"]:
        folder = tmp_path / "sweep" / member["workdir"]
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert member["value"] == lines[-1]["eval/held_out/loss"]
        assert (
            json.loads((folder / "config.json").read_text())["model"]["network"]["channels"]
            == member["overrides"]["model.network.channels"]
        )
    assert found["members"][0]["value"] <= found["members"][1]["value"]
    assert "python launch.py train --config=" in page.read_text()
    launched = len(json.loads((folder / "provenance.json").read_text())["launches"])
    sweep(f"{path}:debug", config, tmp_path / "sweep", words, "local")
    assert len(json.loads((folder / "provenance.json").read_text())["launches"]) == launched
