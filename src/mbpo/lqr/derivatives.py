"""Exact derivatives of the cost in the gain and in the model, and of the optimal gain in the model.

M = R + g B'PB and E = MK + g B'PA with g the discount (1 on average cost); `vec` runs along rows, as
`reshape(-1)` does. Quantities of a gain that does not stabilise are NaN. With a finite horizon, one gain [m,
n] is held for all stages and a gain for each stage, [T, m, n], gets its derivatives stage by stage.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from mbpo.errors import InputError
from mbpo.lqr.evaluation import Setting, covariances, defined, exact_function, policy_cost, setting, values
from mbpo.lqr.riccati import Riccati, riccati
from mbpo.lqr.system import LinearQuadratic


def _curvature_and_error(system: LinearQuadratic, at: Setting, P: Array) -> tuple[Array, Array]:
    """M and E, of each stage when there are stages."""
    A, B, R = jnp.asarray(system.A), jnp.asarray(system.B), jnp.asarray(system.R)

    def one(K: Array, later: Array) -> tuple[Array, Array]:
        M = R + at.discount * (B.T @ later @ B)
        return M, M @ K + at.discount * (B.T @ later @ A)

    return one(at.gains, P) if system.horizon is None else jax.vmap(one)(at.gains, P[1:])


def _gradient(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None) -> Array:
    at = setting(system, gain, exploration)
    _, E = _curvature_and_error(system, at, values(system, at))
    Sigma = covariances(system, at)
    if system.horizon is None:
        return defined(at, 2.0 * E @ Sigma)
    stages = 2.0 * E @ Sigma[:-1]
    return jnp.sum(stages, axis=0) if jnp.ndim(gain) == 2 else stages


@exact_function
def gradient(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None = None) -> Array:
    """dJ/dK = 2 E Sigma, [m, n]; finite horizon: 2 sum_t E_t Sigma_t, or [T, m, n] for a gain for each stage.

    Source: M. Fazel, R. Ge, S. Kakade, M. Mesbahi, ICML 2018, lemma 1 (there u = -Kx).
    """
    return _gradient(system, gain, exploration)


@exact_function
def natural_gradient(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None = None) -> Array:
    """Gradient times Sigma^-1, 2 E, [m, n]: the form of Fazel et al., unit action covariance.

    For u ~ N(Kx, S) the Fisher form is S times this. `exploration` matters only when one gain is held over a
    finite horizon: 2 (sum_t E_t Sigma_t)(sum_t Sigma_t)^-1, pseudo-inverse if need be. [T, m, n] for a gain
    for each stage.
    """
    at = setting(system, gain, exploration)
    _, E = _curvature_and_error(system, at, values(system, at))
    if system.horizon is None:
        return defined(at, 2.0 * E)
    if jnp.ndim(gain) == 3:
        return 2.0 * E
    Sigma = covariances(system, at)[:-1]
    return 2.0 * jnp.sum(E @ Sigma, axis=0) @ jnp.linalg.pinv(jnp.sum(Sigma, axis=0), hermitian=True)


@exact_function
def gauss_newton_step(
    system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None = None
) -> Array:
    """M^-1 E, [m, n], to be subtracted: K - M^-1 E is one step of policy iteration (Hewer, 1971).

    `exploration` matters only when one gain is held over a finite horizon: the D with
    sum_t M_t D Sigma_t = sum_t E_t Sigma_t, of least norm if need be. [T, m, n] for a gain for each stage.
    """
    at = setting(system, gain, exploration)
    M, E = _curvature_and_error(system, at, values(system, at))
    if system.horizon is None:
        return defined(at, jnp.linalg.solve(M, E))
    if jnp.ndim(gain) == 3:
        return jnp.linalg.solve(M, E)
    Sigma = covariances(system, at)[:-1]
    curvature = jnp.sum(jax.vmap(jnp.kron)(M, Sigma), axis=0)
    right = jnp.sum(E @ Sigma, axis=0)
    return (jnp.linalg.pinv(curvature, hermitian=True) @ right.reshape(-1)).reshape(right.shape)


@exact_function
def hessian(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None = None) -> Array:
    """The second derivative H of J in vec K, along rows, [mn, mn].

    D'HD = 2 tr(D'MD Sigma) + 4 tr(D'B'P'[D]F Sigma), P'[D] = F'P'[D]F + D'E + E'D (discounted: each F and B
    with the root of the discount); at the optimum H is 2 M (x) Sigma. [Tmn, Tmn] for a gain for each stage.
    """
    gains = jnp.asarray(gain, jnp.float64)
    jacobian = jax.jacfwd(lambda K: _gradient(system, K, exploration))(gains)
    H = jacobian.reshape(gains.size, gains.size)
    return (H + H.T) / 2.0


@exact_function
def cost_sensitivity(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None = None) -> Array:
    """dJ/d[A B] at a fixed gain, [n, n+m].

    Average: dJ = 2 tr(Sigma F'P(dA + dB K)) + 2 tr(S B'P dB). Discounted: g times that, S over 1-g. Finite
    horizon: the sum over stages with P_{t+1} and Sigma_t, the terminal cost held fixed.
    """
    at = setting(system, gain, exploration)
    P, Sigma = values(system, at), covariances(system, at)
    transposed = jnp.swapaxes(at.gains, -1, -2)
    if system.horizon is None:
        steady = 2.0 * jnp.sqrt(at.discount) * (P @ at.F @ Sigma)
        weight = at.discount if system.discount is None else at.discount / (1.0 - at.discount)
        by_A, by_B, P_sum = steady, steady @ transposed, weight * P
    else:
        stages = 2.0 * (P[1:] @ at.F @ Sigma[:-1])
        by_A, by_B, P_sum = (
            jnp.sum(stages, axis=0),
            jnp.sum(stages @ transposed, axis=0),
            jnp.sum(P[1:], axis=0),
        )
    if at.S is not None:
        by_B = by_B + 2.0 * (P_sum @ system.B @ at.S)
    return defined(at, jnp.concatenate([by_A, by_B], axis=1))


def _optimum(A: ArrayLike, B: ArrayLike, system: LinearQuadratic) -> Riccati:
    root = jnp.sqrt(jnp.asarray(1.0 if system.discount is None else system.discount, jnp.float64))
    return riccati(root * A, root * B, system.Q, system.R)


@exact_function
def stationary_optimum(system: LinearQuadratic) -> Riccati:
    """(P, K, ok) of the optimal time-invariant gain, in a trace too; `mbpo.lqr.optimum` has the reference.

    Discounted: of (g^1/2 A, g^1/2 B). Finite horizon: of the undiscounted problem without an end, optimal
    when the terminal cost is its P. Where there is none, `ok` is false and P = 0, K = 0.
    """
    return _optimum(system.A, system.B, system)


@exact_function
def gain_sensitivity(system: LinearQuadratic) -> Array:
    """DK = d vec K* / d vec [A B] of `stationary_optimum`, along rows, [mn, n(n+m)]; NaN without optimum.

    With dF = dA + dB K and dP = F'dP F + dF'PF + F'P dF: dK = -M^-1 (dB'PF + B'P dF + B'dP F); discounted:
    the same for (g^1/2 A, g^1/2 B).
    """
    return _gain_sensitivity(system)[1]


def _gain_sensitivity(system: LinearQuadratic) -> tuple[Riccati, Array]:
    n = system.A.shape[0]
    theta = jnp.concatenate([system.A, system.B], axis=1)

    def best(theta: Array) -> tuple[Array, Riccati]:
        solution = _optimum(theta[:, :n], theta[:, n:], system)
        return solution.K, solution

    jacobian, solution = jax.jacfwd(best, has_aux=True)(theta)
    return solution, jnp.where(solution.ok, jacobian.reshape(-1, theta.size), jnp.nan)


@exact_function
def optimum_loss(system: LinearQuadratic) -> tuple[Array, Array, Array]:
    """DK, half the Hessian M (x) Sigma at the optimal stationary gain [mn, mn], and J*, compiled together."""
    solution, DK = _gain_sensitivity(system)
    at = setting(system, solution.K)
    Sigma = covariances(system, at)
    visited = Sigma if system.horizon is None else jnp.sum(Sigma[:-1], axis=0)
    M = system.R + at.discount * (system.B.T @ solution.P @ system.B)
    return DK, jnp.kron(M, visited), policy_cost(system, solution.K, None)


def check_stationary(system: LinearQuadratic, what: str) -> None:
    """Raise `InputError` unless one gain is optimal at every stage: no horizon, or terminal cost P*."""
    if system.horizon is not None and system.terminal_cost is not None:
        P = np.asarray(stationary_optimum(system).P)
        if np.abs(P - system.terminal_cost).max() > 1e-6 * np.abs(P).max():
            raise InputError(
                f"system {system.name!r}: {what} needs the optimal value matrix as terminal cost"
            )
