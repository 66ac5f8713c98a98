"""The values of a linear-Gaussian policy: exact from known parameters, or fitted to transitions by LSTD-Q.

With P = Q + K'RK + g F'PF the action value is Q(x, u) = z'Gz + constant with z = [x; u] and G = diag(Q, R) +
g [A B]'P[A B]; E = G_ux + G_uu K and M = G_uu give the gradient 2 E Sigma. Everything carries a leading axis over
stages: T of them at a finite horizon, one otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mbpo.lqr.critic import Moments, backward_values, lstd, moments
from mbpo.lqr.lyapunov import discrete_lyapunov
from mbpo.lqr.model import contracts
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian, linear_action


class World(NamedTuple):
    """The parameters of a linear-quadratic system, true or fitted: x' = A x + B u + w, w ~ N(0, W), cost x'Qx + u'Ru,
    x_0 ~ N(0, start)."""

    A: Float[Array, "n n"]
    B: Float[Array, "n m"]
    Q: Float[Array, "n n"]
    R: Float[Array, "m m"]
    W: Float[Array, "n n"]
    start: Float[Array, "n n"]


class PolicyValues(NamedTuple):
    """Quadratic values of u = K x + e, e ~ N(0, S), stage by stage.

    quality G; state P (one stage more); offset v: V_t(x) = x'P_t x + v_t, zero for the average cost; exploration
    tr(M_t S), what exploring adds to the cost of a step and all that follows it; average: cost per step with
    exploration, zero unless the objective is the average cost; usable: False where K does not stabilise; visited
    [s, n, n]: the covariance of the states, None where the values were fitted.
    """

    quality: Float[Array, "s p p"]
    state: Float[Array, "s1 n n"]
    offset: Float[Array, "s1"]
    exploration: Float[Array, "s"]
    average: Float[Array, ""]
    usable: Bool[Array, ""]
    visited: Float[Array, "s n n"] | None

    @property
    def curvature(self) -> Float[Array, "s m m"]:
        """M = R + g B'PB."""
        n = self.state.shape[-1]
        return self.quality[..., n:, n:]

    def error(self, gain: Float[Array, "m n"]) -> Float[Array, "s m n"]:
        """E = M K + g B'PA."""
        n = self.state.shape[-1]
        return self.quality[..., n:, :n] + self.quality[..., n:, n:] @ gain

    def baseline(self, x: Float[Array, "N T n"]) -> Float[Array, "N T"]:
        """V_t(x_t), for the average cost with the average of the T - t steps left to the end of the window."""
        steps = x.shape[1]
        left = jnp.arange(steps, 0, -1, dtype=x.dtype) * self.average
        stages = self.quality.shape[0]
        return quadratic(self.state[:stages], x) + self.offset[None, :stages] + left[None]

    def advantage(self, x: Float[Array, "N T n"], u: Float[Array, "N T m"]) -> Float[Array, "N T"]:
        """A_t(x, u) = z'G_t z - x'P_t x - tr(M_t S), of mean zero under the policy."""
        z = jnp.concatenate([x, u], axis=-1)
        return (
            quadratic(self.quality, z)
            - quadratic(self.state[: self.quality.shape[0]], x)
            - self.exploration[None]
        )


def quadratic(matrices: Float[Array, "s p p"], z: Float[Array, "N T p"]) -> Float[Array, "N T"]:
    """z_t' H_t z_t; one matrix serves all stages."""
    if matrices.shape[0] == 1:
        return jnp.sum((z @ matrices[0]) * z, axis=-1)
    return jnp.einsum("nti,tij,ntj->nt", z, matrices, z)


def visited(world: World, policy: LinearGaussian, objective: Objective) -> Float[Array, "s n n"]:
    """The covariance of the states, stage by stage, per step: stationary for the average cost; for a discount g that of
    the chain that restarts from x_0 with probability 1 - g, (1 - g) sum_t g^t E x_t x_t'."""
    F = world.A + world.B @ policy.gain
    W_e = world.W + world.B @ policy.covariance @ world.B.T
    if objective.kind == "horizon":

        def forth(Sigma: Array, _: None) -> tuple[Array, Array]:
            return F @ Sigma @ F.T + W_e, Sigma

        return jax.lax.scan(forth, world.start, length=objective.horizon)[1]
    g = objective.discount
    F = jnp.sqrt(g) * F
    F = jnp.where(contracts(F), F, jnp.zeros_like(F))
    arriving = W_e if objective.kind == "average" else (1.0 - g) * world.start + g * W_e
    return discrete_lyapunov(F, arriving)[None]


def exact_values(world: World, policy: LinearGaussian, objective: Objective) -> PolicyValues:
    """The values of `policy` in the world, by Lyapunov equation or backward recursion."""
    K, A, B, S = policy.gain, world.A, world.B, policy.covariance
    states = visited(world, policy, objective)
    F, C, g = A + B @ K, world.Q + K.T @ world.R @ K, objective.discount
    dynamics = jnp.concatenate([A, B], axis=1)
    immediate = jax.scipy.linalg.block_diag(world.Q, world.R)
    if objective.kind == "horizon":
        terminal = objective.terminal_cost
        assert terminal is not None, "a finite horizon has a terminal cost"

        def back(P: Array, _: None) -> tuple[Array, Array]:
            return C + F.T @ P @ F, P

        first, rest = jax.lax.scan(back, terminal, length=objective.horizon)
        state = jnp.concatenate([first[None], rest[::-1]])
        quality = immediate[None] + dynamics.T @ state[1:] @ dynamics
        exploring = jnp.einsum("sij,ij->s", quality[:, A.shape[0] :, A.shape[0] :], S)
        step = jnp.einsum("sij,ij->s", state[1:], world.W) + exploring
        offset = jnp.concatenate([jnp.cumsum(step[::-1])[::-1], jnp.zeros(1, step.dtype)])
        zero = jnp.zeros((), step.dtype)
        return PolicyValues(quality, state, offset, exploring, zero, jnp.bool_(True), states)
    stable = contracts(jnp.sqrt(g) * F)
    F = jnp.where(stable, jnp.sqrt(g) * F, jnp.zeros_like(F))
    P = discrete_lyapunov(F.T, C)
    quality = immediate + g * dynamics.T @ P @ dynamics
    n = A.shape[0]
    exploring = jnp.sum(quality[n:, n:] * S)
    step = g * jnp.sum(P * world.W) + exploring
    average = step if objective.kind == "average" else jnp.zeros_like(step)
    offset = jnp.zeros_like(step) if objective.kind == "average" else step / (1.0 - g)
    twice = jnp.broadcast_to(P, (2, n, n))
    return PolicyValues(
        quality[None], twice, jnp.broadcast_to(offset, (2,)), exploring[None], average, stable, states
    )


def fitted_values(
    policy: LinearGaussian,
    x: Float[Array, "B n"],
    u: Float[Array, "B m"],
    cost: Float[Array, "B"],
    x_next: Float[Array, "B n"],
    valid: Bool[Array, "B"],
    objective: Objective,
) -> PolicyValues:
    """The values by LSTD-Q from rows of any behaviour that explored; `policy` is the one evaluated."""
    if objective.kind != "horizon":
        return values_from(policy, row_moments(policy, x, u, cost, x_next, valid), objective)
    K, S = policy.gain, policy.covariance
    n = K.shape[1]
    z, z_next = _pairs(K, x, u, x_next)
    both = jnp.concatenate([jnp.eye(n, dtype=x.dtype), K])
    zero = jnp.zeros((), x.dtype)
    quality, constant = backward_values(z, cost, z_next, x_next, valid, objective)
    state = jnp.concatenate([both.T @ quality @ both, objective.terminal_cost[None]])  # pyright: ignore
    exploring = jnp.einsum("sij,ij->s", quality[:, n:, n:], S)
    offset = jnp.concatenate([constant + jnp.cumsum(exploring[::-1])[::-1], zero[None]])
    usable = jnp.all(jnp.isfinite(quality))
    return PolicyValues(quality, state, offset, exploring, zero, usable, None)


def _pairs(
    K: Float[Array, "m n"], x: Float[Array, "B n"], u: Float[Array, "B m"], x_next: Float[Array, "B n"]
) -> tuple[Float[Array, "B p"], Float[Array, "B p"]]:
    """z = [x; u], and z' = [x'; K x'] with the action of the policy that is evaluated."""
    z_next = jnp.concatenate([x_next, linear_action(K, x_next)], axis=-1)
    return jnp.concatenate([x, u], axis=-1), z_next


def row_moments(
    policy: LinearGaussian,
    x: Float[Array, "B n"],
    u: Float[Array, "B m"],
    cost: Float[Array, "B"],
    x_next: Float[Array, "B n"],
    valid: Bool[Array, "B"],
) -> Moments:
    """What rows say about the action values of `policy`, and about the cost."""
    z, z_next = _pairs(policy.gain, x, u, x_next)
    return moments(z, cost, z_next, valid)


def values_from(policy: LinearGaussian, at: Moments, objective: Objective) -> PolicyValues:
    """The values by LSTD-Q from the moments of rows, for objectives without a horizon."""
    K, S = policy.gain, policy.covariance
    n, dtype = K.shape[1], K.dtype
    both = jnp.concatenate([jnp.eye(n, dtype=dtype), K])
    zero, g = jnp.zeros((), dtype), objective.discount
    fit = lstd(at, objective)
    exploring = jnp.sum(fit.matrix[n:, n:] * S)
    average = fit.average + exploring if objective.kind == "average" else zero
    offset = zero if objective.kind == "average" else fit.offset + exploring / (1.0 - g)
    twice = jnp.broadcast_to(both.T @ fit.matrix @ both, (2, n, n))
    usable = jnp.all(jnp.isfinite(fit.matrix))
    return PolicyValues(
        fit.matrix[None], twice, jnp.broadcast_to(offset, (2,)), exploring[None], average, usable, None
    )
