"""Quadratic value functions by least-squares temporal differences (LSTD, Bradtke & Barto 1996; LSTD-Q, Lagoudakis &
Parr 2003), for linear-quadratic systems exact up to sampling noise: the value of a linear policy *is* quadratic.

One routine serves Q (z = [x; u]) and V (z = x). Features are the upper triangle of y y' with y the whitened z, so the
answer does not depend on units.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mbpo.lqr.objective import Objective

SCATTER_STEPS = 3


class QuadraticValue(NamedTuple):
    """z' matrix z + offset. For the average cost `average` is the estimated cost per step and the offset is zero."""

    matrix: Float[Array, "p p"]
    offset: Float[Array, ""]
    average: Float[Array, ""]

    def __call__(self, z: Float[Array, "*batch p"]) -> Float[Array, "*batch"]:
        """The value at `z`."""
        return jnp.sum((z @ self.matrix) * z, axis=-1) + self.offset


def quadratic_features(z: Float[Array, "B p"]) -> Float[Array, "B d"]:
    """z_i z_j for i <= j, d = p (p + 1) / 2."""
    rows, columns = np.triu_indices(z.shape[1])
    return z[:, rows] * z[:, columns]


def symmetric_matrix(weights: Float[Array, "d"], size: int) -> Float[Array, "p p"]:
    """The symmetric matrix H with z'Hz = weights . quadratic_features(z)."""
    rows, columns = np.triu_indices(size)
    upper = jnp.zeros((size, size), weights.dtype).at[rows, columns].set(weights)
    return (upper + upper.T) / 2


class Regressors(NamedTuple):
    """Quadratic features of rows z, in whitened units and weighted.

    white: L^-1 with L L' a robust scatter of z; features `[B, d]`; weighted: features times the row's weight.
    """

    white: Float[Array, "p p"]
    weight: Float[Array, "B"]
    features: Float[Array, "B d"]

    def of(self, z: Float[Array, "B p"]) -> Float[Array, "B d"]:
        """The features of other rows in the same units."""
        return quadratic_features(z @ self.white.T)

    def matrix(self, theta: Float[Array, "d"]) -> Float[Array, "p p"]:
        """H with z'Hz = theta . features."""
        return self.white.T @ symmetric_matrix(theta, self.white.shape[0]) @ self.white


def regressors(z: Float[Array, "B p"], valid: Bool[Array, "B"]) -> Regressors:
    """Features of z, each row weighted by p / (p + |L^-1 z|^2).

    The noise of a quadratic value one step on grows like |z|^2, and a few rows far from the origin would decide a
    plain fit; the weights are the inverse of that variance. Any weights leave the fixed point of an exact value
    where it is. The scatter is the fixed point of the same weights (a multivariate Cauchy M-estimator, Maronna 1976).
    """
    present = valid.astype(z.dtype)
    p = z.shape[1]
    weight = present
    for _ in range(SCATTER_STEPS):
        white = _whitener(z, weight)
        weight = present * p / (p + jnp.sum((z @ white.T) ** 2, axis=1))
    return Regressors(white, weight, quadratic_features(z @ white.T))


def _whitener(z: Float[Array, "B p"], weight: Float[Array, "B"]) -> Float[Array, "p p"]:
    moment = (z * weight[:, None]).T @ z / jnp.maximum(jnp.sum(weight), 1e-300)
    scale = jnp.sqrt(jnp.maximum(jnp.diag(moment), 1e-300))
    correlation = moment / scale[:, None] / scale[None, :] + 1e-10 * jnp.eye(z.shape[1], dtype=z.dtype)
    factor = jnp.linalg.cholesky(correlation)
    identity = jnp.eye(z.shape[1], dtype=z.dtype)
    return jax.scipy.linalg.solve_triangular(factor, identity, lower=True) / scale[None, :]


def lstd(
    z: Float[Array, "B p"],
    cost: Float[Array, "B"],
    z_next: Float[Array, "B p"],
    valid: Bool[Array, "B"],
    objective: Objective,
) -> QuadraticValue:
    """The quadratic fixed point of value(z) = cost - average + discount * value(z').

    Solves sum phi (phi - g phi')' theta + ... = sum phi c with phi = [features; 1]: for the average cost the last
    unknown is the average, for a discounted cost it is the offset. The rows may come from any behaviour; only the
    actions inside `z_next` must be the target policy's.
    """
    at = regressors(z, valid)
    phi, phi_next, weight = at.features, at.of(z_next), at.weight
    one = jnp.ones_like(phi[:, :1])
    difference = phi - objective.discount * phi_next
    last = one if objective.kind == "average" else (1.0 - objective.discount) * one
    left = jnp.concatenate([phi, one], 1) * weight[:, None]
    system = left.T @ jnp.concatenate([difference, last], 1)
    ridge = 1e-10 * jnp.trace(left.T @ left) / left.shape[1]
    system = system + ridge * jnp.eye(left.shape[1], dtype=z.dtype)
    solution = jnp.linalg.solve(system, left.T @ cost)
    matrix = at.matrix(solution[:-1])
    if objective.kind == "average":
        return QuadraticValue(matrix, jnp.zeros_like(solution[-1]), solution[-1])
    return QuadraticValue(matrix, solution[-1], (1.0 - objective.discount) * solution[-1])


def backward_values(
    z: Float[Array, "B p"],
    cost: Float[Array, "B"],
    next_matrix,
    valid: Bool[Array, "B"],
    objective: Objective,
) -> tuple[Float[Array, "T p p"], Float[Array, "T"]]:
    """The quadratic values of a finite horizon, stage by stage from the last: regress cost + V_{t+1}(x') on features.

    `next_matrix(matrix, offset)` evaluates V_{t+1} at the next states from stage t+1's regression, `[B]`. The
    dynamics do not depend on time, so every row serves every stage.
    """
    at = regressors(z, valid)
    phi = jnp.concatenate([at.features, jnp.ones_like(z[:, :1])], 1)
    left = phi * at.weight[:, None]
    gram = left.T @ phi
    gram = gram + 1e-12 * jnp.trace(gram) / gram.shape[0] * jnp.eye(gram.shape[0], dtype=z.dtype)
    factor = jax.scipy.linalg.cho_factor(gram)

    def stage(value_next: Float[Array, "B"], _):
        theta = jax.scipy.linalg.cho_solve(factor, left.T @ (cost + value_next))
        matrix = at.matrix(theta[:-1])
        return next_matrix(matrix, theta[-1]), (matrix, theta[-1])

    first = next_matrix(None, jnp.zeros((), z.dtype))
    assert objective.horizon is not None
    _, (matrices, offsets) = jax.lax.scan(stage, first, length=objective.horizon)
    return matrices[::-1], offsets[::-1]


def fit_cost(
    z: Float[Array, "B p"], cost: Float[Array, "B"], valid: Bool[Array, "B"]
) -> Float[Array, "p p"]:
    """The symmetric C with z'Cz closest to the observed costs in least squares."""
    at = regressors(z, valid)
    phi = at.features
    left = phi * at.weight[:, None]
    gram = left.T @ phi
    gram = gram + 1e-12 * jnp.trace(gram) / gram.shape[0] * jnp.eye(gram.shape[0], dtype=z.dtype)
    theta = jax.scipy.linalg.solve(gram, left.T @ cost, assume_a="pos")
    return at.matrix(theta)
