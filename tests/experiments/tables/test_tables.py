"""Tables: which definitions are invalid, and what the addresses of runs and results depend on."""

import os
import shutil

import pytest
from conftest import write_dataset
from toy_table import edited, measured, planned

from experiments.runs import fingerprint
from experiments.tables import collect, definition, page
from experiments.tables import members as plan
from experiments.tables import run as table_module
from experiments.tables.summary import summarize
from world_models.core.errors import UserError

SCALE = '"config": "configs/car_unet.py:debug"}'


def test_a_scale_has_overrides_of_single_rows_which_win(tables):
    sized = SCALE[:-1] + ', "overrides": {"model.context_noise": 0.2}, "rows": {"ours": {"model.context_noise": 0.7}}}'
    found = edited(tables, (SCALE, sized))
    noise = {row: definition.resolve(found, "smoke", row, 0).model.context_noise for row in found.rows}
    assert noise == {"one": 0.2, "two": 0.2, "three": 0.2, "ours": 0.7}


def test_a_row_may_have_another_familys_config(tables, square_data, tmp_path):
    other = SCALE[:-1] + ', "overrides": {"eval.every": 7}, "configs": {"ours": "configs/car_world.py:debug"}}'
    plain = ('"ours": {"overrides": {"model.context_noise": 0.5}}', '"ours": {"overrides": {}}')
    found = edited(tables, (SCALE, other), plain)
    configs = {row: definition.resolve(found, "smoke", row, 0) for row in found.rows}
    assert [row for row, config in configs.items() if "video_transformer" in config.experiment] == ["ours"]
    assert {config.eval.every for config in configs.values()} == {7}
    whole = planned(tables, tmp_path, square_data, seeds=1)[1]
    codes = {member.row: member.result.stem.split("-")[1] for member in whole.members}
    assert codes["one"] == codes["two"] != codes["ours"]
    assert whole.code not in codes.values()  # the table's address is of both families


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (
            (SCALE, SCALE[:-1] + ', "configs": {"four": "configs/car_world.py"}}'),
            r"scales\['smoke'\].configs\['four'\]",
        ),
        ((SCALE, SCALE[:-1] + ', "rows": {"four": {}}}'), r"scales\['smoke'\].rows\['four'\]"),
        (('"source": "page 3"},', "},"), r"rows\['one'\].source"),
        (('"one": {"overrides"', '"one, two": {"overrides"'), r"rows\['one, two'\]"),
        (('{"fid": 30.0}', '{"is": 30.0}'), r"rows\['one'\].published\['is'\]=30.0"),
        (('"published": ("fid",)', '"published": ("is",)'), r"columns\['psnr'\].published"),
        (('"published": ("fid",)', '"published": "fid"'), r"columns\['psnr'\].published='fid'"),
        (('"baseline_for": "psnr"', '"baseline_for": "ssim"'), r"columns\['copy'\].baseline_for='ssim'"),
        (('"unit": "dB", "about": "how"', '"unit": "%", "about": "how"'), r"columns\['psnr'\].range"),
        (('"unit": "dB", "about": "how"', '"unit": "dB", "range": (1, 0), "about": "how"'), r"columns\['psnr'\].range"),
        (('"better": "lower"', '"better": "less"'), r"published_columns\['fid'\].better='less'"),
        (('"about": "About.",', ""), "needs 'about'"),
        (('"number":', '"nummer":'), "'nummer'"),
        (('"kind": "ours",', ""), "a conclusion needs 'kind'"),
        (('"kind": "ours"', '"kind": "hope"'), r"conclusions\[1\].kind='hope'"),
        (('"kind": "ours"', '"kind": "paper"'), r"conclusions\[1\].source"),
    ],
)
def test_a_table_with_an_invalid_field_does_not_load(tables, change, field):
    with pytest.raises(UserError, match=field):
        edited(tables, change)


def test_a_command_that_the_family_does_not_offer_raises_before_anything_is_trained(tables, square_data, tmp_path):
    edited(tables, ('"command": "imagine"', '"command": "plan"'))
    with pytest.raises(UserError, match=r"'plan'.*config\.experiment"):
        planned(tables, tmp_path, square_data)


def test_rows_with_the_same_config_and_unknown_fields_raise(tables, square_data, tmp_path):
    edited(tables, ("seen(2, 1)", "seen(1)"))
    with pytest.raises(UserError, match=r"rows\['one'\] and rows\['two'\]"):
        planned(tables, tmp_path, square_data)
    edited(tables, ('{"model.context_noise": 0.5}', '{"model.noise": 0.5}'))
    with pytest.raises(UserError, match=r"model\.noise"):
        planned(tables, tmp_path, square_data)


def test_addresses_follow_config_data_and_what_comes_after_training(tables, square_data, tmp_path):
    _, before = planned(tables, tmp_path, square_data, seeds=1)
    one = before.members[0]
    edited(
        tables,
        (
            '"config": "configs/car_unet.py:debug"}',
            '"config": "configs/car_unet.py:debug", "overrides": {"eval.sampler.num_steps": 2}}',
        ),
    )
    other = planned(tables, tmp_path, square_data, seeds=1)[1].members[0]
    assert (one.run, one.result.name) != (other.run, other.result.name)
    assert one.run == other.run
    edited(tables, ("eval.sampler.num_steps", "train.batch_size"))
    assert planned(tables, tmp_path, square_data, seeds=1)[1].members[0].run != one.run
    data = write_dataset(tmp_path / "other", {"train": [12], "validation": [12], "test": [12]})
    assert planned(tables, tmp_path, data, seeds=1)[1].members[0].run != other.run
    moved = tmp_path / "elsewhere"
    shutil.copytree(square_data, moved)
    edited(tables, ("train.batch_size", "eval.sampler.num_steps"))
    assert planned(tables, tmp_path, moved, seeds=1)[1].members[0].result == other.result


def test_a_training_is_used_again_where_only_the_measuring_changed(tables, square_data, tmp_path, monkeypatch):
    of_code = plan.of_code
    _, before = planned(tables, tmp_path, square_data, seeds=1)
    measured(before.members[0], 10.0)
    changed = lambda module: lambda modules: of_code(modules) + ("2" if module in modules else "")
    monkeypatch.setattr(plan, "of_code", changed("experiments.evaluation.futures"))
    found, after = planned(tables, tmp_path, square_data, seeds=1)
    assert after.members[0].run == before.members[0].run
    assert plan.read_result(after.members[0]) is None
    assert summarize(found, collect.collect(found, "smoke", after, {}))["rows"][0]["stale"]
    measured(after.members[0], 20.0, revision="abc", trained_at="xyz")
    summary = summarize(found, collect.collect(found, "smoke", after, {}))
    assert summary["rows"][0]["ours"]["psnr"]["mean"] == 20
    text = page.as_markdown([summary], lambda table: "table.png")
    assert "revision abc, trained at revision xyz, on 1 x toy, 2026-01-01" in text
    monkeypatch.setattr(plan, "of_code", changed("experiments.training.loop"))
    assert planned(tables, tmp_path, square_data, seeds=1)[1].members[0].run != before.members[0].run


def test_functions_that_configs_name_are_code_too(tables, tmp_path, monkeypatch):
    named = {
        "record": {"policy": "configs.car_unet:drive", "modules": ("world_models.core.types",)},
        "plan": {"x": "a.b:c"},
    }
    assert fingerprint.modules_named(named) == ["configs.car_unet", "world_models.core.types"]
    assert fingerprint.modules_named({"config": "configs/car_unet.py:debug", "image_key": "observation/image"}) == []
    configs = [
        {
            "experiment": "experiments.families.latent_dynamics.experiment",
            "plan": {"reached": f"world_models.core.{name}:x"},
            "record": {"policy": "configs.car_unet:y"},
        }
        for name in ("types", "errors")
    ]
    asked = []
    monkeypatch.setattr(plan, "of_code", asked.append)
    for command in ("eval", "plan"):
        plan.measuring_code(configs, command)
    named = [
        set(modules) & {"configs.car_unet", "world_models.core.errors", "world_models.core.types"} for modules in asked
    ]
    assert named[0] == {"world_models.core.errors", "world_models.core.types"}
    assert named[1] == {"configs.car_unet", "world_models.core.errors", "world_models.core.types"}
    record = lambda config, path: path.mkdir(parents=True)
    before = table_module._data(edited(tables), "smoke", tmp_path, record)
    of_code = table_module.of_code
    changed = lambda modules: of_code(modules) + ("2" if "configs.car_unet" in modules else "")
    monkeypatch.setattr(table_module, "of_code", changed)
    assert not set(before.values()) & set(table_module._data(edited(tables), "smoke", tmp_path, record).values())


def test_code_addresses_ignore_comments_and_follow_imports(tmp_path):
    package = tmp_path / "experiments"
    package.mkdir()
    sources = {"a": "from experiments import b\n", "b": "import experiments.c\nX = 1\n", "c": "Y = 1\n", "d": "Z = 1\n"}
    for name, text in sources.items():
        (package / f"{name}.py").write_text(text)

    def address(name, text):
        (package / f"{name}.py").write_text(text)
        os.utime(package / f"{name}.py", ns=(address.time, address.time))
        address.time += 1
        return fingerprint.of_code(["experiments.a"], tmp_path)

    address.time = 1
    first = address("a", sources["a"])
    assert address("c", '"""Doc."""\n\n# Comment.\nY = 1\n') == first
    assert address("d", "Z = 2\n") == first
    assert address("c", "Y = 2\n") != first
    assert address("c", sources["c"]) == first
    (package / "__init__.py").write_text("def late():\n    from experiments import d\n")
    assert fingerprint.of_code(["experiments.a"], tmp_path) != first
    with_init = fingerprint.of_code(["experiments.a"], tmp_path)
    assert address("d", "Z = 3\n") == with_init


def test_code_has_the_same_address_under_every_python(tmp_path):
    # Python 3.11, 3.12 and 3.13 each print another syntax tree of a function or class.
    (tmp_path / "experiments").mkdir()
    source = "class A(list):\n    def f(self, *, x=None):\n        return f'{x!r:>8}', [], {}, 0.1, b'b'\n"
    (tmp_path / "experiments" / "a.py").write_text(source)
    assert fingerprint.of_code(["experiments.a"], tmp_path) == "078f5accafd9"


def test_no_training_is_made_again_for_a_change_in_how_runs_are_measured(tmp_path):
    root = tmp_path / "repository"
    for package in fingerprint.PACKAGES:
        shutil.copytree(fingerprint.ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    trainers = {
        family: ["experiments.training.loop", f"experiments.families.{family}.experiment"]
        for family in ("video_diffusion", "masked_autoencoder", "latent_dynamics", "tokenizer")
    }
    modules = trainers | {"plan": ["experiments.planning.worlds"], "eval": ["experiments.evaluation.measure"]}
    codes = lambda: {name: fingerprint.of_code(named, root) for name, named in modules.items()}
    before = codes()
    for path in (
        "world_models/planning/hierarchy.py",
        "world_models/environments/tasks.py",
        "experiments/planning/planners.py",
    ):
        (root / path).write_text((root / path).read_text() + "\nADDED = 1\n")
    after = codes()
    assert [name for name in modules if before[name] != after[name]] == ["plan"]
    path = root / "experiments" / "evaluation" / "measure.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    assert [name for name in modules if after[name] != codes()[name]] == ["eval"]


def test_tables_do_not_import_launchers():
    for path in (fingerprint.ROOT / "experiments" / "tables").glob("*.py"):
        assert "experiments.tools" not in path.read_text(), path.name
