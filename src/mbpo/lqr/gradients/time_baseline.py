"""GPOMDP with a baseline for each time step: the mean cost to go of the other trajectories (Greensmith et al. 2004).

g = 1/T sum_t S^-1 e_t x_t' (H_t - b_t),   b_t = mean of H_t over the other trajectories.
Unbiased on trajectories of the current policy: leaving trajectory i out keeps the baseline independent of its score. It
removes the constant part of the cost, not the part that the state explains.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, cost_to_go, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def time_baseline(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Cost to go minus its leave-one-out mean at the same step."""
    del values, world
    present = data.valid.astype(data.cost.dtype)[:, None]
    to_go = cost_to_go(data) * present
    others = jnp.maximum(jnp.sum(present) - 1.0, 1.0)
    return score_sum(policy, data, to_go - (jnp.sum(to_go, axis=0)[None] - to_go) / others)
