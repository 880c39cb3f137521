"""The server of `play`: frames/s and milliseconds from an input to the frame that it led to, by number of players.

    python -m experiments.tools.benchmarks play --workdir=RUN [--players=1,4,16] [--seconds=15] [--fps=60]

Players are sockets in a process of their own on the same machine; they change their action every 0.15 to 0.35 s and
answer each frame at once. So the latency holds the wait for the next tick, the model, packing and the loopback network,
but no drawing in a browser, which the page measures itself. `--fps` is the most a player asks for: latencies of a
server that keeps up hold half a tick of waiting. The simulator beside the model is off.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.play.address import LOCAL, check
from experiments.play.run_scene import of_run
from experiments.play.server import PlayServer, make_server
from experiments.runs import loading, runtime
from experiments.tools.benchmarks import common


def measure(address: str, players: int, seconds: float, fps: float) -> dict[str, Any]:
    """Numbers of so many players."""
    words = [sys.executable, "-m", "experiments.tools.benchmarks.play_clients", address]
    words += [str(x) for x in (players, seconds, fps)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    latencies = np.array([x for player in found for x in player["latencies"]])
    rates = [(len(p["frames"]) - 1) / (p["frames"][-1] - p["frames"][0]) for p in found if len(p["frames"]) > 1]
    return {
        "players": players,
        "frames_per_second": float(np.mean(rates)) if rates else 0.0,
        "slowest_player": float(np.min(rates)) if rates else 0.0,
        "p50_ms": float(np.percentile(latencies, 50)) if len(latencies) else None,
        "p95_ms": float(np.percentile(latencies, 95)) if len(latencies) else None,
        "inputs": len(latencies),
    }


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--workdir", required=True, help="folder of a trained run")
    parser.add_argument("--players", type=common.integers, default=[1, 4, 16], help="numbers of players")
    parser.add_argument("--seconds", type=float, default=15.0, help="measured for each number of players")
    parser.add_argument("--fps", type=float, default=60.0, help="frames a second that players ask for")
    args = parser.parse_args(argv)
    options = check("127.0.0.1", 0, args.fps, max(args.players))
    runtime.setup()
    run = loading.load(args.workdir)
    scene = of_run(run, 1)
    players = PlayServer(scene, max_players=options.max_players, fps=args.fps, hosts=LOCAL)
    players.warm(batches=True)
    server = make_server(players)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [options.listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        address = f"127.0.0.1:{options.port}"
        rows = [measure(address, number, args.seconds, args.fps) for number in args.players]
    finally:
        server.should_exit = True
        thread.join()
    print(f"{'players':>8}{'frames/s':>10}{'slowest':>10}{'p50 ms':>9}{'p95 ms':>9}")
    for row in rows:
        latency = [f"{row[name]:>9.1f}" if row[name] is not None else f"{'-':>9}" for name in ("p50_ms", "p95_ms")]
        print(f"{row['players']:>8}{row['frames_per_second']:>10.1f}{row['slowest_player']:>10.1f}{''.join(latency)}")
    size = sum(x.size for x in jax.tree.leaves(run.model))
    about = {"experiment": run.config.experiment, "frame_shape": list(run.spec.frame_shape), "parameters": int(size)}
    common.finish({**about, "fps": args.fps, "players": rows}, args.output)
