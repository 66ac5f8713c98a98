"""Marginalised importance sampling with exact Gaussian state densities (Liu et al. 2018; Xie, Ma & Wang 2019).

g = 1/T sum_t d(x_t) / d_b(x_t) rho_t S^-1 e_t x_t' A_t(x_t, u_t).
Unbiased while both ratios have finite second moments: the ratio of the states' densities replaces the product of all
earlier action ratios, so nothing compounds with the length. In a linear-Gaussian system the densities are Gaussian with
known covariances. Needs the parameters.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, log_likelihood_ratio, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def marginalised(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """State ratio times action ratio times score times advantage."""
    del world
    assert values is not None, "the advantage comes from the action value"
    weights = state_action_weights(policy, data)
    return score_sum(policy, data, weights * values.advantage(data.x, data.u))


def state_action_weights(policy: LinearGaussian, data: Trajectories) -> Float[Array, "N T"]:
    """d(x_t) / d_b(x_t) rho_t."""
    return jnp.exp(data.log_visits + log_likelihood_ratio(policy, data, data.acted))
