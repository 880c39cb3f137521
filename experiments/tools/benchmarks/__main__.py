"""The entry point of the benchmarks: `python -m experiments.tools.benchmarks NAME [flags]`."""

import importlib
import sys

from absl import logging

from world_models.core.errors import UserError

BENCHMARKS = {
    "throughput": "CONFIG [--config.x=y] [--steps=20]         a training step: time, FLOP/s, memory, wait for data",
    "scaling": "CONFIG [--config.x=y] [--devices=1,2,4,8]  meshes: memory, collectives, time, the same losses",
    "checkpoint": "[--mib=512] [--saves=4]                    how long saving holds a loop up; MB/s beside the disk's",
    "pipeline": "[--dataset=DIR] [--seconds=2]              frames/s by image size, clip length and threads",
    "capacity": "[--devices=1,8,64] [--docs]                which model size fits where: memory and modelled time",
    "record": "[--config=configs/car_unet.py] [--episodes=6]  what recording costs on top of the simulator",
    "planner": "[--peer=torch] [--width=192] [--parallel=1]  ms a plan beside PyTorch; plans/s in parallel",
    "play": "--workdir=RUN [--players=1,4,16] [--fps=60]    the server of play: frames/s, input to frame p50 and p95",
    "mae": "[--size=mini] [--peer=torch] [--batch=128]      pretraining images/s beside PyTorch; what masking costs",
    "bert": "[--size=mini] [--peer=torch] [--batch=16]      pretraining tokens/s beside Hugging Face on PyTorch",
    "stream": "CONFIG | --workdir=RUN [--windows=64,256]   frames/s of a video world model; what a longer window costs",
    "video": "[--sizes=car,unet_small] [--windows=64,256]   training beside PyTorch, MFU, imagined frames/s by size",
}


def main(argv: list[str]) -> int:
    """Runs one benchmark; returns the exit status."""
    name = argv[1] if len(argv) > 1 else ""
    if name not in BENCHMARKS:
        asked = name in ("-h", "--help", "help")
        lines = [] if asked or not name else [f"{name!r} is no benchmark: choose one of {', '.join(BENCHMARKS)}."]
        lines += [f"  python -m experiments.tools.benchmarks {known:12}{text}" for known, text in BENCHMARKS.items()]
        lines += ["Each prints a table, and JSON as the last line; --output=FILE also writes that JSON."]
        print("\n".join(lines), file=sys.stderr)
        return 0 if asked else 2
    logging.set_verbosity(logging.ERROR)
    sys.argv = [f"experiments.tools.benchmarks {name}", *argv[2:]]  # for provenance
    try:
        importlib.import_module(f"experiments.tools.benchmarks.{name}").main(argv[2:])
    except UserError as error:
        print(f"benchmarks {name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
