"""Several processes that find each other, by the environment or by flags; really started here, on the CPU."""

import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import launch
from experiments.commands import eval
from experiments.runs import multihost, runtime
from experiments.runs.files import ROOT
from experiments.tools.launchers import processes
from world_models.core.errors import UserError

SLURM = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "2"}
TPU = {"TPU_ML_PLATFORM": "JAX"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def start(code, *words, **environment):
    """Another process of Python code, on one CPU device."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "XLA_FLAGS"))}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, words)],
        cwd=ROOT,
        env=kept | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port(low=0, high=0):
    """A free port, among some if asked for."""
    for port in range(low, high + 1):
        try:
            with socket.create_server(("", port)) as server:
                return server.getsockname()[1]
        except OSError:
            continue
    raise AssertionError("no port is free")


@pytest.mark.parametrize(
    ("environment", "tpu_hosts", "cluster"),
    [
        ({}, 0, ""),
        (SLURM, 0, "SLURM"),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, 0, ""),  # a step of one task in a job of two
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, 0, ""),  # a batch script outside any step
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_NTASKS": "1"}, 0, ""),
        (TPU, 1, ""),
        (TPU, 4, "the TPU"),
        (TPU | {"TPU_SKIP_MDS_QUERY": "1"}, 4, ""),
        (TPU | POD | {"TPU_WORKER_HOSTNAMES": "a-0,a-1"}, 1, "GKE"),
        (TPU | POD | {"TPU_PROCESS_ADDRESSES": "a-0:8471,a-1:8471"}, 1, "GKE"),
        (TPU | POD | {"TPU_WORKER_HOSTNAMES": "localhost", "JOB_COMPLETION_INDEX": "0"}, 4, ""),
        (TPU | POD | {"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, 1, "GKE"),
        (POD, 0, ""),
        (POD | {"JOB_COMPLETION_INDEX": "0"}, 0, "Kubernetes"),
    ],
)
def test_the_environment_says_who_belongs_together(environment, tpu_hosts, cluster):
    assert multihost.find_cluster(environment, lambda: tpu_hosts) == cluster


def test_only_a_tpu_vm_asks_the_metadata_server():
    asked = []
    multihost.find_cluster(SLURM, lambda: asked.append(1) or 2)
    multihost.find_cluster({}, lambda: asked.append(1) or 2)
    assert not asked


def test_the_metadata_server_counts_the_hosts_of_a_tpu(monkeypatch):
    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.endswith("/attributes/worker-network-endpoints") and self.headers["Metadata-Flavor"]
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(b"a:0:10.0.0.1,b:1:10.0.0.2,c:2:10.0.0.3")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
        assert multihost._tpu_hosts() == 3
        server.shutdown()
    assert multihost._tpu_hosts() == 1  # nobody answers now


@pytest.mark.parametrize(
    ("tasks", "nodes", "visible", "expected"),
    [("2", "2", "0,1,2,3", True), ("8", "2", "0,1,2,3", False), ("8", "2", "3", True), ("8", "2", None, False)],
)
def test_a_slurm_task_takes_all_gpus_that_are_meant_for_it(tasks, nodes, visible, expected):
    environment = {"SLURM_STEP_NUM_TASKS": tasks, "SLURM_STEP_NUM_NODES": nodes}
    environment |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert multihost.has_all_devices(environment) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("10.0.0.1:8476", 2, None), "--process_id is missing: give --coordinator"),
        ((None, 2, 0), "--coordinator is missing"),
        (("10.0.0.1", 2, 0), "--coordinator=10.0.0.1 must be"),
        (("10.0.0.1:port", 2, 0), "--coordinator=10.0.0.1:port"),
        (("10.0.0.1:8476", 2, 2), "--process_id=2 must be from 0 to --num_processes=2 less one"),
        (("10.0.0.1:8476", 0, 0), "must be from 0 to --num_processes=0"),
        (("10.0.0.1:99999", 2, 0), "no port to listen on"),
    ],
)
def test_arguments_that_cannot_work_raise_an_error(words, message):
    with pytest.raises(UserError, match=message):
        multihost.start(*words)


def test_a_process_alone_stays_alone():
    multihost.start()
    assert not multihost.is_distributed()
    assert multihost.is_main()
    with pytest.raises(SystemExit) as error:
        multihost.leave(3)
    assert error.value.code == 3


# Adds up numbers over all processes; then process 1 fails while process 0 works on.
TOGETHER = """
import sys, time
from experiments.runs import multihost
port, status, index = sys.argv[1:]
multihost.LEAVE_SECONDS = 1
multihost.start(f"127.0.0.1:{port}", 2, int(index))
import jax
from jax.experimental import multihost_utils
total = multihost_utils.process_allgather(jax.numpy.array(1 + jax.process_index())).sum()
print(jax.device_count(), total, multihost.is_distributed(), multihost.is_main(), flush=True)
if index == "1":
    multihost.leave(int(status))
time.sleep(60)
"""


@pytest.mark.parametrize("status", [1, 3])
def test_two_processes_compute_together_and_end_apart(status):
    port = free_port()
    first, second = (start(TOGETHER, port, status, i) for i in range(2))
    out, err = second.communicate(timeout=60)
    assert second.returncode == status, err  # soon, though process 0 is still there
    assert out == ""
    assert "2 3 True False" in err.splitlines()
    assert first.poll() is None
    first.terminate()  # JAX's own handler would let it go on
    out, _ = first.communicate(timeout=20)
    assert first.returncode == -15
    assert out.splitlines()[-1] == "2 3 True True"


def test_two_tasks_of_a_slurm_step_find_each_other():
    code = """
    import sys
    from experiments.runs import multihost
    multihost.start()
    import jax
    print(jax.process_index(), jax.process_count(), jax.config.values["jax_cuda_visible_devices"])
    """
    low = 65535 - 4095
    port = free_port(low + 1000, 65535)  # JAX makes it from the number of the job
    common = SLURM | {"SLURM_JOB_ID": str(4096 * 5 + port - low), "SLURM_STEP_NODELIST": "localhost"}
    common |= {"SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    tasks = [start(code, **common, SLURM_PROCID=str(i)) for i in range(2)]
    for i, task in enumerate(tasks):
        out, err = task.communicate(timeout=60)
        assert task.returncode == 0, err
        assert out.splitlines()[-1] == f"{i} 2 all"


@pytest.mark.parametrize("index", [0, 1])
def test_others_that_do_not_come_end_with_one_sentence(index, square_data):
    code = """
    import sys
    import launch
    from experiments.runs import multihost
    multihost.JOIN_SECONDS = 2
    multihost.leave(launch.main(["launch.py", "train", *sys.argv[1:]]))
    """
    port = free_port()
    words = ["--config=configs/car_unet.py:debug", f"--config.data.dataset={square_data}", "--workdir=/tmp/none"]
    words += [f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={index}"]
    begin = time.monotonic()
    process = start(code, *words)
    out, err = process.communicate(timeout=60)
    assert process.returncode == multihost.TRY_AGAIN
    assert not out
    assert err.startswith(f"launch.py train: Process {index} of 2 waited 2 s at 127.0.0.1:{port}")
    assert len(err.strip().splitlines()) == 1
    assert time.monotonic() - begin < 30
    assert not os.path.exists("/tmp/none")


def test_a_port_that_is_taken_raises_an_error():
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(multihost.JoinError, match=r"no port to listen on .*Address already in use"):
            multihost.start(address, 2, 0)


def test_flags_of_xla_are_set_before_a_backend_starts():
    code = """
    import os
    from experiments.runs import runtime
    runtime.setup("--xla_force_host_platform_device_count=3 --xla_tpu_enable_megacore_fusion=true")
    runtime.setup("--xla_force_host_platform_device_count=3")
    import jax
    print(jax.device_count(), os.environ["XLA_FLAGS"], os.environ["LIBTPU_INIT_ARGS"])
    """
    process = start(code, XLA_FLAGS="--xla_cpu_enable_fast_math=false", JAX_NUM_CPU_DEVICES="-1", LIBTPU_INIT_ARGS="")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    flags = "--xla_cpu_enable_fast_math=false --xla_force_host_platform_device_count=3"
    assert out == f"3 {flags} --xla_tpu_enable_megacore_fusion=true\n"


def test_what_is_no_flag_of_xla_raises_an_error(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(UserError, match="'fast', which is no flag of XLA: each begins with --xla_"):
        runtime.setup("fast")
    assert os.environ["XLA_FLAGS"] == ""


def driver(folder, code, count, **constants):
    """Another process, which runs `code` in `count` processes; returns when all have made a file `started-<i>`."""
    script = """
        import json, sys
        from experiments.tools.launchers import processes
        folder, code, count, constants = sys.argv[1:]
        vars(processes).update(json.loads(constants))
        try:
            processes.run([sys.executable, "-c", code, folder], int(count))
        except (ValueError, KeyboardInterrupt) as error:
            print(type(error).__name__, error)
            sys.exit(1)
    """
    process = start(script, folder, textwrap.dedent(code), count, json.dumps(constants))
    end = time.monotonic() + 20
    while len(list(folder.glob("started-*"))) < count:
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


# Saves on SIGTERM and counts how often that comes, as training does.
SAVES = """
    import pathlib, signal, sys, time
    folder, index, seen = pathlib.Path(sys.argv[1]), sys.argv[-1][-1], []
    signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    (folder / f"started-{index}").touch()
    while not seen:
        time.sleep(0.02)
    time.sleep(0.5)
    (folder / f"saved-{index}").write_text(str(len(seen)))
"""


def test_only_process_0_speaks_on_standard_output(capfd, monkeypatch):
    code = """
    import os, sys
    names = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_CPU_COLLECTIVES_IMPLEMENTATION")
    print(*sys.argv[1:], *(os.environ[name] for name in names), *sorted(os.sched_getaffinity(0)))
    print("oops", file=sys.stderr)
    """
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    processes.run([sys.executable, "-c", textwrap.dedent(code), "train"], 2)
    out, err = capfd.readouterr()
    [first] = out.splitlines()
    ours, theirs, second = sorted(err.splitlines(), key=len)
    assert (ours, theirs) == ("oops", "[1] oops")
    assert second.startswith("[1] train ")
    first, second = first.split(), second.split()[1:]
    assert first[:4] == ["train", first[1], "--num_processes=2", "--process_id=0"]
    assert first[1].startswith("--coordinator=127.0.0.1:")
    assert second[:4] == [*first[:3], "--process_id=1"]
    assert first[4:7] == ["cpu", "1", "gloo"]
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        assert sorted(map(int, first[7:] + second[7:])) == sorted(cores)


def test_when_one_process_fails_the_others_are_ended(monkeypatch):
    code = """
    import signal, sys, time
    index = int(sys.argv[-1][-1])
    if index == 2:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if index == 1:
        sys.exit(3)
    if index == 3:
        time.sleep(0.3)
        sys.exit(75)
    time.sleep(60)
    """
    monkeypatch.setattr(processes, "GRACE", 4.0)
    monkeypatch.setattr(processes, "INSIST", 0.5)
    with pytest.raises(UserError) as error:
        processes.run([sys.executable, "-c", textwrap.dedent(code)], 4)
    assert str(error.value) == (
        "process 1 ended with exit status 3; process 3 ended with exit status 75; process 0 was ended by SIGTERM, "
        "4 s after the first failure; process 2 was ended by SIGKILL, 4 s after the first failure; the same command "
        "goes on from the newest checkpoint."
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_process_once(tmp_path, number):
    process = driver(tmp_path, SAVES, 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, ""), err
    assert [(tmp_path / f"saved-{i}").read_text() for i in range(2)] == ["1", "1"]


def test_a_second_signal_kills(tmp_path):
    process = driver(tmp_path, SAVES.replace("0.5", "60"), 2)
    process.send_signal(signal.SIGTERM)
    assert "waiting" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out.startswith("KeyboardInterrupt process ")
    assert all(f"process {i} was ended by SIGKILL" in out for i in range(2))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_processes_save_when_their_launcher_is_killed(tmp_path):
    process = driver(tmp_path, SAVES, 2)
    process.kill()
    process.communicate()
    end = time.monotonic() + 10
    while len(list(tmp_path.glob("saved-*"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_processes_of_a_training_that_cannot_work_end_at_once(tmp_path, capfd):
    begin = time.monotonic()
    words = ["train", "--config=configs/car_unet.py:debug", f"--workdir={tmp_path}/none", "--local_processes=2"]
    assert launch.main(["launch.py", *words]) == 1
    out, err = capfd.readouterr()
    assert str(tmp_path) not in out
    why = f"launch.py train: config.data.dataset='{tmp_path}/none/data' must"
    lines = err.splitlines()
    assert [line.startswith(why) for line in lines].count(True) == 1, err
    assert [line.startswith(f"[1] {why}") for line in lines].count(True) == 1, err
    assert "process 0 ended with exit status 1" in lines[-1]
    assert "goes on" not in lines[-1]
    assert "Traceback" not in err
    assert time.monotonic() - begin < 100  # JAX would let one wait an hour for the other


def test_only_the_first_process_prints_the_path(capsys, monkeypatch):
    monkeypatch.setattr(eval, "run", lambda *_: pathlib.Path("made"))
    for is_main, text in ((True, "made\n"), (False, "")):
        monkeypatch.setattr(multihost, "is_main", lambda is_main=is_main: is_main)
        assert launch.main(["launch.py", "eval", "--workdir=here"]) == 0
        assert capsys.readouterr().out == text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_training_in_two_processes_prints_its_path_once(tmp_path, square_data, capfd):
    words = [
        "train",
        "--config=configs/car_unet.py:debug",
        f"--config.data.dataset={square_data}",
        f"--workdir={tmp_path}",
    ]
    assert launch.main(["launch.py", *words, "--local_processes", "2", "--config.eval.open_loop.horizon", "3"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "checkpoints")
    assert out.count(str(tmp_path)) == 1
    assert "[1] " not in err or str(tmp_path / "checkpoints") not in err
    assert (tmp_path / "checkpoints" / "2").is_dir()
    assert json.loads((tmp_path / "config.json").read_text())["eval"]["open_loop"]["horizon"] == 3
    assert "2 x cpu" in (tmp_path / "provenance.json").read_text()
