"""Joins this process to others that compute together, on one machine or on many, and ends it without blocking them."""

import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping
from typing import NoReturn

from world_models.core.errors import UserError

JOIN_SECONDS = 300  # until all processes must have joined
HEARTBEAT_SECONDS = 60  # without a heartbeat until a process counts as dead
FINISH_SECONDS = 3600  # that finished processes wait for the last, which may still write videos
LEAVE_SECONDS = 30  # that a process with an input error waits for others to find the same error
TRY_AGAIN = 75  # exit status "temporary failure", on which a scheduler can restart


class JoinError(UserError):
    """Not all processes joined; a restart may succeed."""


def start(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins the other processes of this run, if there are any; call it before anything touches a JAX backend.

    Give all three arguments or none. Without them the environment of SLURM, GKE, Kubernetes or a TPU names the
    processes; without any of these nothing happens. Explicit processes but the first write to standard error what they
    would write to standard output, libraries included.

    Args:
      coordinator: "HOST:PORT" of process 0, where the processes meet.
      num_processes: how many there are.
      process_id: which one this is, from 0.

    Raises:
      UserError: if the arguments cannot work.
      JoinError: if the others do not come, or the coordinator cannot be reached.
    """
    given = _check(coordinator, num_processes, process_id)
    if process_id == 0:
        _check_port(coordinator)
    elif process_id:
        sys.stdout.flush()
        os.dup2(2, 1)
    import jax  # notes in the environment whether this is a TPU VM

    cluster = "" if given else find_cluster(os.environ, _tpu_hosts)
    if not given and not cluster:
        return
    _join(given, coordinator or f"the address that {cluster} gives")
    # JAX has set a handler under which SIGTERM does nothing until training sets its own.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
    if cluster == "SLURM" and has_all_devices(os.environ):
        for name in ("jax_cuda_visible_devices", "jax_rocm_visible_devices"):
            jax.config.update(name, "all")


def find_cluster(environment: Mapping[str, str], tpu_hosts: Callable[[], int]) -> str:
    """The name of what started several processes together; "" for a single process.

    Args:
      environment: of this process, after `import jax`.
      tpu_hosts: returns the number of hosts of the TPU; called on TPU VMs only.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) > 1:  # of the step: SLURM_NTASKS counts those of the whole job
        return "SLURM"
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if hosts:
        slices = int(environment.get("MEGASCALE_NUM_SLICES") or 1)
        return "GKE" if "," in hosts or slices > 1 else ""
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    on_tpu_vm = "TPU_ML_PLATFORM" in environment and "TPU_SKIP_MDS_QUERY" not in environment
    return "the TPU" if on_tpu_vm and tpu_hosts() > 1 else ""


def has_all_devices(environment: Mapping[str, str]) -> bool:
    """Whether a SLURM task may use all GPUs that it sees.

    By default JAX gives every task one GPU, by the task's number on its node. That is wrong for a task that has its
    node to itself, and where SLURM shows every task its own GPU only.
    """
    one_a_node = environment.get("SLURM_STEP_NUM_TASKS") == environment.get("SLURM_STEP_NUM_NODES")
    return one_a_node or "," not in environment.get("CUDA_VISIBLE_DEVICES", ",")


def is_distributed() -> bool:
    """Whether this process is one of several."""
    jax = sys.modules.get("jax")  # a process that has not imported JAX has not joined
    return jax is not None and jax.distributed.is_initialized()


def is_main() -> bool:
    """Whether this process is the only or the first one, which prints and writes."""
    return not is_distributed() or sys.modules["jax"].process_index() == 0


def leave(status: int) -> NoReturn:
    """Ends this process.

    A failed one of several does not wait for the others, as JAX would: they may be waiting for this one. With exit
    status 1, an input error, the others most likely fail too and get some seconds to do so.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if status and is_distributed():
        if status == 1:
            together = threading.Thread(target=sys.modules["jax"].distributed.shutdown, daemon=True)
            together.start()
            together.join(LEAVE_SECONDS)
        os._exit(status)
    sys.exit(status)


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> dict[str, str | int]:
    """The arguments for JAX; empty where none is given."""
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return {}
    if missing:
        raise UserError(f"--{missing[0]} is missing: give --coordinator=HOST:PORT, --num_processes and --process_id.")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={coordinator} must be HOST:PORT, such as 10.0.0.1:8476.")
    if not 0 <= process_id < num_processes:
        raise UserError(f"--process_id={process_id} must be from 0 to --num_processes={num_processes} less one.")
    return {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}


def _check_port(coordinator: str) -> None:
    """Raises JoinError if the port is taken, on which JAX would crash."""
    try:
        socket.create_server(("", int(coordinator.rpartition(":")[2]))).close()
    except (OSError, OverflowError) as error:
        raise JoinError(f"--coordinator={coordinator} has no port to listen on ({error}): choose another.") from error


def _join(given: dict[str, str | int], address: str) -> None:
    """Returns when all processes have joined. JAX ends a process that waits too long, so this gives up before."""
    import jax

    errors: list[Exception] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(
                **given,
                cluster_detection_method="deactivate" if given else None,
                initialization_timeout=JOIN_SECONDS + 60,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=FINISH_SECONDS,
            )
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=initialize, daemon=True)
    thread.start()
    thread.join(JOIN_SECONDS)
    who = f"process {given['process_id']} of {given['num_processes']}" if given else "this process"
    if thread.is_alive():
        raise JoinError(
            f"{who[0].upper()}{who[1:]} waited {JOIN_SECONDS:g} s at {address} for the others: start all with the same "
            "coordinator and number of processes, where they can reach it."
        )
    if errors:
        why = str(errors[0]).strip().splitlines()[0]
        raise JoinError(
            f"{who[0].upper()}{who[1:]} cannot join the others at {address} ({why}): give "
            "--coordinator=HOST:PORT, --num_processes and --process_id."
        ) from errors[0]


def _tpu_hosts() -> int:
    """Number of hosts of this machine's TPU, from Google's metadata server; 1 if that does not answer."""
    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{server}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers={"Metadata-Flavor": "Google"}), timeout=5) as answer:
            return len(answer.read().decode().split(","))
    except OSError:
        return 1
