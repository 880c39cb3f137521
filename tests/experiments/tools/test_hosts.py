"""Training on many hosts, SLURM's, TPUs and GKE, for whose tools small scripts stand."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import yaml

import launch
from experiments.runs.files import ROOT
from experiments.tools.launchers import Training, gke, read_options
from tests.experiments.tools.test_launchers import SAVES, tools, wait_for

# As SLURM would: runs the script, and again as long as it puts itself back into the queue.
SBATCH_NODES = """
import os, pathlib, re, shlex, subprocess, sys
here, script = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[2])
text = script.read_text()
nodes = re.search(r"--nodes=(\\d+)", text)[1]
[output] = shlex.split(re.search(r"--output=(.*)", text)[1])
again = True
while again:
    with open(output, "a") as log:
        environment = os.environ | {"SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "6", "NODES": nodes}
        status = subprocess.run(["bash", script], env=environment, stdout=log, stderr=log).returncode
    again = (here / "again").exists()
    (here / "again").unlink(missing_ok=True)
(here / "status").write_text(str(status))
print("77")
"""
SCONTROL = """
import pathlib, sys
assert sys.argv[1:] == ["requeue", "77"]
(pathlib.Path(__file__).parent / "again").touch()
"""
# A step: a task on each node, which notes what it is given, and ends as the next line of `plan` says: with an exit
# status and a newest checkpoint.
SRUN = """
import json, os, pathlib, sys
here, count = pathlib.Path(__file__).parent, int(os.environ["NODES"])
assert sys.argv[1:3] == ["--kill-on-bad-exit=1", "--label"]
(line, *rest) = (here / "plan").read_text().splitlines()
(here / "plan").write_text("\\n".join(rest))
status, checkpoint = line.split()
workdir = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
if checkpoint != "none":
    (workdir / "checkpoints" / checkpoint).mkdir(parents=True)
with open(here / "steps", "a") as file:
    file.write(json.dumps([count, os.getcwd(), os.environ["SRUN_CPUS_PER_TASK"], sys.argv[3:]]) + "\\n")
sys.exit(int(status))
"""
AWKWARD = '--config.record.policy=it\'s $HOME "so"'
TRAIN = ["launch.py", "train", "--config=configs/car_unet.py", AWKWARD, "--config.train.num_steps", "400"]
PASSED = [*TRAIN[1:-2], "--config.train.num_steps=400"]


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    """The folder of a stand-in for SLURM with many nodes."""
    codes = {"sbatch": SBATCH_NODES, "squeue": "", "srun": SRUN, "scontrol": SCONTROL}
    return tools(tmp_path / "bin", monkeypatch, **codes)


def submit(tmp_path, nodes, *plan):
    """Trains on three nodes by SLURM; returns (exit status, where, steps that were run)."""
    (nodes / "plan").write_text("\n".join(plan))
    workdir = tmp_path / "a run"
    words = ["--launch=slurm", "--nodes", "3", "--launch_options=--partition=gpu --gpus-per-node=8"]
    assert launch.main([*TRAIN, *words, f"--workdir={workdir}"]) == 0
    steps = [json.loads(line) for line in (nodes / "steps").read_text().splitlines()]
    return int((nodes / "status").read_text()), workdir, steps


def test_slurm_nodes_train_until_the_last_checkpoint_is_there(tmp_path, nodes, capsys):
    # Preempted after a save, preempted in the start, a peer died after a save, finished.
    status, workdir, steps = submit(tmp_path, nodes, "0 100", "143 none", "134 200", "0 400")
    out, err = capsys.readouterr()
    assert (status, out, len(steps)) == (0, f"{workdir}\n", 4)
    assert "Submitted: SLURM job 77, " in err
    command = [sys.executable, str(ROOT / "launch.py"), *PASSED, f"--workdir={workdir}"]
    assert steps == [[3, os.getcwd(), "6", command]] * 4
    log = (workdir / "slurm.out").read_text().splitlines()
    assert [line.split(": ")[-1] for line in log] == ["back into the queue."] * 3
    assert "exit status 134, newest checkpoint: 200" in log[-1]
    script = (workdir / "slurm-1.sbatch").read_text()
    for directive in ("--nodes=3", "--ntasks-per-node=1", "--requeue", "--signal=TERM@120", "--open-mode=append"):
        assert f"#SBATCH {directive}\n" in script
    assert script.index("--gpus-per-node=8") > script.index("--ntasks-per-node")  # the user's win
    assert json.loads((workdir / "slurm.json").read_text())[0]["id"] == "77"


# A step that runs its command in a task on each node, and nears its time limit when the first checkpoint is there.
SRUN_TASKS = """
import os, pathlib, signal, subprocess, sys, time
here, count = pathlib.Path(__file__).parent, int(os.environ["NODES"])
step = {"SLURM_STEP_NUM_TASKS": count, "SLURM_STEP_NUM_NODES": count, "SLURM_NTASKS": count, "SLURM_LOCALID": 0}
step |= {"SLURM_STEP_NODELIST": "localhost", "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": 1}
environment = os.environ | {name: str(value) for name, value in step.items()}
tasks = [subprocess.Popen(sys.argv[3:], env=environment | {"SLURM_PROCID": str(i)}) for i in range(count)]
checkpoints = pathlib.Path(sys.argv[-1].removeprefix("--workdir=")) / "checkpoints"
while any(task.poll() is None for task in tasks):
    time.sleep(0.05)
    if not (here / "limit").exists() and (checkpoints / "5").exists():
        (here / "limit").touch()
        for task in tasks:
            task.send_signal(signal.SIGTERM)
sys.exit(max(task.returncode % 256 for task in tasks))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_on_two_slurm_nodes_goes_on_after_its_time_limit(tmp_path, monkeypatch, square_data):
    codes = {"sbatch": SBATCH_NODES, "squeue": "", "srun": SRUN_TASKS, "scontrol": SCONTROL}
    folder = tools(tmp_path / "bin", monkeypatch, **codes)
    workdir = tmp_path / "run"
    fields = ("train.num_steps=200", "runtime.checkpoint_every=5", "eval.every=1000")
    words = ["--config=configs/car_unet.py:debug", f"--config.data.dataset={square_data}", f"--workdir={workdir}"]
    words += [f"--config.{field}" for field in fields]
    assert launch.main(["launch.py", "train", *words, "--launch=slurm", "--nodes=2"]) == 0
    log = (workdir / "slurm.out").read_text()
    assert (folder / "status").read_text() == "0", log
    assert "of 200; the same command goes on from there" in log
    assert log.count("back into the queue") == 1
    assert (workdir / "checkpoints" / "200").is_dir()
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 201))
    launches = json.loads((workdir / "provenance.json").read_text())["launches"]
    assert [entry["device"] for entry in launches] == ["2 x cpu"] * 2


@pytest.mark.parametrize(
    ("plan", "status"),
    [("1 100", 1), ("2 none", 2), ("134 none", 134), ("75 none", 75), ("134 400", 134), ("0 400", 0)],
)
def test_slurm_nodes_do_not_start_again_what_would_end_the_same_way(tmp_path, nodes, plan, status):
    ended, _, steps = submit(tmp_path, nodes, plan)
    assert (ended, len(steps)) == (status, 1)


def test_a_workdir_is_trained_by_one_slurm_job_at_a_time(tmp_path, nodes, capsys):
    submit(tmp_path, nodes, "0 400")
    (nodes / "squeue").write_text("#!/bin/sh\necho 77")
    assert launch.main([*TRAIN, "--launch=slurm", f"--workdir={tmp_path / 'a run'}"]) == 1
    assert "is queued or running" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("slurm", "--time=1:00:00"),
        ("tpu_vm", "name=pod zone=us-east5-a --tunnel-through-iap"),
        ("gke", "image=an/image volume=claim"),
    ],
)
def test_dry_runs_print_what_would_be_submitted_and_touch_nothing(tmp_path, monkeypatch, capsys, name, options):
    code = "import pathlib; (pathlib.Path(__file__).parent / 'touched').touch()"
    names = ("sbatch", "squeue", "srun", "gcloud", "kubectl")
    folder = tools(tmp_path / "bin", monkeypatch, **dict.fromkeys(names, code))
    words = [f"--launch={name}", f"--launch_options={options}", f"--workdir={tmp_path}/run", "--dry_run"]
    assert launch.main([*TRAIN, *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]
    assert not (folder / "touched").exists()
    assert "--launch" not in out
    assert "--dry_run" not in out
    if name == "gke":
        assert yaml.safe_load(out)["kind"] == "JobSet"
        assert "\n                trap 'kill -TERM $child' TERM\n" in out  # as people would write it
    else:
        assert out.startswith({"slurm": "#!/bin/bash\n", "tpu_vm": "gcloud compute tpus tpu-vm ssh pod "}[name])
        assert subprocess.run(["bash", "-n"], input=out, text=True).returncode == 0


# As gcloud would: runs the command in the home folder of each of two hosts.
GCLOUD = """
import json, os, pathlib, subprocess, sys
here = pathlib.Path(__file__).parent
(here / "argv").write_text(json.dumps(sys.argv[1:]))
command = sys.argv[-1].removeprefix("--command=")
for host in ("host-0", "host-1"):
    subprocess.run(["bash", "-c", command], cwd=here, env=os.environ | {"HOST": host}, check=True)
"""


def test_a_tpu_runs_the_command_on_every_host(tmp_path, monkeypatch, capsys):
    folder = tools(tmp_path / "bin", monkeypatch, gcloud=GCLOUD, hostname="import os; print(os.environ['HOST'])")
    (folder / "repo").mkdir()
    code = "import json, os, sys; print(json.dumps([os.getpid(), sys.argv]), flush=True); os._exit(0)"
    (folder / "repo" / "launch.py").write_text(code)
    options = f"name=pod zone=us-east5-a project=mine repository=repo python={sys.executable} --internal-ip"
    words = ["--launch=tpu_vm", f"--launch_options={options}", f"--workdir={tmp_path}/a run"]
    assert launch.main([*TRAIN, *words]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/a run\n"
    for host in ("host-0", "host-1"):
        log, pid = (tmp_path / "a run" / "logs" / f"{host}.{kind}" for kind in ("log", "pid"))
        wait_for(lambda log=log: log.exists() and log.read_text())
        assert json.loads(log.read_text()) == [int(pid.read_text()), [TRAIN[0], *PASSED, f"--workdir={tmp_path}/a run"]]
    argv = json.loads((folder / "argv").read_text())
    assert argv[:-1] == [
        *("compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=us-east5-a", "--project=mine", "--internal-ip"),
        "--worker=all",
    ]


KUBECTL = """
import pathlib, sys
assert sys.argv[1:] == ["apply", "-f", "-"]
text = sys.stdin.read()
if "bad" in text:
    sys.exit("error: no JobSet here")
(pathlib.Path(__file__).parent / "manifest").write_text(text)
print("jobset.jobset.x-k8s.io/run created")
"""


def test_gke_applies_a_jobset(tmp_path, monkeypatch, capsys):
    folder = tools(tmp_path / "bin", monkeypatch, kubectl=KUBECTL)
    options = "image=an/image volume=claim tpu=4 tpu_accelerator=tpu-v5p-slice tpu_topology=2x2x4 spot=true"
    words = ["--launch=gke", "--nodes=4", "--workdir=/shared/Run_1"]
    assert launch.main([*TRAIN, *words, f"--launch_options={options} memory=100Gi"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("/shared/Run_1\n", "Submitted: jobset.jobset.x-k8s.io/run created.\n")
    manifest = yaml.safe_load((folder / "manifest").read_text())
    assert manifest["metadata"]["name"] == "run-1"
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 100
    [group] = manifest["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (4, 4, 0)
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "2x2x4",
        "cloud.google.com/gke-spot": "true",
    }
    [container] = pod["containers"]
    assert container["resources"] == {"limits": {"google.com/tpu": 4, "memory": "100Gi"}}
    assert container["volumeMounts"][0] == {"name": "shared", "mountPath": "/shared"}
    assert "--coordinator" not in container["command"][-1]  # GKE says who the pods of a TPU are
    assert launch.main([*TRAIN, *words, f"--launch_options={options} name=bad"]) == 1
    assert "kubectl failed on the JobSet: error: no JobSet here" in capsys.readouterr().err


def pod_shell(tmp_path, code, last="400"):
    """What the container of a pod runs, with `code` for launch.py."""
    (tmp_path / "launch.py").write_text(textwrap.dedent(code))
    words = ("train", AWKWARD)
    options = (f"python={sys.executable}", "image=i", "volume=v", "gpu=8", "name=n")
    training = Training(words, tmp_path / "run", int(last), 2, options)
    manifest = gke._manifest(training, read_options(options, gke.OPTIONS, (), "gke"))
    [container] = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    environment = os.environ | {"JOB_COMPLETION_INDEX": "1"}
    return subprocess.Popen(container["command"], cwd=tmp_path, env=environment, start_new_session=True)


@pytest.mark.parametrize(("status", "made", "expected"), [(0, "400", 0), (0, "200", 75), (1, "200", 1), (134, "", 134)])
def test_a_pod_ends_well_only_when_training_is_finished(tmp_path, status, made, expected):
    code = f"""
    import json, pathlib, sys
    pathlib.Path("run/checkpoints/{made}").mkdir(parents=True)
    pathlib.Path("argv").write_text(json.dumps(sys.argv[1:]))
    sys.exit({status})
    """
    assert pod_shell(tmp_path, code).wait(timeout=20) == expected
    meet = ["--coordinator=n-hosts-0-0.n:8476", "--num_processes=2", "--process_id=1"]
    assert json.loads((tmp_path / "argv").read_text()) == ["train", AWKWARD, f"--workdir={tmp_path}/run", *meet]


def test_a_pod_that_is_moved_saves_once_and_asks_for_another_start(tmp_path):
    shell = pod_shell(tmp_path, "import sys; sys.argv[1:] = ['.']\n" + SAVES)
    wait_for((tmp_path / "started").exists)
    shell.send_signal(signal.SIGTERM)
    assert shell.wait(timeout=20) == 75
    assert (tmp_path / "saved").read_text() == "1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--launch=aws"], "--launch=aws must be one of slurm, tpu_vm, gke"),
        (["--launch=slurm", "--nodes=0"], "--nodes=0 must be at least 1"),
        (["--launch=slurm", "--launch_options=gpu"], "'gpu' is no option of sbatch"),
        (["--launch=slurm"], "There is no sbatch on PATH"),
        (["--launch=slurm", "--local_processes=2"], "argument --local_processes: not allowed with argument --launch"),
        (["--launch=slurm", "--sweep"], "argument --sweep: not allowed with argument --launch"),
        (["--nodes=2"], "--nodes goes with --launch"),
        (["--dry_run"], "--dry_run goes with --launch"),
        (["--local_processes=0"], "--local_processes=0 must be"),
        (["--launch=tpu_vm", "--launch_options=name=a"], "lacks zone=…, which tpu_vm needs"),
        (["--launch=tpu_vm", "--launch_options=name=a zoen=b"], "has 'zoen=b'; tpu_vm takes name=value of: name, zone"),
        (["--launch=tpu_vm", "--launch_options=name=a zone=b", "--nodes=2"], "--nodes=2 is not for --launch=tpu_vm"),
        (["--launch=tpu_vm", "--launch_options=name=a zone=b"], "There is no gcloud on PATH"),
        (["--launch=gke", "--launch_options=image=a"], "lacks volume=…"),
        (["--launch=gke", "--launch_options=image=a volume=b"], "There is no kubectl on PATH"),
        (["--launch=gke", "--launch_options=image=a volume=b name=A"], "'A' is no name for a JobSet"),
        (["--launch=gke", "--launch_options=image=a volume=b gpu=x"], "gpu=x in --launch_options must be a whole"),
        (["--launch=gke", "--launch_options=image=a volume=b gpu=1 tpu=1"], "a node has one of them"),
        (["--launch=gke", "--launch_options=image=a volume=b tpu=4"], "tpu=… needs tpu_accelerator"),
        (
            ["--launch=gke", "--launch_options=image=a volume=b tpu=4 tpu_accelerator=c tpu_topology=4x4", "--nodes=3"],
            "tpu_topology=4x4 has 16 chips; --nodes=3 with tpu=4 have 12",
        ),
    ],
)
def test_launches_that_cannot_work_raise_one_sentence(capsys, monkeypatch, words, message):
    monkeypatch.setenv("PATH", "/nowhere")
    assert launch.main(["launch.py", "train", "--config=configs/car_unet.py", "--workdir=/tmp/none", *words]) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert (out, len(err.splitlines())) == ("", 1)
    assert not os.path.exists("/tmp/none")


def test_many_hosts_need_an_absolute_workdir(capsys):
    assert launch.main([*TRAIN, "--workdir=run", "--launch=gke"]) == 1
    assert "--workdir=run must be an absolute path" in capsys.readouterr().err
