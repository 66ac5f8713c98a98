"""The learned linear model x' = A x + B u + w: ridge least squares with its own confidence."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mbpo.core.buffer import Ring, held
from mbpo.core.parts import Model
from mbpo.core.types import Transition
from mbpo.lqr.critic import moments, regress
from mbpo.lqr.environment import linear_step
from mbpo.lqr.system import LinearQuadratic

SQUARINGS = 30
IDENTIFIABLE = (
    1e6  # condition number of the regressors [x; u] beyond which rounding hides whether (A, B) is known
)


class LinearModel(NamedTuple):
    """What least squares knows after N transitions with regressors z = [x; u].

    The rows of [A B] have covariance W_ii * information^-1; `condition` is the condition number of the scaled
    regressors, infinite before any data: with u = K x exactly it is infinite too and only A + B K is known.
    """

    A: Float[Array, "n n"]
    B: Float[Array, "n m"]
    Q: Float[Array, "n n"]
    R: Float[Array, "m m"]
    W: Float[Array, "n n"]
    information: Float[Array, "p p"]
    condition: Float[Array, ""]

    @property
    def identified(self) -> Bool[Array, ""]:
        """Whether the data tell A and B apart."""
        return self.condition < IDENTIFIABLE


class LeastSquares(Model):
    """(A, B) = argmin sum |x' - A x - B u|^2 + ridge, W from the residuals; the cost is known, or learned from
    the observed rewards and projected on Q >= 0, R > 0.

    The ridge is relative to the mean squared regressor; it only decides what a rank-deficient fit returns.
    """

    Q: Float[Array, "n n"]
    R: Float[Array, "m m"]
    state_limit: Float[Array, ""]
    ridge: Float[Array, ""]
    learn_cost: bool = eqx.field(static=True)

    @classmethod
    def of(cls, system: LinearQuadratic, state_limit: float, learn_cost: bool = False) -> LeastSquares:
        """The model of a system whose dynamics are unknown (and whose cost is, if `learn_cost`)."""
        Q, R = jnp.asarray(system.Q), jnp.asarray(system.R)
        return cls(Q, R, jnp.asarray(state_limit), jnp.asarray(1e-9), learn_cost)

    def init(self, key: PRNGKeyArray) -> LinearModel:
        del key
        n, m = self.Q.shape[0], self.R.shape[0]
        zeros = jnp.zeros((n + m, n + m), self.Q.dtype)
        infinite = jnp.asarray(jnp.inf, self.Q.dtype)
        return LinearModel(zeros[:n, :n], zeros[:n, n:], self.Q, self.R, zeros[:n, :n], zeros, infinite)

    def fit(self, state: LinearModel, real: Ring, key: PRNGKeyArray) -> LinearModel:
        del state, key
        data: Transition = real.data
        present = held(real)
        fitted = least_squares(
            data.observation, data.action, data.next_observation, present.astype(self.Q.dtype), self.ridge
        )
        Q, R = self._cost(data, present) if self.learn_cost else (self.Q, self.R)
        return fitted._replace(Q=Q, R=R)

    def _cost(self, data: Transition, present: Bool[Array, "C"]) -> tuple[Array, Array]:
        n = self.Q.shape[0]
        z = jnp.concatenate([data.observation, data.action], 1)
        cost = regress(moments(z, -data.reward, z, present))
        return semidefinite(cost[:n, :n], 0.0), semidefinite(cost[n:, n:], 1e-6)

    def step(
        self,
        state: LinearModel,
        observation: Float[Array, "B n"],
        action: Float[Array, "B m"],
        keys: PRNGKeyArray,
    ) -> tuple[Transition, Bool[Array, "B"]]:
        root = matrix_root(state.W)

        def one(x: Float[Array, "n"], u: Float[Array, "m"], key: PRNGKeyArray):
            noise = root @ jax.random.normal(key, x.shape, x.dtype)
            return linear_step(state.A, state.B, state.Q, state.R, x, u, noise, self.state_limit)

        return jax.vmap(one)(observation, action, keys)


def least_squares(
    x: Float[Array, "N n"],
    u: Float[Array, "N m"],
    x_next: Float[Array, "N n"],
    weight: Float[Array, "N"],
    ridge: Float[Array, ""],
) -> LinearModel:
    """[A B] = (sum z z' + ridge)^-1 sum z x_next', computed in units in which every regressor has unit size."""
    n, m = x.shape[1], u.shape[1]
    z = jnp.concatenate([x, u], 1)
    weighted = z * weight[:, None]
    information = weighted.T @ z
    count = jnp.maximum(jnp.sum(weight), 1.0)
    size = jnp.sqrt(jnp.maximum(jnp.diag(information) / count, 1e-300))
    scaled = information / count / size[:, None] / size[None, :]
    values = jnp.linalg.eigvalsh(scaled)
    squared = jnp.where(values[0] > 0, values[-1] / jnp.where(values[0] > 0, values[0], 1.0), jnp.inf)
    target = (weighted.T @ x_next) / count / size[:, None]
    factor = jax.scipy.linalg.cho_factor(scaled + ridge * jnp.eye(n + m, dtype=z.dtype))
    coefficients = jax.scipy.linalg.cho_solve(factor, target) / size[:, None]
    residual = (x_next - z @ coefficients) * weight[:, None]
    W = residual.T @ residual / jnp.maximum(count - (n + m), 1.0)
    zero_n, zero_m = jnp.zeros((n, n), z.dtype), jnp.zeros((m, m), z.dtype)
    return LinearModel(
        coefficients[:n].T, coefficients[n:].T, zero_n, zero_m, W, information, jnp.sqrt(squared)
    )


def semidefinite(matrix: Float[Array, "p p"], floor: float) -> Float[Array, "p p"]:
    """The nearest symmetric matrix with eigenvalues at least `floor` times the largest."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    values = jnp.maximum(values, floor * jnp.maximum(values[-1], 0.0))
    return (vectors * values[None, :]) @ vectors.T


def matrix_root(matrix: Float[Array, "p p"]) -> Float[Array, "p p"]:
    """The symmetric square root of a positive-semidefinite matrix."""
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]) @ vectors.T


def plausible_models(
    model: LinearModel, count: int, key: PRNGKeyArray
) -> tuple[Float[Array, "c n n"], Float[Array, "c n m"]]:
    """The fitted (A, B) and `count - 1` draws from its confidence N([A B], W (x) information^-1)."""
    n, p = model.A.shape[0], model.information.shape[0]
    size = jnp.sqrt(jnp.maximum(jnp.diag(model.information), 1e-300))
    scaled = model.information / size[:, None] / size[None, :]
    factor = jnp.linalg.cholesky(scaled + 1e-10 * jnp.eye(p, dtype=size.dtype))
    draws = jax.random.normal(key, (count, n, p), size.dtype).at[0].set(0.0)
    back = jax.scipy.linalg.solve_triangular(factor, jnp.eye(p, dtype=size.dtype), lower=True)
    error = jnp.matmul(matrix_root(model.W)[None], draws) @ (back / size[None, :])
    return model.A[None] + error[..., :n], model.B[None] + error[..., n:]


def decay(F: Float[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    """-log rho(F), the rate at which a loop forgets, told by products only; infinite where F^N vanishes, NaN for NaN.

    It is -log |F^N| / N with N = 2^30, which tends to it (Gelfand). With D the units of the states, |D F^N D^-1| is at
    most cond(D) times |F^N|, so units of 1e20 move it by less than 5e-8.
    """

    def square(_, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        F, log_size = carry
        F, more = sized(F @ F)
        return F, 2.0 * log_size + more

    def sized(F: Array) -> tuple[Array, Array]:
        """F over its largest entry, and the logarithm of that; a matrix of zeros stays one."""
        size = jnp.max(jnp.abs(F), axis=(-2, -1))
        size = jnp.where(size == 0, 1.0, size)
        return F / size[..., None, None], jnp.log(size)

    F, log_size = jax.lax.fori_loop(0, SQUARINGS, square, sized(F))
    died_out = jnp.all(F == 0, axis=(-2, -1))
    return jnp.where(died_out, jnp.inf, -log_size / 2.0**SQUARINGS)


def contracts(F: Float[Array, "*batch n n"]) -> Bool[Array, "*batch"]:
    """Whether the spectral radius of F is below one, in whatever units; see `decay`."""
    return decay(F) > 0.0
