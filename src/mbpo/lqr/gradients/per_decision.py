"""Per-decision importance sampling: each cost is weighted by the decisions before it and no others (Precup, Sutton &
Singh 2000).

g = 1/T sum_t S^-1 e_t x_t' sum_{s >= t} rho_{0:s} c_s.
Unbiased while the second moment of the prefix ratios is finite: actions after a cost have a ratio of mean one and are
left out. The variance still grows exponentially with the length that the costs reach back over.
"""

from __future__ import annotations

from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, cost_to_go, prefix_ratio, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def per_decision(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Cost to go with prefix ratios."""
    del values, world
    return score_sum(policy, data, cost_to_go(data, prefix_ratio(policy, data)))
