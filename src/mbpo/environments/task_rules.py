"""The termination rules of Gymnasium's own continuous tasks, made from the thresholds of the instance at hand."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mbpo.environments.faults import EnvironmentFault, reason

PLAIN_WRAPPERS = ("OrderEnforcing", "TimeLimit", "PassiveEnvChecker", "HumanRendering", "RenderCollection")
MUJOCO = "gymnasium.envs.mujoco."


@dataclass(frozen=True)
class Never:
    """No transition is terminal."""

    def __call__(
        self, observation: Float[Array, "n"], action: Float[Array, "m"], next_observation: Float[Array, "n"]
    ) -> Bool[Array, ""]:
        return jnp.bool_(False)


class Interval(NamedTuple):
    """Entries start to stop of the next observation must lie between low and high, ends included if closed."""

    start: int
    stop: int | None
    low: float
    high: float
    closed: bool = False


@dataclass(frozen=True)
class LeavesIntervals:
    """Terminal when the next observation is not finite or leaves one of the intervals."""

    intervals: tuple[Interval, ...]

    def __call__(
        self, observation: Float[Array, "n"], action: Float[Array, "m"], next_observation: Float[Array, "n"]
    ) -> Bool[Array, ""]:
        healthy = jnp.all(jnp.isfinite(next_observation))
        for each in self.intervals:
            x = next_observation[each.start : each.stop]
            inside = (each.low <= x) & (x <= each.high) if each.closed else (each.low < x) & (x < each.high)
            healthy = healthy & jnp.all(inside)
        return ~healthy


@dataclass(frozen=True)
class TipFalls:
    """InvertedDoublePendulum: terminal when the tip, at height weights . [1, s1, c1, s12, c12], is at most 1.

    s1, c1 are the sine and cosine of the first pole's angle; s12, c12 of the sum of both angles.
    """

    weights: tuple[float, ...]

    def __call__(
        self, observation: Float[Array, "n"], action: Float[Array, "m"], next_observation: Float[Array, "n"]
    ) -> Bool[Array, ""]:
        s1, s2, c1, c2 = (next_observation[i] for i in (1, 2, 3, 4))
        terms = (1.0, s1, c1, s1 * c2 + c1 * s2, c1 * c2 - s1 * s2)
        height = sum(
            (w * term for w, term in zip(self.weights, terms, strict=True)), start=jnp.zeros_like(s1)
        )
        return jnp.logical_not(height > 1.0)


@dataclass(frozen=True)
class ReachesGoal:
    """MountainCarContinuous: terminal at the goal's position with at least the goal's velocity."""

    position: float
    velocity: float

    def __call__(
        self, observation: Float[Array, "n"], action: Float[Array, "m"], next_observation: Float[Array, "n"]
    ) -> Bool[Array, ""]:
        return (next_observation[0] >= self.position) & (next_observation[1] >= self.velocity)


TaskRule = Never | LeavesIntervals | TipFalls | ReachesGoal


def built_in_rule(gym: gymnasium.Env) -> TaskRule | None:
    """The rule of the task, or None where none is known.

    Known are exact classes, with no wrapper that changes observations: a subclass may end its episodes differently.
    """
    while isinstance(gym, gymnasium.Wrapper):
        if type(gym).__name__ not in PLAIN_WRAPPERS or not type(gym).__module__.startswith(
            "gymnasium.wrappers"
        ):
            return None
        gym = gym.env
    build = BUILDERS.get(type(gym).__module__)
    if build is None:
        return None
    try:
        return build(gym)
    except (TypeError, ValueError) as error:
        raise EnvironmentFault(
            f"the termination thresholds of {type(gym).__name__} are not pairs of numbers ({reason(error)})"
        ) from None


def _never(task: Any) -> TaskRule:
    del task
    return Never()


def _hopper(task: Any) -> TaskRule:
    first = 0 if task._exclude_current_positions_from_observation else 1  # of z, then the angle
    return _if_enforced(
        task,
        _interval(first, task._healthy_z_range),
        _interval(first + 1, task._healthy_angle_range),
        Interval(first + 1, None, *_floats(task._healthy_state_range)),
    )


def _walker(task: Any) -> TaskRule:
    first = 0 if task._exclude_current_positions_from_observation else 1
    return _if_enforced(
        task, _interval(first, task._healthy_z_range), _interval(first + 1, task._healthy_angle_range)
    )


def _ant(task: Any) -> TaskRule:
    first = 0 if task._exclude_current_positions_from_observation else 2
    return _if_enforced(task, _interval(first, task._healthy_z_range)._replace(closed=True))


def _humanoid(task: Any) -> TaskRule:
    first = 0 if task._exclude_current_positions_from_observation else 2
    return _if_enforced(task, _interval(first, task._healthy_z_range))


def _inverted_pendulum(task: Any) -> TaskRule:
    del task
    return LeavesIntervals((Interval(1, 2, -0.2, 0.2, closed=True),))


def _inverted_double_pendulum(task: Any) -> TaskRule | None:
    """The height of the tip is linear in the sines and cosines; its weights are read off the model at hand."""
    mujoco: Any = importlib.import_module("mujoco")
    if task.model.nq != 3 or task.model.nsite < 1:
        return None  # another mechanism, given as xml_file
    data = mujoco.MjData(task.model)
    angles = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [-0.4, 0.9], [1.0, 1.0], [-1.2, 0.3], [2.0, -0.7]])
    heights = []
    for pair in angles:
        data.qpos[1:3] = pair
        mujoco.mj_kinematics(task.model, data)
        heights.append(float(data.site_xpos[0][2]))
    one, both = angles[:, 0], angles.sum(axis=1)
    terms = np.stack([np.ones(len(angles)), np.sin(one), np.cos(one), np.sin(both), np.cos(both)], axis=1)
    weights, *_ = np.linalg.lstsq(terms, np.array(heights), rcond=None)
    if np.abs(terms @ weights - heights).max() > 1e-9:
        return None
    return TipFalls(tuple(float(np.round(weight, 12) + 0.0) for weight in weights))


def _mountain_car(task: Any) -> TaskRule:
    return ReachesGoal(float(task.goal_position), float(task.goal_velocity))


def _if_enforced(task: Any, *intervals: Interval) -> TaskRule:
    return LeavesIntervals(intervals) if task._terminate_when_unhealthy else Never()


def _interval(index: int, limits: tuple[float, float]) -> Interval:
    return Interval(index, index + 1, *_floats(limits))


def _floats(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return float(low), float(high)


BUILDERS: dict[str, Callable[[Any], TaskRule | None]] = {
    "gymnasium.envs.classic_control.pendulum": _never,
    "gymnasium.envs.classic_control.continuous_mountain_car": _mountain_car,
    "mbpo.environments.linear_quadratic": _never,
    **{
        f"{MUJOCO}{task}_{version}": build
        for version in ("v4", "v5")
        for task, build in {
            "hopper": _hopper,
            "walker2d": _walker,
            "half_cheetah": _never,
            "ant": _ant,
            "humanoid": _humanoid,
            "humanoidstandup": _never,
            "inverted_pendulum": _inverted_pendulum,
            "inverted_double_pendulum": _inverted_double_pendulum,
            "swimmer": _never,
            "reacher": _never,
            "pusher": _never,
        }.items()
    },
}
