"""Which model size fits where: memory a device and time a step, for docs/scaling.md.

    python -m experiments.tools.benchmarks capacity [--devices=1,8,64] [--docs]

The training step of diffusion transformers of several sizes is compiled, never run, for meshes of pretended devices,
fully sharded; memory is what the compiler reports per device. Time is the longest of three: counted FLOPs, bytes
of device memory, and bytes over the network, each at a stated share of the data sheet of a device. With --docs the
table goes into docs/scaling.md, between its marks.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh

from experiments.runs.files import ROOT
from experiments.tools.benchmarks import common
from experiments.training.experiment import make_experiment
from experiments.training.state import abstract_model, create_state, make_step
from world_models.core import sharding as parallel
from world_models.core.flops import count_flops
from world_models.core.specs import VideoSpec, batch_of
from world_models.core.types import ActionSpec, Clip

CONFIG = "configs/car_dit.py"
SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "XL": (1152, 28, 16), "3B": (2560, 28, 20),
         "7B": (4096, 24, 32)}  # fmt: skip
"""Width, depth and heads; S, B and XL are those of Peebles & Xie (2022), table 1."""
PER_DEVICE = 8  # examples
PAGE = ROOT / "docs" / "scaling.md"
BEGIN = "<!-- capacity: made by `python -m experiments.tools.benchmarks capacity --docs`; edits here are lost -->\n"
END = "<!-- end of capacity -->\n"


@dataclasses.dataclass(frozen=True)
class Device:
    """A data sheet: bfloat16 FLOP/s, bytes of memory, bytes/s of memory, and bytes/s to the other devices of a mesh."""

    flops: float
    memory: float
    bandwidth: float
    network: float


DEVICES = {
    "H100 SXM, one node": Device(989e12, 80e9, 3.35e12, 450e9),
    "H100 SXM, 400 Gb/s a GPU": Device(989e12, 80e9, 3.35e12, 50e9),
    "TPU v5e": Device(197e12, 16e9, 0.82e12, 200e9),
    "TPU v5p": Device(459e12, 95e9, 2.77e12, 600e9),
}
NODE = 8  # GPUs that share the fast network
SHARE_OF_FLOPS, SHARE_OF_BANDWIDTH, SHARE_OF_NETWORK = 0.4, 0.7, 0.7


def measure(size: str, devices: int) -> dict[str, Any]:
    """Compiles the step of one size for so many devices; returns parameters, bytes a device, and FLOPs an example."""
    width, depth, heads = SIZES[size]
    config = common.load_config(CONFIG, [])
    config.model.network.update({"width": width, "depth": depth, "heads": heads})
    config.runtime.compute.update({"remat": "full", "attention": "xla"})
    config.model.condition = width
    spec = VideoSpec((64, 64, 3), ActionSpec("discrete", 5), clip_length=config.data.clip_length)
    experiment = make_experiment(config, spec)
    mesh = Mesh(
        np.array(jax.devices()[:devices]).reshape(1, devices, 1), parallel.AXES, axis_types=(AxisType.Auto,) * 3
    )
    _, shapes, merge, optimizer = create_state(experiment, config, mesh)
    batch = batch_of(spec, devices * PER_DEVICE, parallel.batch_sharding(mesh))
    step = make_step(merge, experiment, config, optimizer)
    where = jax.tree.map(lambda x: x.sharding, shapes)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(where, parallel.replicated(mesh)))
    with jax.set_mesh(mesh):
        memory = jitted.lower(shapes, batch, parallel.per_device_flags(mesh)[False]).compile().memory_analysis()
    return {
        "size": size,
        "devices": devices,
        "parameters": sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes.params)),
        "state_bytes": parallel.state_bytes(shapes)[1],
        "device_bytes": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        "flops_an_example": _flops(config, spec),
    }


def _flops(config: ml_collections.ConfigDict, spec: VideoSpec) -> int:
    """FLOPs of loss and gradient for one example, without those of values that are computed twice."""
    config.runtime.compute.remat = "none"
    experiment = make_experiment(config, spec)
    merge, (params, constants), _ = abstract_model(experiment, 0)

    def loss(params: Any, constants: Any, clip: Clip, keys: jax.Array) -> jax.Array:
        return experiment.loss(merge(params, constants), clip, keys)[0]

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    return count_flops(jax.grad(loss), params, constants, batch_of(spec, 1), keys)


def step_seconds(found: dict[str, Any], device: Device) -> tuple[float, str]:
    """Modelled time of a step, and what bounds it.

    Compute: the FLOPs of the device's examples, half as much again for what is computed twice (one forward pass in
    three). Memory: state is read and written once in float32, and the gathered parameters are read three times in
    bfloat16. Network: parameters are gathered twice and gradients scattered once, in float32, where there are several
    devices.
    """
    parameters, devices = found["parameters"], found["devices"]
    flops = 4 / 3 * found["flops_an_example"] * PER_DEVICE
    memory = 2 * found["state_bytes"] + 3 * 2 * parameters
    network = 3 * 4 * parameters * (devices - 1) / devices
    times = {
        "compute": flops / (SHARE_OF_FLOPS * device.flops),
        "memory": memory / (SHARE_OF_BANDWIDTH * device.bandwidth),
        "network": network / (SHARE_OF_NETWORK * device.network),
    }
    bound = max(times, key=times.get)
    return times[bound], bound


def table(found: Sequence[dict[str, Any]]) -> str:
    """The measurements as Markdown, with the modelled time of a step where the model fits."""
    lines = [
        f"| model | parameters | devices | state a device | needs a device | {' | '.join(DEVICES)} |",
        "|---" * (5 + len(DEVICES)) + "|",
    ]
    for one in found:
        cells = []
        for name, device in DEVICES.items():
            seconds, bound = step_seconds(one, device)
            fits = one["device_bytes"] < 0.9 * device.memory
            elsewhere = name.endswith("one node") and one["devices"] > NODE
            cells.append("-" if elsewhere else f"{1000 * seconds:,.0f} ms ({bound})" if fits else "does not fit")
        lines.append(
            f"| DiT-{one['size']} | {one['parameters'] / 1e6:,.0f} M | {one['devices']} | "
            f"{one['state_bytes'] / 2**30:,.2f} GiB | {one['device_bytes'] / 2**30:,.2f} GiB | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measures all sizes in a process with enough pretended devices, and prints the table."""
    flags = common.parser(__doc__)
    flags.add_argument("--devices", type=common.integers, default=[1, 8, 64], help="sizes of the meshes")
    flags.add_argument("--sizes", default=",".join(SIZES), help=f"of {', '.join(SIZES)}")
    flags.add_argument("--docs", action="store_true", help="put the table into docs/scaling.md")
    options = flags.parse_args(argv)
    wanted = f"--xla_force_host_platform_device_count={max(options.devices)}"
    if wanted not in os.environ.get("XLA_FLAGS", ""):
        flags = f"{os.environ.get('XLA_FLAGS', '')} {wanted}"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "experiments.tools.benchmarks", "capacity", *argv]
        sys.exit(subprocess.run(command, env=environment, cwd=ROOT).returncode)
    found = []
    for size in options.sizes.split(","):
        for devices in options.devices:
            found.append(measure(size, devices))
            print(f"compiled DiT-{size} for {devices} devices", file=sys.stderr, flush=True)
    text = table(found)
    print(text)
    if options.docs:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n\n{END}{rest.partition(END)[2]}")
    common.finish({"benchmark": "capacity", "examples_a_device": PER_DEVICE, "rows": found}, options.output)
