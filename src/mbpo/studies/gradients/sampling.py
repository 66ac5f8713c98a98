"""Trajectories for the bench, drawn so that the mean over a window's steps is exact at any length.

Over a finite horizon they begin at x_0 ~ N(0, X0). For the average cost they begin in the stationary state of the
policy that acts. A discount g is the probability of going on: a chain that restarts from X0 with probability 1 - g
visits states as the discounted cost weighs them, and an undiscounted sum up to the restart is an unbiased discounted
one. It too begins in its stationary state, of which only the covariance matters, so a Gaussian one is drawn. A window
that ends before the problem does is closed by the exact value of its last state.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mbpo.lqr.environment import covariance_factor
from mbpo.lqr.gradients import Trajectories
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World
from mbpo.studies.gradients.setting import BenchSetting, state_laws

RANGE = 1e-12  # eigenvalues below this share of the largest are directions no state moves in


def sample(
    setting: BenchSetting,
    policy: LinearGaussian,
    world: World,
    values: PolicyValues,
    pool: np.ndarray,
    episodes: int,
    key: Array,
) -> Trajectories:
    """`episodes` trajectories, each of a policy drawn evenly from `pool` [J, m, n]."""
    system = setting.system
    source_key, key = jax.random.split(key)
    source = jax.random.randint(source_key, (episodes,), 0, len(pool))
    starts = [setting.start(gain) for gain in pool]
    factors = jnp.asarray(np.array([covariance_factor(start) for start in starts]))
    acted = jnp.asarray(pool)[source]
    rows = _simulate(world, policy, acted, factors[source], setting.steps, _restarts(setting), False, key)
    return Trajectories(
        **_windows(rows, setting.system.horizon is not None),
        end_matrix=values.state[-1],
        end_offset=values.offset[-1],
        acted=acted,
        pool=jnp.asarray(pool),
        share=jnp.full(len(pool), 1.0 / len(pool)),
        source=source,
        log_start=_log_start(setting, starts, rows["x"][:, 0])
        if system.horizon is None
        else jnp.zeros((episodes, len(pool))),
        log_visits=_log_visits(setting, pool, source, rows),
        valid=jnp.ones(episodes, bool),
    )


def sample_perturbed(
    setting: BenchSetting,
    policy: LinearGaussian,
    world: World,
    values: PolicyValues,
    acted: Array,
    starts: Array,
    twins: bool,
    key: Array,
) -> Trajectories:
    """One trajectory for each gain in `acted` [N, m, n], begun in the state law of covariance `starts` [N, n, n]; twins
    share their noise. No window is closed by a value: only costs count."""
    system, episodes = setting.system, acted.shape[0]
    roots, vectors = jnp.linalg.eigh(starts)
    factors = (vectors * jnp.sqrt(jnp.maximum(roots, 0.0))[:, None, :]) @ jnp.swapaxes(vectors, 1, 2)
    rows = _simulate(world, policy, acted, factors, setting.steps, _restarts(setting), twins, key)
    windows = _windows(rows, system.horizon is not None)
    last = jnp.zeros_like(rows["cost"]).at[:, -1].set(1.0)
    windows["follow"] = 1.0 - last
    if system.horizon is None:
        windows["closes"] = jnp.zeros_like(rows["cost"])
    return Trajectories(
        **windows,
        end_matrix=values.state[-1],
        end_offset=jnp.zeros(()),
        acted=acted,
        pool=policy.gain[None],
        share=jnp.ones(1),
        source=jnp.zeros(episodes, jnp.int32),
        log_start=jnp.zeros((episodes, 1)),
        log_visits=jnp.zeros_like(rows["cost"]),
        valid=jnp.ones(episodes, bool),
    )


def _restarts(setting: BenchSetting) -> float:
    return 0.0 if setting.system.discount is None else 1.0 - setting.system.discount


@partial(jax.jit, static_argnums=(4, 6))
def _simulate(
    world: World,
    policy: LinearGaussian,
    acted: Array,
    start_factor: Array,
    steps: int,
    restarts: float,
    twins: bool,
    key: Array,
) -> dict[str, Array]:
    """x, u, cost, x_next [N, T, ...], alive [N, T] (no restart after the step), age [N, T] (steps since the restart)
    and fresh [N, T] (whether there was one)."""
    episodes, m, n = acted.shape
    draws = episodes // 2 if twins else episodes
    noise_factor, fresh_factor = (_root(each) for each in (world.W, world.start))

    def normal(key: Array, size: int) -> Array:
        drawn = jax.random.normal(key, (draws, size), acted.dtype)
        return jnp.repeat(drawn, 2, axis=0) if twins else drawn

    def step(carry: tuple[Array, Array, Array], key: Array):
        x, age, fresh = carry
        action_key, noise_key, end_key, reset_key = jax.random.split(key, 4)
        u = jnp.einsum("nij,nj->ni", acted, x) + normal(action_key, m) @ policy.factor.T
        cost = jnp.sum((x @ world.Q) * x, axis=1) + jnp.sum((u @ world.R) * u, axis=1)
        x_next = x @ world.A.T + u @ world.B.T + normal(noise_key, n) @ noise_factor.T
        uniform = jax.random.uniform(end_key, (draws,))
        ends = (jnp.repeat(uniform, 2) if twins else uniform) < restarts
        again = normal(reset_key, n) @ fresh_factor.T
        row = {"x": x, "u": u, "cost": cost, "x_next": x_next, "alive": ~ends, "age": age, "fresh": fresh}
        following = jnp.where(ends[:, None], again, x_next)
        return (following, jnp.where(ends, 0, age + 1), fresh | ends), row

    start_key, key = jax.random.split(key)
    x = jnp.einsum("nij,nj->ni", start_factor, normal(start_key, n))
    carry = (x, jnp.zeros(episodes, jnp.int32), jnp.zeros(episodes, bool))
    _, rows = jax.lax.scan(step, carry, jax.random.split(key, steps))
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), rows)


def _root(covariance: Array) -> Array:
    values, vectors = jnp.linalg.eigh(covariance)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None]) @ vectors.T


def _windows(rows: dict[str, Array], horizon: bool) -> dict[str, Any]:
    alive = rows["alive"].astype(rows["cost"].dtype)
    last = jnp.zeros_like(alive).at[:, -1].set(1.0)
    names = ("x", "u", "cost", "x_next")
    closes = last if horizon else last * alive
    return {**{name: rows[name] for name in names}, "follow": alive * (1.0 - last), "closes": closes}


def _log_start(setting: BenchSetting, starts: list[np.ndarray], x: Array) -> Array:
    """log N(x; 0, C) - log N(x; 0, C_j) for each policy of the pool, [N, J]."""
    target = setting.start(setting.gain)
    return jnp.stack([_log_density(x, target) - _log_density(x, start) for start in starts], axis=1)


def _log_density(x: Array, covariance: np.ndarray) -> Array:
    """log N(x; 0, C) up to a constant that all laws of one range share, x [..., n]."""
    precision, logdet = _precision(covariance)
    return -(jnp.sum((x @ precision) * x, axis=-1) + logdet) / 2


def _precision(covariance: np.ndarray) -> tuple[np.ndarray, float]:
    values, vectors = np.linalg.eigh(covariance)
    kept = values > RANGE * max(values[-1], 1e-300)
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    return inverse, float(np.sum(np.log(values[kept])))


def _log_visits(setting: BenchSetting, pool: np.ndarray, source: Array, rows: dict[str, Array]) -> Array:
    """log density of x_t under the target over that under the policy that acted; with a discount given the time since
    the restart, which no policy influences, so that the laws are Gaussian."""
    if len(pool) > 1 or np.array_equal(pool[0], setting.gain):
        return jnp.zeros_like(rows["cost"])  # the estimator that reads it learns from one other policy
    system = setting.system
    if system.objective == "average":
        laws = [_log_density(rows["x"], setting.start(gain)) for gain in (setting.gain, pool[0])]
        return laws[0] - laws[1]
    total = jnp.zeros_like(rows["cost"])
    for gain, sign in ((setting.gain, 1.0), (pool[0], -1.0)):
        total += sign * _log_aged_density(setting, gain, rows, setting.start(gain), ~rows["fresh"])
        if system.discount is not None:
            total += sign * _log_aged_density(setting, gain, rows, system.initial_covariance, rows["fresh"])
    return total


def _log_aged_density(
    setting: BenchSetting, gain: np.ndarray, rows: dict[str, Array], start: np.ndarray, where: Array
) -> Array:
    both = [_precision(law) for law in state_laws(setting, gain, start)]
    precisions, logdets = (
        jnp.asarray(np.array([each[0] for each in both])),
        jnp.asarray([each[1] for each in both]),
    )

    def at_step(inputs: tuple[Array, Array]) -> Array:
        x, age = inputs
        return -(jnp.einsum("ni,nij,nj->n", x, precisions[age], x) + logdets[age]) / 2

    by_step = (jnp.swapaxes(rows["x"], 0, 1), rows["age"].T)
    return jnp.where(where, jax.lax.map(at_step, by_step).T, 0.0)
