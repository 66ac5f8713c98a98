"""Quadratic value functions by least-squares temporal differences (LSTD, Bradtke & Barto 1996; LSTD-Q, Lagoudakis &
Parr 2003), for linear-quadratic systems exact up to sampling noise: the value of a linear policy *is* quadratic.

One routine serves Q (z = [x; u]) and V (z = x). Features are the upper triangle of y y' with y the whitened z, so the
answer does not depend on units. Arrays are laid out features first, `[p, B]` and `[d, B]`: sums over rows are then
matrix products over contiguous memory.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mbpo.lqr.objective import Objective

SCATTER_STEPS = 3
CHUNK = 128


class QuadraticValue(NamedTuple):
    """z' matrix z + offset. For the average cost `average` is the estimated cost per step and the offset is zero."""

    matrix: Float[Array, "p p"]
    offset: Float[Array, ""]
    average: Float[Array, ""]

    def __call__(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch"]:
        """The value at `z`."""
        return jnp.sum((z @ self.matrix) * z, axis=-1) + self.offset


class Moments(NamedTuple):
    """All that a batch of rows says about quadratic functions of z: with phi = [features; 1] and weights w,
    gram = sum w phi phi', cross = sum w phi phi(z')', target = sum w phi c."""

    white: Float[Array, "p p"]
    gram: Float[Array, "e e"]
    cross: Float[Array, "e e"]
    target: Float[Array, "e"]


def moments(
    z: Float[Array, "B p"], cost: Float[Array, "B"], z_next: Float[Array, "B p"], valid: Bool[Array, "B"]
) -> Moments:
    """The sums over rows, `CHUNK` rows at a time so that features never leave the processor's cache."""
    white, weight = robust_whitener(z.T, valid.astype(z.dtype))
    rows = z.shape[0]
    chunks = -(-rows // CHUNK)

    def blocks(leaf: Array) -> Array:
        padded = jnp.pad(leaf, ((0, chunks * CHUNK - rows),) + ((0, 0),) * (leaf.ndim - 1))
        return padded.reshape(chunks, CHUNK, *leaf.shape[1:])

    def accumulate(sums, block):
        z, z_next, cost, weight = block
        left = _features(white @ z.T) * weight[None, :]
        right = jnp.concatenate([_features(white @ z.T), _features(white @ z_next.T), cost[None, :]])
        return sums + left @ right.T, None

    size = z.shape[1] * (z.shape[1] + 1) // 2 + 1
    start = jnp.zeros((size, 2 * size + 1), z.dtype)
    sums, _ = jax.lax.scan(accumulate, start, jax.tree.map(blocks, (z, z_next, cost, weight)))
    return Moments(white, sums[:, :size], sums[:, size : 2 * size], sums[:, -1])


def lstd(at: Moments, objective: Objective) -> QuadraticValue:
    """The quadratic fixed point of value(z) = cost - average + discount * value(z').

    Solves sum w phi (phi - g phi')' theta = sum w phi c: for the average cost the last unknown is the average, for a
    discounted cost the offset. The rows may come from any behaviour; only the actions inside z' must be the target
    policy's.
    """
    system = at.gram - objective.discount * at.cross
    if objective.kind == "average":
        system = jnp.concatenate([system[:, :-1], at.gram[:, -1:]], axis=1)
    ridge = 1e-10 * jnp.trace(at.gram) / at.gram.shape[0]
    solution = jnp.linalg.solve(system + ridge * jnp.eye(system.shape[0], dtype=system.dtype), at.target)
    matrix, final = quadratic_matrix(at.white, solution[:-1]), solution[-1]
    if objective.kind == "average":
        return QuadraticValue(matrix, jnp.zeros_like(final), final)
    return QuadraticValue(matrix, final, (1.0 - objective.discount) * final)


def regress(at: Moments) -> Float[Array, "p p"]:
    """The symmetric H whose z'Hz + h is closest to the costs in weighted least squares."""
    factor = jax.scipy.linalg.cho_factor(_regular(at.gram))
    return quadratic_matrix(at.white, jax.scipy.linalg.cho_solve(factor, at.target)[:-1])


def backward_values(
    z: Float[Array, "B p"],
    cost: Float[Array, "B"],
    z_next: Float[Array, "B p"],
    x_next: Float[Array, "B n"],
    valid: Bool[Array, "B"],
    objective: Objective,
) -> tuple[Float[Array, "T p p"], Float[Array, "T"]]:
    """The quadratic values of every stage of a finite horizon: from the last, regress cost + V_{t+1}(z') on z.

    V_T is the terminal cost of x'. The dynamics do not depend on time, so every row serves every stage.
    """
    white, weight = robust_whitener(z.T, valid.astype(z.dtype))
    features = _features(white @ z.T)
    left = features * weight[None, :]
    factor = jax.scipy.linalg.cho_factor(_regular(left @ features.T))

    def stage(following: Array, _):
        theta = jax.scipy.linalg.cho_solve(factor, left @ (cost + following))
        matrix = quadratic_matrix(white, theta[:-1])
        return jnp.sum((z_next @ matrix) * z_next, axis=1) + theta[-1], (matrix, theta[-1])

    terminal = objective.final_value(x_next)
    _, (matrices, offsets) = jax.lax.scan(stage, terminal, length=objective.horizon)
    return matrices[::-1], offsets[::-1]


def robust_whitener(
    z: Float[Array, "p B"], present: Float[Array, "B"]
) -> tuple[Float[Array, "p p"], Float[Array, "B"]]:
    """L^-1 with L L' a robust scatter of z, and the weight p / (p + |L^-1 z|^2) of each row.

    The noise of a quadratic value one step on grows like |z|^2, and a few rows far from the origin would decide a
    plain fit; the weights are the inverse of that variance. Any weights leave the fixed point of an exact value
    where it is. The scatter is the fixed point of the same weights (a multivariate Cauchy M-estimator, Maronna 1976).
    """
    p = z.shape[0]
    identity = jnp.eye(p, dtype=z.dtype)

    def whitener(weight: Array) -> Array:
        moment = (z * weight[None, :]) @ z.T / jnp.maximum(jnp.sum(weight), 1e-300)
        scale = jnp.sqrt(jnp.maximum(jnp.diag(moment), 1e-300))
        factor = jnp.linalg.cholesky(moment / scale[:, None] / scale[None, :] + 1e-10 * identity)
        return jax.scipy.linalg.solve_triangular(factor, identity, lower=True) / scale[None, :]

    def reweigh(_, weight: Array) -> Array:
        return present * p / (p + jnp.sum((whitener(weight) @ z) ** 2, axis=0))

    weight = jax.lax.fori_loop(0, SCATTER_STEPS, reweigh, present)
    return whitener(weight), weight


def quadratic_matrix(white: Float[Array, "p p"], theta: Float[Array, "d"]) -> Float[Array, "p p"]:
    """The symmetric H with z'Hz = theta . features of white z."""
    rows, columns = np.triu_indices(white.shape[0])
    upper = jnp.zeros(white.shape, theta.dtype).at[rows, columns].set(theta)
    return white.T @ ((upper + upper.T) / 2) @ white


def _features(y: Float[Array, "p B"]) -> Float[Array, "e B"]:
    """y_i y_j for i <= j, and 1."""
    rows, columns = np.triu_indices(y.shape[0])
    return jnp.concatenate([y[rows] * y[columns], jnp.ones_like(y[:1])])


def _regular(gram: Float[Array, "e e"]) -> Float[Array, "e e"]:
    return gram + 1e-13 * jnp.trace(gram) / gram.shape[0] * jnp.eye(gram.shape[0], dtype=gram.dtype)
