"""GPOMDP: every score times the cost that follows it (Baxter & Bartlett 2001; Sutton et al. 2000).

g = 1/T sum_t S^-1 e_t x_t' H_t,   H_t = sum_{s >= t} of what was paid from t on.
Unbiased on trajectories of the current policy: what was paid before an action does not depend on it, so leaving it out
removes noise and nothing else.
"""

from __future__ import annotations

from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, cost_to_go, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def gpomdp(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Causality and no baseline."""
    del values, world
    return score_sum(policy, data, cost_to_go(data))
