"""A server that is played on for minutes keeps its memory and its open files."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from toy_scene import RIGHT, Client, gone


def memory_and_files():
    """(resident MiB, open file descriptors) of this process, in which the server runs."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd"))


def play(address, seconds):
    """One player's session at 60 frames a second: so many seconds of frames, then eight futures."""
    with Client(address) as client:
        client.begun()
        client.send("set", name="fps", value=60)
        client.send("input", seq=1, action=RIGHT)
        client.send("play", on=True)
        client.until("frame", lambda h: h["depth"] >= 60 * seconds, timeout=120)
        client.send("futures")
        client.until("futures")


@pytest.mark.parametrize("seconds", [20, pytest.param(1_800, marks=[pytest.mark.slow, pytest.mark.timeout(2_400)])])
def test_memory_and_file_descriptors_are_flat(server, seconds):
    """Three players at once: in twenty seconds as many frames as one is shown in a minute."""
    address, players = server
    assert gone(players)
    points, end = [], time.monotonic() + seconds
    while time.monotonic() < end or len(points) < 4:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(play, [address] * 3, [min(20, seconds // 4)] * 3))
        assert gone(players)
        points.append(memory_and_files())
    memory, files = np.array(points)[len(points) // 3 :].T
    assert np.ptp(files) <= 2
    assert memory[-1] - memory[0] < 20
