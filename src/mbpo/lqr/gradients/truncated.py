"""Per-decision importance sampling with prefix ratios cut off at `CEILING` (Ionides 2008; the clipping of Schulman et
al. 2017 and the truncation of Munos et al. 2016 without their corrections).

g = 1/T sum_t S^-1 e_t x_t' sum_{s >= t} min(rho_{0:s}, c) c_s.
Biased. Its mean is the integral of a quadratic form over the regions on either side of the surface rho = c; products of
Gaussian ratios make that surface a quadric in all noises so far, over which no closed form exists. Without a baseline
the bias is ruinous: a cut weight shrinks the cost of exactly those actions the target prefers.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, cost_to_go, prefix_ratio, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World

CEILING = 1.0


def truncated(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Cost to go with truncated prefix ratios."""
    del values, world
    return score_sum(policy, data, cost_to_go(data, truncated_weights(policy, data)))


def truncated_weights(policy: LinearGaussian, data: Trajectories) -> Float[Array, "N T"]:
    """min(rho_{0:t}, CEILING)."""
    return jnp.minimum(prefix_ratio(policy, data), CEILING)
