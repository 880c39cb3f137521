"""Any Gymnasium environment as a source of pixel episodes. Imported by worker processes: no JAX here."""

import dataclasses
import difflib
import importlib
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from world_models.core.errors import ConfigError
from world_models.data.episodes import Episode, encode
from world_models.environments.policies import Act, make_policy

# Prefix of an id -> (module whose import registers it, extra of this project that brings it).
KNOWN = {
    "ALE/": ("ale_py", "atari"),
    "gym_pusht/": ("gym_pusht", "pusht"),
    "PushT-": ("gym_pusht", "pusht"),  # world_models.environments.push_t
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
    "PointMaze_": ("gymnasium_robotics", "robotics"),
    "AntMaze_": ("gymnasium_robotics", "robotics"),
    "Fetch": ("gymnasium_robotics", "robotics"),
    "HandReach": ("gymnasium_robotics", "robotics"),
    "Adroit": ("gymnasium_robotics", "robotics"),
    "FrankaKitchen": ("gymnasium_robotics", "robotics"),
    "Reacher-": ("mujoco", "robotics"),
    "pointmaze-": ("ogbench", "ogbench"),
    "antmaze-": ("ogbench", "ogbench"),
    "humanoidmaze-": ("ogbench", "ogbench"),
    "antsoccer-": ("ogbench", "ogbench"),
    "visual-": ("ogbench", "ogbench"),
    "cube-": ("ogbench", "ogbench"),
    "scene-": ("ogbench", "ogbench"),
    "puzzle-": ("ogbench", "ogbench"),
    "powderworld-": ("ogbench", "ogbench"),
    "CarRacing-": ("Box2D", "box2d"),
    "LunarLander": ("Box2D", "box2d"),
    "BipedalWalker": ("Box2D", "box2d"),
}


def make(name: str, kwargs: dict[str, Any], modules: tuple[str, ...] = (), observation: str = "render") -> Any:
    """Makes an environment by its id, importing what registers it.

    Args:
      name: Gymnasium id.
      kwargs: for `gymnasium.make`.
      modules: modules to import first.
      observation: "render" asks for rendered frames; "observation" leaves the environment as it is.

    Raises:
      UserError: if the id is unknown or a package is missing.
    """
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    module, extra = next((known for prefix, known in KNOWN.items() if name.startswith(prefix)), (None, "simulators"))
    install = f"pip install -e '.[{extra}]'"
    try:
        import gymnasium

        for needed in (*modules, *([module] if module else [])):
            importlib.import_module(needed)
    except ImportError as error:
        raise ConfigError(
            "config.record.environment", f"config.record.environment={name!r} needs {error.name!r}: {install}"
        ) from error
    try:
        render = {"render_mode": "rgb_array"} if observation == "render" else {}
        return gymnasium.make(name, **{**render, **kwargs})
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(
            "config.record.environment", f"config.record.environment={name!r} lacks a package ({error}): {install}"
        ) from error
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3, cutoff=0.5)
        hint = f"near it: {', '.join(near)}" if near else "put the module that registers it into config.record.modules"
        raise ConfigError(
            "config.record.environment", f"config.record.environment={name!r} is unknown; {hint}."
        ) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "config.record.environment_kwargs",
            f"config.record.environment_kwargs={kwargs} do not suit {name!r}: {error}",
        ) from error


@dataclasses.dataclass
class GymnasiumSource:
    """Episodes of a Gymnasium environment; see `world_models.data.episodes.Source`.

    Attributes:
      environment, kwargs, modules, observation: see `make`.
      image_size: (height, width) of the frames.
      action_repeat: environment steps an action is held; their rewards are summed.
      policy, repeat_probability: see `make_policy`.
      num_units: number of episodes.
      max_episode_steps: recorded steps after which an episode is cut.
      skip_steps: steps of the policy before recording begins, for title screens and zooms.
      base_seed: seed of the whole recording.
      reset_options: `options` of every reset; empty for none.
    """

    environment: str
    kwargs: dict[str, Any]
    modules: tuple[str, ...]
    observation: str
    image_size: tuple[int, int]
    action_repeat: int
    policy: str
    repeat_probability: float
    num_units: int
    max_episode_steps: int
    skip_steps: int
    base_seed: int
    reset_options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        """Checks everything that can be checked before work begins."""
        self._env: Any = None
        make_policy(self.policy, self.repeat_probability)
        environment = self.make()
        self.action = describe_actions(environment.action_space, self.environment)
        observed, _ = environment.reset(seed=0, **self._options)
        self.pixels(environment, observed)
        environment.close()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the live environment."""
        return {**self.__dict__, "_env": None}

    @property
    def _options(self) -> dict[str, Any]:
        """Arguments of a reset; nothing without options, so that environments need not know them."""
        return {"options": dict(self.reset_options)} if self.reset_options else {}

    def make(self) -> Any:
        """The environment."""
        return make(self.environment, self.kwargs, self.modules, self.observation)

    def pixels(self, environment: Any, observed: Any) -> np.ndarray:
        """The present frame, uint8 [h, w, 3], not yet resized.

        Raises:
          UserError: if the environment gives none.
        """
        image = environment.render() if self.observation == "render" else observed
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
            image = image if image.ndim == 3 else image[..., None]
            if image.shape[-1] in (1, 3):
                return np.broadcast_to(image, (*image.shape[:2], 3))
        other = {"render": "observation", "observation": "render"}[self.observation]
        raise ConfigError(
            "config.record.observation",
            f"config.record.observation={self.observation!r} of {self.environment!r} is no image: try {other!r}.",
        )

    def seed(self, unit: int) -> int:
        """Seed of an episode: of the recording's seed and the episode's number only."""
        return int(np.random.SeedSequence([self.base_seed, unit]).generate_state(1)[0] % 2**31)

    def describe(self, unit: int) -> str:
        """Name of an episode for error messages."""
        return f"episode {unit} of {self.environment} (seed {self.seed(unit)})"

    def reset(self, environment: Any, unit: int) -> Any:
        """Resets an environment for an episode, and the global generators of Python and NumPy, which OGBench uses."""
        seed = self.seed(unit)
        random.seed(seed)
        np.random.seed(seed)
        return environment.reset(seed=seed, **self._options)[0]

    def begin(self, environment: Any, unit: int) -> tuple[Any, Act]:
        """Resets an environment for an episode: what it observes, and the policy."""
        observed = self.reset(environment, unit)
        rng = np.random.default_rng(self.seed(unit))
        return observed, make_policy(self.policy, self.repeat_probability)(environment, rng)

    def episodes(self, unit: int) -> Iterator[Episode]:
        """Plays one episode."""
        self._env = environment = self._env or self.make()
        observed, act = self.begin(environment, unit)
        images, actions, rewards, ended, terminated = [], [], [], False, False
        for step in range(self.skip_steps + self.max_episode_steps - 1):
            if step >= self.skip_steps:
                images.append(encode(self.pixels(environment, observed), self.image_size))
            action = act(observed)
            observed, reward, terminated, ended, _ = self.hold(environment, action)
            if step >= self.skip_steps:
                actions.append(to_array(environment.action_space, action))
                rewards.append(reward)
            if ended:
                break
        if not actions:
            raise ValueError(f"it ended within config.record.skip_steps={self.skip_steps}")
        images.append(encode(self.pixels(environment, observed), self.image_size))
        actions.append(np.zeros_like(actions[0]))
        yield Episode(images, np.stack(actions), np.array([*rewards, 0.0], np.float32), terminated, self.seed(unit))

    def hold(self, environment: Any, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """(observation, summed reward, terminated, ended, info) after holding an action for `action_repeat` steps."""
        reward = 0.0
        for _ in range(self.action_repeat):
            observed, one, terminated, truncated, info = environment.step(action)
            reward += float(one)
            if terminated or truncated:
                break
        return observed, reward, bool(terminated), bool(terminated or truncated), info


def describe_actions(space: Any, name: str) -> dict[str, Any]:
    """An action space as the data set stores it: kind, size, and bounds where they are finite.

    Raises:
      UserError: if it is neither Discrete nor Box nor MultiBinary.
    """
    kind = type(space).__name__
    if kind == "Discrete":
        return {"kind": "discrete", "size": int(space.n), "low": [], "high": []}
    if kind == "MultiBinary":
        size = int(np.prod(space.shape))
        return {"kind": "continuous", "size": size, "low": [0.0] * size, "high": [1.0] * size}
    if kind == "Box":
        low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
        finite = bool(np.isfinite(low).all() and np.isfinite(high).all())
        bounds = {"low": low.tolist() if finite else [], "high": high.tolist() if finite else []}
        return {"kind": "continuous", "size": len(low), **bounds}
    raise ConfigError(
        "config.record.environment",
        f"config.record.environment={name!r} has actions of space {space}, which models here do not take: "
        "Discrete, Box and MultiBinary work; wrap the environment to give one of them.",
    )


def to_array(space: Any, action: Any) -> np.ndarray:
    """An action as it is stored: int64 from 0 for Discrete, else a float32 vector."""
    if type(space).__name__ == "Discrete":
        return np.asarray(int(action) - int(space.start), np.int64)
    return np.asarray(action, np.float32).ravel()
