"""The off-policy actor-critic (Degris, White & Sutton 2012): one action ratio a step, states as they come.

g = 1/T sum_t rho_t S^-1 e_t x_t' A_t(x_t, u_t),   rho_t = N(u_t; K x_t, S) / N(u_t; K_b x_t, S).
Biased for the gradient, and exactly known: its mean is 1/T sum_t 2 E_t Sigma_t^b, the states being those of the
behaviour. It vanishes where the gradient does (E = 0) and is the gradient times Sigma^-1 Sigma_b elsewhere.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, log_likelihood_ratio, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def off_policy_actor_critic(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Score times advantage times the ratio of one action."""
    del world
    assert values is not None, "the advantage comes from the action value"
    ratio = jnp.exp(log_likelihood_ratio(policy, data, data.acted))
    return score_sum(policy, data, ratio * values.advantage(data.x, data.u))


def step_weights(policy: LinearGaussian, data: Trajectories) -> Float[Array, "N T"]:
    """rho_t."""
    return jnp.exp(log_likelihood_ratio(policy, data, data.acted))
