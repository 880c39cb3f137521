"""Jobs on this machine, on clusters and on many hosts, for whose tools small scripts stand."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from experiments.runs.files import ROOT
from experiments.runs.jobs import Job
from experiments.tools.launchers import local, slurm
from world_models.core.errors import UserError

# Saves on the first SIGTERM, counts those that come, and ends a moment later, as training does.
SAVES = """
import pathlib, signal, sys, time
folder, seen = pathlib.Path(sys.argv[1]), []
signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
(folder / "started").touch()
while not seen:
    time.sleep(0.02)
time.sleep(0.5)
(folder / "saved").write_text(str(len(seen)))
"""


def python(name, code, folder, *words):
    """A job of Python code."""
    return Job(name, (sys.executable, "-c", textwrap.dedent(code), *map(str, words)), folder / "logs" / f"{name}.log")


def wait_for(condition, seconds=10):
    """Returns when the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_jobs_run_from_the_root_with_the_environment_and_append_to_their_logs(tmp_path, monkeypatch):
    monkeypatch.setenv("GREETING", "hello")
    code = "import os, sys; print(os.environ['GREETING'], os.getcwd()); print('oops', file=sys.stderr)"
    job = python("a", code, tmp_path)
    for _ in range(2):
        assert local.run([job]) == {"a": 0}
    lines = job.log.read_text().splitlines()
    assert sorted(lines) == sorted([f"hello {ROOT}", "oops"] * 2)


def test_a_failing_job_does_not_stop_the_others(tmp_path):
    jobs = [
        python("bad", "raise SystemExit(3)", tmp_path),
        Job("none", ("no-such-program",), tmp_path / "none.log"),
        python("killed", "import os; os.kill(os.getpid(), 9)", tmp_path),
        python("good", "pass", tmp_path),
    ]
    seen = []
    assert local.run(jobs, tick=seen.append) == {"bad": 3, "none": 127, "killed": -9, "good": 0}
    assert seen[0] == {"bad": "running", "none": "waiting", "killed": "waiting", "good": "waiting"}
    assert seen[-1] == {"bad": "failed", "none": "failed", "killed": "failed", "good": "done"}
    assert "no-such-program: No such file" in (tmp_path / "none.log").read_text()


def test_limit_jobs_at_a_time_share_the_cores(tmp_path):
    code = """
        import os, pathlib, sys, time
        here = pathlib.Path(sys.argv[1])
        (here / sys.argv[2]).touch()
        time.sleep(0.3)
        print(len(list(here.iterdir())), *sorted(os.sched_getaffinity(0)))
        (here / sys.argv[2]).unlink()
    """
    here = tmp_path / "here"
    here.mkdir()
    jobs = [python(str(i), code, tmp_path, here, i) for i in range(4)]
    assert set(local.run(jobs, limit=2).values()) == {0}
    said = [[int(word) for word in job.log.read_text().split()] for job in jobs]
    assert max(at_once for at_once, *_ in said) == 2
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        shares = {tuple(share) for _, *share in said}
        assert len(shares) == 2
        assert sorted(core for share in shares for core in share) == sorted(cores)
    here.rmdir()


def test_more_jobs_than_cores_and_bad_input(tmp_path):
    assert all(len(share) == 1 for share in local.shares(1000))
    with pytest.raises(UserError, match="limit=0"):
        local.run([], limit=0)
    with pytest.raises(UserError, match="'a'"):
        local.run([python("a", "", tmp_path), python("a", "", tmp_path)])
    assert local.run([]) == {}


def test_jobs_that_ignore_sigterm_are_killed_when_the_caller_fails(tmp_path, monkeypatch):
    code = """
        import pathlib, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path(sys.argv[1], "started").touch()
        time.sleep(60)
        """

    def tick(states):
        if (tmp_path / "started").exists():
            raise RuntimeError("the caller")

    monkeypatch.setattr(local, "GRACE", 0.3)
    monkeypatch.setattr(local, "TICK", 0.05)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="the caller"):
        local.run([python("deaf", code, tmp_path, tmp_path)], tick=tick)
    assert time.monotonic() - begin < 30


def launcher(folder, code, grace=60.0):
    """Another process that runs two jobs, one at a time; the first runs `code`."""
    script = """
        import pathlib, sys
        from experiments.runs.jobs import Job
        from experiments.tools.launchers import local
        folder, local.GRACE = pathlib.Path(sys.argv[1]), float(sys.argv[3])
        jobs = [Job(n, (sys.executable, "-c", sys.argv[2], str(folder)), folder / (n + ".log")) for n in "ab"]
        try:
            local.run(jobs)
        except KeyboardInterrupt as error:
            print(error)
            sys.exit(130)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder), code, str(grace)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for((folder / "started").exists)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_jobs_save_and_starts_no_more(tmp_path, number):
    process = launcher(tmp_path, SAVES)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert (tmp_path / "saved").read_text() == "1"  # one signal, not two
    assert "1 of 2 jobs were stopped and 1 not started; the same command" in out
    assert "waiting for the jobs to save" in err
    assert not (tmp_path / "b.log").exists()


def test_a_second_signal_kills(tmp_path):
    process = launcher(tmp_path, SAVES.replace("time.sleep(0.5)", "time.sleep(60)"))
    process.send_signal(signal.SIGTERM)
    assert "waiting" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "1 of 2 jobs were killed" in out
    assert not (tmp_path / "saved").exists()


# Ignores SIGTERM, as a training that hangs does, and has a child that does too.
DEAF = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
with open(sys.argv[1] + "/pids", "a") as file:
    file.write(f"{os.getpid()}\\n")
while not (pathlib.Path(sys.argv[1]) / "pids").read_text().count("\\n") == 2:
    time.sleep(0.02)
(pathlib.Path(sys.argv[1]) / "started").touch()
time.sleep(60)
"""


def is_running(number):
    stat = pathlib.Path(f"/proc/{number}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_that_ignore_sigterm_are_killed_some_time_after_a_signal_or_the_launchers_death(tmp_path, number):
    process = launcher(tmp_path, DEAF, grace=0.5)
    pids = (tmp_path / "pids").read_text().split()
    assert all(map(is_running, pids))
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert ("1 of 2 jobs were killed" in out) == (number == signal.SIGTERM)
    wait_for(lambda: not any(map(is_running, pids)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_jobs_save_when_the_launcher_is_killed(tmp_path):
    process = launcher(tmp_path, SAVES)
    process.kill()
    process.communicate()
    wait_for(lambda: (tmp_path / "saved").exists() and (tmp_path / "saved").read_text())
    assert (tmp_path / "saved").read_text() == "1"  # one signal


# As SLURM would: each task is a run of the script with its index, whose process gets the signals. Tasks that the file
# `keep` names stay in the queue.
SBATCH = """
import os, pathlib, re, subprocess, sys
here = pathlib.Path(__file__).parent
flag, script = sys.argv[1:]
assert flag == "--parsable"
text = pathlib.Path(script).read_text()
if "--partition=none" in text:
    sys.exit("sbatch: error: invalid partition specified: none")
number = 100 + len(list(here.glob("queue-*")))
last = int(re.search(r"--array=0-(\\d+)", text)[1])
kept = (here / "keep").read_text().split() if (here / "keep").exists() else []
for i in range(last + 1):
    if str(i) not in kept:
        subprocess.run(["bash", script], env=os.environ | {"SLURM_ARRAY_TASK_ID": str(i)})
(here / f"queue-{number}").write_text("".join(f"{number}_{i}\\n" for i in kept))
print(f"{number};cluster")
"""
SQUEUE = """
import pathlib, sys
here = pathlib.Path(__file__).parent
assert sys.argv[1:4] == ["-h", "-r", "-j"] and sys.argv[5:] == ["-o", "%i"]
found = [here / f"queue-{number}" for number in sys.argv[4].split(",")]
if not any(path.exists() for path in found):
    sys.exit("slurm_load_jobs error: Invalid job id specified")
print("".join(path.read_text() for path in found if path.exists()), end="")
"""


def tools(folder, monkeypatch, **codes):
    """Puts Python programs on PATH; returns their folder."""
    folder.mkdir()
    for name, code in codes.items():
        (folder / name).write_text(f"#!{sys.executable}\n{code}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def fake_slurm(folder, monkeypatch):
    """Puts an sbatch and an squeue on PATH; returns their folder."""
    return tools(folder, monkeypatch, sbatch=SBATCH, squeue=SQUEUE)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The folder of a stand-in for SLURM."""
    return fake_slurm(tmp_path / "bin", monkeypatch)


def test_slurm_runs_every_job_once_with_its_words_intact(tmp_path, cluster):
    folder = tmp_path / "a sweep's 100 %"
    words = ["(8, 16)", "it's", "$HOME", 'say "hi"', "", "a\nb"]
    code = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:]]))"
    jobs = [python(f"job {i}", code, folder, i, *words) for i in range(3)]
    assert slurm.submit(jobs, folder, ("--partition=gpu", "--gres=gpu:1")) == "100"
    for i, job in enumerate(jobs):
        assert json.loads(job.log.read_text()) == [str(ROOT), [str(i), *words]]
    script = (folder / "slurm-1.sbatch").read_text()
    assert script.startswith("#!/bin/bash\n#SBATCH --job-name=")
    assert "#SBATCH --partition=gpu\n#SBATCH --gres=gpu:1\n" in script
    assert "#SBATCH --array=0-2\n" in script
    assert "/slurm.out" in script
    assert "100 %%" in script
    assert json.loads((folder / "slurm.json").read_text()) == [
        {"id": "100", "script": "slurm-1.sbatch", "names": ["job 0", "job 1", "job 2"]}
    ]


def test_slurm_active_names_what_is_still_queued(tmp_path, cluster):
    assert slurm.active(tmp_path) == set()
    (cluster / "keep").write_text("0 2")
    slurm.submit([python(name, "", tmp_path) for name in "abc"], tmp_path)
    (cluster / "keep").write_text("1")
    slurm.submit([python(name, "", tmp_path) for name in "bd"], tmp_path)
    assert slurm.active(tmp_path) == {"a", "c", "d"}
    (cluster / "queue-100").unlink()  # SLURM forgets
    assert slurm.active(tmp_path) == {"d"}
    (cluster / "queue-101").unlink()
    assert slurm.active(tmp_path) == set()


def test_slurm_dry_run_prints_what_would_be_submitted(tmp_path, cluster, capsys):
    folder = tmp_path / "sweep"
    jobs = [python("a", "print(1)", folder)]
    assert slurm.submit(jobs, folder, ("--time=1:00",), dry_run=True) == ""
    printed = capsys.readouterr().out
    assert not folder.exists()
    slurm.submit(jobs, folder, ("--time=1:00",))
    assert (folder / "slurm-1.sbatch").read_text() == printed
    assert subprocess.run(["bash", "-n"], input=printed, text=True).returncode == 0


def test_a_signal_to_a_slurm_task_reaches_its_command_once(tmp_path, capsys):
    slurm.submit([python("a", SAVES, tmp_path, tmp_path)], tmp_path, dry_run=True)
    (tmp_path / "logs").mkdir()
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": "0"}
    task = subprocess.Popen(["bash", "-c", capsys.readouterr().out], env=environment, start_new_session=True)
    wait_for((tmp_path / "started").exists)
    os.killpg(task.pid, signal.SIGTERM)  # the widest way SLURM has: every process of the task
    assert task.wait(timeout=20) == 0
    assert (tmp_path / "saved").read_text() == "1"


@pytest.mark.parametrize("name", ["a\nscancel --me\n#", "a\rb"])
def test_a_name_cannot_break_out_of_a_slurm_script(tmp_path, cluster, name):
    with pytest.raises(UserError, match=r"--workdir=.*control characters"):
        slurm.submit([python("a", "", tmp_path)], tmp_path / name)
    with pytest.raises(UserError, match="no option of sbatch"):
        slurm.submit([python("a", "", tmp_path)], tmp_path, [f"--time=1\n{name}"])


def test_slurm_errors(tmp_path, cluster, monkeypatch):
    job = python("a", "", tmp_path)
    with pytest.raises(UserError, match=r"sbatch failed on .*invalid partition specified: none"):
        slurm.submit([job], tmp_path, ("--partition=none",))
    with pytest.raises(UserError, match="'gpu' is no option of sbatch"):
        slurm.submit([job], tmp_path, ("gpu",))
    slurm.submit([job], tmp_path)
    (cluster / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UserError, match="Unable to contact"):
        slurm.active(tmp_path)
    monkeypatch.setenv("PATH", str(pathlib.Path("/nowhere")))
    with pytest.raises(UserError, match="no sbatch on PATH"):
        slurm.submit([job], tmp_path)
    with pytest.raises(UserError, match="no squeue on PATH"):
        slurm.active(tmp_path)
