"""The command `plan`: episodes solved by planning in a trained model, counted and shown."""

import pathlib

import jax
import numpy as np

from experiments.planning.worlds import WorldPlanning, make_planning, where
from experiments.reports import media, plan_pictures
from experiments.runs import workdir as workdirs
from experiments.runs.loading import LoadedRun
from experiments.runs.metrics import finite_or_none
from world_models.environments import tasks

NAMES = {"success": "success rate", "terminal_success": "final-step success rate"}
ORDERS = {"distance_rank_correlation": "over tasks", "rank_correlation_within_tasks": "over places of a task"}


def plan(run: LoadedRun) -> pathlib.Path:
    """Plays the tasks of `config.eval.plan` and writes plan/ anew: results.json, every episode, a video.

    Of a JAX-native world also the tasks as a file, and plots of success over distance and over FLOPs.

    Returns:
      Path of results.json.
    """
    planning, folder = make_planning(run), run.workdir / "plan"
    results = finite_or_none(planning.results())
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tasks.json", "results.json", "success_by_distance.png", "pareto.png", "rollouts.mp4", "rollouts.png"):
        (folder / name).unlink(missing_ok=True)  # of other settings
    workdirs.write_json(folder / "results.json", results)
    if isinstance(planning, WorldPlanning):
        tasks.save(folder / "tasks.json", planning.tasks, **where(run.config), name=results["tasks"])
        workdirs.write_json(folder / "episodes.json", _each(planning))
        plan_pictures.plot_distance(folder / "success_by_distance.png", results["by_distance"])
        if results["pareto"]:
            plan_pictures.plot_pareto(folder / "pareto.png", results["pareto"])
        draw = plan_pictures.rollouts
    else:
        workdirs.write_json(folder / "episodes.json", planning.each())
        draw = plan_pictures.host_rollouts
    if planning.options.num_shown:
        video, still = draw(planning, np.arange(min(planning.options.num_shown, results["episodes"])))
        media.write_mp4(folder / "rollouts.mp4", video, planning.options.fps)
        media.write_png(folder / "rollouts.png", still)
    for name, text in NAMES.items():
        low, high = results[f"{name}_interval"]
        print(f"{text:22} {results[name]:7.1%}  [{low:.1%}, {high:.1%}] of {results['episodes']} episodes")
    for name, baseline in results["baselines"].items():
        print(
            f"{name + ', no model':22} {baseline['success']:7.1%}  {baseline['terminal_success']:.1%} there at the end"
        )
    if isinstance(planning, WorldPlanning):
        for name, text in ORDERS.items():
            ranks = ", ".join("none" if x is None else f"{x:.2f}" for x in results[name])
            print(f"rank correlation of latent distance and shortest path {text}, from level 1 up: {ranks}")
    print(f"{results['flops_per_episode'] / 1e9:.3g} GFLOP an episode, {results['ms_per_plan']:.1f} ms a plan")
    return folder / "results.json"


def _each(planning: WorldPlanning) -> list[dict[str, object]]:
    """Every episode: its task, where it ended and whether it got there."""
    played, found = planning.episodes, []
    steps = np.where(played.success_any, np.argmax(played.reached, axis=1), -1)
    for i, goal in enumerate(planning.tasks.goal):
        layout = jax.tree.map(lambda x, i=i: np.asarray(x)[i], planning.tasks.layout)
        found.append(
            {
                "start": planning.tasks.start[i],
                "goal": goal,
                "layout": layout._asdict(),
                "distance": float(planning.tasks.distance[i]),
                "end": played.positions[i, -1],
                "success": bool(played.success_any[i]),
                "terminal_success": bool(played.success_last[i]),
                "steps": int(steps[i]),  # until the goal was first reached; -1 if it was not
            }
        )
    return found
