"""Multiple importance sampling with the balance heuristic over past policies, causality and a value baseline (Veach &
Guibas 1995; Shelton 2001).

g = 1/T sum_t S^-1 e_t x_t' [sum_{s >= t} w_s c_s - w_t V(x_t)],
w_t = p(x_0, u_0..u_t) / sum_j share_j p_j(x_0, u_0..u_t).
Unbiased when the trajectories come from the policies of the pool in the given shares. With the current policy among
them at share a, no weight exceeds 1/a: the variance is bounded however far the past policies are.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import (
    Trajectories,
    cost_to_go,
    log_likelihood_ratio,
    running_sum,
    score_sum,
)
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def multiple_importance_sampling(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Cost to go with balance weights, minus the weighted value of the state."""
    del world
    assert values is not None, "the baseline is a value"
    weights = balance_weights(policy, data)
    return score_sum(policy, data, cost_to_go(data, weights, values.baseline(data.x)))


def balance_weights(policy: LinearGaussian, data: Trajectories) -> Float[Array, "N T"]:
    """w_t, from the log-likelihood of every prefix under each policy of the pool against the target."""

    def against_target(gain: Array, start: Array) -> Array:
        return running_sum(data, -start, -log_likelihood_ratio(policy, data, gain))

    logs = jax.vmap(against_target)(data.pool, data.log_start.T)
    return jnp.exp(-jax.scipy.special.logsumexp(logs, axis=0, b=data.share[:, None, None]))
