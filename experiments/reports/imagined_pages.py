"""The pages of the demo and of the shipped weights, in Markdown, from the JSON in results/."""

from collections.abc import Callable
from typing import Any

from experiments.reports import sets
from experiments.tables.page import markdown_table

HORIZONS = (1, 4, 8, 16, 32)
PREDICTORS = {
    "imagined": "imagined",
    "copy_last": "persistence (copy-last-frame) baseline",
    "mean_frame": "mean-frame baseline",
}


def demo_page(metrics: dict[str, Any]) -> str:
    """The demo's PSNR by horizon beside its baselines, and its action following.

    Args:
      metrics: the content of imagine/metrics.json.
    """
    following = metrics["action_following"]
    return "\n".join(
        [
            "# The demo",
            "",
            "`make demo` (`configs/demo.py`, seed 0): CarRacing-v3 at 64x64, each action held for 3 steps; the shipped "
            f"weights, trained on for {metrics['step']} steps; {metrics['num_contexts']} held-out contexts.",
            "",
            *_psnr(metrics),
            "",
            "Action following: actions of another window raise the mean squared error over changed pixels by "
            f"{following['mean']:.5f} (95 % bootstrap interval over contexts {following['low']:.5f} to "
            f"{following['high']:.5f}; contexts of one episode overlap in time, so it is somewhat too narrow).",
            "",
            f"{_origin(metrics)}; all numbers: `results/demo.json`.",
            "",
        ]
    )


def weights_page(models: dict[str, dict[str, Any]], picture: Callable[[str], str]) -> str:
    """PSNR by horizon and what becomes of long rollouts, of every model in weights/.

    Args:
      models: imagine/metrics.json of each, with `long_rollout`, by its folder.
      picture: the name of the plot of drift of a folder.
    """
    lines = [
        "# The shipped weights",
        "",
        "What `launch.py imagine` measures of the models in `weights/`, trained as its README says, from contexts in "
        "the episodes that lie beside them, which are not of their training. How to read it: "
        "[long rollouts](../metrics.md#long-rollouts).",
        "",
    ]
    for name, metrics in models.items():
        found = metrics["long_rollout"]
        ends = [*found["at"].items(), (str(found["last"]["frame"]), found["last"])]
        baselines = {label: found["baselines"][key]["distance"] for key, (label, *_) in sets.BASELINES.items()}
        beside = [*(f"{distance:.4f}" for distance in baselines.values()), "–"]
        motion = [*["–"] * len(baselines), f"{100 * found['motion']['real']:.2f} %"]
        rows = [
            ["kernel distance from real windows", *(f"{values['drift']:.4f}" for _, values in ends), *beside],
            [
                "pixels that change from a frame to the next",
                *(f"{100 * values['motion']:.2f} %" for _, values in ends),
                *motion,
            ],
        ]
        heads = ["frames ahead", *(at for at, _ in ends), *baselines, "what happened"]
        lines += [
            f"## {name}",
            "",
            f"{metrics['num_contexts']} contexts of {metrics['num_context_frames']} frames, after "
            f"{metrics['step']:,} training steps.",
            "",
            *_psnr(metrics),
            "",
            *markdown_table(heads, rows),
            "",
            f"{sets.about_drift(found)} Beyond frame {found['action_following']['horizon'][-1]} the recorded actions "
            "begin again, wherever the future is by then.",
            "",
            f"![Drift and motion of {name}]({picture(name)})",
            "",
            f"`{metrics['provenance']['command']}`: {_origin(metrics)}; all numbers: `results/weights_{name}.json`.",
            "",
        ]
    return "\n".join(lines)


def _psnr(metrics: dict[str, Any]) -> list[str]:
    horizons = [horizon for horizon in HORIZONS if horizon in metrics["horizon"]]
    rows = [
        [label, *(f"{metrics['psnr_changed'][key][horizon - 1]:.2f}" for horizon in horizons)]
        for key, label in PREDICTORS.items()
    ]
    return [
        "PSNR in dB, higher is better, over the pixels that changed since the context:",
        "",
        *markdown_table(["frames ahead", *map(str, horizons)], rows),
    ]


def _origin(metrics: dict[str, Any]) -> str:
    origin = metrics["provenance"]
    device = f"{origin['device']} ({origin['host_cores']} cores)"
    made = f"Revision {origin['revision'][:10]}, {device}, {origin['date'][:10]}, jax {origin['versions']['jax']}"
    return f"{made}, data {origin['data_fingerprint']}"
