"""Tables: what is run, what is used again, what is said about it, and what is refused."""

import csv
import io
import json
import os
import pathlib
import shutil
import textwrap
import threading
import time

import pytest
from conftest import write_dataset

from experiments import fingerprint, measure, results
from experiments import table as table_module
from experiments.table import table
from experiments.tables import collect, definition, job, plan, render
from world_models.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent.parent

TOY = """
    def get_table():
        seen = lambda *offsets: {"model.context_offsets": offsets}
        return {
            "title": "Toy & Co", "paper": "Nobody 2020", "number": "Table 7", "about": "About.", "setting": "ImageNet",
            "verb": "imagine",
            "published_columns": {"fid": {"title": "FID", "better": "lower"}},
            "columns": {
                "psnr": {"title": "PSNR", "unit": "dB", "about": "how", "better": "higher",
                         "path": ("psnr", "imagined", 2), "published": "fid"},
            },
            "rows": {
                "one": {"overrides": seen(1), "published": {"fid": 30.0}, "source": "page 3"},
                "two": {"overrides": seen(2, 1), "published": {"fid": 20.0}, "source": "page 3", "unverified": True},
                "three": {"overrides": seen(3, 2, 1) | {"model.condition": 18},
                          "published": {"fid": 10.0}, "source": "page 3"},
                "ours": {"overrides": {"model.context_noise": 0.5}},
            },
            "conclusions": [
                {"text": "two beat one", "source": "page 4",
                 "holds": lambda rows: rows["two"]["psnr"] > rows["one"]["psnr"]},
                {"text": "three beat two", "source": "page 4",
                 "holds": lambda rows: rows["three"]["psnr"] > rows["two"]["psnr"]},
            ],
            "scales": {"smoke": {"about": "toy data", "config": "configs/demo.py:debug"},
                       "paper": {"about": "ImageNet, which is not here"}},
        }
"""


@pytest.fixture
def tables(tmp_path):
    """A folder with the table `toy`."""
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "toy.py").write_text(textwrap.dedent(TOY))
    return folder


def edited(folder, *changes):
    """The toy table with some text changed, loaded."""
    path = folder / "toy.py"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return definition.load("toy", folder)


def planned(tables, root, data, seeds=3):
    found = definition.load("toy", tables)
    return found, plan.make(found, "smoke", root, dict.fromkeys(found.rows, str(data)), range(seeds))


def measured(member, psnr, **provenance):
    """Writes what measuring a member would have written."""
    member.result.parent.mkdir(parents=True, exist_ok=True)
    origin = {"revision": "abc", "device": "1 x toy", "date": "2026-01-01T00:00:00", **provenance}
    content = {"horizon": [1, 2, 3], "psnr": {"imagined": [0.0, psnr, 0.0]}, "provenance": origin}
    member.result.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"source": "page 3"},', "},"), r"rows\['one'\] has published|row 'one' has published numbers but no source"),
        (('"one": {"overrides"', '"one, two": {"overrides"'), "row 'one, two' has a comma"),
        (('{"fid": 30.0}', '{"is": 30.0}'), "row 'one' has published is=30.0, which is no published column"),
        (('"published": "fid"}', '"published": "is"}'), r"columns\['psnr'\] names published='is'"),
        (('"better": "lower"', '"better": "less"'), "better='less': 'higher' or 'lower' would do"),
        (('"verb": "imagine"', '"verb": "imagin"'), "no measure 'imagin': did you mean 'imagine'"),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"name": "toi"}, "no table 'toi': did you mean 'toy'"),
        ({"rows": ["tow"]}, "no row 'tow': did you mean 'two'"),
        ({"scale": "cpu"}, "no scale 'cpu'.*'smoke', 'paper'"),
        ({"scale": "paper"}, "--scale=paper of toy cannot be run from here: ImageNet"),
        ({"seeds": 0}, "--seeds=0 must be at least 1"),
        ({"parallel": "local:0"}, "--parallel=local:0 must be local, local:N, slurm or none"),
        ({"dataset": "", "parallel": "none"}, "has no data set for toy at scale smoke yet"),
    ],
)
def test_bad_requests_meet_a_sentence(tables, square_data, tmp_path, words, message):
    words = {"name": "toy", "scale": "smoke", "dataset": str(square_data)} | words
    with pytest.raises(UserError, match=message):
        table(words.pop("name"), tmp_path, folder=tables, **words)


def test_addresses_follow_config_data_and_what_comes_after_training(tables, square_data, tmp_path):
    _, before = planned(tables, tmp_path, square_data, seeds=1)
    one = before.members[0]
    edited(
        tables,
        (
            '"config": "configs/demo.py:debug"}',
            '"config": "configs/demo.py:debug", "overrides": {"sampler.num_steps": 2}}',
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
    monkeypatch.setattr(plan, "of_code", changed("experiments.measure"))
    found, after = planned(tables, tmp_path, square_data, seeds=1)
    assert after.members[0].run == before.members[0].run
    assert plan.read_result(after.members[0]) is None
    assert collect.collect(found, "smoke", after, {})["rows"][0]["stale"]
    measured(after.members[0], 20.0, revision="abc", trained_at="xyz")
    result = collect.collect(found, "smoke", after, {})
    assert result["rows"][0]["ours"]["psnr"]["mean"] == 20
    assert "revision abc, trained at revision xyz, on 1 x toy, 2026-01-01" in render.as_markdown(result)
    monkeypatch.setattr(plan, "of_code", changed("experiments.train"))
    assert planned(tables, tmp_path, square_data, seeds=1)[1].members[0].run != before.members[0].run


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


def test_no_training_is_made_again_for_a_change_in_how_runs_are_measured(tmp_path):
    root = tmp_path / "repository"
    for package in fingerprint.PACKAGES:
        shutil.copytree(fingerprint.ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    trainers = {
        family: ["experiments.train", f"experiments.{family}"]
        for family in ("video_diffusion", "masked_autoencoder", "latent_dynamics", "tokenizer")
    }
    modules = trainers | {"plan": ["experiments.planning"], "eval": ["experiments.measure"]}
    codes = lambda: {name: fingerprint.of_code(named, root) for name, named in modules.items()}
    before = codes()
    for path in ("world_models/planning/hierarchy.py", "world_models/environments/tasks.py", "experiments/planners.py"):
        (root / path).write_text((root / path).read_text() + "\nADDED = 1\n")
    after = codes()
    assert [name for name in modules if before[name] != after[name]] == ["plan"]
    path = root / "experiments" / "measure.py"
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


def test_a_failed_member_is_reported_and_the_others_finish_and_are_used_again(tables, square_data, tmp_path, capfd):
    edited(tables, ('{"model.context_noise": 0.5}', '{"model.target": "velocity"}'))
    rows = ["three", "ours"]
    with pytest.raises(UserError, match=r"1 of 2 members failed \(ours, seed 0: .*'velocity' must be one of"):
        table("toy", tmp_path, scale="smoke", rows=rows, dataset=str(square_data), folder=tables, parallel="local:2")
    found = json.loads((tmp_path / "toy" / "smoke" / "table.json").read_text())
    by_name = {row["name"]: row for row in found["rows"]}
    assert by_name["three"]["members"][0]["status"] == "done"
    assert by_name["ours"]["members"][0]["status"] == "failed"
    assert by_name["three"]["ours"]["psnr"]["mean"] > 0
    assert "trainings: " in capfd.readouterr().err
    # The same row again is a look at a file; --force moves the run aside and makes it anew.
    result = next((tmp_path / "runs").glob("*/results/*.json"))
    before = result.stat().st_mtime_ns
    table("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables)
    assert result.stat().st_mtime_ns == before
    table("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables, dry_run=True)
    assert "measured three, seed 0" in capfd.readouterr().out
    with pytest.raises(UserError, match=r"--publish: .* have not been run"):
        table("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables, publish=True)
    # A run whose checkpoint is damaged fails with a sentence that names it.
    result.unlink()
    for path in (result.parent.parent / "checkpoints").rglob("*"):
        if path.is_file() and "weights" in str(path):
            path.write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 1 members failed .*log\.txt"):
        table("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables)
    table("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables, force=True)
    assert list((tmp_path / "runs").glob("*.replaced-*"))
    assert result.exists()


def test_slurm_gets_every_training_once_and_a_second_call_collects(tables, square_data, tmp_path, monkeypatch, capsys):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"sbatch": f"echo $@ >> {tmp_path}/calls; echo 77", "squeue": "echo 77_0; echo 77_1"}.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    request = {"scale": "smoke", "rows": ["one", "two"], "dataset": str(square_data), "folder": tables}
    table("toy", tmp_path, parallel="slurm", slurm_options=["--gres=gpu:1"], dry_run=True, **request)
    script = capsys.readouterr().out
    assert "#SBATCH --gres=gpu:1" in script
    assert script.count("experiments.tables.job") == 2
    table("toy", tmp_path, parallel="slurm", **request)
    assert "submitted 2 trainings as SLURM job 77" in capsys.readouterr().err
    table("toy", tmp_path, parallel="slurm", **request)
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert "2 trainings are still queued or running" in capsys.readouterr().err
    _, whole = planned(tables, tmp_path, square_data, seeds=1)
    for member in whole.members[:2]:
        measured(member, 10.0)
    path = table("toy", tmp_path, parallel="slurm", **request)
    assert "| one | 30 | 10.00 |" in path.read_text()


def test_tables_that_share_a_training_wait_for_each_other_and_lose_nothing(
    tables, square_data, tmp_path, monkeypatch, capfd
):
    text = (tables / "toy.py").read_text()
    (tables / "other.py").write_text(text.replace('"model.context_noise": 0.5', '"sampler.num_steps": 2'))
    found = {name: definition.load(name, tables) for name in ("toy", "other")}
    wholes = {
        name: plan.make(one, "smoke", tmp_path, dict.fromkeys(one.rows, str(square_data)), range(1))
        for name, one in found.items()
    }
    jobs = {name: table_module._jobs(one, "smoke", wholes[name].members, tmp_path) for name, one in found.items()}
    names = [{one.name for one in each} for each in jobs.values()]
    assert len(names[0] & names[1]) == 3  # the same trainings…
    assert not {one.command[-1] for one in jobs["toy"]} & {one.command[-1] for one in jobs["other"]}
    # … each once, while the other job waits.
    trained = []

    def train(config, folder):
        trained.append(folder)
        time.sleep(0.2)
        (folder / "checkpoints" / str(config.train.num_steps)).mkdir(parents=True)

    monkeypatch.setattr(job, "train", train)
    monkeypatch.setattr(job, "load", lambda folder, config: None)
    monkeypatch.setattr(measure, "future_metrics", lambda run: {"horizon": [2], "psnr": {"imagined": [1.0]}})
    (first,) = (one for one, group in jobs["toy"].items() if group[0].row == "one")
    (second,) = (one for one in jobs["other"] if one.name == first.name)
    threads = [threading.Thread(target=job.run, args=(pathlib.Path(one.command[-1]),)) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1
    assert all(member.result.exists() for member in (*jobs["toy"][first], *jobs["other"][second]))
    assert "waiting for another process" in capfd.readouterr().err
    # A job of other code than its addresses is refused.
    path = pathlib.Path(first.command[-1])
    path.write_text(path.read_text().replace(json.loads(path.read_text())["code"], "0123456789ab"))
    with pytest.raises(UserError, match="The code has changed since the table was started"):
        job.run(path)


def test_force_leaves_what_other_rows_share(tables, square_data, tmp_path):
    edited(
        tables,
        ('"model.context_noise": 0.5', '"sampler.num_steps": 2'),
        (
            '"two": {"overrides": seen(2, 1)',
            '"two": {"overrides": seen(3, 2, 1) | {"model.condition": 18, "sampler.num_steps": 5}',
        ),
    )
    _, whole = planned(tables, tmp_path, square_data, seeds=1)
    one, two, three, _ = whole.members
    assert two.run == three.run != one.run
    for member in whole.members:
        measured(member, 10.0)
    plan.set_aside([one, two], whole.members)
    assert not one.run.exists()
    assert not two.result.exists()
    assert three.result.exists()
    assert len(list(two.result.parent.glob("*.replaced-*"))) == len(list((tmp_path / "runs").glob("*.replaced-*"))) == 1
    assert plan.stale_result(two) is None


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
    shutil.copy(ROOT / "results" / "demo.json", tmp_path / "results")
    results.update(readme, tmp_path / "results")
    assert "Toy & Co" in readme.read_text()
    results.update(readme, tmp_path / "results", check=True)
    readme.write_text(readme.read_text().replace("held-out", "training"))
    with pytest.raises(UserError, match="run make results"):
        results.update(readme, tmp_path / "results", check=True)


def test_rows_that_record_differently_have_data_sets_of_their_own(tables, tmp_path, monkeypatch):
    """Rows one and two differ in nothing but what is recorded; three and ours share the first one's data."""
    found = edited(tables, ('"overrides": seen(2, 1)', '"overrides": {**seen(1), "record.seed": 7}'))
    recorded = []

    def record(config, path):
        recorded.append(config.record.seed)
        made = write_dataset(tmp_path / str(config.record.seed), {"train": [9, 9 + config.record.seed]})
        path.parent.mkdir(exist_ok=True)
        made.rename(path)

    monkeypatch.setattr(table_module, "record", record)
    datasets = table_module._data(found, "smoke", tmp_path, only_look=False)
    assert recorded == [definition.resolve(found, "smoke", "one", 0).record.seed, 7]
    assert datasets["one"] == datasets["three"] == datasets["ours"] != datasets["two"]
    whole = plan.make(found, "smoke", tmp_path, datasets, range(2))
    assert len({m.key for m in whole.members}) == len({m.run for m in whole.members}) == 8
    assert {m.config["data"]["dataset"] for m in whole.members if m.row == "two"} == {datasets["two"]}
    result = collect.collect(found, "smoke", whole, {})
    assert result["provenance"]["data"] == list(dict.fromkeys(datasets.values()))
    assert len(set(result["provenance"]["data_fingerprint"].split(", "))) == 2
    with pytest.raises(UserError, match="rows 'one' and 'two' have the same config"):
        plan.make(found, "smoke", tmp_path, dict.fromkeys(found.rows, datasets["one"]), range(2))


def test_rows_begin_with_a_training_that_is_made_once_and_first(tables, square_data, tmp_path, monkeypatch):
    begins = '"begins": {"first": {"config": "configs/demo.py:debug", "overrides": {"train.num_steps": 1}}}'
    begun = '{"model.context_noise": 0.5}, "begin": "first"}, "more": {"overrides": {"model.context_noise": 0.7}, '
    edited(
        tables,
        ('"configs/demo.py:debug"}', f'"configs/demo.py:debug", {begins}}}'),
        ('{"model.context_noise": 0.5}}', f'{begun}"begin": "first"}}'),
    )
    _, whole = planned(tables, tmp_path, square_data, seeds=1)
    _, moved = planned(tables, tmp_path / "elsewhere", square_data, seeds=1)
    assert [m.run.name for m in moved.members] == [m.run.name for m in whole.members]
    ours, more = (m for m in whole.members if m.begin)
    assert ours.begin.run == more.begin.run
    assert ours.config["init_from"]["checkpoints"] == str(ours.begin.run / "checkpoints")
    edited(tables, ('"train.num_steps": 1}', '"train.num_steps": 1, "train.learning_rate": 0.5}'))
    _, other = planned(tables, tmp_path, square_data, seeds=1)
    assert {m.row for m in other.members if m.run not in {w.run for w in whole.members}} == {"ours", "more"}
    assert {m.row for m in other.members if m.key not in {w.key for w in whole.members}} == {"ours", "more"}

    trained = []

    def train(config, folder):
        trained.append(folder)
        (folder / "checkpoints" / str(config.train.num_steps)).mkdir(parents=True)

    def run_here(jobs, limit, tick):
        for one in jobs:
            job.run(pathlib.Path(one.command[-1]))
        return {one.name: 0 for one in jobs}

    monkeypatch.setattr(job, "train", train)
    monkeypatch.setattr(job, "load", lambda folder, config: None)
    monkeypatch.setattr(measure, "future_metrics", lambda run: {"horizon": [2], "psnr": {"imagined": [1.0]}})
    monkeypatch.setattr(table_module.local, "run", run_here)
    table("toy", tmp_path, scale="smoke", dataset=str(square_data), rows=["ours", "more"], folder=tables)
    ours, more = (m for m in other.members if m.begin)
    assert trained == [ours.begin.run, ours.run, more.run]

    with pytest.raises(
        UserError, match="row 'ours' has begin='second', which scale 'smoke' does not have in its begins"
    ):
        edited(
            tables,
            ('{"model.context_noise": 0.5}, "begin": "first"', '{"model.context_noise": 0.5}, "begin": "second"'),
        )
