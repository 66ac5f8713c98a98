"""Trajectory importance sampling: the ratio of the whole trajectory times its whole cost (Meuleau et al. 2001;
Peshkin & Shelton 2002).

g = rho_{0:T-1} 1/T sum_t S^-1 e_t x_t' C,   rho_{0:T-1} = p(x_0)/p_b(x_0) prod_t pi(u_t | x_t) / pi_b(u_t | x_t).
Unbiased while E rho^2 is finite, and useless long before it is not: E rho^2 grows like exp(T tr(S^-1 D Sigma D')) with
the distance D = K - K_b (`mbpo.lqr.ratios` has it exactly).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.reinforce import whole_cost
from mbpo.lqr.gradients.trajectories import Trajectories, log_likelihood_ratio, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def importance_sampling(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """One weight for everything."""
    del values, world
    return score_sum(policy, data, trajectory_weights(policy, data) * whole_cost(data))


def trajectory_weights(policy: LinearGaussian, data: Trajectories) -> Float[Array, "N 1"]:
    """rho_{0:T-1} with the start's ratio."""
    start = jnp.take_along_axis(data.log_start, data.source[:, None], axis=1)
    ratios = jnp.sum(log_likelihood_ratio(policy, data, data.acted), axis=1, keepdims=True)
    return jnp.exp(start + ratios)
