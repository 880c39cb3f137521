"""Players without a browser, for the benchmark `play`: each changes its action now and then and waits for the picture.

    python -m experiments.tools.benchmarks.play_clients ADDRESS PLAYERS SECONDS FPS

It runs in a process of its own, so that it takes no time from the server's, and prints JSON.
"""

import asyncio
import json
import random
import sys
import time
from typing import Any

from websockets.asyncio.client import connect

PAUSE = (0.15, 0.35)  # seconds between inputs
SETTLE = 2.0  # seconds before anything counts


def _actions(controls: dict[str, Any], rng: random.Random) -> Any:
    """A random action for the controls that the server describes."""
    if controls["kind"] == "buttons":
        return rng.randrange(len(controls["buttons"]))
    return [rng.uniform(axis["low"], axis["high"]) for axis in controls["axes"]]


async def play(address: str, number: int, seconds: float, fps: float) -> dict[str, list[float]]:
    """One player; returns the milliseconds from inputs to their pictures, and the times at which frames came."""
    rng, sent, latencies, frames = random.Random(number), {}, [], []
    async with connect(f"ws://{address}/ws", origin=f"http://{address}", max_size=None) as socket:

        async def say(kind: str, **fields: Any) -> None:
            await socket.send(json.dumps({"type": kind, **fields}))

        hello = json.loads(await socket.recv())
        await say("set", name="fps", value=fps)
        if hello["simulator"]:
            await say("set", name="simulator", value=False)
        await say("play", on=True)
        begin = time.perf_counter() + SETTLE

        async def press() -> None:
            seq = 0
            while True:
                await asyncio.sleep(rng.uniform(*PAUSE))
                seq += 1
                sent[seq] = time.perf_counter()
                await say("input", seq=seq, action=_actions(hello["controls"], rng))

        presses = asyncio.create_task(press())
        try:
            while time.perf_counter() < begin + seconds:
                data = await socket.recv()
                if isinstance(data, str):
                    continue
                header = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])
                if header["type"] != "frame":
                    continue
                now = time.perf_counter()
                await say("ack", tick=header["tick"])
                if now > begin:
                    frames.append(now)
                if header["seq"] in sent:
                    begun = sent[header["seq"]]
                    if begun > begin:
                        latencies.append(1e3 * (now - begun))
                    for old in [seq for seq in sent if seq <= header["seq"]]:
                        del sent[old]
        finally:
            presses.cancel()
    return {"latencies": latencies, "frames": frames}


async def main(address: str, players: int, seconds: float, fps: float) -> list[dict[str, list[float]]]:
    """All players at once."""
    return await asyncio.gather(*(play(address, i, seconds, fps) for i in range(players)))


if __name__ == "__main__":
    where, *numbers = sys.argv[1:]
    print(json.dumps(asyncio.run(main(where, int(numbers[0]), float(numbers[1]), float(numbers[2])))))
