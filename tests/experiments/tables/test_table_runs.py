"""Running tables: which trainings are made, used again, shared, moved aside or invalid."""

import json
import os
import pathlib
import threading
import time
import types

import pytest
from conftest import write_dataset
from toy_table import edited, made, measured, planned

from experiments.runs import lock
from experiments.runs.jobs import Runner
from experiments.tables import collect, definition, job
from experiments.tables import members as plan
from experiments.tables import run as table_module
from world_models.checkpointing import checksums
from world_models.core.errors import UserError

# What a job loads after training, with a family that measures the same numbers at once.
CAPABILITY = types.SimpleNamespace(measure=lambda run: {"horizon": [2], "psnr": {"imagined": [1.0]}})
MEASURED_RUN = types.SimpleNamespace(experiment=types.SimpleNamespace(capability=lambda command: CAPABILITY))


def write_checkpoint(folder, step):
    """A checkpoint of one file that is whole."""
    path = folder / "checkpoints" / str(step)
    (path / "weights").mkdir(parents=True)
    (path / "weights" / "file").write_text("1")
    checksums.write(path.parent, step, path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"name": "toi"}, "no table 'toi': did you mean 'toy'"),
        ({"rows": ["tow"]}, "no row 'tow': did you mean 'two'"),
        ({"scale": "cpu"}, "no scale 'cpu'.*'smoke', 'paper'"),
        ({"scale": "paper"}, "--scale=paper"),
        ({"seeds": 0}, "--seeds=0"),
        ({"parallel": "local:0"}, "--parallel=local:0"),
        ({"dataset": "", "parallel": "none"}, "has no data set for toy at scale smoke yet"),
    ],
)
def test_bad_requests_meet_a_sentence(tables, square_data, tmp_path, words, message):
    words = {"name": "toy", "scale": "smoke", "dataset": str(square_data)} | words
    with pytest.raises(UserError, match=message):
        made(words.pop("name"), tmp_path, folder=tables, **words)


def test_a_failed_member_is_reported_and_the_others_finish_and_are_used_again(tables, square_data, tmp_path, capfd):
    unevaluated = ('"configs/car_unet.py:debug"}', '"configs/car_unet.py:debug", "overrides": {"eval.every": 0}}')
    edited(tables, ('{"model.context_noise": 0.5}', '{"model.target": "velocity"}'), unevaluated)
    rows = ["three", "ours"]
    with pytest.raises(UserError, match=r"1 of 2 members failed \(ours, seed 0: .*'velocity' must be one of"):
        made("toy", tmp_path, scale="smoke", rows=rows, dataset=str(square_data), folder=tables, parallel="local:2")
    found = json.loads((tmp_path / "toy" / "smoke" / "table.json").read_text())
    by_name = {row["name"]: row for row in found["rows"]}
    assert by_name["three"]["members"][0]["status"] == "done"
    assert by_name["ours"]["members"][0]["status"] == "failed"
    assert by_name["three"]["ours"]["psnr"]["mean"] > 0
    assert " | jobs: 2 running | measured: 0 of 2 | " in capfd.readouterr().err
    # The same row again is a look at a file; --force renames the run and makes it again.
    result = next((tmp_path / "runs").glob("*/results/*.json"))
    before = result.stat().st_mtime_ns
    made("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables)
    assert result.stat().st_mtime_ns == before
    made("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables, dry_run=True)
    assert "measured three, seed 0" in capfd.readouterr().out
    # A run whose checkpoint is damaged fails with a sentence that names it.
    result.unlink()
    for path in (result.parent.parent / "checkpoints").rglob("*"):
        if path.is_file() and "weights" in str(path):
            path.write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 1 members failed .*log\.txt"):
        made("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables)
    assert "result 0/1 | measuring | jobs: 1 running | " in capfd.readouterr().err  # nothing is left to train
    made("toy", tmp_path, scale="smoke", rows=["three"], dataset=str(square_data), folder=tables, force=True)
    assert list((tmp_path / "runs").glob("*.replaced-*"))
    assert result.exists()


def test_a_table_is_published_in_parts_by_the_same_code_config_and_data(tables, square_data, tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "RESULTS", tmp_path / "results")
    path = tmp_path / "results" / "toy" / "smoke.json"

    def publish(root, seeds=2, **psnr):
        _, whole = planned(tables, root, square_data, seeds)
        for member in whole.members:
            if (value := psnr.get(f"{member.row}_{member.seed}")) is not None:
                measured(member, value, revision=root.name)
        request = {"scale": "smoke", "rows": ["one"], "seeds": seeds, "dataset": str(square_data), "folder": tables}
        made("toy", root, parallel="none", publish=True, **request)
        return {row["name"]: row for row in json.loads(path.read_text())["rows"]}

    values = lambda row: [member["values"].get("psnr") for member in row["members"]]
    with pytest.raises(UserError, match="--publish: all rows have not been run"):
        publish(tmp_path / "first")
    with pytest.raises(UserError, match="--publish: some seeds of one have not been run"):
        publish(tmp_path / "first", one_0=10.0)
    before = publish(tmp_path / "first", one_1=12.0)
    assert (values(before["one"]), values(before["two"])) == ([10.0, 12.0], [None, None])
    # Another machine has the same data, code and configs.
    after = publish(tmp_path / "second", two_0=20.0, two_1=22.0)
    assert after["one"] == before["one"]
    assert values(after["two"]) == [20.0, 22.0]
    found = json.loads(path.read_text())
    assert found["not_run"] == ["three, seed 0", "three, seed 1", "ours, seed 0", "ours, seed 1"]
    assert [text[:15] for text in found["provenance"]["measured_by"]] == ["revision first,", "revision second"]
    with pytest.raises(UserError, match=r"--publish: .* has more seeds of one: run as many"):
        publish(tmp_path / "first", seeds=1)
    assert publish(tmp_path / "first", two_0=1.0) == after  # a seed of a row that was not asked for is missing
    # Neither what other code has measured nor a damaged file is published.
    _, whole = planned(tables, tmp_path / "second", square_data, seeds=2)
    three, four = (member for member in whole.members if member.seed == 0 and member.row in ("three", "ours"))
    measured(three, 5.0)
    three.result.rename(three.result.with_name(f"{three.key}-older.json"))
    four.result.parent.mkdir(parents=True)
    four.result.write_text("{")
    again = publish(tmp_path / "second")
    assert (again["three"], again["ours"]) == (after["three"], after["ours"])
    # What is measured again takes its place; what another config measured is not joined with the rest, nor lost.
    assert values(publish(tmp_path / "third", one_0=1.0, one_1=2.0)["one"]) == [1.0, 2.0]
    edited(tables, ("seen(1)", "seen(1) | {'model.condition': 20}"))
    kept = path.read_text()
    with pytest.raises(UserError, match=r"--publish: one have not been run; .* not by the same code, config"):
        publish(tmp_path / "fourth", two_0=20.0, two_1=22.0)
    assert path.read_text() == kept


def test_the_command_of_a_published_table_makes_it_anywhere():
    here = ["--workdir", "/o'neil's runs", "--rows=one row,two", "--data=/d d", "--slurm=--a --b", "--parallel", "none"]
    found = table_module._command_anywhere(
        ["/o'neil/launch.py", "table", "toy", *here, "--scale=my scale", "--seeds=2"]
    )
    assert found == "/o'neil/launch.py table toy '--scale=my scale' --seeds=2"


def test_slurm_gets_every_training_once_and_a_second_call_collects(tables, square_data, tmp_path, monkeypatch, capsys):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"sbatch": f"echo $@ >> {tmp_path}/calls; echo 77", "squeue": "echo 77_0; echo 77_1"}.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    request = {"scale": "smoke", "rows": ["one", "two"], "dataset": str(square_data), "folder": tables}
    made("toy", tmp_path, parallel="slurm", slurm_options=["--gres=gpu:1"], dry_run=True, **request)
    script = capsys.readouterr().out
    assert "#SBATCH --gres=gpu:1" in script
    assert script.count("experiments.tables.job") == 2
    made("toy", tmp_path, parallel="slurm", **request)
    assert "submitted 2 jobs as SLURM job 77" in capsys.readouterr().err
    made("toy", tmp_path, parallel="slurm", **request)
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert "2 jobs are still queued or running" in capsys.readouterr().err
    _, whole = planned(tables, tmp_path, square_data, seeds=1)
    for member in whole.members[:2]:
        measured(member, 10.0)
    path = made("toy", tmp_path, parallel="slurm", **request)
    assert "| one | 30 | 10.00 |" in path.read_text()


def test_tables_that_share_a_training_wait_for_each_other_and_lose_nothing(
    tables, square_data, tmp_path, monkeypatch, capfd
):
    text = (tables / "toy.py").read_text()
    (tables / "other.py").write_text(text.replace('"model.context_noise": 0.5', '"eval.sampler.num_steps": 2'))
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
        write_checkpoint(folder, config.train.num_steps)

    monkeypatch.setattr(job, "train", train)
    monkeypatch.setattr(job, "load", lambda folder, step, config, trusted: MEASURED_RUN)
    (first,) = (one for one, group in jobs["toy"].items() if group[0].row == "one")
    (second,) = (one for one in jobs["other"] if one.name == first.name)
    threads = [threading.Thread(target=job.run_job, args=(pathlib.Path(one.command[-1]),)) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1
    assert all(member.result.exists() for member in (*jobs["toy"][first], *jobs["other"][second]))
    assert "waiting for another process" in capfd.readouterr().err
    # A job of other code than its addresses raises.
    path = pathlib.Path(first.command[-1])
    path.write_text(path.read_text().replace(json.loads(path.read_text())["code"], "0123456789ab"))
    with pytest.raises(UserError, match="The code has changed since the table was started"):
        job.run_job(path)


def test_a_job_measures_the_last_checkpoint_or_trains_it_again(tiny_config, tmp_path, monkeypatch, capsys):
    tiny_config.train.num_steps = 300
    for step in (280, 300):
        write_checkpoint(tmp_path, step)
    trained = []
    monkeypatch.setattr(job, "train", lambda config, folder: trained.append(folder))
    job._train(tiny_config, tmp_path)
    assert not trained
    (tmp_path / "checkpoints" / "300" / "weights" / "file").write_text("2")
    job._train(tiny_config, tmp_path)
    assert trained == [tmp_path]
    assert "checkpoint 300 is damaged" in capsys.readouterr().err
    (tmp_path / "checkpoints" / "checksums" / "300.json").unlink()
    with pytest.raises(UserError, match=r"no readable checksums/300\.json"):
        job._train(tiny_config, tmp_path)


def test_a_damaged_result_or_job_is_named(tables, square_data, tmp_path):
    found, whole = planned(tables, tmp_path, square_data, seeds=1)
    one, two, *_ = whole.members
    for member, text in ((one, '{"psnr": {'), (two, '{"horizon": 3, "psnr": [1]}')):
        measured(member, 10.0)
        member.result.write_text(text)
    result = collect.collect(found, "smoke", whole, {})
    for row, member in zip(result["rows"][:2], (one, two), strict=True):
        assert row["members"][0]["status"] == "failed"
        assert f"{member.result} is damaged" in row["members"][0]["error"]
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(UserError, match=r"job\.json is damaged"):
        job.run_job(tmp_path / "job.json")


def test_force_does_not_move_what_another_process_trains(tables, square_data, tmp_path):
    _, whole = planned(tables, tmp_path, square_data, seeds=1)
    member = whole.members[0]
    measured(member, 10.0)
    with lock.exclusive(member.run), pytest.raises(UserError, match="another process"):
        plan.set_aside([member], whole.members)
    assert member.result.exists()


def test_force_leaves_what_other_rows_share(tables, square_data, tmp_path):
    edited(
        tables,
        ('"model.context_noise": 0.5', '"eval.sampler.num_steps": 2'),
        (
            '"two": {"overrides": seen(2, 1)',
            '"two": {"overrides": seen(3, 2, 1) | {"model.condition": 18, "eval.sampler.num_steps": 5}',
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


def test_rows_that_record_differently_have_data_sets_of_their_own(tables, tmp_path):
    """Rows one and two differ in nothing but what is recorded; three and ours share the first one's data."""
    found = edited(tables, ('"overrides": seen(2, 1)', '"overrides": {**seen(1), "record.seed": 7}'))
    recorded = []

    def record(config, path):
        recorded.append(config.record.seed)
        made = write_dataset(tmp_path / str(config.record.seed), {"train": [9, 9 + config.record.seed]})
        path.parent.mkdir(exist_ok=True)
        made.rename(path)

    datasets = table_module._data(found, "smoke", tmp_path, record)
    assert recorded == [definition.resolve(found, "smoke", "one", 0).record.seed, 7]
    assert datasets["one"] == datasets["three"] == datasets["ours"] != datasets["two"]
    whole = plan.make(found, "smoke", tmp_path, datasets, range(2))
    assert len({m.key for m in whole.members}) == len({m.run for m in whole.members}) == 8
    assert {m.config["data"]["dataset"] for m in whole.members if m.row == "two"} == {datasets["two"]}
    result = collect.collect(found, "smoke", whole, {})
    assert result["provenance"]["data"] == list(dict.fromkeys(datasets.values()))
    assert len(set(result["provenance"]["data_fingerprint"].split(", "))) == 2
    with pytest.raises(UserError, match=r"rows\['one'\] and rows\['two'\]"):
        plan.make(found, "smoke", tmp_path, dict.fromkeys(found.rows, datasets["one"]), range(2))


def test_the_pretraining_of_rows_is_made_once_and_first(tables, square_data, tmp_path, monkeypatch):
    pretraining = (
        '"pretraining": {"first": {"config": "configs/car_unet.py:debug", "overrides": {"train.num_steps": 1}}}'
    )
    more = '{"model.context_noise": 0.5}, "init_from": "first"}, "more": {"overrides": {"model.context_noise": 0.7}, '
    edited(
        tables,
        ('"configs/car_unet.py:debug"}', f'"configs/car_unet.py:debug", {pretraining}}}'),
        ('{"model.context_noise": 0.5}}', f'{more}"init_from": "first"}}'),
    )
    _, whole = planned(tables, tmp_path, square_data, seeds=1)
    _, moved = planned(tables, tmp_path / "elsewhere", square_data, seeds=1)
    assert [m.run.name for m in moved.members] == [m.run.name for m in whole.members]
    ours, more = (m for m in whole.members if m.pretraining)
    assert ours.pretraining.run == more.pretraining.run
    assert ours.config["init_from"]["checkpoints"] == str(ours.pretraining.run / "checkpoints")
    edited(tables, ('"train.num_steps": 1}', '"train.num_steps": 1, "train.optimizer.learning_rate": 0.5}'))
    _, other = planned(tables, tmp_path, square_data, seeds=1)
    assert {m.row for m in other.members if m.run not in {w.run for w in whole.members}} == {"ours", "more"}
    assert {m.row for m in other.members if m.key not in {w.key for w in whole.members}} == {"ours", "more"}

    trained = []

    def train(config, folder):
        trained.append(folder)
        write_checkpoint(folder, config.train.num_steps)

    def run_here(jobs, folder, tick):
        for one in jobs:
            job.run_job(pathlib.Path(one.command[-1]))
        return {one.name: 0 for one in jobs}

    monkeypatch.setattr(job, "train", train)
    monkeypatch.setattr(job, "load", lambda folder, step, config, trusted: MEASURED_RUN)
    made(
        "toy",
        tmp_path,
        scale="smoke",
        dataset=str(square_data),
        rows=["ours", "more"],
        folder=tables,
        runner=Runner(run_here),
    )
    ours, more = (m for m in other.members if m.pretraining)
    assert trained == [ours.pretraining.run, ours.run, more.run]

    with pytest.raises(UserError, match=r"rows\['ours'\].init_from='second'"):
        edited(
            tables,
            (
                '{"model.context_noise": 0.5}, "init_from": "first"',
                '{"model.context_noise": 0.5}, "init_from": "second"',
            ),
        )
