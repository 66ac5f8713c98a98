"""How far the gradient of one mixed batch is from the exact one, and which part of that more batches would remove.

At one fixed gain, for many independent sets of real data: the data are gathered while the gain moves there from the
first one, as in training, so that older rows are stale; a model is fitted, branches are imagined, and several batches
are drawn. What the batches of one set of data share is an error of the data and of the model and stays however many
batches are drawn; what differs between them is noise that more batches average away.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mbpo.core.buffer import Ring
from mbpo.core.loop import Parts, RunState, branch, fitted
from mbpo.core.plan import Plan, Replay
from mbpo.core.precision import double_precision
from mbpo.core.types import Clock, Experience
from mbpo.lqr import exact
from mbpo.lqr.agents import GradientAgent
from mbpo.lqr.algorithms import Setup
from mbpo.lqr.intervals import RESAMPLES, Interval, percentile_interval
from mbpo.lqr.optimum import Optimum
from mbpo.lqr.policy import LinearGaussian
from mbpo.studies.sweep import CHUNK, Knobs, configured

BATCHES = 4  # of each set of data
SHARES = (
    0.5,
    0.7,
    0.9,
)  # of the way from the first gain to the optimum at which the gradient is taken, the first safe


class GradientError(NamedTuple):
    """Relative to the norm of the exact natural gradient: bias, the norm of the mean error over sets of data;
    persistent, the standard deviation between sets; noise, that between batches of one set; total, the root mean square
    error."""

    bias: Interval
    persistent: float
    noise: float
    total: float


def measuring_gain(setup: Setup, optimum: Optimum) -> np.ndarray:
    """A stabilising gain between the first and the optimal one, in the coordinates of `setup`, [m, n]."""
    first, optimal = setup.gain, setup.coordinates.inward(optimum.gain)
    for share in SHARES:
        gain = first + share * (optimal - first)
        if bool(exact.is_stabilising(setup.system, gain)):
            return gain
    return 0.99 * optimal + 0.01 * first


@double_precision
def estimates(
    shared: tuple[Parts, Plan],
    knobs: Knobs,
    transitions: np.ndarray,
    gain: np.ndarray,
    keys: PRNGKeyArray,
) -> np.ndarray:
    """Estimates of E = M K + g B'PA at `gain`, [runs, BATCHES, m, n], each run with its own knobs, number of real
    transitions and key."""
    arrays, static = eqx.partition(shared, eqx.is_array)
    counts, at = jnp.asarray(transitions, jnp.int32), jnp.asarray(gain)
    found = []
    for first in range(0, keys.shape[0], CHUNK):
        rows = np.arange(first, first + CHUNK) % keys.shape[0]
        own = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf)[rows], knobs)
        found.append(np.asarray(_compiled(static, arrays, own, counts[rows], at, keys[rows])))
    return np.concatenate(found)[: keys.shape[0]]


@functools.partial(jax.jit, static_argnums=0)
def _compiled(static: Any, arrays: Any, knobs: Knobs, counts: Array, gain: Array, keys: Array) -> Array:
    parts, plan = eqx.combine(arrays, static)

    def one(knobs: Knobs, count: Array, key: Array) -> Array:
        own_parts, own_plan = configured(parts, plan, knobs)
        return _batches(own_parts, own_plan, count, gain, key)

    return jax.vmap(one)(knobs, counts, keys)


def _batches(
    parts: Parts, plan: Plan, count: Int[Array, ""], gain: Float[Array, "m n"], key: PRNGKeyArray
) -> Float[Array, "batches m n"]:
    """Estimates of E from `BATCHES` batches of one set of data."""
    agent, batches = parts.agent, plan.batches
    assert isinstance(agent, GradientAgent)
    assert isinstance(batches, Replay)
    assert parts.model is not None
    data_key, fit_key, branch_key, batch_key = jax.random.split(key, 4)
    real = _gathered(parts, plan, count, gain, data_key)
    model = parts.model.fit(parts.model.init(fit_key), real, fit_key)
    policy = agent.init(key)._replace(gain=gain, average=gain)
    zero = jnp.int32(0)
    state = RunState(Clock(zero, count, zero, zero), None, real, model, _nothing(real, plan), policy)
    if batches.branches is not None:
        state = branch(parts, batches.branches, state, branch_key)

    def estimate(key: PRNGKeyArray) -> Float[Array, "m n"]:
        rows, _ = batches.real_ratio.compose(state.real, state.imagined, batches.batch_size, count, key)
        known = Experience(rows, jnp.ones(batches.batch_size, bool), fitted(parts, state))
        acting = LinearGaussian(gain, agent.imagined_factor)
        return agent.source.estimate(None, acting, known, agent.objective, key)[1].error

    return jax.lax.map(estimate, jax.random.split(batch_key, BATCHES))


def _gathered(parts: Parts, plan: Plan, count: Array, gain: Array, key: PRNGKeyArray) -> Ring:
    """A ring of `count` real steps under gains that move evenly from the agent's first to `gain`."""
    environment, agent = parts.environment, parts.agent
    assert environment is not None
    assert isinstance(agent, GradientAgent)

    def step(world: Any, inputs: tuple[Array, PRNGKeyArray]) -> tuple[Any, Any]:
        number, key = inputs
        action_key, step_key, reset_key = jax.random.split(key, 3)
        share = jnp.minimum(number / count.astype(number.dtype), 1.0)
        acting = agent.start + share * (gain - agent.start)
        action = agent.act(acting, environment.observe(world), action_key)
        done = environment.step(world, action, step_key)
        ended = done.transition.truncated | ~done.valid
        fresh = environment.reset(reset_key)
        return jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, done.state), done.transition

    start_key, steps_key = jax.random.split(key)
    total = plan.total_env_steps
    numbers = jnp.arange(total, dtype=gain.dtype)
    _, rows = jax.lax.scan(step, environment.reset(start_key), (numbers, jax.random.split(steps_key, total)))
    return Ring(rows, count, jnp.int32(0))


def _nothing(real: Ring, plan: Plan) -> Ring:
    """An empty ring for what is imagined."""
    assert isinstance(plan.batches, Replay)
    branches = plan.batches.branches
    capacity = 1 if branches is None else branches.capacity
    data = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape[1:]), leaf.dtype), real.data)
    return Ring(data, jnp.int32(0), jnp.int32(0))


def summary(found: np.ndarray, truth: np.ndarray, seed: int) -> GradientError:
    """The parts of the error of estimates [sets, batches, m, n] of `truth` [m, n].

    The squared mean error is lowered by what the variance between sets adds to it, and the variance between sets by
    what the noise of batches adds; the interval is that of a percentile bootstrap over sets.
    """
    sets, batches = found.shape[:2]
    error = (found - truth).reshape(sets, batches, -1) / np.linalg.norm(truth)
    means = error.mean(axis=1)
    noise = float(np.sum(error.var(axis=1, ddof=1), axis=-1).mean())
    between = float(np.sum(means.var(axis=0, ddof=1)))
    draws = np.random.default_rng(seed).integers(sets, size=(RESAMPLES, sets))
    resampled = means[draws]
    spread = np.sum(resampled.var(axis=1, ddof=1), axis=-1) / sets
    norms = np.sqrt(np.maximum(np.sum(resampled.mean(axis=1) ** 2, axis=-1) - 2 * spread, 0.0))
    bias = float(np.sqrt(max(float(np.sum(means.mean(axis=0) ** 2)) - between / sets, 0.0)))
    return GradientError(
        percentile_interval(bias, norms, sets),
        float(np.sqrt(max(between - noise / batches, 0.0))),
        float(np.sqrt(noise)),
        float(np.sqrt(np.mean(np.sum(error**2, axis=-1)))),
    )
