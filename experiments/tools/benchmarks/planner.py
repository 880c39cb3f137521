"""Planning speed: milliseconds a plan beside a plain PyTorch loop of the same arithmetic, and plans/s in parallel.

    python -m experiments.tools.benchmarks planner [--peer=torch] [--width=192] [--parallel=1,16]

A plan is CEM with 300 samples, 30 iterations and a horizon of 10, the setting of DINO-WM and LeWM, in the latent space
of a GRU of `--width` numbers with a layer norm (eb_jepa's predictor; 512 is its size, 192 LeWM's) and the squared error
of the last state. The peer has the same weights; on a GPU it runs there too, with TF32 as XLA has it. Both take turns
in one process; the ratio is the median over rounds of the ratio within a round, with its 95 % bootstrap interval.
Compilation is timed apart. `plans_per_second` is of so many plans vmapped into one program: with a plan a step, an
episode of n steps is n of them.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.tools.benchmarks import common
from world_models.core.errors import UserError
from world_models.core.flops import count_flops
from world_models.models.latent_dynamics.level import Level
from world_models.models.latent_dynamics.options import LevelOptions
from world_models.planning import costs
from world_models.planning.options import Search
from world_models.planning.search import Plan, solve

ACTION = 2


def make_planner(search: Search, width: int) -> tuple[Level, Callable[..., Plan]]:
    """A model with random weights, and the plan of a state, a goal and a key."""
    level = Level(LevelOptions("frames", 1, width, ACTION), width, ACTION, rngs=nnx.Rngs(0))

    def plan(z: jax.Array, goal: jax.Array, key: jax.Array) -> Plan:
        step = lambda states, actions, _: level.step(states, actions)
        return solve(search, step, costs.to_goal(costs.squared_error, goal), z, key)

    return level, plan


def make_peer(search: Search, level: Level) -> Callable[[np.ndarray, np.ndarray], float]:
    """The same in PyTorch, in plain loops: the cost of a plan for a state and a goal."""
    import torch

    width = level.options.width
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.set_float32_matmul_precision("high")
    cell, norm = torch.nn.GRUCell(ACTION, width, device=device), torch.nn.LayerNorm(width, eps=1e-6, device=device)
    pairs = [(cell.weight_ih, level.cell.dense_i.kernel), (cell.weight_hh, level.cell.dense_h.kernel)]
    biases = [(cell.bias_ih, level.cell.dense_i.bias), (cell.bias_hh, level.cell.dense_h.bias)]
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(torch.from_numpy(np.array(ours[...]).T))
        for theirs, ours in biases:
            theirs.copy_(torch.from_numpy(np.array(ours[...])))

    @torch.inference_mode()
    def plan(z: np.ndarray, goal: np.ndarray) -> float:
        start, goal = torch.from_numpy(z).to(device), torch.from_numpy(goal).to(device)
        mean = torch.zeros(search.horizon, ACTION, device=device)
        std = torch.full_like(mean, float(search.std))

        def cost(actions: Any) -> Any:
            states = start.expand(len(actions), -1)
            for t in range(search.horizon):
                states = norm(cell(actions[:, t], states))
            return ((states - goal) ** 2).mean(dim=-1)

        for _ in range(search.iterations):
            actions = mean + std * torch.randn(search.samples, search.horizon, ACTION, device=device)
            actions[0] = mean
            best = torch.topk(-cost(actions), search.elites).indices
            mean, std = actions[best].mean(dim=0), actions[best].std(dim=0, unbiased=False)
        return float(cost(mean[None])[0])

    return plan


def measure(search: Search, width: int, peer: str, parallel: Sequence[int], rounds: int) -> dict[str, Any]:
    """All numbers of the benchmark."""
    level, plan = make_planner(search, width)
    draw = np.random.default_rng(0).normal
    z, goal = draw(size=(2, width)).astype(np.float32)
    one = lambda z, goal, keys: jax.vmap(lambda key: plan(z, goal, key).cost)(keys)
    keys = lambda count: jax.random.split(jax.random.key(1), count)
    compiled = {}
    for count in {1, *parallel}:
        begin = time.perf_counter()
        program = jax.jit(one).lower(z, goal, keys(count)).compile()
        compiled[count] = (program, time.perf_counter() - begin)
    turns = {f"ours {count}": lambda count=count: compiled[count][0](z, goal, keys(count)) for count in compiled}
    if peer:
        other = make_peer(search, level)
        turns["torch"] = lambda: other(z, goal)
    took: dict[str, list[float]] = {name: [] for name in turns}
    found = {name: np.mean(np.asarray(turn())) for name, turn in turns.items()}  # warms up
    for _ in range(rounds):
        for name, turn in turns.items():
            begin = time.perf_counter()
            jax.block_until_ready(turn())
            took[name].append(time.perf_counter() - begin)
    median = {name: float(np.median(seconds)) for name, seconds in took.items()}
    flops = count_flops(plan, z, goal, jax.random.key(0))
    result = {
        "ms_per_plan": 1e3 * median["ours 1"],
        "compile_seconds": compiled[1][1],
        "flops_per_plan": flops,
        "flops_per_second": flops / median["ours 1"],
        "plans_per_second": {str(count): count / median[f"ours {count}"] for count in sorted(compiled)},
        "cost": float(found["ours 1"]),
    }
    if peer:
        result["torch_ms_per_plan"] = 1e3 * median["torch"]
        result["torch_cost"] = float(found["torch"])
        result["to_torch"] = common.ratio(took["torch"], took["ours 1"])
    return result


def table(found: dict[str, Any]) -> str:
    """The measurement for reading."""
    rate = found["flops_per_second"] / 1e9
    about = f"{rate:.1f} GFLOP/s; compiled in {found['compile_seconds']:.1f} s"
    lines = [f"{found['ms_per_plan']:10.1f} ms a plan, ours ({about})"]
    if "to_torch" in found:
        low, high = found["to_torch"]["interval"]
        speed = f"ours is {found['to_torch']['ratio']:.2f}x as fast ({low:.2f} to {high:.2f})"
        lines.append(f"{found['torch_ms_per_plan']:10.1f} ms a plan, PyTorch: {speed}")
        lines.append(f"cost of the plan: {found['cost']:.4f}, PyTorch {found['torch_cost']:.4f}")
    lines += [f"{rate:10.2f} plans/s with {count} in parallel" for count, rate in found["plans_per_second"].items()]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--peer", choices=("", "torch"), default="", help="what to run beside it")
    parser.add_argument("--width", type=common.integer, default=192, help="of the latent vectors")
    parser.add_argument("--parallel", type=common.integers, default=[1, 16], help="plans in one program")
    parser.add_argument("--samples", type=common.integer, default=300, help="action sequences that an iteration tries")
    parser.add_argument("--iterations", type=common.integer, default=30, help="of the search, for one plan")
    parser.add_argument("--horizon", type=common.integer, default=10, help="steps that a plan looks ahead")
    parser.add_argument("--rounds", type=common.integer, default=7, help="of all sides in turn")
    asked = parser.parse_args(argv)
    if asked.peer and not importlib.util.find_spec("torch"):
        raise UserError("--peer=torch needs torch: pip install -e '.[dev]'.")
    budget = {"samples": asked.samples, "iterations": asked.iterations, "horizon": asked.horizon}
    search = Search(dim=ACTION, method="cem", elites=max(1, asked.samples // 10), **budget)
    found = measure(search, asked.width, asked.peer, asked.parallel, asked.rounds)
    print(table(found))
    common.finish({"width": asked.width, **budget, "rounds": asked.rounds, **found}, asked.output)
