"""REINFORCE: every score times the whole cost (Williams 1992).

g = 1/T sum_t S^-1 e_t x_t' C,   e_t = u_t - K x_t,   C = everything the trajectory cost.
Unbiased on trajectories of the current policy. Its standard deviation grows like 1/sigma as exploration shrinks, like
T^(3/2) with the length, and with every constant in the cost.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, cost_to_go, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def reinforce(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """The cost to go of each step plus what had been paid before it."""
    del values, world
    return score_sum(policy, data, whole_cost(data))


def whole_cost(data: Trajectories, ratio: Float[Array, "N T"] | None = None) -> Float[Array, "N T"]:
    """The cost to go at t plus the costs before t, [N, T]: the same at every t unless a discount sets them apart."""
    earned = data.cost + data.closing
    earned = earned if ratio is None else ratio * earned
    return cost_to_go(data, ratio) + jnp.cumsum(earned, axis=1) - earned
