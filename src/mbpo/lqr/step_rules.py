"""Step sizes and a radius for descending a finite-horizon cost where the user gives none.

The rules use the exact system, which a learner from rollouts would not have: they spare a study the tuning by hand and
are no part of its algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mbpo.core.precision import double_precision
from mbpo.lqr import exact
from mbpo.lqr.system import LinearQuadratic

POWER_ITERATIONS = 60
CAUTION = 4.0  # a noisy step is at least this many times shorter than an exact one
NOISE_FLOOR = 0.005  # the relative error at which noisy descent may come to rest


@double_precision
def largest_curvature(system: LinearQuadratic, gains: np.ndarray) -> float:
    """The largest absolute eigenvalue of the Hessian of J in all gains [T, m, n], by power iteration."""
    return float(_largest_curvature(exact.resolved(system), jnp.asarray(gains)))


@jax.jit
def _largest_curvature(system: LinearQuadratic, gains: Array) -> Array:
    def along(direction: Array) -> Array:
        return jax.jvp(lambda K: exact.gradient(system, K), (gains,), (direction,))[1]

    def step(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        image = along(state[0])
        size = jnp.sqrt(jnp.sum(image**2))
        return jnp.where(size > 0.0, image / jnp.where(size > 0.0, size, 1.0), state[0]), size

    first = jax.random.normal(jax.random.key(0), gains.shape, jnp.float64)
    first = first / jnp.sqrt(jnp.sum(first**2))
    return jax.lax.fori_loop(0, POWER_ITERATIONS, step, (first, jnp.zeros(())))[1]


def exact_step(system: LinearQuadratic, start: np.ndarray, best: np.ndarray) -> float:
    """1 / L with L the larger curvature of the two ends of the descent, first and optimal gains [T, m, n]."""
    curvature = max(largest_curvature(system, start), largest_curvature(system, best))
    return 1.0 / curvature if curvature > 0 else 1.0


def smoothing_radius(system: LinearQuadratic, best: np.ndarray, optimal_cost: float) -> float:
    """The r at which perturbing the most sensitive stage doubles the optimal cost: r^2 = 2 D J* / max_t tr H_t.

    H_t = 2 M_t (x) Sigma_t is the curvature in K_t at the optimal gains `best` and D = mn. The variance of the
    one-point estimate grows without bound as r goes to 0 and to infinity, and is least near this r.
    """
    P = np.asarray(exact.value_matrix(system, best))[1:]
    Sigma = np.asarray(exact.state_covariance(system, best))[:-1]
    M = system.R + system.B.T @ P @ system.B
    curvature = 2 * np.trace(M, axis1=1, axis2=2) * np.trace(Sigma, axis1=1, axis2=2)
    largest = float(curvature.max())
    return float(np.sqrt(2 * system.B.size * optimal_cost / largest)) if largest > 0 else 1.0


def noisy_step(pilots: Sequence[tuple[float, np.ndarray]], longest: float, size: int, radius: float) -> float:
    """The step of noisy descent, from `pilots`: the cost J and the costs [T, M] of rollouts, at both of its ends.

    Steps a with a noise of variance V over all stages come to rest about a V / 4 above the optimum, where
    V <= D^2 / (r^2 M) sum_t E c_t^2 and D = `size`. At both ends the step makes that `NOISE_FLOOR` of the cost
    there at most; it is at most `longest` / `CAUTION` too.
    """
    steps = [longest / CAUTION]
    for cost, costs in pilots:
        with np.errstate(over="ignore"):
            variance = size**2 / (radius**2 * costs.shape[1]) * float(np.sum(np.mean(costs**2, axis=1)))
        steps.append(4 * NOISE_FLOOR * cost / variance)
    return min(steps)
