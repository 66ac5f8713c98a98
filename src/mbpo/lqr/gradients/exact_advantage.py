"""The likelihood-ratio gradient with the exact advantage (Sutton et al. 2000, theorem 1).

g = 1/T sum_t S^-1 e_t x_t' A_t(x_t, u_t),   A(x, u) = z'G z - x'P x - tr(M S).
Unbiased on trajectories of the current policy. The noise of the future is gone; what is left is that of the action and
of the state, so the variance grows like T and does not blow up as exploration shrinks. Needs the parameters.
"""

from __future__ import annotations

from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, score_sum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def exact_advantage(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """Score times advantage."""
    del world
    assert values is not None, "the advantage comes from the action value"
    return score_sum(policy, data, values.advantage(data.x, data.u))
