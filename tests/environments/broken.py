"""Tiny environments, each broken in one way, registered as `broken/<Name>-v0` when this module is imported."""

import gymnasium
import numpy as np
from gymnasium import spaces

SEEN = spaces.Box(-np.inf, np.inf, (2,), np.float32)
CHOSEN = spaces.Box(-2.0, 6.0, (1,), np.float32)
AT = 3  # the step at which most of them break


class Sound(gymnasium.Env):
    """A random walk that keeps to the contract; `settings` replaces what it returns at step `AT`."""

    observation_space = SEEN
    action_space = CHOSEN

    def __init__(self, render_mode=None, **settings):
        self.settings, self.render_mode, self.time = settings, render_mode, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.x = 0, self.np_random.normal(size=2).astype(np.float32)
        return self.settings.get("first", (self.x, {}))

    def step(self, action):
        assert self.action_space.contains(action), action
        self.time += 1
        self.x = (0.5 * self.x + action + self.np_random.normal(size=2)).astype(np.float32)
        now = self.settings if self.time == AT else {}
        return (
            now.get("observation", self.x),
            now.get("reward", -float(self.x @ self.x)),
            now.get("terminated", False),
            now.get("truncated", False),
            now.get("info", {}),
        )


class Raises(Sound):
    def step(self, action):
        if self.time == AT - 1:
            raise KeyError("no such joint.\nSecond line")
        return super().step(action)


class RaisesAtReset(Sound):
    def reset(self, *, seed=None, options=None):
        raise RuntimeError


class FourValues(Sound):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class RefusesSeed(Sound):
    def reset(self):
        return np.zeros(2, np.float32), {}


class FailsToStart(Sound):
    def __init__(self):
        raise OSError("cannot find the robot")


class Unseeded(Sound):
    """Draws its noise from a generator that `reset(seed)` does not touch."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.own = np.random.default_rng()

    def step(self, action):
        observation, *rest = super().step(action)
        return observation + self.own.normal(size=2).astype(np.float32), *rest


class Stale(Sound):
    """Keeps part of its state from one episode to the next."""

    carried = 0.0

    def step(self, action):
        self.carried += 1.0
        observation, reward, *rest = super().step(action)
        return observation, reward + self.carried, *rest


class Ends(Sound):
    """Terminates after `after` steps."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward, self.time >= self.settings["after"], *rest[1:]


class Draws(Sound):
    """Draws a frame, then none, then fails; cannot be closed."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def render(self):
        if self.time == 2:
            raise RuntimeError("no GL")
        return np.zeros((4, 5, 3), np.uint8) if self.time == 0 else None

    def close(self):
        raise OSError("stuck")


class NoSpaces(Sound):
    observation_space = None


class Grid(Sound):
    """Sees a 2x3 array of integers."""

    observation_space = spaces.Box(0, 9, (2, 3), np.int64)

    def reset(self, *, seed=None, options=None):
        return np.arange(6).reshape(2, 3), {}

    def step(self, action):
        return np.arange(6).reshape(2, 3), 1, np.bool_(False), False, {}


def with_spaces(seen=SEEN, chosen=CHOSEN):
    return type("WithSpaces", (Sound,), {"observation_space": seen, "action_space": chosen})


SPACES = {
    "DictSeen": with_spaces(seen=spaces.Dict({"x": SEEN})),
    "TupleSeen": with_spaces(seen=spaces.Tuple((SEEN,))),
    "DiscreteSeen": with_spaces(seen=spaces.Discrete(3)),
    "ImageSeen": with_spaces(seen=spaces.Box(0, 255, (64, 64, 3), np.uint8)),
    "EmptySeen": with_spaces(seen=spaces.Box(-1, 1, (0,), np.float32)),
    "DiscreteChosen": with_spaces(chosen=spaces.Discrete(4)),
    "MultiDiscreteChosen": with_spaces(chosen=spaces.MultiDiscrete([2, 3])),
    "UnboundedChosen": with_spaces(chosen=spaces.Box(-np.inf, 1.0, (1,), np.float32)),
    "MatrixChosen": with_spaces(chosen=spaces.Box(-1, 1, (2, 2), np.float32)),
    "IntegerChosen": with_spaces(chosen=spaces.Box(-1, 1, (1,), np.int32)),
    "FrozenChosen": with_spaces(
        chosen=spaces.Box(np.array([0, 1], np.float32), np.array([1, 1], np.float32))
    ),
    "WideSeen": with_spaces(seen=spaces.Box(-1.0, 1.0, (2,), np.float32)),
    "WideChosen": with_spaces(chosen=spaces.Box(-3e38, 3e38, (1,), np.float32)),
}
NAMES = (Sound, Raises, RaisesAtReset, FourValues, RefusesSeed, FailsToStart, Unseeded, Stale) + (
    Ends,
    Draws,
    NoSpaces,
    Grid,
)
ENVIRONMENTS = {**{each.__name__: each for each in NAMES}, **SPACES}

for name, entry in ENVIRONMENTS.items():
    if (
        f"broken/{name}-v0" not in gymnasium.registry
    ):  # the tests of the command line import this file by another name
        gymnasium.register(f"broken/{name}-v0", entry_point=entry)
        gymnasium.register(f"limited/{name}-v0", entry_point=entry, max_episode_steps=20)


# termination rules of users: one that works, the rest broken
def works(observation, action, next_observation):
    return next_observation[0] > 100.0


def two_arguments(observation, action):
    return observation[0] > 0


def not_boolean(observation, action, next_observation):
    return next_observation[0]


def many(observation, action, next_observation):
    return next_observation > 0


def nothing(observation, action, next_observation):
    pass


def branches(observation, action, next_observation):
    return next_observation[0] > 1 and action[0] > 0


def in_numpy(observation, action, next_observation):
    return np.abs(next_observation[0]) > 1


def wrong_size(observation, action, next_observation):
    return next_observation[:2] @ action > 1


CONSTANT = 3.0
