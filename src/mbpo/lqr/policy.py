"""Linear policies: deterministic u = K x, and Gaussian u ~ N(K x, S)."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def linear_action(gain: Float[Array, "m n"], x: Float[Array, "*batch n"]) -> Float[Array, "*batch m"]:
    """The deterministic policy u = K x."""
    return x @ gain.T


class LinearGaussian(eqx.Module):
    """u = K x + e with e ~ N(0, S), S = L L' fixed and positive definite; its score with respect to K is S^-1 e x'."""

    gain: Float[Array, "m n"]
    factor: Float[Array, "m m"]

    @property
    def covariance(self) -> Float[Array, "m m"]:
        """S."""
        return self.factor @ self.factor.T

    def sample(self, x: Float[Array, "n"], key: PRNGKeyArray) -> Float[Array, "m"]:
        """An action at `x`."""
        return self.gain @ x + self.factor @ jax.random.normal(
            key, (self.factor.shape[0],), self.factor.dtype
        )

    def deviation(self, x: Float[Array, "*batch n"], u: Float[Array, "*batch m"]) -> Float[Array, "*batch m"]:
        """e = u - K x."""
        return u - linear_action(self.gain, x)

    def whitened(self, x: Float[Array, "*batch n"], u: Float[Array, "*batch m"]) -> Float[Array, "*batch m"]:
        """S^-1 (u - K x), the action's half of the score."""
        flat = self.deviation(x, u).reshape(-1, self.factor.shape[0])
        solved = jax.scipy.linalg.cho_solve((self.factor, True), flat.T).T
        return solved.reshape(u.shape)


def score(
    policy: LinearGaussian, x: Float[Array, "*batch n"], u: Float[Array, "*batch m"]
) -> Float[Array, "*batch m n"]:
    """d log N(u; K x, S) / dK = S^-1 (u - K x) x' (Sutton & Barto 2018, sec. 13.7, for a linear mean)."""
    return jnp.einsum("...i,...j->...ij", policy.whitened(x, u), x)
