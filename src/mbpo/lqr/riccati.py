"""The discrete algebraic Riccati equation by structure-preserving doubling, for many systems at once."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from mbpo.core.precision import double_precision
from mbpo.lqr.lyapunov import discrete_lyapunov

DOUBLINGS = 40
REFINEMENTS = 2
RESIDUAL = 1e-8
VANISHED = 1e-6


class Riccati(NamedTuple):
    """A solution: P [n, n], K [m, n] of u = Kx, and whether it is one (both are zero where `ok` is false)."""

    P: Array
    K: Array
    ok: Array


@double_precision
def riccati(A: ArrayLike, B: ArrayLike, Q: ArrayLike, R: ArrayLike) -> Riccati:
    """The stabilising solution of P = Q + A'PA - A'PB (R + B'PB)^-1 B'PA, with K = -(R + B'PB)^-1 B'PA.

    A [n, n], B [n, m], Q [n, n], R [m, m]. Never raises for its numbers: where the doubling does not
    converge, the relative residual exceeds 1e-8 or A + BK is not stable, `ok` is false and P = 0, K = 0, with
    zero derivatives. Differentiable once forwards or backwards, and again, by the implicit function theorem;
    quick under `vmap`.
    Source: E. K.-W. Chu, H.-Y. Fan, W.-W. Lin, C.-S. Wang, Int. J. Control 77 (2004), 767-788, algorithm SDA.
    """
    return Riccati(*_riccati(*(jnp.asarray(each, jnp.float64) for each in (A, B, Q, R))))


@jax.custom_jvp
@jax.jit
def _riccati(A: Array, B: Array, Q: Array, R: Array) -> tuple[Array, Array, Array]:
    P, converged = _doubling(A, B, Q, R)
    P = jax.lax.fori_loop(0, REFINEMENTS, lambda _, P: _policy_iteration(A, B, Q, R, P), P)
    K = _greedy_gain(A, B, R, P)
    F = A + B @ K
    residual = jnp.max(jnp.abs(Q + K.T @ R @ K + F.T @ P @ F - P))
    good = converged & jnp.all(jnp.isfinite(P)) & jnp.all(jnp.isfinite(K))
    good &= residual <= RESIDUAL * jnp.max(jnp.abs(P))
    return jnp.where(good, P, jnp.zeros_like(P)), jnp.where(good, K, jnp.zeros_like(K)), good


@_riccati.defjvp
def _riccati_jvp(primals, tangents):
    A, B, Q, R = primals
    dA, dB, dQ, dR = tangents
    P, K, ok = _riccati(A, B, Q, R)
    F = jnp.where(ok, A + B @ K, jnp.zeros_like(A))
    dF = dA + dB @ K
    change = dF.T @ P @ F
    dP = discrete_lyapunov(F.T, dQ + K.T @ dR @ K + change + change.T)
    dE = dR @ K + dB.T @ P @ F + B.T @ P @ dF + B.T @ dP @ F
    dK = -jnp.linalg.solve(R + B.T @ P @ B, dE)
    nothing = jnp.zeros(ok.shape, jax.dtypes.float0)
    return (P, K, ok), (jnp.where(ok, dP, jnp.zeros_like(P)), jnp.where(ok, dK, jnp.zeros_like(K)), nothing)


def _greedy_gain(A: Array, B: Array, R: Array, P: Array) -> Array:
    return -jnp.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)


def _policy_iteration(A: Array, B: Array, Q: Array, R: Array, P: Array) -> Array:
    """One step of Hewer's iteration, which removes the rounding the doubling has gathered."""
    K = _greedy_gain(A, B, R, P)
    improved = discrete_lyapunov((A + B @ K).T, Q + K.T @ R @ K)
    return jnp.where(jnp.all(jnp.isfinite(improved)), (improved + improved.T) / 2, P)


def _doubling(A: Array, B: Array, Q: Array, R: Array) -> tuple[Array, Array]:
    """P, and whether the doubling settled: `power` dies out like (A + BK)^(2^k), which proves stability."""
    identity = jnp.eye(A.shape[0], dtype=A.dtype)

    def unfinished(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        power, _, _, change, step = carry
        return ((change > 1e-15) | (jnp.max(jnp.abs(power)) > VANISHED)) & (step < DOUBLINGS)

    def double(carry: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        power, G, H, _, step = carry
        solved = jnp.linalg.solve(identity + G @ H, jnp.concatenate([power, G], axis=1))
        left, middle = jnp.split(solved, 2, axis=1)
        added = power.T @ H @ left
        G = G + power @ middle @ power.T
        total = H + (added + added.T) / 2
        change = jnp.max(jnp.abs(added)) / jnp.maximum(jnp.max(jnp.abs(total)), jnp.finfo(H.dtype).tiny)
        return power @ left, (G + G.T) / 2, total, change, step + 1

    G = B @ jnp.linalg.solve(R, B.T)
    start = (A, (G + G.T) / 2, Q, jnp.asarray(jnp.inf, A.dtype), jnp.asarray(0, jnp.int32))
    power, _, P, change, _ = jax.lax.while_loop(unfinished, double, start)
    return P, (change <= 1e-10) & (jnp.max(jnp.abs(power)) <= VANISHED)
