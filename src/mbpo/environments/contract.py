"""What an environment must return from `reset` and `step`, checked on every call."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from mbpo.environments.faults import EnvironmentFault, Place

LARGEST = float(np.finfo(np.float32).max)
KINDS = {"f": "floating", "i": "integer", "u": "unsigned integer", "b": "boolean"}
FIVE = "(observation, reward, terminated, truncated, info), as Gymnasium environments do"


def checked_reset(place: Place, answer: Any, space: spaces.Box) -> np.ndarray:
    """The first observation `[n]` in float32 out of what `reset` returned."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise EnvironmentFault(f"{place} returned {_described(answer)}, expected (observation, info)")
    if not isinstance(answer[1], dict):
        raise EnvironmentFault(f"{place} returned info {_described(answer[1])}, expected a dict")
    return checked_observation(place, answer[0], space)


def checked_step(place: Place, answer: Any, space: spaces.Box) -> tuple[np.ndarray, float, bool, bool]:
    """Observation `[n]` in float32, reward, terminated and truncated out of what `step` returned."""
    if not isinstance(answer, tuple) or len(answer) != 5:
        raise EnvironmentFault(f"{place} returned {_described(answer)}, expected {FIVE}")
    observation, reward, terminated, truncated, info = answer
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(value, (bool, np.bool_)):
            raise EnvironmentFault(f"{place} returned {name} {_described(value)}, expected True or False")
    if not isinstance(info, dict):
        raise EnvironmentFault(f"{place} returned info {_described(info)}, expected a dict")
    return (
        checked_observation(place, observation, space),
        checked_reward(place, reward),
        bool(terminated),
        bool(truncated),
    )


def checked_observation(place: Place, observation: Any, space: spaces.Box) -> np.ndarray:
    """`observation` as float32 `[n]`; raises `EnvironmentFault` when it is not what `space` declares, or not finite."""
    if not isinstance(observation, np.ndarray):
        raise EnvironmentFault(
            f"{place} returned the observation {_described(observation)}, expected a NumPy array of shape "
            f"{list(space.shape)}"
        )
    if observation.shape != space.shape:
        raise EnvironmentFault(
            f"{place} returned an observation of shape {list(observation.shape)}, expected {list(space.shape)} as "
            "its observation space declares"
        )
    if observation.dtype.kind != np.dtype(space.dtype).kind:
        raise EnvironmentFault(
            f"{place} returned an observation of dtype {observation.dtype}, expected a "
            f"{KINDS[np.dtype(space.dtype).kind]} one such as {space.dtype}, which its observation space declares"
        )
    with np.errstate(over="ignore"):
        numbers = np.array(observation, np.float32).reshape(-1)
    if not np.isfinite(numbers).all():
        i = int(np.argmin(np.isfinite(numbers)))
        value = observation.reshape(-1)[i]
        what = "finite numbers" if not np.isfinite(value) else "numbers that float32 can hold"
        raise EnvironmentFault(f"{place} returned an observation whose entry {i} is {value}, expected {what}")
    return numbers


def checked_reward(place: Place, reward: Any) -> float:
    """`reward` as a float; raises `EnvironmentFault` unless it is one finite real number."""
    number = isinstance(reward, (int, float, np.integer, np.floating)) and not isinstance(reward, bool)
    if not number:
        raise EnvironmentFault(f"{place} returned the reward {_described(reward)}, expected a real number")
    if not abs(reward) <= LARGEST:
        raise EnvironmentFault(
            f"{place} returned the reward {float(reward)}, expected a finite float32 number"
        )
    return float(reward)


def _described(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)} values"
    if isinstance(value, np.ndarray):
        return f"an array of shape {list(value.shape)} and dtype {value.dtype}"
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 40 else text[:37] + '...'} of type {type(value).__name__}"
