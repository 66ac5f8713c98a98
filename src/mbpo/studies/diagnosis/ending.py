"""Defect 7: a finite horizon whose end is not the end of the problem.

The best single gain of J_T = E [sum_{t<T} (x_t'Q x_t + u_t'R u_t) + x_T'Q_T x_T] is the Riccati gain for every T if
Q_T = P*. With Q_T = Q it is optimal for a world that stops after T steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import numpy as np
from scipy.optimize import minimize

from mbpo.core.precision import double_precision
from mbpo.lqr import exact
from mbpo.lqr.optimum import default_gain
from mbpo.lqr.system import LinearQuadratic
from mbpo.studies.diagnosis.world import stationary, system_and_optimum

ENDING_SYSTEMS = ("double_integrator", "laplacian3", "pendulum", "boeing747")
HORIZONS = (10, 20, 50, 200)


@dataclass(frozen=True)
class Ending:
    """The best single gain of J_T by horizon `[h]`, judged by its average cost: J/J* - 1, infinite if unstable.

    with_Q: terminal cost Q; with_P: terminal cost P*; slope: the largest relative gradient left by the minimiser.
    """

    system: str
    horizons: np.ndarray
    with_Q: np.ndarray
    with_P: np.ndarray
    slope: float


@double_precision
def ending(name: str, horizons: tuple[int, ...] = HORIZONS) -> Ending:
    """Excess average cost of the minimiser of J_T over one gain.

    First states are drawn from the stationary law of the optimal gain, and descent begins at `default_gain`, the gain
    that learning starts from. With Q_T = Q the minimiser depends on the law of the first state.
    """
    system, best, optimal = system_and_optimum(name)
    Sigma = stationary(system, best)
    found: dict[str, list[float]] = {"Q": [], "P": []}
    slopes = []
    for T in horizons:
        for end, terminal in (("Q", system.Q), ("P", None)):
            finite = replace(
                system, horizon=T, terminal_cost=terminal, initial_covariance=Sigma, name="system", source=""
            )
            gain, slope = best_single_gain(exact.resolved(finite), default_gain(system))
            excess = float(exact.excess_cost(system, gain, optimal))
            found[end].append(max(excess, 0.0))
            slopes.append(slope)
    return Ending(name, np.asarray(horizons), np.array(found["Q"]), np.array(found["P"]), max(slopes))


def endings(horizons: tuple[int, ...] = HORIZONS) -> tuple[Ending, ...]:
    """`ending` of each of `ENDING_SYSTEMS`."""
    return tuple(ending(name, horizons) for name in ENDING_SYSTEMS)


def best_single_gain(system: LinearQuadratic, start: np.ndarray) -> tuple[np.ndarray, float]:
    """The minimiser of the exact finite-horizon cost over one gain, by BFGS, and its gradient relative to the cost."""

    first = float(
        _cost_and_gradient(system, start)[0]
    )  # the unit: BFGS first steps as far as the gradient is long

    def cost_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _cost_and_gradient(system, flat.reshape(start.shape))
        return float(value) / first, np.asarray(slope).ravel() / first

    solution = minimize(
        cost_and_gradient, start.ravel(), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 2000}
    )
    return solution.x.reshape(start.shape), float(np.linalg.norm(solution.jac) / solution.fun)


@jax.jit
def _cost_and_gradient(system: LinearQuadratic, gain: np.ndarray) -> tuple[jax.Array, jax.Array]:
    return exact.cost(system, gain), exact.gradient(system, gain)
