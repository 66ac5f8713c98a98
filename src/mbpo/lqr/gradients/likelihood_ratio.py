"""The on-policy likelihood-ratio gradient with causality and a quadratic baseline (Williams 1992; Sutton et al. 2000;
Baxter & Bartlett 2001).

dJ/dK = E sum_t S^-1 e_t x_t' A_t with e_t = u_t - K x_t and A_t = sum_{s>=t} g^(s-t) (c_s - average) + g^(T-t) V(x_T)
- V(x_t). V is quadratic, fitted by LSTD on the other half of the trajectories, so the baseline is independent of what
it multiplies: it adds no bias. V(x_T) stands for what follows the trajectory (Q_T when the horizon ends there), so the
length of a trajectory is a choice of variance, not of objective. Trajectories must come from the current policy.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from mbpo.core.types import Experience, Transition
from mbpo.lqr.critic import backward_values, lstd, moments, regress
from mbpo.lqr.gradients.deterministic import at_least
from mbpo.lqr.gradients.estimate import Estimate
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian


def likelihood_ratio(
    policy: LinearGaussian, experience: Experience, objective: Objective, key: PRNGKeyArray
) -> Estimate:
    """E from the gradient divided by the states' second moment, M from the second-order score: for one-step errors
    d_t, E[(e e' - S) d] = 2 S M S."""
    del key
    rows, valid = experience.transitions, experience.valid
    first = jnp.arange(valid.shape[0]) % 2 == 0
    errors = jnp.where(
        first[:, None],
        one_step_errors(rows, valid & ~first, objective),
        one_step_errors(rows, valid & first, objective),
    )
    advantage = cost_to_go(errors, objective.discount)
    weight = jnp.broadcast_to(valid[:, None], errors.shape).astype(errors.dtype)
    count = jnp.maximum(jnp.sum(weight), 1.0)
    whitened = policy.whitened(rows.observation, rows.action)
    gradient = jnp.einsum("bt,bti,btj->ij", advantage * weight, whitened, rows.observation) / count
    moment = jnp.einsum("bt,bti,btj->ij", weight, rows.observation, rows.observation) / count
    second = jnp.einsum("bt,bti,btj->ij", errors * weight, whitened, whitened) / count
    inverse = jax.scipy.linalg.cho_solve(
        (policy.factor, True), jnp.eye(policy.factor.shape[0], dtype=errors.dtype)
    )
    curvature = (second - inverse * jnp.sum(errors * weight) / count) / 2
    z = jnp.concatenate([rows.observation, rows.action], -1)
    flat_valid = jnp.repeat(valid, errors.shape[1])
    z = z.reshape(-1, z.shape[-1])
    stage = regress(moments(z, -rows.reward.reshape(-1), z, flat_valid))
    n = rows.observation.shape[-1]
    error = (
        jnp.linalg.solve(moment + 1e-12 * jnp.trace(moment) * jnp.eye(n, dtype=errors.dtype), gradient.T).T
        / 2
    )
    enough = (jnp.sum(valid & first) > 0) & (jnp.sum(valid & ~first) > 0)
    usable = enough & jnp.all(jnp.isfinite(error)) & jnp.all(jnp.isfinite(curvature))
    mean_cost = jnp.sum(-rows.reward * weight) / count
    return Estimate(error, at_least(curvature, stage[n:, n:]), moment, mean_cost, usable)


def one_step_errors(rows: Transition, valid: Array, objective: Objective) -> Float[Array, "B T"]:
    """c_t - average + g V(x_{t+1}) - V(x_t), `[B, T]`, with V fitted on the trajectories marked `valid`."""
    steps = rows.reward.shape[1]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)
    use = jnp.repeat(valid, steps)
    cost = -rows.reward
    x, x_next = flat.observation, flat.next_observation
    if objective.kind != "horizon":
        value = lstd(moments(x, cost.reshape(-1), x_next, use), objective)
        average = value.average if objective.kind == "average" else jnp.zeros_like(value.average)
        return cost - average + objective.discount * value(rows.next_observation) - value(rows.observation)

    matrices, offsets = backward_values(x, cost.reshape(-1), x_next, x_next, use, objective)
    here = jnp.einsum("bti,tij,btj->bt", rows.observation, matrices, rows.observation) + offsets[None, :]
    end = objective.final_value(rows.next_observation[:, -1])
    return cost + jnp.concatenate([here[:, 1:], end[:, None]], 1) - here


def cost_to_go(errors: Float[Array, "B T"], discount: Float[Array, ""]) -> Float[Array, "B T"]:
    """sum_{s >= t} g^(s - t) d_s: with one-step errors d this telescopes to cost-to-go minus baseline."""

    def back(total: Array, error: Array) -> tuple[Array, Array]:
        total = error + discount * total
        return total, total

    _, totals = jax.lax.scan(back, jnp.zeros_like(errors[:, 0]), errors.T, reverse=True)
    return totals.T
