"""Discrete Lyapunov equations and spectral radii inside `jit`, `vmap` and both modes of differentiation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from mbpo.core.precision import double_precision

DOUBLINGS = 48
SQUARINGS = 44


@double_precision
def discrete_lyapunov(F: ArrayLike, X: ArrayLike) -> Array:
    """The solution of S = F S F' + X for a stable F (Smith's doubling).

    F [n, n] with spectral radius below 1, X [n, n], symmetric or not; S [n, n]. Meaningless, possibly not
    finite, when F is not stable. Differentiable to any order in F and X, forwards and backwards, by the
    linear equation itself.
    Source: R. A. Smith, SIAM J. Appl. Math. 16 (1968), 198-201.
    """
    return _discrete_lyapunov(jnp.asarray(F, jnp.float64), jnp.asarray(X, jnp.float64))


@jax.jit
def _discrete_lyapunov(F: Array, X: Array) -> Array:
    return jax.lax.custom_linear_solve(
        lambda S: S - F @ S @ F.T,
        X,
        solve=lambda _, right: _smith(F, right),
        transpose_solve=lambda _, right: _smith(F.T, right),
    )


def _smith(F: Array, X: Array) -> Array:
    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, _, change, step = carry
        return (change > 1e-17) & (step < DOUBLINGS)

    def double(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        S, power, _, step = carry
        added = power @ S @ power.T
        total = S + added
        size = jnp.max(jnp.abs(total))
        change = jnp.max(jnp.abs(added)) / jnp.where(size > 0.0, size, 1.0)
        return total, power @ power, change, step + 1

    start = (X, F, jnp.asarray(jnp.inf, X.dtype), jnp.asarray(0, jnp.int32))
    return jax.lax.while_loop(unfinished, double, start)[0]


@double_precision
def matrix_spectral_radius(F: ArrayLike) -> Array:
    """The largest modulus of an eigenvalue of F [n, n], by Gelfand's limit |F^k|^(1/k) with k = 2^44.

    Repeated squaring with rescaling: it needs matrix products only, so it runs on every device. A constant
    under differentiation; +inf when F is not finite.
    """
    return _matrix_spectral_radius(jax.lax.stop_gradient(jnp.asarray(F, jnp.float64)))


@jax.jit
def _matrix_spectral_radius(F: Array) -> Array:
    def square(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        power, logarithm, weight = carry
        size = jnp.linalg.norm(power)
        power = power / jnp.where(size > 0.0, size, 1.0)
        return power @ power, logarithm + weight * jnp.log(size), weight / 2

    one = jnp.asarray(1.0, F.dtype)
    finite = jnp.all(jnp.isfinite(F))
    start = (jnp.where(finite, F, jnp.zeros_like(F)), one - one, one)
    logarithm = jax.lax.fori_loop(0, SQUARINGS, square, start)[1]
    return jnp.where(finite, jnp.exp(logarithm), jnp.inf)
