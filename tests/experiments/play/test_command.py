"""The command `play`: what it says of bad input, before anything is loaded, and that it serves."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import set_fields
from toy_scene import ToySimulator, serving, toy_scene

import launch
from experiments.play import address, server
from experiments.tools.benchmarks import play as benchmark
from world_models.core.errors import UserError


def said(capsys, *words):
    """(status, what is written to standard error) of `launch.py play`."""
    status = launch.main(["launch.py", "play", *words])
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--workdir"),
        (["--workdir=runs/a", "--config=configs/demo.py"], "--config"),
        (["--workdir=runs/a", "--port=70000"], "--port=70000"),
        (["--workdir=runs/a", "--fps=0"], "--fps=0"),
        (["--workdir=runs/a", "--max_players=0"], "--max_players=0"),
        (["--workdir=runs/a", "--host=no.such.host.invalid"], "--host='no.such.host.invalid'"),
        (["--workdir=runs/nowhere", "--port=0"], "--workdir=runs/nowhere"),
        (["--config=configs/demo.py", "--port=0"], "config.record.source"),
    ],
)
def test_bad_flags_are_named_in_a_sentence(capsys, words, named):
    status, err = said(capsys, *words)
    assert status == 1
    assert named in err
    assert "Traceback" not in err


def test_a_port_in_use_and_a_run_without_a_checkpoint(capsys, tmp_path, tiny_config):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert said(capsys, f"--workdir={tmp_path}", f"--port={port}")[0] == 1
        with pytest.raises(UserError, match=f"--port={port}"):
            address.check("127.0.0.1", port, 15, 1)
    (tmp_path / "config.json").write_text(tiny_config.to_json_best_effort())
    (tmp_path / "provenance.json").write_text('{"revision": "none"}')
    status, err = said(capsys, f"--workdir={tmp_path}", "--port=0")
    assert (status, "no checkpoints" in err) == (1, True)


def test_other_hosts_need_the_token_that_is_printed(capsys, monkeypatch):
    made = []

    class Server:
        def __init__(self, players):
            made.append(players)

        def run(self, sockets):
            assert sockets

    monkeypatch.setattr(server, "make_server", Server)
    for host in ("0.0.0.0", "127.0.0.1"):
        options = address.check(host, 0, 15, 2)
        server.serve(toy_scene(), options)
        options.listener.close()
        made[-1].engine.stop()
    token = re.search(r"token=(\S+)", capsys.readouterr().out)[1]
    assert made[0].token == token
    assert len(token) >= 24
    assert (made[1].token, made[1].hosts) == ("", address.LOCAL)


def test_it_serves_a_run_until_it_is_interrupted(tmp_path, tiny_config):
    from experiments.training.loop import train

    train(set_fields(tiny_config, every=0), tmp_path)
    words = [sys.executable, "launch.py", "play", f"--workdir={tmp_path}", "--port=0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        lines = [process.stdout.readline(), process.stdout.readline()]
        address = re.search(r"http://(127\.0\.0\.1:\d+)/", lines[1])[1]
        from toy_scene import connect

        with connect(f"ws://{address}/ws", origin=f"http://{address}") as client:
            assert '"hello"' in client.recv(60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in err) == (0, False), err
    finally:
        process.kill()


def test_the_benchmark_counts_players_and_latencies():
    with serving(toy_scene(ToySimulator), max_players=2) as (address, players):
        players.warm(batches=True)
        row = benchmark.measure(address, 2, 1.0, 30.0)
        assert row["players"] == 2
        assert 1 < row["slowest_player"] <= row["frames_per_second"] < 40
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        end = time.monotonic() + 10
        while players.sessions and time.monotonic() < end:
            time.sleep(0.02)
        assert not players.sessions
