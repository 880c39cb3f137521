"""Any Gymnasium environment as a source of pixel episodes. Imported by worker processes: no JAX here."""

import contextlib
import copy
import dataclasses
import difflib
import importlib
import os
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from world_models.core.errors import ConfigError, UserError, config_error
from world_models.data.episodes import Episode, check_fit, describe_fit, encode, fitted
from world_models.environments.actions import describe_actions, to_array
from world_models.environments.instances import instances
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
    "TumblingObjects-": ("world_models.environments.tumbling", "robotics"),
    "pointmaze-": ("ogbench", "ogbench"),
    "antmaze-": ("ogbench", "ogbench"),
    "humanoidmaze-": ("ogbench", "ogbench"),
    "antsoccer-": ("ogbench", "ogbench"),
    "visual-": ("ogbench", "ogbench"),
    "cube-": ("ogbench", "ogbench"),
    "scene-": ("ogbench", "ogbench"),
    "puzzle-": ("ogbench", "ogbench"),
    "powderworld-": ("ogbench", "ogbench"),
    "CarRacing-held-": ("world_models.environments.car_racing", "box2d"),
    "CarRacing-": ("Box2D", "box2d"),
    "LunarLander": ("Box2D", "box2d"),
    "BipedalWalker": ("Box2D", "box2d"),
}


class Held(NamedTuple):
    """What an environment said while an action was held.

    Attributes:
      observed: after the last step.
      reward: summed over the steps.
      terminated, truncated: as Gymnasium has them.
      info: of the last step.
      whole: whether the action was held as long as it should be, or the environment ended; a time limit may cut it.
    """

    observed: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    whole: bool


def known_module(name: str) -> tuple[str | None, str]:
    """The module whose import registers an environment's id, if it is of `KNOWN`, and the extra that brings it."""
    return next((known for prefix, known in KNOWN.items() if name.startswith(prefix)), (None, "simulators"))


def make(name: str, kwargs: dict[str, Any], modules: tuple[str, ...] = (), observation: str = "render") -> Any:
    """Makes an environment by its id, importing what registers it.

    Args:
      name: Gymnasium id.
      kwargs: for `gymnasium.make`.
      modules: modules to import first.
      observation: "render" asks for rendered frames; "observation" leaves the environment as it is.

    Raises:
      UserError: if the id is unknown, a package is missing, or the environment cannot be made.
    """
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    module, extra = known_module(name)
    install = f"pip install -e '.[{extra}]'"
    for own in modules:
        with failing("config.record.modules", f"config.record.modules: importing {own!r}"):
            importlib.import_module(own)
    try:
        import gymnasium

        if module:
            importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            "config.record.environment", f"config.record.environment={name!r} needs {error.name!r}: {install}"
        ) from error
    try:
        render = {"render_mode": "rgb_array"} if observation == "render" else {}
        with failing("config.record.environment", f"config.record.environment: making {name!r}", TypeError, ValueError):
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
        if isinstance(error, UserError):
            raise
        raise ConfigError(
            "config.record.environment_kwargs",
            f"config.record.environment_kwargs={kwargs} do not suit {name!r}: {error}",
        ) from error


@contextlib.contextmanager
def failing(field: str, what: str, *other: type[Exception]) -> Iterator[None]:
    """Turns any exception of code of the user's, but UserError and `other`, into a ConfigError: "<what> failed …"."""
    import gymnasium

    try:
        yield
    except (UserError, gymnasium.error.DependencyNotInstalled, gymnasium.error.UnregisteredEnv, *other):
        raise
    except Exception as error:
        raise ConfigError(field, f"{what} failed with {type(error).__name__}: {error}") from error


@dataclasses.dataclass
class GymnasiumSource:
    """Episodes of a Gymnasium environment; see `world_models.data.episodes.Source`.

    Attributes:
      environment, kwargs, modules, observation: see `make`.
      observation_key: path of the image in observations that are dictionaries; empty where they are images.
      image_size: (height, width) of the frames.
      fit: how frames of other proportions get there; see `world_models.data.episodes.fitted`.
      action_repeat: environment steps an action is held; their rewards are summed.
      policy, repeat_probability: see `make_policy`.
      num_units: number of episodes.
      max_episode_steps: recorded steps after which an episode is cut.
      skip_steps: steps of the policy before recording begins, for title screens and zooms.
      base_seed: seed of the whole recording.
      reuse_environment: whether a worker plays all its episodes in one environment, instead of a new one for each.
      reset_options: `options` of every reset; empty for none.
      instances: whether masks of the bodies are stored; see `world_models.environments.instances`.
    """

    environment: str
    kwargs: dict[str, Any]
    modules: tuple[str, ...]
    observation: str
    observation_key: str
    image_size: tuple[int, int]
    fit: str
    action_repeat: int
    policy: str
    repeat_probability: float
    num_units: int
    max_episode_steps: int
    skip_steps: int
    base_seed: int
    reuse_environment: bool
    reset_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    instances: bool = False

    def __post_init__(self):
        """Checks everything that can be checked before work begins: makes, resets and looks, and asks the policy."""
        self._env: Any = None
        check_fit(self.fit)
        make_policy(self.policy, self.repeat_probability)
        environment = self.make()
        try:
            self.action = describe_actions(environment.action_space, self.environment)
            with failing("config.record.environment", f"config.record.environment={self.environment!r}: a reset"):
                observed = self.reset(environment, 0)
                frame = self.pixels(environment, observed)
            self._check_instances(environment, frame)
            with failing("config.record.policy", f"config.record.policy={self.policy!r}"):
                action = self._policy(environment, 0)(observed)
            self._stored(environment, action, 0, 0)
        finally:
            _close(environment)
        self.summary = describe_fit([frame.shape[:2]], self.image_size, self.fit)

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

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """An environment for an episode: a new one, which nothing before can have changed, or the worker's own."""
        if self.reuse_environment:
            self._env = self._env or self.make()
            yield self._env
            return
        environment = self.make()
        try:
            yield environment
        finally:
            _close(environment)

    def pixels(self, environment: Any, observed: Any) -> np.ndarray:
        """The present frame, uint8 [h, w, 3], not yet resized. Of RGBA the colours are taken as they are.

        Raises:
          ConfigError: if the environment gives none.
        """
        if self.observation == "render":
            image = environment.render()
        else:
            image = at_key(observed, self.observation_key)
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
            image = image if image.ndim == 3 else image[..., None]
            if image.shape[-1] not in (1, 3, 4) and image.shape[0] in (1, 3):
                image = np.moveaxis(image, 0, -1)
            if image.shape[-1] in (1, 3, 4):
                return np.broadcast_to(image[..., :3], (*image.shape[:2], 3))
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        other = {"render": "observation", "observation": "render"}[self.observation]
        raise ConfigError(
            "config.record.observation",
            f"config.record.observation={self.observation!r} of {self.environment!r} is no image: try {other!r}. "
            f"It is {found}; images are uint8 [height, width], [height, width, 1, 3 or 4] or [1 or 3, height, width].",
        )

    def frame(self, environment: Any, observed: Any) -> np.ndarray:
        """The present frame as it is recorded, uint8 [height, width, 3] of `image_size`; a copy."""
        return np.array(fitted(self.pixels(environment, observed), self.image_size, self.fit))

    def seed(self, unit: int) -> int:
        """Seed of an episode: of the recording's seed and the episode's number only."""
        return int(np.random.SeedSequence([self.base_seed, unit]).generate_state(1)[0] % 2**31)

    def key(self, unit: int) -> str:
        """Name of an episode's files: its number."""
        return str(unit)

    def metadata(self, unit: int) -> dict[str, Any]:
        """What is stored with an episode."""
        return {"seed": self.seed(unit), "environment": self.environment, "policy": self.policy}

    def describe(self, unit: int) -> str:
        """Name of an episode for error messages."""
        return f"episode {unit} of {self.environment} (seed {self.seed(unit)})"

    def reset(self, environment: Any, unit: int) -> Any:
        """Resets an environment for an episode, and the global generators of Python and NumPy, which OGBench uses."""
        seed = self.seed(unit)
        random.seed(seed)
        np.random.seed(seed)
        found = environment.reset(seed=seed, **self._options)
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)):
            raise TypeError("reset(seed=...) must return (observation, info), as Gymnasium's does")
        return found[0]

    def begin(self, environment: Any, unit: int) -> tuple[Any, Act]:
        """Resets an environment for an episode: what it observes, and the policy."""
        return self.reset(environment, unit), self._policy(environment, unit)

    def _policy(self, environment: Any, unit: int) -> Act:
        return make_policy(self.policy, self.repeat_probability)(environment, np.random.default_rng(self.seed(unit)))

    def episodes(self, unit: int) -> Iterator[Episode]:
        """Plays one episode."""
        with self.opened() as environment:
            yield self._play(environment, unit)

    def _play(self, environment: Any, unit: int) -> Episode:
        observed, act = self.begin(environment, unit)
        images, masks, actions, rewards = [], [], [], []
        look = lambda: self._look(environment, observed)
        for step in range(self.skip_steps + self.max_episode_steps - 1):
            before = look() if step >= self.skip_steps else None
            action = act(observed)
            stored = self._stored(environment, action, unit, step)
            held = self.hold(environment, action)
            if step >= self.skip_steps:
                images.append(before[0])
                masks += before[1:]
                if not held.whole:
                    break
                actions.append(stored)
                rewards.append(held.reward)
            observed = held.observed
            if held.terminated or held.truncated:
                break
        if not actions:
            once = f"before an action was held for config.record.action_repeat={self.action_repeat} steps"
            raise ValueError(f"it ended within config.record.skip_steps={self.skip_steps}, or {once}")
        if len(images) == len(actions):
            image, *mask = look()
            images.append(image)
            masks += mask
        actions.append(np.zeros_like(actions[0]))
        return Episode(images, np.stack(actions), np.array([*rewards, 0.0], np.float32), held.terminated, masks)

    def _look(self, environment: Any, observed: Any) -> tuple[bytes, ...]:
        """The present frame, and with `instances` its mask, as PNG files."""
        frame = encode(self.pixels(environment, observed), self.image_size, self.fit)
        if not self.instances:
            return (frame,)
        return frame, encode(instances(environment)[..., None], self.image_size, self.fit, nearest=True)

    def _check_instances(self, environment: Any, frame: np.ndarray) -> None:
        if not self.instances:
            return
        if self.observation != "render":
            raise config_error("config.record.instances", True, "be False where observation is not 'render'")
        found = instances(environment).shape
        if found != frame.shape[:2]:
            raise config_error("config.record.instances", True, f"be False: masks are {found}, not {frame.shape[:2]}")

    def _stored(self, environment: Any, action: Any, unit: int, step: int) -> np.ndarray:
        """A copy of an action as it is stored; see `to_array`."""
        try:
            return to_array(environment.action_space, action)
        except ValueError as error:
            what = f"config.record.policy={self.policy!r}: at step {step} of {self.describe(unit)} {error}."
            raise ConfigError("config.record.policy", what) from error

    def hold(self, environment: Any, action: Any) -> Held:
        """Holds an action for `action_repeat` steps, or to the end of the episode; the action stays as it is."""
        total, count = 0.0, 0
        while count < self.action_repeat:
            found = environment.step(copy.deepcopy(action))
            if len(found) != 5:
                raise TypeError("step() must return (observation, reward, terminated, truncated, info)")
            observed, reward, terminated, truncated, info = found
            total, count = total + float(reward), count + 1
            if terminated or truncated:
                break
        whole = bool(terminated) or count == self.action_repeat
        return Held(observed, total, bool(terminated), bool(truncated), info, whole)


def at_key(observed: Any, key: str) -> Any:
    """The part of an observation at a path of keys such as "camera/front"; the whole for an empty path.

    Raises:
      ConfigError: if there is none.
    """
    for name in key.split("/") if key else ():
        if not isinstance(observed, dict) or name not in observed:
            has = f"the keys {', '.join(map(repr, observed))}" if isinstance(observed, dict) else "no keys"
            raise config_error(
                "config.record.observation_key", key, f"lead to an image: {name!r} is not there, but {has}"
            )
        observed = observed[name]
    return observed


def _close(environment: Any) -> None:
    with contextlib.suppress(Exception):  # the episode is complete
        environment.close()
