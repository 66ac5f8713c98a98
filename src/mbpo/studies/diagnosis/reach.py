"""How far back a stored gain may lie before the ratios of its trajectories are worth nothing, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from mbpo.lqr.optimum import default_gain
from mbpo.lqr.system import LinearQuadratic
from mbpo.studies.diagnosis.world import stationary, system_and_optimum

REACH_CASES = (("double_integrator", 0.3), ("laplacian3", 0.3), ("pendulum", 0.5), ("boeing747", 0.3))
ALMOST_INFINITE = 1e8


@dataclass(frozen=True)
class Reach:
    """Distances from the first gain K_0 towards K*, for trajectories of `steps` steps of u ~ N(K_0 x, s^2 I).

    half: where E rho^2 = 2, so that a trajectory is worth half of one of the present gain; infinite: where E rho^2
    passes `ALMOST_INFINITE`; needed: |K* - K_0|. Exact.
    """

    system: str
    deviation: float
    steps: int
    half: float
    infinite: float
    needed: float


def reaches(steps: int = 20) -> tuple[Reach, ...]:
    """The reach of whole-trajectory ratios on `REACH_CASES` (system, standard deviation s of the actions)."""
    return tuple(_reach(name, deviation, steps) for name, deviation in REACH_CASES)


def _reach(name: str, deviation: float, steps: int) -> Reach:
    system, best, _ = system_and_optimum(name)
    first = default_gain(system)
    needed = float(np.linalg.norm(best - first))
    way = (best - first) / needed
    start = stationary(system, first, deviation**2 * np.eye(system.action_dim))

    def over(distance: float, bound: float) -> float:
        return min(second_moment(system, first + distance * way, first, deviation, steps, start), 1e9) - bound

    far = 1e-3
    while over(far, ALMOST_INFINITE) < 0:
        far *= 1.25
    infinite = _root(lambda distance: over(distance, ALMOST_INFINITE), far / 1.25, far)
    half = _root(lambda distance: over(distance, 2.0), 0.0, infinite)
    return Reach(name, deviation, steps, half, infinite, needed)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-6))  # pyright: ignore[reportArgumentType]


def second_moment(
    system: LinearQuadratic,
    gain: np.ndarray,
    old: np.ndarray,
    deviation: float,
    steps: int,
    start: np.ndarray,
) -> float:
    """E rho^2 of the ratio of a whole trajectory of u ~ N(K_b x, s^2 I) from x_0 ~ N(0, start); may be infinite.

    N(u; Kx, S)^2 / N(u; K_b x, S) = exp(|S^-1/2 D x|^2) N(u; (2K - K_b) x, S), D = K - K_b, so it is the mean of
    exp(sum |S^-1/2 D x_t|^2) under the gain 2K - K_b, a Gaussian integral solved backwards in time.
    """
    D = gain - old
    F = system.A + system.B @ (2 * gain - old)
    W = system.W + deviation**2 * system.B @ system.B.T
    stage = D.T @ D / deviation**2
    Pi, logarithm = stage, 0.0
    for _ in range(steps - 1):
        inner, added = _gaussian_mean(W, Pi)
        Pi, logarithm = stage + F.T @ inner @ F, logarithm + added
    return float(np.exp(min(logarithm + _gaussian_mean(start, Pi)[1], 700.0)))


def _gaussian_mean(W: np.ndarray, Pi: np.ndarray) -> tuple[np.ndarray, float]:
    """Pi' and a with E exp((y + w)'Pi(y + w)) = exp(a + y'Pi'y), w ~ N(0, W); a is infinite where it diverges."""
    root = np.linalg.cholesky(W)
    values = np.linalg.eigvalsh(np.eye(len(W)) - 2 * root.T @ Pi @ root)
    if values[0] <= 0:
        return Pi, np.inf
    return Pi @ np.linalg.inv(np.eye(len(W)) - 2 * W @ Pi), -0.5 * float(np.log(values).sum())
