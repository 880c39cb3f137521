"""Tables: what is asked of them, what their addresses hold, and what is said about results."""

import csv
import io
import itertools
import json
import os
import shutil

import pytest
from conftest import write_dataset
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from toy_table import edited, measured, planned

from experiments.reports import results
from experiments.runs import fingerprint
from experiments.tables import collect, render
from experiments.tables import members as plan
from experiments.tables import run as table_module
from experiments.tables.run import table
from world_models.core.errors import UserError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"source": "page 3"},', "},"), r"rows\['one'\] has published|row 'one' has published numbers but no source"),
        (('"one": {"overrides"', '"one, two": {"overrides"'), "row 'one, two' has a comma"),
        (('{"fid": 30.0}', '{"is": 30.0}'), "row 'one' has published is=30.0, which is no published column"),
        (('"published": "fid"}', '"published": "is"}'), r"columns\['psnr'\] names published='is'"),
        (('"better": "lower"', '"better": "less"'), "better='less': 'higher' or 'lower' would do"),
        (('"command": "imagine"', '"command": "imagin"'), "no measure 'imagin': did you mean 'imagine'"),
        (('"about": "About.",', ""), "needs 'about'; its fields are"),
        (('"number":', '"nummer":'), "has no field 'nummer'"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(tables, change, message):
    with pytest.raises(UserError, match=message):
        edited(tables, change)


def test_rows_with_the_same_config_and_unknown_fields_are_refused(tables, square_data, tmp_path):
    edited(tables, ("seen(2, 1)", "seen(1)"))
    with pytest.raises(UserError, match="rows 'one' and 'two' have the same config"):
        planned(tables, tmp_path, square_data)
    edited(tables, ('{"model.context_noise": 0.5}', '{"model.noise": 0.5}'))
    with pytest.raises(UserError, match=r"row 'ours' sets model.noise, which is no field"):
        planned(tables, tmp_path, square_data)


def test_addresses_follow_config_data_and_what_comes_after_training(tables, square_data, tmp_path):
    _, before = planned(tables, tmp_path, square_data, seeds=1)
    one = before.members[0]
    edited(
        tables,
        (
            '"config": "configs/demo.py:debug"}',
            '"config": "configs/demo.py:debug", "overrides": {"eval.sampler.num_steps": 2}}',
        ),
    )
    other = planned(tables, tmp_path, square_data, seeds=1)[1].members[0]
    assert (one.run, one.result.name) != (other.run, other.result.name)
    assert one.run == other.run
    edited(tables, ("sampler.num_steps", "train.batch_size"))
    assert planned(tables, tmp_path, square_data, seeds=1)[1].members[0].run != one.run
    data = write_dataset(tmp_path / "other", {"train": [12], "validation": [12], "test": [12]})
    assert planned(tables, tmp_path, data, seeds=1)[1].members[0].run != other.run
    moved = tmp_path / "elsewhere"
    shutil.copytree(square_data, moved)
    edited(tables, ("train.batch_size", "sampler.num_steps"))
    assert planned(tables, tmp_path, moved, seeds=1)[1].members[0].result == other.result


def test_a_training_is_used_again_where_only_the_measuring_changed(tables, square_data, tmp_path, monkeypatch):
    of_code = plan.of_code
    _, before = planned(tables, tmp_path, square_data, seeds=1)
    measured(before.members[0], 10.0)
    changed = lambda module: lambda modules: of_code(modules) + ("2" if module in modules else "")
    monkeypatch.setattr(plan, "of_code", changed("experiments.evaluation.measure"))
    found, after = planned(tables, tmp_path, square_data, seeds=1)
    assert after.members[0].run == before.members[0].run
    assert plan.read_result(after.members[0]) is None
    assert collect.collect(found, "smoke", after, {})["rows"][0]["stale"]
    measured(after.members[0], 20.0, revision="abc", trained_at="xyz")
    result = collect.collect(found, "smoke", after, {})
    assert result["rows"][0]["ours"]["psnr"]["mean"] == 20
    assert "revision abc, trained at revision xyz, on 1 x toy, 2026-01-01" in render.as_markdown(result)
    monkeypatch.setattr(plan, "of_code", changed("experiments.training.loop"))
    assert planned(tables, tmp_path, square_data, seeds=1)[1].members[0].run != before.members[0].run


def test_functions_that_configs_name_are_code_too(tables, tmp_path, monkeypatch):
    named = {
        "record": {"policy": "configs.demo:drive", "modules": ("world_models.core.types",)},
        "plan": {"x": "a.b:c"},
    }
    assert fingerprint.modules_named(named) == ["configs.demo", "world_models.core.types"]
    assert fingerprint.modules_named({"config": "configs/demo.py:debug", "image_key": "observation/image"}) == []
    configs = [
        {
            "experiment": "experiments.families.latent_dynamics.experiment",
            "plan": {"reached": f"world_models.{name}:x"},
            "record": {"policy": "configs.demo:y"},
        }
        for name in ("types", "errors")
    ]
    asked = []
    monkeypatch.setattr(plan, "of_code", asked.append)
    for command in ("eval", "plan"):
        plan.measuring_code(configs, command)
    assert asked[0][3:] == ["world_models.core.errors", "world_models.core.types"]
    assert asked[1][3:] == ["configs.demo", "world_models.core.errors", "world_models.core.types"]
    monkeypatch.setattr(table_module, "record", lambda config, path: path.mkdir(parents=True))
    before = table_module._data(edited(tables), "smoke", tmp_path, only_look=False)
    of_code = table_module.of_code
    changed = lambda modules: of_code(modules) + ("2" if "configs.demo" in modules else "")
    monkeypatch.setattr(table_module, "of_code", changed)
    assert not set(before.values()) & set(
        table_module._data(edited(tables), "smoke", tmp_path, only_look=False).values()
    )


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


def test_statements_are_computed_from_the_rows(tables, square_data, tmp_path):
    found, whole = planned(tables, tmp_path, square_data)
    psnr = {"one": (10, 11, 12), "two": (20, 21, 10), "three": (12, 13, 14), "ours": (1, 1, 1)}
    for member in whole.members:
        measured(member, psnr[member.row][member.seed])
    result = collect.collect(found, "smoke", whole, {})
    one = result["rows"][0]["ours"]["psnr"]
    # Student: t(0.975, 2) = 4.3027, standard deviation 1, three seeds.
    assert (one["mean"], one["n"]) == (11, 3)
    assert one["high"] - one["mean"] == pytest.approx(4.302653 / 3**0.5, rel=1e-5)
    (correlation,) = result["statement"]["rank_correlations"]
    assert correlation == {"ours": "psnr", "published": "fid", "spearman": pytest.approx(0.5), "n": 3}
    first, second = result["statement"]["conclusions"]
    assert (first["holds"], first["seeds_held"], first["seeds"]) == (True, 2, 3)
    assert (second["holds"], second["seeds_held"], second["seeds"]) == (False, 1, 3)
    assert "1 of 2 published conclusions" in result["statement"]["text"][-1]
    assert result["not_run"] == []


def test_missing_damaged_and_stale_results_are_told_apart_and_never_mixed(tables, square_data, tmp_path, monkeypatch):
    found, old = planned(tables, tmp_path, square_data, seeds=2)
    for member in old.members:
        if member.row != "three":
            measured(member, 10.0 if member.row == "one" else 20.0, revision="old")
    monkeypatch.setattr(plan, "of_code", lambda modules: "other code")
    found, new = planned(tables, tmp_path, square_data, seeds=2)
    assert new.members[0].run != old.members[0].run
    measured(new.members[0], 30.0, revision="new")  # row one, seed 0
    ours = [m for m in new.members if m.row == "ours"]
    ours[0].result.parent.mkdir(parents=True)
    ours[0].result.write_text('{"horizon": [')
    result = collect.collect(found, "smoke", new, {})
    rows = {row["name"]: row for row in result["rows"]}
    assert [m["status"] for m in rows["one"]["members"]] == ["done", "stale"]
    assert rows["one"]["ours"]["psnr"] == {"mean": 30.0, "low": None, "high": None, "n": 1}
    assert rows["two"]["stale"]
    assert rows["two"]["ours"]["psnr"]["mean"] == 20.0
    assert [m["status"] for m in rows["three"]["members"]] == ["missing", "missing"]
    assert "is damaged" in rows["ours"]["members"][0]["error"]
    # Row two is stale, so nothing that needs it can be said.
    assert [c["holds"] for c in result["statement"]["conclusions"]] == [None, None]
    assert result["statement"]["rank_correlations"][0]["n"] == 1
    text = render.as_markdown(result)
    assert "20.00 [20.00, 20.00] (stale)" in text
    assert "three, seed 1: missing" in text
    assert "2 could not be tested" in text


def test_rendered_forms_agree_and_escape(tables, square_data, tmp_path):
    found, whole = planned(tables, tmp_path, square_data, seeds=2)
    for member in whole.members:
        measured(member, 10.25 + member.seed)
    result = collect.collect(found, "smoke", whole, {})
    path = render.write(tmp_path / "out", result)
    text = path.read_text()
    assert "| two | 20† |" in text
    assert "†: published number not verified" in text
    assert "*Published*: ImageNet" in text
    assert "*Ours*, scale `smoke`: toy data" in text
    assert "revision abc, on 1 x toy, 2026-01-01" in text
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text())))
    assert len(lines) == 8
    assert lines[3]["row"] == "two"
    assert float(lines[3]["psnr"]) == 11.25
    assert float(lines[3]["published_fid"]) == 20
    latex = (tmp_path / "out" / "table.tex").read_text()
    assert "Toy \\& Co" in latex
    assert latex.count("\\\\") == 2 + 4
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == json.loads(json.dumps(result))
    assert (tmp_path / "out" / "table.png").stat().st_size > 5000


def test_plots_show_every_row_and_no_seed_that_its_row_left_out(tables, square_data, tmp_path, monkeypatch):
    found, old = planned(tables, tmp_path, square_data, seeds=2)
    for member in old.members:
        measured(member, 10.0)
    monkeypatch.setattr(plan, "of_code", lambda modules: "other code")
    found, new = planned(tables, tmp_path, square_data, seeds=2)
    for member in new.members:
        if member.seed == 0:
            measured(member, 30.0)
    axes = Figure().subplots()
    points = render._plot_column(axes, collect.collect(found, "smoke", new, {}), "psnr")
    render._name_points(axes, points)
    assert {text.get_text() for text in axes.texts} == set(found.rows)
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [set(line.get_ydata()) for line in dotted] == [{30.0}]  # "ours" has no published number
    assert {float(y) for line in axes.lines for y in line.get_ydata()} == {30.0}


def test_a_published_number_that_all_rows_share_is_a_line_beside_them():
    cell = lambda mean: {"psnr": {"mean": mean, "low": None, "high": None, "n": 1}}
    row = {"published": {"theirs": 25.0, "fid": 3.0}, "stale": False, "members": []}
    table = {
        "rows": [row | {"name": name, "ours": cell(mean)} for name, mean in (("one", 10.0), ("two", 20.0))],
        "columns": {"psnr": {"title": "PSNR", "unit": "dB", "better": "higher", "published": "theirs"}},
        "published_columns": {"theirs": {"title": "theirs (dB)"}, "fid": {"title": "FID"}},
    }
    axes = Figure().subplots()
    render._plot_column(axes, table, "psnr")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "two"]
    assert [text.get_text() for text in axes.texts] == ["published theirs (dB)"]  # FID has another unit
    assert [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == ":"] == [[25.0, 25.0]]


def test_names_of_points_lie_inside_and_clear_of_points_intervals_and_one_another():
    axes = Figure().subplots()
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.annotate("a line", (52, 79))
    ours = lambda mean: {"mean": mean, "low": mean - 20, "high": mean + 20}
    points = [("a long name", 90, 70), ("another", 86, 70), ("third", 50, 80), ("fourth", 50, 77)]
    render._name_points(axes, [(name, where, ours(mean), "black") for name, where, mean in points])
    assert [text.get_text() for text in axes.texts] == ["a line", *(name for name, _, _ in points)]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not [both for both in itertools.combinations(boxes, 2) if Bbox.intersection(*both)]
    frame = axes.get_window_extent()
    for box in boxes:
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        for _, where, mean in points:
            dot = axes.transData.transform((where, mean))
            assert not Bbox.intersection(box, Bbox([dot - 5, dot + 5]))


def test_lines_of_a_plot_that_lie_close_are_named_at_different_sides():
    axes = Figure().subplots()
    axes.set_ylim(0, 100)
    # Room for a name is a twenty-fifth of the axis.
    render._draw_lines(
        axes, [(50.5, "above", "red"), (50, "below", "blue"), (54.2, "third", "red"), (90, "far", "blue")]
    )
    sides = {text.get_text(): text.get_horizontalalignment() for text in axes.texts}
    assert sides == {"below": "left", "above": "right", "third": "left", "far": "left"}


def test_published_results_reach_the_readme_and_are_kept_in_step(tables, square_data, tmp_path, monkeypatch):
    for member in planned(tables, tmp_path, square_data, seeds=1)[1].members:
        measured(member, 10.0)
    request = {"scale": "smoke", "dataset": str(square_data), "folder": tables, "parallel": "none"}
    monkeypatch.setattr(table_module, "RESULTS", tmp_path / "results")
    words = ["launch.py table", "toy", f"--workdir={tmp_path}", "--data", str(square_data), "--publish"]
    monkeypatch.setattr("sys.argv", words)
    table("toy", tmp_path, publish=True, **request)
    kept = (tmp_path / "results" / "toy" / "smoke.json").read_text()
    assert str(tmp_path) not in kept
    assert json.loads(kept)["provenance"]["command"] == "launch.py table toy --publish"
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{results.BEGIN}{results.END}after\n")
    shutil.copy(fingerprint.ROOT / "results" / "demo.json", tmp_path / "results")
    results.update(readme, tmp_path / "results")
    assert "Toy & Co" in readme.read_text()
    results.update(readme, tmp_path / "results", check=True)
    readme.write_text(readme.read_text().replace("held-out", "training"))
    with pytest.raises(UserError, match="run make results"):
        results.update(readme, tmp_path / "results", check=True)
