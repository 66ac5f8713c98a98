"""GPOMDP with a quadratic value baseline (Williams 1992; Sutton et al. 2000; Greensmith et al. 2004).

g = 1/T sum_t S^-1 e_t x_t' (H_t - V(x_t)),   V(x) = x'P x + v.
Unbiased on trajectories of the current policy whatever V is, as long as it does not depend on the trajectory it is
subtracted from: V is fitted by LSTD on the other half of the trajectories. The exact V leaves the noise of the actions
and of the process; the variance grows like T^2.
"""

from __future__ import annotations

from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, cost_to_go, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def value_baseline(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Cost to go minus the value of the state."""
    del world
    assert values is not None, "the baseline is a value"
    return score_sum(policy, data, cost_to_go(data, baseline=values.baseline(data.x)))
