"""Episodes solved by planning in a trained model, measured and shown: the capability `plan`."""

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.planning.evaluation import PlanningEvaluation
from experiments.planning.gymnasium import GymnasiumPlanning
from experiments.planning.worlds import WorldPlanning
from experiments.reports import media
from experiments.runs.files import fresh_folder, write_json
from experiments.runs.metrics import finite_or_none

if TYPE_CHECKING:
    from experiments.runs.loading import LoadedRun

RATES = {"success": "success rate", "terminal_success": "final-step success rate"}
CORRELATIONS = {
    "distance_correlation": "over tasks",
    "distance_correlation_within_tasks": "over positions of a task",
}


def make_planning(run: "LoadedRun") -> PlanningEvaluation:
    """The evaluation of planning where the data of a run come from."""
    record = run.config.get("record") or {}
    return (GymnasiumPlanning if record.get("source") == "gymnasium" else WorldPlanning)(run)


def measure(run: "LoadedRun") -> dict[str, Any]:
    """The content of plan/results.json."""
    return finite_or_none(make_planning(run).results())


def write(run: "LoadedRun") -> pathlib.Path:
    """Plays the tasks of `config.eval.plan` and writes plan/ anew: results.json (returned) and others.

    Of a JAX-native world also the tasks as a file, and plots of success over distance and over FLOPs.
    """
    planning, path = make_planning(run), run.workdir / "plan"
    results = finite_or_none(planning.results())
    with fresh_folder(path) as folder:
        write_json(folder / "results.json", results)
        write_json(folder / "episodes.json", planning.episode_results())
        planning.write_details(folder, results)
        if planning.options.num_shown:
            video, still = planning.draw(np.arange(min(planning.options.num_shown, results["episodes"])))
            media.write_mp4(folder / "rollouts.mp4", video, planning.options.fps)
            media.write_png(folder / "rollouts.png", still)
    print("\n".join(summary(results)))
    return path / "results.json"


def summary(results: dict[str, Any]) -> list[str]:
    """Lines for the terminal."""
    lines = []
    for name, text in RATES.items():
        low, high = results[f"{name}_interval"]
        lines.append(f"{text:24} {results[name]:7.1%}  [{low:.1%}, {high:.1%}] of {results['episodes']} episodes")
    for name, baseline in results["baselines"].items():
        rates = f"{baseline['success']:7.1%}, at the final step {baseline['terminal_success']:.1%}"
        lines.append(f"{name.replace('_', '-') + ' baseline':24} {rates}")
    for name, text in CORRELATIONS.items():
        if name in results:
            values = ", ".join("none" if x is None else f"{x:.2f}" for x in results[name])
            lines.append(f"Spearman correlation of latent distance with path length {text}, from level 1 up: {values}")
    lines.append(f"{results['flops_per_episode'] / 1e9:.3g} GFLOP an episode, {results['ms_per_plan']:.1f} ms a plan")
    return lines
