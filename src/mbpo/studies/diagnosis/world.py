"""What the experiments share: the system that failed, rollouts in batches, exact judgement, intervals of a mean.

The experiments are small, so that they are NumPy: compiling them would take longer than running them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array
from scipy.stats import t as student

from mbpo.core.precision import double_precision
from mbpo.lqr import catalogue, exact
from mbpo.lqr.environment import covariance_factor
from mbpo.lqr.optimum import solve
from mbpo.lqr.system import LinearQuadratic

FAILED = "near_diagonal"  # the system of the set-up that failed
SCORED_VARIANCE = 0.1  # its lambda: the policy is scored as N(Kx, 0.1 I)
FIRST_STATE = (0.4, -0.6, 0.2)
LENGTH = 10  # steps of its trajectories
STEP = 0.01  # its constant step size


class Rows(NamedTuple):
    """Transitions of B trajectories of T steps."""

    x: Float[Array, "*runs B T n"]
    u: Float[Array, "*runs B T m"]
    x_next: Float[Array, "*runs B T n"]


class Mean(NamedTuple):
    """A mean over repetitions and the half-width of its 95 % interval (Student's)."""

    value: float
    margin: float


def mean_of(draws: Float[Array, "R"]) -> Mean:
    """The mean of independent draws with its interval."""
    spread = float(np.std(draws, ddof=1)) / np.sqrt(len(draws))
    return Mean(float(np.mean(draws)), float(student.ppf(0.975, len(draws) - 1)) * float(spread))


def rollouts(
    system: LinearQuadratic,
    gain: Float[Array, "*runs m n"],
    factor: Float[Array, "m m"],
    start: Float[Array, "*runs B n"],
    steps: int,
    rng: np.random.Generator,
) -> Rows:
    """B trajectories of u = Kx + L e, e ~ N(0, I), from `start`; with L = 0 the action is Kx to the last bit.

    Draws are shared along those axes of `runs` that `gain` has and `start` has not, or has with length 1.
    """
    A, B = system.A.T, system.B.T
    back = np.swapaxes(gain, -1, -2)
    m = system.action_dim
    noise = rng.standard_normal((steps, *start.shape)) @ covariance_factor(system.W)
    explored = rng.standard_normal((steps, *start.shape[:-1], m)) @ factor.T
    shape = np.broadcast_shapes(start.shape[:-2], gain.shape[:-2])
    x = np.empty((steps + 1, *shape, *start.shape[-2:]))
    u = np.empty((steps, *shape, start.shape[-2], m))
    x[0] = start
    for t in range(steps):
        u[t] = x[t] @ back + explored[t]
        x[t + 1] = x[t] @ A + u[t] @ B + noise[t]
    return Rows(*(np.moveaxis(each, 0, -2) for each in (x[:-1], u, x[1:])))


def draw_states(
    covariance: Float[Array, "n n"], shape: tuple[int, ...], rng: np.random.Generator
) -> Float[Array, "*shape n"]:
    """States from N(0, covariance)."""
    return rng.standard_normal((*shape, len(covariance))) @ covariance_factor(covariance)


def quadratic(matrix: Float[Array, "n n"], x: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """x' matrix x."""
    return np.einsum("...i,...i->...", x @ matrix, x)


def to_go(steps: Float[Array, "*batch T"]) -> Float[Array, "*batch T"]:
    """The sum from each step to the last."""
    return np.flip(np.cumsum(np.flip(steps, -1), axis=-1), -1)


def cosine(a: Float[Array, "m n"], b: Float[Array, "m n"]) -> float:
    """The cosine of the angle between two matrices."""
    return float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def system_and_optimum(name: str) -> tuple[LinearQuadratic, np.ndarray, float]:
    """The system of that name, its optimal gain and its optimal cost."""
    system = catalogue.get(name)
    best = solve(system)
    return system, best.gain, best.cost


def stationary(system: LinearQuadratic, gain: Array, S: Array | None = None) -> Float[Array, "n n"]:
    """The covariance of the states that u = Kx + e, e ~ N(0, S), visits in the long run."""
    Sigma = np.asarray(exact.state_covariance(system, gain, S))
    return (Sigma + Sigma.T) / 2


@double_precision
def excess_of(
    gains: Float[Array, "*batch m n"], system: LinearQuadratic, optimal_cost: float
) -> Float[Array, "*batch"]:
    """J/J* - 1, infinite where a gain does not stabilise or is not finite."""
    found = np.asarray(exact.excess_costs(system, gains, optimal_cost))
    return np.where(np.isnan(found), np.inf, found)
