"""Options of planners. No JAX here."""

import dataclasses
import math

import numpy as np

from world_models.core.errors import UserError

METHODS = ("cem", "icem", "mppi", "gradient")
CHOICES = ("mean", "best", "sample")
LARGEST = 1e6
"""Bounds of actions beyond this size count as none: simulators write 1e10 or the largest float for that."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


@dataclasses.dataclass(frozen=True)
class Search:
    """How a plan is searched for. The defaults are the published 300 samples x 30 iterations x 10 steps.

    A search starts at the centre of the box [low, high], with standard deviations in units of `scale`, half the box's
    extent, so that the same numbers suit actions of any size and range.

    Attributes:
      dim: numbers in one action; None in a config, which does not know the actions.
      method: "cem"; "icem", which keeps elites from one iteration to the next; "mppi", which weighs elites by their
        cost; "gradient", AdamW down the cost from several starts.
      horizon: actions of a plan.
      samples: action sequences an iteration; the first is always the mean of the present distribution.
      iterations: of sampling and refitting, or gradient steps.
      elites: best samples that the distribution is fitted to. Few where short ways are deceptive.
      std: standard deviation at the start in units of `scale`, a number or one for each of `dim`.
      min_std, max_std: bounds of the fitted standard deviation, in the same units.
      momentum: share of the old mean and standard deviation in the new ones, in [0, 1).
      temperature: of "mppi", in units of the cost. Far below the elites' differences in cost, one sample has all of the
        weight and the standard deviation falls to `min_std`; far above, this is "cem".
      keep: of "icem", the share of elites that are samples of the next iteration too.
      colour: exponent of the noise in time, see `sampling.coloured_noise`.
      choose: what becomes the plan: the "mean" at the end, the "best" sample ever, or a "sample" of the last elites,
        drawn by weight. "gradient" knows only the best.
      low, high: bounds of actions, a number or one for each of `dim`; where they are equal, the action is constant.
      max_norm: greatest length of an action in the environment's units, 0 for none.
      learning_rate, weight_decay: of "gradient", for actions in units of `scale` from the centre.

    Raises:
      UserError: on values that cannot work, naming the field.
    """

    dim: int | None = dataclasses.field(default=None, metadata={"config": False})
    method: str = "cem"
    horizon: int = 10
    samples: int = 300
    iterations: int = 30
    elites: int = 30
    std: float | tuple[float, ...] = 1.0
    min_std: float = 0.0
    max_std: float = math.inf
    momentum: float = 0.0
    temperature: float = 1.0
    keep: float = 0.3
    colour: float = 0.0
    choose: str = "mean"
    low: float | tuple[float, ...] = dataclasses.field(default=-math.inf, metadata={"config": False})
    high: float | tuple[float, ...] = dataclasses.field(default=math.inf, metadata={"config": False})
    max_norm: float = 0.0
    learning_rate: float = 0.1
    weight_decay: float = 0.0

    def __post_init__(self):
        """Refuses what cannot work."""
        each = lambda value: value if isinstance(value, tuple) else (value,) * (self.dim or 1)
        gradient = self.method == "gradient"
        limit = self.samples if self.method != "icem" else self.samples - 1  # kept elites stand beside the mean
        rules = {
            "method": (self.method in METHODS, f"be one of {', '.join(METHODS)}"),
            **{
                name: (_is_count(getattr(self, name)), "be at least 1, and whole")
                for name in ("horizon", "samples", "iterations")
            },
            "dim": (self.dim is None or _is_count(self.dim), "be at least 1, and whole"),
            "elites": (gradient or 1 <= self.elites <= limit, f"lie in 1..{limit} (samples={self.samples})"),
            "std": (min(each(self.std), default=0) > 0, "be above 0"),
            "min_std": (0 <= self.min_std <= self.max_std, f"lie in [0, max_std={self.max_std}]"),
            "momentum": (0 <= self.momentum < 1, "lie in [0, 1)"),
            "temperature": (self.temperature > 0, "be above 0"),
            "keep": (0 <= self.keep <= 1, "lie in [0, 1]"),
            "colour": (self.colour >= 0, "be 0 or more"),
            "choose": (self.choose in (("best",) if gradient else CHOICES), f"be one of {', '.join(CHOICES)}"),
            "low": (
                all(a <= b and a < math.inf and b > -math.inf for a, b in zip(each(self.low), each(self.high))),
                f"be at most high={self.high}",
            ),
            "max_norm": (self.max_norm >= 0, "be 0 (none) or more"),
            "learning_rate": (self.learning_rate > 0, "be above 0"),
            "weight_decay": (self.weight_decay >= 0, "be 0 or more"),
        }
        if gradient:
            rules["choose"] = (rules["choose"][0], "be 'best' with method='gradient'")
        for name in ("std", "low", "high"):
            if self.dim and len(each(getattr(self, name))) != self.dim:
                rules[name] = (False, f"be a number or a tuple of dim={self.dim}")
        for name, (good, would_do) in rules.items():
            if not good:
                raise UserError(f"{name}={getattr(self, name)!r} of a search must {would_do}.")
        shortest = float(np.linalg.norm(self.nearest))
        if 0 < self.max_norm < shortest:
            raise UserError(
                f"max_norm={self.max_norm!r} of a search must be at least {shortest:g}, the length of the shortest "
                "action in the box [low, high], or 0 (none)."
            )

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high), float64 [dim] each, infinite where there is no bound or one beyond `LARGEST`."""
        low, high = (np.broadcast_to(np.asarray(x, np.float64), self.dim or 1) for x in (self.low, self.high))
        return np.where(low < -LARGEST, -np.inf, low), np.where(high > LARGEST, np.inf, high)

    @property
    def nearest(self) -> np.ndarray:
        """The action of the box that is nearest to 0, float64 [dim]."""
        return np.clip(0.0, *self.box)

    @property
    def centre(self) -> np.ndarray:
        """Of the box, float64 [dim]; where a bound is missing, the allowed number nearest to 0."""
        low, high = self.box
        bounded = np.isfinite(low) & np.isfinite(high)
        return np.where(bounded, (np.where(bounded, low, 0) + np.where(bounded, high, 0)) / 2, self.nearest)

    @property
    def scale(self) -> np.ndarray:
        """Half the extent of the box, float64 [dim]; 1 where a bound is missing, 0 where an action is constant."""
        low, high = self.box
        bounded = np.isfinite(low) & np.isfinite(high)
        return np.where(bounded, (np.where(bounded, high, 0) - np.where(bounded, low, 0)) / 2, 1.0)

    def absolute(self, std: float | tuple[float, ...]) -> np.ndarray:
        """A standard deviation in units of `scale` as one in the environment's, float32 [dim]."""
        scale = self.scale
        return np.where(scale > 0, np.multiply(std, np.where(scale > 0, scale, 1)), 0).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class PlannerLevel(Search):
    """How one level plans: its search, with a horizon that is cut to the subgoal's deadline below another level.

    Attributes:
      replan, prior_weight, cost, cost_space, near, warm_start: as of `world_models.planning.hierarchy.Level`.
      prior: whether a search starts from the mean and spread of the actions that the level saw in training.
      bounded: whether actions stay in the environment's box (macro-actions in [−1, 1]); without it there is `max_norm`
        alone, and `std` is in the environment's units.
    """

    replan: int = 1
    prior: bool = False
    bounded: bool = True
    prior_weight: float = 0.0
    cost: str = "last"
    cost_space: str = "above"
    near: float = 0.0
    warm_start: bool = True

    @property
    def search(self) -> Search:
        """The search alone."""
        return Search(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Search)})
