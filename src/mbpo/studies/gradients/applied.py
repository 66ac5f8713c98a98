"""Estimators applied to the trajectories of a bench: as they are, with values fitted crosswise, or in batches."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from mbpo.lqr.gradients import Trajectories
from mbpo.lqr.gradients.registry import TrajectoryFunction
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World, fitted_values

GROUPS = 20  # batches for the spread of an estimator that is not a mean over trajectories
SHARED = ("end_matrix", "end_offset", "pool", "share")  # what does not belong to one trajectory


@partial(jax.jit, static_argnums=0)
def plainly(
    function: TrajectoryFunction,
    policy: LinearGaussian,
    data: Trajectories,
    values: PolicyValues | None,
    world: World,
) -> Array:
    return function(policy, data, values, world)


def _fit(objective: Objective, policy: LinearGaussian, data: Trajectories) -> PolicyValues:
    x, u, cost, x_next = (
        leaf.reshape(-1, *leaf.shape[2:]) for leaf in (data.x, data.u, data.cost, data.x_next)
    )
    return fitted_values(policy, x, u, cost, x_next, jnp.ones(cost.shape, bool), objective)


def _part(data: Trajectories, rows: Array | slice) -> Trajectories:
    """Some of the trajectories."""
    return Trajectories(
        **{name: leaf if name in SHARED else leaf[rows] for name, leaf in data._asdict().items()}
    )


@partial(jax.jit, static_argnums=0)
def crossed(
    function: TrajectoryFunction, objective: Objective, policy: LinearGaussian, data: Trajectories
) -> Array:
    """Values fitted on one half serve the other."""
    half = data.x.shape[0] // 2
    parts = _part(data, slice(None, half)), _part(data, slice(half, None))
    fits = [_fit(objective, policy, each) for each in parts]
    return jnp.concatenate(
        [function(policy, part, fit, None) for part, fit in zip(parts, fits[::-1], strict=True)]
    )


@partial(jax.jit, static_argnums=0)
def replayed(
    function: TrajectoryFunction, objective: Objective, policy: LinearGaussian, data: Trajectories
) -> tuple[Array, Array]:
    """The estimate from all trajectories, and from each of `GROUPS` equal parts, [G, m, n]."""

    def estimate(part: Trajectories) -> Array:
        return jnp.mean(function(policy, part, _fit(objective, policy, part), None), axis=0)

    size = data.x.shape[0] // GROUPS
    groups = jax.lax.map(lambda g: estimate(_part(data, g * size + jnp.arange(size))), jnp.arange(GROUPS))
    return estimate(data), groups


@jax.jit
def fitted_curvature(objective: Objective, policy: LinearGaussian, data: Trajectories) -> Array:
    return jnp.mean(_fit(objective, policy, data).curvature, axis=0)
