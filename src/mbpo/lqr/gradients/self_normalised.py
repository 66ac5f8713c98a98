"""Self-normalised per-decision importance sampling: prefix ratios divided by their mean at the same step (Precup et al.
2000; Hesterberg 1995).

g = 1/T sum_t S^-1 e_t x_t' sum_{s >= t} w_s c_s,   w_s = rho_{0:s} / mean of rho_{0:s} over the trajectories.
Biased by O(1/N), as every ratio of averages; consistent. A finite-N mean in closed form does not exist: the expectation
of a ratio of sums of log-quadratic variables is not elementary.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, cost_to_go, prefix_ratio, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def self_normalised(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Cost to go with normalised prefix ratios."""
    del values, world
    return score_sum(policy, data, cost_to_go(data, normalised_weights(policy, data)))


def normalised_weights(policy: LinearGaussian, data: Trajectories) -> Float[Array, "N T"]:
    """w_t, of mean one over the valid trajectories at every step."""
    present = data.valid.astype(data.cost.dtype)
    ratio = prefix_ratio(policy, data) * present[:, None]
    mean = jnp.sum(ratio, axis=0) / jnp.maximum(jnp.sum(present), 1.0)
    return ratio / jnp.maximum(mean, 1e-300)[None]
