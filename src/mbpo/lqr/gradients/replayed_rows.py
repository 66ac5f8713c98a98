"""Estimates from replayed single transitions: the deterministic policy gradient with a quadratic critic fitted by
LSTD-Q (Silver et al. 2014, theorem 1 and section 4.3).

dJ/dK = E[grad_u Q(x, Kx) x'] = 2 E Sigma with E = G_ux + G_uu K, where Q(x, u) = [x; u]' G [x; u] is exactly quadratic.
The rows may come from any policy that explored: no importance ratios appear, so old data keep their worth. Consistent;
its bias at a finite number of rows is that of a ratio of averages.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from mbpo.core.types import Experience, Transition
from mbpo.lqr.critic import moments, regress
from mbpo.lqr.gradients.estimate import Estimate, GradientSource
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, fitted_values, row_moments, values_from


class ReplayedRows(GradientSource):
    """E and M read off the critic's matrix G; batches `[B]`, or trajectories `[B, T]` laid end to end."""

    def init(self, gain: Array) -> None:
        del gain

    def acting(self, gain: Array, count: int, key: PRNGKeyArray) -> Array:
        del count, key
        return gain[None]

    def estimate(
        self,
        memory: None,
        policy: LinearGaussian,
        experience: Experience,
        objective: Objective,
        key: PRNGKeyArray,
    ) -> tuple[None, Estimate]:
        del key
        rows, valid = flat_rows(experience)
        x, u, cost = rows.observation, rows.action, -rows.reward
        values, stage = values_and_stage_cost(policy, x, u, cost, rows.next_observation, valid, objective)
        weight = valid.astype(x.dtype)
        count = jnp.maximum(jnp.sum(weight), 1.0)
        moment = (x * weight[:, None]).T @ x / count
        curvature = at_least(jnp.mean(values.curvature, axis=0), stage)
        error = jnp.mean(values.error(policy.gain), axis=0)
        usable = jnp.all(jnp.isfinite(error)) & jnp.all(jnp.isfinite(curvature))
        zero = jnp.zeros((), x.dtype)
        return memory, Estimate(error, curvature, moment, jnp.sum(cost * weight) / count, usable, zero)


def flat_rows(experience: Experience) -> tuple[Transition, Array]:
    """Transitions `[B]` of a batch, or of trajectories `[B, T]` laid end to end."""
    rows, valid = experience.transitions, experience.valid
    if rows.reward.ndim == 1:
        return rows, valid
    steps = rows.reward.shape[1]
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows), jnp.repeat(valid, steps)


def values_and_stage_cost(
    policy: LinearGaussian, x: Array, u: Array, cost: Array, x_next: Array, valid: Array, objective: Objective
) -> tuple[PolicyValues, Array]:
    """The fitted values, and R by regression of the costs: without a horizon both from the same sums over rows."""
    if objective.kind == "horizon":
        values = fitted_values(policy, x, u, cost, x_next, valid, objective)
        return values, stage_cost_of_actions(x, u, cost, valid)
    at, n = row_moments(policy, x, u, cost, x_next, valid), x.shape[1]
    return values_from(policy, at, objective), regress(at)[n:, n:]


def stage_cost_of_actions(x: Array, u: Array, cost: Array, valid: Array) -> Array:
    """R, by regression of the costs on z z'; the least that M can be."""
    z = jnp.concatenate([x, u], axis=1)
    n = x.shape[1]
    return regress(moments(z, cost, z, valid))[n:, n:]


def at_least(matrix: Array, floor: Array) -> Array:
    """floor + the positive part of (matrix - floor): M = R + B'PB can never be below R."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.T - floor - floor.T) / 2)
    return (floor + floor.T) / 2 + (vectors * jnp.maximum(values, 0.0)[None, :]) @ vectors.T
