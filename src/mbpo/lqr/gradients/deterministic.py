"""The deterministic policy gradient with a quadratic critic fitted by LSTD-Q (Silver et al. 2014, theorem 1 and
section 4.3).

dJ/dK = E[grad_u Q(x, Kx) x'] = 2 E Sigma with E = G_ux + G_uu K, where Q(x, u) = [x; u]' G [x; u] is exactly quadratic.
The rows may come from any policy that explored: no importance ratios appear, so old data keep their worth. Consistent;
its bias at a finite number of rows is that of a ratio of averages.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from mbpo.core.types import Experience, Transition
from mbpo.lqr.critic import backward_values, lstd, moments, regress
from mbpo.lqr.gradients.estimate import Estimate
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian, linear_action


def deterministic(
    policy: LinearGaussian, experience: Experience, objective: Objective, key: PRNGKeyArray
) -> Estimate:
    """E and M read off the critic's matrix G."""
    del key
    rows, valid = flat_rows(experience)
    n = rows.observation.shape[1]
    z = jnp.concatenate([rows.observation, rows.action], 1)
    next_action = linear_action(policy.gain, rows.next_observation)
    z_next = jnp.concatenate([rows.next_observation, next_action], 1)
    cost = -rows.reward
    at = moments(z, cost, z_next, valid)
    if objective.kind == "horizon":
        matrices, _ = backward_values(z, cost, z_next, rows.next_observation, valid, objective)
        G = jnp.mean(matrices, axis=0)
    else:
        G = lstd(at, objective).matrix
    stage = regress(at)
    weight = valid.astype(z.dtype)
    count = jnp.maximum(jnp.sum(weight), 1.0)
    moment = (rows.observation * weight[:, None]).T @ rows.observation / count
    curvature = at_least(G[n:, n:], stage[n:, n:])
    error = G[n:, :n] + G[n:, n:] @ policy.gain
    usable = jnp.all(jnp.isfinite(error)) & jnp.all(jnp.isfinite(curvature))
    return Estimate(error, curvature, moment, jnp.sum(cost * weight) / count, usable)


def flat_rows(experience: Experience) -> tuple[Transition, Array]:
    """Transitions `[B]` of a batch, or of trajectories `[B, T]` laid end to end."""
    rows, valid = experience.transitions, experience.valid
    if rows.reward.ndim == 1:
        return rows, valid
    steps = rows.reward.shape[1]
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows), jnp.repeat(valid, steps)


def at_least(matrix: Array, floor: Array) -> Array:
    """floor + the positive part of (matrix - floor): M = R + B'PB can never be below R."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.T - floor - floor.T) / 2)
    return (floor + floor.T) / 2 + (vectors * jnp.maximum(values, 0.0)[None, :]) @ vectors.T
