"""How far a linear-quadratic system wanders under its optimal policy: what limits and starts are measured in."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mbpo.lqr.environment import covariance_factor
from mbpo.lqr.optimum import Optimum
from mbpo.lqr.reference import lyapunov
from mbpo.lqr.system import LinearQuadratic

DISCOUNTED_LIFETIMES = 5.0
NEGLIGIBLE = 1e-9


class OptimalSpread(NamedTuple):
    """start [n, n]: covariance of the first state. state [n], action [m]: the largest standard deviations of each
    coordinate of x_t and of u_t = K_t x_t over an episode that follows the optimal policy; all positive.
    """

    start: np.ndarray
    state: np.ndarray
    action: np.ndarray


def optimal_spread(system: LinearQuadratic, optimum: Optimum, episode_length: int) -> OptimalSpread:
    """Spread of the optimal policy: Sigma_{t+1} = (A + B K_t) Sigma_t (A + B K_t)' + W over the episode.

    On average cost the episode starts from the stationary Sigma, which then stays; from X0 where Sigma is zero, and
    otherwise. With discount g the time looked at is at most 5 / (1 - g), beyond which nothing counts and the closed
    loop may grow. A coordinate that never moves gets the largest spread of the others (1 when none moves).
    """
    start = system.initial_covariance
    if system.objective == "average":
        stationary = lyapunov(system.A + system.B @ optimum.gain, system.W)
        start = stationary if np.any(stationary) else start
    steps = episode_length
    if system.discount is not None:
        steps = min(steps, math.ceil(DISCOUNTED_LIFETIMES / (1 - system.discount)))
    Sigma = start
    state, action = np.zeros(system.state_dim), np.zeros(system.action_dim)
    for t in range(steps):
        K = optimum.gain if optimum.gains is None else optimum.gains[t]
        state = np.maximum(state, np.diag(Sigma))
        action = np.maximum(action, np.einsum("ij,jk,ik->i", K, Sigma, K))
        F = system.A + system.B @ K
        Sigma = F @ Sigma @ F.T + system.W
    state = np.maximum(state, np.diag(Sigma))
    return OptimalSpread(start, _positive(np.sqrt(state)), _positive(np.sqrt(np.maximum(action, 0.0))))


def normal_draws(rng: np.random.Generator, root: np.ndarray, count: int | None = None) -> np.ndarray:
    """Draws `[n]`, or `[count, n]`, from N(0, root root')."""
    shape = (len(root),) if count is None else (count, len(root))
    return rng.standard_normal(shape) @ root.T


def root_of(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance `[n, n]`, singular ones included."""
    return covariance_factor(covariance)


def _positive(spread: np.ndarray) -> np.ndarray:
    largest = float(spread.max())
    return np.where(spread > NEGLIGIBLE * largest, spread, largest) if largest > 0 else np.ones_like(spread)
