"""The gradient of a finite-horizon cost from the costs of perturbed rollouts, and nothing else.

Hambly, Xu and Yang 2021 (SIAM J. Control Optim. 59; arXiv 2011.10300), Algorithm 1, with u = +K x.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mbpo.core.precision import double_precision
from mbpo.errors import InputError
from mbpo.lqr import exact
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.validation import positive_semidefinite


class Draws(NamedTuple):
    """How rollouts are drawn: x_0 = mean + start z, w_t = noise z with z standard normal.

    mean [n]; start [n, i] and noise [n, j] have as many columns as their covariances have rank.
    """

    mean: Array
    start: Array
    noise: Array


def draws(system: LinearQuadratic, start_mean: np.ndarray | None = None) -> Draws:
    """x_0 ~ N(mean, X0 - mean mean') and w ~ N(0, W): X0 stays the second moment, so costs stay as they are.

    Raises `InputError` when X0 - mean mean' is not a covariance.
    """
    n = system.state_dim
    mean = np.zeros(n) if start_mean is None else np.asarray(start_mean, np.float64)
    if mean.shape != (n,) or not np.isfinite(mean).all():
        raise InputError(f"start_mean must be {n} finite numbers, got {start_mean!r}")
    spread = system.initial_covariance - np.outer(mean, mean)
    spread = positive_semidefinite("initial_covariance less the square of start_mean", spread)
    return Draws(jnp.asarray(mean), jnp.asarray(_thin_root(spread)), jnp.asarray(_thin_root(system.W)))


def _thin_root(covariance: np.ndarray) -> np.ndarray:
    """L [n, rank] with L L' = covariance: no random number is drawn that nothing depends on."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-14 * max(float(values[-1]), 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


@double_precision
def rollout_gradient(
    system: LinearQuadratic,
    gains: np.ndarray,
    key: Array,
    trajectories: int,
    radius: float,
    start_mean: np.ndarray | None = None,
) -> tuple[Array, Array]:
    """The one-point estimate of dJ/dK_t for every stage, [T, m, n], and the costs it is made of, [T, trajectories].

    For stage t and trajectory i one rollout is run with K_t + U instead of K_t, U = U_t^i uniform on the sphere
    |U|_F = r; with D = mn and M trajectories a stage the estimate is D / (r^2 M) sum_i c_i U_t^i. Every rollout
    has its own start and noise. J is quadratic in one K_t, so the estimate has no bias whatever r is.
    """
    system = exact.resolved(system)
    drawn = draws(system, start_mean)
    return compiled_estimate(system, drawn, jnp.asarray(gains, jnp.float64), key, trajectories, radius)


def estimate(
    system: LinearQuadratic, drawn: Draws, gains: Array, key: Array, trajectories: int, radius: Array | float
) -> tuple[Array, Array]:
    """`rollout_gradient` inside a trace: gains [T, m, n]; the terminal cost must be given."""
    T, m, n = gains.shape
    key_U, key_rollouts = jax.random.split(key)
    U = jax.random.normal(key_U, (T, trajectories, m, n), jnp.float64)
    U = radius * U / jnp.sqrt(jnp.sum(U**2, axis=(-2, -1), keepdims=True))
    costs = _perturbed_costs(system, drawn, gains, U, key_rollouts)
    mean = jnp.einsum("ti,timn->tmn", costs, U) / trajectories
    return m * n / radius**2 * mean, costs


compiled_estimate = jax.jit(estimate, static_argnames="trajectories")


def _perturbed_costs(system: LinearQuadratic, drawn: Draws, gains: Array, U: Array, key: Array) -> Array:
    """The costs [T, M] of rollouts in which stage t plays K_t + U[t, i]; U [T, M, m, n]."""
    A, B, Q, R = (jnp.asarray(each) for each in (system.A, system.B, system.Q, system.R))
    T, M = U.shape[:2]

    def normal(time: Array | int, root: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, time), (T, M, root.shape[1]), jnp.float64) @ root.T

    def step(
        carry: tuple[Array, Array], stage: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        x, cost = carry
        t, K, U_t = stage
        extra = jnp.einsum("imn,in->im", U_t, x[t])  # only the rollouts of stage t play the perturbed gain
        u = (x @ K.T).at[t].add(extra)
        cost = cost + _quadratic(x, Q) + _quadratic(u, R)
        return (x @ A.T + u @ B.T + normal(t + 1, drawn.noise), cost), None

    start = jnp.broadcast_to(drawn.mean, (T, M, drawn.mean.size)) + normal(0, drawn.start)
    (last, cost), _ = jax.lax.scan(step, (start, jnp.zeros((T, M))), (jnp.arange(T), gains, U))
    return cost + _quadratic(last, jnp.asarray(system.terminal_cost))


def _quadratic(x: Array, Q: Array) -> Array:
    return jnp.sum((x @ Q) * x, axis=-1)
