"""Zeroth-order gradients: costs at perturbed gains, nothing differentiated (Flaxman et al. 2005; Nesterov & Spokoiny
2017; Fazel et al. 2018; Malik et al. 2019).

One point: g = d/r^2 C(K + U) U, U uniform on the sphere |U| = r in d = mn dimensions.
Two points: g = d/(2 r^2) [C(K + U) - C(K - U)] U, with independent noise, or with common noise where a simulator can
repeat it. All three have the mean grad of J smoothed over the ball of radius r, which differs from grad J by O(r^2); it
is computed here as the average of exact costs over the sphere. The standard deviation of one point is about
d J / (r |grad J|).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories, cost_to_go
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def one_point(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """d/r^2 C U of each trajectory."""
    del world
    step, scaled = _perturbation(policy, data)
    return scaled * _cost(data, values)[:, None, None] * step


def two_point(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """d/(2 r^2) (C+ - C-) U of each pair of neighbours, given to both of them."""
    del world
    step, scaled = _perturbation(policy, data)
    cost = _cost(data, values).reshape(-1, 2)
    difference = jnp.stack([cost[:, 0] - cost[:, 1], cost[:, 1] - cost[:, 0]], axis=1).reshape(-1)
    return scaled / 2 * difference[:, None, None] * step


def _perturbation(policy: LinearGaussian, data: Trajectories) -> tuple[Array, Array]:
    """U [N, m, n] and d / r^2 [N, 1, 1]."""
    step = data.acted - policy.gain[None]
    squared = jnp.sum(step**2, axis=(1, 2), keepdims=True)
    return step, step[0].size / jnp.where(squared > 0, squared, 1.0)


def _cost(data: Trajectories, values: PolicyValues | None) -> Float[Array, "N"]:
    """What a trajectory cost per step, with values minus that of its first state, which no perturbation can change."""
    total = cost_to_go(data)[:, 0]
    total = total if values is None else total - values.baseline(data.x)[:, 0]
    return total / data.x.shape[1]
