"""The pathwise gradient: the cost of a trajectory differentiated through the dynamics with its noise held fixed
(stochastic value gradients, Heess et al. 2015).

g = 1/T sum_t (2 R u_t + B' l_{t+1}) x_t',   l_t = 2 Q x_t + K'(2 R u_t + B' l_{t+1}) + A' l_{t+1},
the adjoint l starting from the derivative of what follows the window. Through the true (A, B) it is unbiased on
trajectories of the current policy. Through a fitted model along real trajectories its mean is 1/T sum_t 2 (R K + B_m'
P_{t+1} F) Sigma_t with P_t = Q + K'RK + F_m' P_{t+1} F, the model's F_m on one side and the world's F on the other:
biased by the model's error, and by nothing else. Inside the model it is the model's exact gradient on average.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def pathwise(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """The adjoint recursion, backwards along every trajectory."""
    del values
    assert world is not None, "the derivative goes through known dynamics"
    K, A, B, Q, R = policy.gain, world.A, world.B, world.Q, world.R

    def back(adjoint: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        x, u, x_next, follow, closes = step
        later = follow[:, None] * adjoint + 2 * closes[:, None] * (x_next @ data.end_matrix)
        by_action = 2 * u @ R + later @ B
        return 2 * x @ Q + by_action @ K + later @ A, jnp.einsum("ni,nj->nij", by_action, x)

    steps = (data.x, data.u, data.x_next, data.follow, data.closes)
    backwards = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), steps)
    _, contributions = jax.lax.scan(back, jnp.zeros_like(data.x[:, 0]), backwards, reverse=True)
    return jnp.mean(contributions, axis=0)
