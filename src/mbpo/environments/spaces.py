"""The spaces an agent can learn in: a vector of numbers to see, a bounded vector of numbers to choose."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from mbpo.environments.faults import EnvironmentFault

LARGEST_FLATTENED = 1024
LARGEST_ACTION = 1e18  # a bound beyond is a way of writing infinity


class ActionBox(NamedTuple):
    """The affine map a -> center + half_width * a from [-1, 1]^m onto the environment's box; all `[m]`."""

    center: np.ndarray
    half_width: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def rescaled(self, action: np.ndarray) -> np.ndarray:
        """`action` `[m]` in [-1, 1]^m (clipped to it) as an action of the environment, inside its box."""
        wanted = self.center + self.half_width * np.asarray(action, np.float64)
        return np.clip(wanted.astype(self.low.dtype), self.low, self.high)


def observation_box(environment: str, space: Any) -> spaces.Box:
    """The observation space if it can be learned from; arrays of more than one axis are read in row-major order.

    Raises `EnvironmentFault` for a space that is not a box of numbers, or an image.
    """
    if not isinstance(space, spaces.Box):
        raise EnvironmentFault(
            f"{environment}: the observation space is {_kind(space)}, expected a Box of real numbers{_cure(space)}"
        )
    size = int(np.prod(space.shape))
    if size == 0:
        raise EnvironmentFault(f"{environment}: the observation space is empty, expected at least one number")
    if len(space.shape) > 1 and size > LARGEST_FLATTENED:
        raise EnvironmentFault(
            f"{environment}: observations of shape {list(space.shape)} look like images, expected a vector (arrays "
            f"of up to {LARGEST_FLATTENED} numbers are flattened)"
        )
    return space


def action_box(environment: str, space: Any) -> ActionBox:
    """The action space as a map from [-1, 1]^m; raises `EnvironmentFault` unless it is a bounded 1-D box of floats."""
    if not isinstance(space, spaces.Box):
        raise EnvironmentFault(
            f"{environment}: the action space is {_kind(space)}, expected a bounded Box of real numbers (only "
            "continuous actions can be learned here)"
        )
    if len(space.shape) != 1 or space.shape[0] == 0:
        raise EnvironmentFault(
            f"{environment}: actions have shape {list(space.shape)}, expected a vector [m]"
        )
    if space.dtype is None or np.dtype(space.dtype).kind != "f":
        raise EnvironmentFault(f"{environment}: actions have dtype {space.dtype}, expected floats")
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    for i, (below, above) in enumerate(zip(low, high, strict=True)):
        if not max(abs(below), abs(above)) <= LARGEST_ACTION:
            raise EnvironmentFault(
                f"{environment}: action {i} ranges over [{below:g}, {above:g}], expected finite bounds (set them in "
                "the environment, or wrap it in gymnasium.wrappers.RescaleAction)"
            )
        if not below < above:
            raise EnvironmentFault(
                f"{environment}: action {i} can only be {below:g}, expected low < high (drop that action)"
            )
    return ActionBox(low / 2 + high / 2, high / 2 - low / 2, space.low, space.high)


def _kind(space: Any) -> str:
    if isinstance(space, spaces.Space):
        return f"{'an' if type(space).__name__[0] in 'AEIOU' else 'a'} {type(space).__name__}"
    return f"a Python {type(space).__name__}" if space is not None else "missing"


def _cure(space: Any) -> str:
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return " (wrap the environment in gymnasium.wrappers.FlattenObservation)"
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return " (discrete states cannot be learned from here)"
    return ""
