"""A folder from somebody else: what its files name is not imported, whoever reads it and whatever names it."""

import json
import sys

import pytest

import launch
from experiments.runs import loading, trust
from world_models.core.errors import ConfigError, UserError


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module on the path that notes its import; returns the note's path."""
    note = tmp_path / "imported"
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "trap_of_others.py").write_text(f"open({str(note)!r}, 'w').close()\nclass Experiment: pass\n")
    monkeypatch.syspath_prepend(folder)
    yield note
    sys.modules.pop("trap_of_others", None)


def stored(config):
    """The config as a workdir has it, with blocks that it may lack."""
    found = json.loads(config.to_json_best_effort())
    found["record"] = {**found.get("record", {}), "source": "gymnasium"}
    found["eval"].setdefault("plan", {})
    return found


VALUES = {
    "experiment": ["trap_of_others", "trap_of_others.inner"],
    "record.environment": ["trap_of_others:Env-v0"],
    "record.modules": [("gymnasium_robotics", "trap_of_others"), ["trap_of_others"], "trap_of_others"],
    "record.policy": ["trap_of_others:act", "trap_of_others"],
    "eval.plan.reached": ["trap_of_others:near", "trap_of_others"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in VALUES.items() for value in values])
def test_every_field_that_names_a_module_is_checked_unless_the_user_names_it_too(tiny_config, field, value):
    config = stored(tiny_config)
    trust.check(config, trust.FIELDS, ())  # what this repository ships
    *blocks, name = field.split(".")
    block = config
    for part in blocks:
        block = block[part]
    block[name] = value
    with pytest.raises(ConfigError) as error:
        trust.check(config, trust.FIELDS, ())
    assert error.value.field == f"config.{field}"
    trust.check(config, trust.FIELDS, ["trap_of_others"])
    trust.check(config, trust.FIELDS, trust.modules(config))  # a config file of one's own
    trust.check(config, trust.FIELDS, trust.overridden(config, [f"--config.{field}=…"]))
    with pytest.raises(ConfigError):
        trust.check(config, trust.FIELDS, trust.overridden(config, ["--config.seed=1"]))


def test_names_that_only_begin_like_a_trusted_package_are_not(tiny_config):
    config = stored(tiny_config)
    for name in ("world_models_of_others", "experimentsx.a", ".world_models"):
        with pytest.raises(ConfigError):
            trust.check({**config, "experiment": name}, ["experiment"], ["my_lab"])
    with pytest.raises(ConfigError):
        trust.check({**config, "experiment": "my_laboratory"}, ["experiment"], ["my_lab"])
    trust.check({**config, "experiment": "my_lab.brightness"}, ["experiment"], ["my_lab"])


@pytest.mark.parametrize("command", ["eval", "imagine", "plan"])
@pytest.mark.parametrize("file", ["config.json", "data_spec.json"])
def test_commands_that_read_import_nothing_that_a_folder_names(tmp_path, tiny_config, trap, command, file, capsys):
    workdir = tmp_path / "run"
    (workdir / "checkpoints").mkdir(parents=True)
    config, spec = json.loads(tiny_config.to_json_best_effort()), {"kind": "video"}
    if file == "config.json":
        config["experiment"] = "trap_of_others"
    else:
        spec = {"kind": "trap_of_others:Spec"}
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "data_spec.json").write_text(json.dumps(spec))
    (workdir / "provenance.json").write_text('{"revision": ""}')
    assert launch.main(["launch.py", command, f"--workdir={workdir}"]) == 1
    err = capsys.readouterr().err
    assert "'trap_of_others'" in err
    assert "--trust=trap_of_others" in err
    assert len(err.strip().splitlines()) == 1
    assert not trap.exists()
    if file == "data_spec.json":  # that of a trusted family is seen in test_new_family.py
        launch.main(["launch.py", command, f"--workdir={workdir}", "--trust=trap_of_others"])
        assert trap.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "video"}', '{"kind": 3}', '{"kind": "video", "actions": 1}'])
def test_a_damaged_spec_is_named(tmp_path, tiny_config, text):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "data_spec.json").write_text(text)
    with pytest.raises(UserError, match=r"data_spec\.json"):
        loading.load(tmp_path, config=tiny_config)
