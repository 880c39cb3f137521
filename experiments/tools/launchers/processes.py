"""Runs one command as several processes that compute together on this machine's CPU."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

from experiments.tools.launchers.local import POLL, Signals, as_child, pass_on, shares
from world_models.core.errors import UserError

GRACE = 15.0  # seconds for the others to end by themselves after a failure
INSIST = 5.0  # seconds from asking a process to end until it is killed


def run(command: Sequence[str], count: int) -> None:
    """Runs a command of launch.py in `count` processes and returns when all have ended well.

    Each has one CPU device (or JAX_NUM_CPU_DEVICES) and its share of the cores. Standard output and error of process 0
    are this process's own; output of the others goes to standard error, each line after "[1] ", "[2] ", … Ctrl-C or
    SIGTERM is passed on to all once; a second one kills them. When one fails, the others get some seconds to notice.

    Args:
      command: argv; `--coordinator`, `--num_processes` and `--process_id` are added.
      count: how many processes.

    Raises:
      UserError: if `count` is below 1, or a process failed: how every process ended, in that order.
      KeyboardInterrupt: with the same words, if they were interrupted and did not end well.
    """
    if count < 1:
        raise UserError(f"--local_processes={count} must be at least 1.")
    meet = (f"--coordinator=127.0.0.1:{_free_port()}", f"--num_processes={count}")
    cores = shares(count)
    with Signals() as signals:
        processes = [_start([*command, *meet, f"--process_id={i}"], i, cores[i]) for i in range(count)]
        readers = [threading.Thread(target=_relay, args=(i, processes[i].stdout)) for i in range(1, count)]
        for reader in readers:
            reader.start()
        try:
            ends = _wait(processes, signals)
        finally:
            for process in processes:  # only if the wait was interrupted
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            for reader in readers:
                reader.join()
    if any(process.returncode for process in processes):
        text = "; ".join(f"process {i} {_how(processes[i].returncode)}{why}" for i, why in ends.items())
        if signals.count:
            raise KeyboardInterrupt(f"{text}.")
        if any(process.returncode == 1 for process in processes):  # invalid input, as printed above
            raise UserError(f"{text}.")
        raise UserError(f"{text}; the same command goes on from the newest checkpoint.")


def _start(command: Sequence[str], index: int, cores: Sequence[int]) -> subprocess.Popen:
    """Starts a process in a session of its own, so that a terminal's Ctrl-C reaches it once."""
    environment = {"JAX_NUM_CPU_DEVICES": "1", **os.environ}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if index else {}
    return subprocess.Popen(
        as_child(command, cores), env=environment, stdin=subprocess.DEVNULL, start_new_session=True, **pipes
    )


def _wait(processes: Sequence[subprocess.Popen], signals: Signals) -> dict[int, str]:
    """Waits for all; returns those that have ended, in this order, with "" or why they were ended."""
    ends: dict[int, str] = {}
    failed: float | None = None
    asked: dict[int, float] = {}
    while len(ends) < len(processes):
        pass_on(signals, [process for process in processes if process.poll() is None])
        now = time.monotonic()
        for i, process in enumerate(processes):
            if i not in ends and process.poll() is not None:
                ends[i] = f", {GRACE:g} s after the first failure" if i in asked else ""
                if process.returncode and failed is None:
                    failed = now
            elif i not in ends and failed is not None and now - failed > GRACE:
                if i not in asked:
                    asked[i] = now
                    process.terminate()
                elif now - asked[i] > INSIST:
                    os.killpg(process.pid, signal.SIGKILL)
        time.sleep(POLL)
    return ends


def _relay(index: int, lines: IO[bytes]) -> None:
    """Prints the output of a process, each line after its number."""
    for line in lines:
        sys.stderr.write(f"[{index}] {line.decode(errors='replace').rstrip()}\n")
        sys.stderr.flush()


def _how(status: int) -> str:
    """How a process ended."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
