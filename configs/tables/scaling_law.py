"""How the held-out loss of a video model falls with training compute: five sizes, and the largest from the others.

Ours: all sizes are trained on the same clips for as many steps, so that compute grows with size alone. Two laws are
fitted to the four smaller ones: a·C^−b, by least squares of the logarithms; and c + a·C^−b, the paper's, whose c is
what is left of the loss when compute is without limit, by least squares of the relative errors.
Command: python launch.py table scaling_law --scale=cpu --seeds=3
"""

import itertools
import math
from collections.abc import Callable

import numpy as np

from configs.tables._car_world import PSNR, cost, scales

GAIA = "GAIA-1, the section on scaling"
# Width and depth of every row.
SIZES = {
    "smoke": ((16, 2), (24, 2), (32, 2), (40, 2), (48, 2)),
    "cpu": ((32, 2), (48, 4), (64, 4), (96, 4), (160, 4)),
    "gpu": ((64, 4), (128, 4), (192, 8), (256, 8), (512, 8)),
}
ROWS = tuple(f"size {i}" for i in range(1, 6))
TOLERANCE = 0.05


def power_law(rows: dict[str, dict[str, float]]) -> tuple[float, float, float]:
    """(0, a, b) of the law a·C^−b of the four smaller rows."""
    compute, loss = _smaller(rows)
    x, y = np.log(compute), np.log(loss)
    middle, height = x.mean(), y.mean()
    slope = float((x - middle) @ (y - height) / ((x - middle) @ (x - middle)))
    return 0.0, math.exp(height - slope * middle), -slope


def offset_law(rows: dict[str, dict[str, float]]) -> tuple[float, float, float]:
    """(c, a, b) of the law c + a·C^−b of the four smaller rows, none of them negative."""
    from scipy.optimize import least_squares  # slow to import, and the list of tables imports this file

    compute, loss = _smaller(rows)
    _, a, b = power_law(rows)
    errors = lambda law: (law[0] + np.exp(law[1]) * compute ** -law[2]) / loss - 1
    begin, bounds = (
        (0.5 * loss.min(), math.log(0.5 * a), max(b, 0.01)),
        ((0.0, -np.inf, 0.0), (loss.min(), np.inf, np.inf)),
    )
    c, log_a, b = least_squares(errors, begin, bounds=bounds, xtol=1e-12, ftol=1e-12, gtol=1e-12).x
    return float(c), math.exp(log_a), float(b)


LAWS = {
    "power law of the smaller four": power_law,
    "power law with a constant of the smaller four": offset_law,
}


def _smaller(rows: dict[str, dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Compute and loss of the four smaller rows; KeyError where they have no logarithm."""
    compute, loss = (np.array([rows[row][key] for row in ROWS[:-1]]) for key in ("compute", "loss"))
    if min(*compute, *loss) <= 0:
        raise KeyError("a power law needs numbers above zero")
    return compute, loss


def predict(law: tuple[float, float, float]) -> Callable[[float], float]:
    """The loss at a compute."""
    return lambda compute: law[0] + law[1] * compute ** -law[2]


def miss(rows: dict[str, dict[str, float]], fit: Callable = power_law) -> float:
    """By what share the largest row's loss is above what a law of the smaller rows says."""
    largest = rows[ROWS[-1]]
    return largest["loss"] / predict(fit(rows))(largest["compute"]) - 1


def headline(rows: dict[str, dict[str, float]]) -> str:
    """The power law, and how well both laws predict the largest row."""
    _, _, b = power_law(rows)
    return (
        f"loss falls with compute to the power {-b:.3f}; the largest is {100 * miss(rows):+.1f} % off its prediction, "
        f"{100 * miss(rows, offset_law):+.1f} % with a constant in the law"
    )


def get_table() -> dict:
    """The table."""
    psnr = lambda name, of, h, **more: {
        "title": f"{name} {h}",
        "about": f"PSNR over the pixels that changed since the context, {h} ahead, mean over held-out contexts",
        "path": (f"eval/open_loop/psnr_changed_{of}_{h}",),
        **PSNR,
        **more,
    }
    counted = cost("training_flops", "training compute", "matrix products of loss and gradient in all steps")
    columns = {
        "parameters": {
            "title": "parameters",
            "about": "parameters that are trained, counted",
            "path": ("eval/cost/parameters",),
            "unit": "millions",
            "better": "lower",
            "scale": 1e-6,
            "range": (0.0, math.inf),
        },
        "compute": {**counted, "path": ("eval/cost/training_flops",), "unit": "TFLOP", "scale": 1e-12},
        "loss": {
            "title": "held-out loss",
            "about": "the training loss on held-out clips, with the same noise for all rows",
            "path": ("eval/held_out/loss",),
            "unit": "",
            "better": "lower",
            "digits": 4,
            "range": (0.0, math.inf),
        },
    }
    for h in (1, 16):
        columns[f"psnr_{h}"] = psnr("PSNR", "imagined", h)
        columns[f"copy_{h}"] = psnr("copy-last-frame", "copy_last", h, baseline_for=f"psnr_{h}")
    sized = lambda width, depth: {
        "model.network.width": width,
        "model.network.depth": depth,
        "model.condition": width,
    }
    return {
        "title": "Held-out loss against training compute",
        "paper": "GAIA-1, Hu et al. 2023, arXiv 2309.17080",
        "number": "the section on scaling",
        "question": "Does the loss of a large model follow from those of smaller ones?",
        "about": "One video transformer in five sizes; the largest one's loss is predicted from the others.",
        "setting": "The paper shows a curve only: driving videos as tokens, 0.65 M to 6.5 B parameters",
        "command": "eval",
        "published_columns": {},
        "columns": columns,
        "rows": {row: {"overrides": {}} for row in ROWS},
        "conclusions": [
            {
                "text": "the held-out loss falls with every size",
                "kind": "paper",
                "source": GAIA,
                "holds": lambda rows: all(rows[a]["loss"] > rows[b]["loss"] for a, b in itertools.pairwise(ROWS)),
            },
            *(
                {
                    "text": f"the {name} predicts the largest one's loss to {TOLERANCE:.0%}",
                    "kind": "ours",
                    "source": f"{GAIA}, which predicts the final loss; the tolerance is ours",
                    "holds": lambda rows, fit=fit: abs(miss(rows, fit)) <= TOLERANCE,
                }
                for name, fit in LAWS.items()
            ),
            {
                "text": "16 frames ahead the largest has the highest PSNR",
                "kind": "ours",
                "holds": lambda rows: all(rows[ROWS[-1]]["psnr_16"] > rows[row]["psnr_16"] for row in ROWS[:-1]),
            },
        ],
        "headline": headline,
        "against": ("compute", "loss"),
        "laws": {name: lambda rows, fit=fit: predict(fit(rows)) for name, fit in LAWS.items()},
        "scales": scales(
            "GAIA-1's driving videos and sizes: no such data here",
            overrides={"eval.cost": True, "eval.distances.num_clips": 0, "eval.open_loop.num_shown": 0},
            smoke={"eval.open_loop.horizon": 16},
            cpu={"eval.held_out.num_examples": 256, "eval.open_loop.horizon": 16},
            gpu={"eval.held_out.num_examples": 1_024, "eval.open_loop.horizon": 16, "eval.open_loop.num_contexts": 256},
            rows={scale: {row: sized(*size) for row, size in zip(ROWS, sizes)} for scale, sizes in SIZES.items()},
            sizes="five sizes",
        ),
    }
