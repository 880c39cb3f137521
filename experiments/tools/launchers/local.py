"""Runs jobs on this machine, some at a time."""

import collections
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from experiments.runs.files import ROOT
from experiments.runs.jobs import Job, Tick, check_names
from world_models.core.errors import UserError

POLL = 0.1  # seconds between looks at the jobs
TICK = 1.0
GRACE = 120.0  # seconds between SIGTERM and SIGKILL, in which a training saves

# A child runs this before its command. It asks Linux for a SIGTERM when its parent dies, so that jobs do not outlive a
# launcher that was killed, and leaves a process behind that kills it and its children where it has not ended some time
# after that. It also sets its cores, by which XLA sizes its thread pool. A preexec_fn would run between fork and exec,
# which is not safe in a process with threads, such as JAX's.
_PREPARE = """
import os, signal, sys, time
parent, grace, cores, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
    if os.getppid() != parent:
        sys.exit(1)
    if cores:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    child = os.getpid()
    if not os.fork():
        os.closerange(0, 3)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        died = 0.0
        while os.getppid() == child and (not died or time.monotonic() - died < grace):
            if not died and not os.path.exists(f"/proc/{parent}"):
                died = time.monotonic()
            time.sleep(min(0.5, grace))
        if os.getppid() == child:
            os.killpg(0, signal.SIGKILL)
        os._exit(0)
try:
    os.execvp(command[0], command)
except OSError as error:
    print(f"{command[0]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)
"""


def run(jobs: Sequence[Job], limit: int = 1, tick: Tick | None = None) -> dict[str, int]:
    """Runs jobs, `limit` at a time; one that fails does not stop the others.

    Jobs inherit the environment. Where several run at a time, each keeps to its share of the cores. Ctrl-C or SIGTERM
    asks the running jobs to end (SIGTERM) and waits for them, for `GRACE` seconds; a second one kills them.

    Args:
      jobs: what to run, in this order.
      limit: how many at a time.
      tick: called with the states of all jobs about once a second and on every change.

    Returns:
      Exit status by name, negative for a signal.

    Raises:
      UserError: if `limit` is no count or two jobs share a name.
      KeyboardInterrupt: with a sentence, after an interruption, when all jobs have ended.
    """
    if limit < 1:
        raise UserError(f"limit={limit} must be at least 1.")
    check_names(jobs)
    waiting = collections.deque(jobs)
    states = {job.name: "waiting" for job in jobs}
    statuses: dict[str, int] = {}
    running: dict[int, tuple[Job, subprocess.Popen]] = {}
    cores = shares(min(limit, len(jobs)))
    with Signals() as signals:
        try:
            ticked, shown = 0.0, None
            while (waiting and not signals.count) or running:
                for slot in range(len(cores)):
                    if waiting and slot not in running and not signals.count:
                        job = waiting.popleft()
                        running[slot] = (job, _start(job, cores[slot]))
                        states[job.name] = "running"
                pass_on(signals, [process for _, process in running.values()])
                for slot, (job, process) in list(running.items()):
                    if process.poll() is not None:
                        del running[slot]
                        statuses[job.name] = process.returncode
                        states[job.name] = "failed" if process.returncode else "done"
                if tick and (states != shown or time.monotonic() - ticked >= TICK):
                    ticked, shown = time.monotonic(), dict(states)
                    tick(dict(states))
                if running:
                    time.sleep(POLL)
        finally:
            end([process for _, process in running.values()])  # only if `tick` raised
    if signals.count:
        how = "killed" if signals.passed_on > 1 else "stopped"
        raise KeyboardInterrupt(
            f"{signals.stopped} of {len(jobs)} jobs were {how} and {len(waiting)} not started; "
            "the same command goes on from there."
        )
    return statuses


class Signals:
    """Counts SIGTERM and Ctrl-C instead of exiting on them; `GRACE` seconds after the first counts as a second."""

    def __init__(self):
        self.count = self.passed_on = self.stopped = 0
        self.deadline = math.inf  # for the jobs, after the first
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # others cannot set handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, *_: Any) -> None:
        self.count += 1
        self.deadline = min(self.deadline, time.monotonic() + GRACE)
        text = "waiting for the jobs to save; once more to kill them" if self.count == 1 else "killing the jobs"
        print(f"\nInterrupted: {text}.", file=sys.stderr, flush=True)


def pass_on(signals: Signals, processes: Sequence[subprocess.Popen]) -> None:
    """Sends the processes SIGTERM after the first signal, and kills them and their children after the second.

    Those that have not ended `GRACE` seconds after the first are killed without a second.
    """
    wanted = 2 if time.monotonic() > signals.deadline else min(signals.count, 2)
    if wanted == signals.passed_on:
        return
    if not signals.passed_on:
        signals.stopped = len(processes)
    signals.passed_on = wanted
    for process in processes:
        if wanted == 1:
            process.terminate()
        elif process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def end(processes: Sequence[subprocess.Popen]) -> None:
    """Ends processes that run: SIGTERM, and SIGKILL to them and theirs after `GRACE` seconds."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(job: Job, cores: Sequence[int]) -> subprocess.Popen:
    """Starts a job in its own session: a terminal's Ctrl-C reaches it only through `pass_on`."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    command = as_child(job.command, cores)
    with open(job.log, "ab") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def as_child(command: Sequence[str], cores: Sequence[int]) -> list[str]:
    """The command that runs `command` on some cores, all if empty.

    On Linux it gets SIGTERM when this process dies, and SIGKILL `GRACE` seconds later, with all of its session, which
    it must lead.
    """
    return [sys.executable, "-c", _PREPARE, str(os.getpid()), str(GRACE), ",".join(map(str, cores)), *command]


def shares(count: int) -> list[list[int]]:
    """The cores of each of `count` slots; empty lists for a single slot or where the system cannot set them."""
    if count < 2 or not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    if count > len(cores):
        return [[cores[slot % len(cores)]] for slot in range(count)]
    return [cores[len(cores) * slot // count : len(cores) * (slot + 1) // count] for slot in range(count)]
