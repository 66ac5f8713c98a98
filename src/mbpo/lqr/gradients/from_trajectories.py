"""Estimates from trajectories: any estimator of the registry made into something an agent can step along.

Trajectories are cut in two halves, and what is fitted on one half serves the other, so that no trajectory is judged by
values it helped to fit. Where the objective has no end, a window is closed by the value of its last state. The natural
gradient is the mean divided by the states' second moment, and the curvature M comes from the same values.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mbpo.core.types import Experience, Transition
from mbpo.lqr.gradients.estimate import Estimate, GradientSource
from mbpo.lqr.gradients.registry import Estimator
from mbpo.lqr.gradients.replayed_rows import at_least, stage_cost_of_actions
from mbpo.lqr.gradients.trajectories import Trajectories
from mbpo.lqr.model import LinearModel
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World, exact_values, fitted_values


class Remembered(NamedTuple):
    """H batches of N trajectories, the newest first, with the gain that acted in each trajectory."""

    transitions: Transition
    valid: Bool[Array, "H N"]
    acted: Float[Array, "H N m n"]


class FromTrajectories(GradientSource):
    """The estimates of one registered estimator.

    truth: the parameters that estimators which need them are told, None where a model stands in for them; start: X0;
    radius: |U|_F of perturbed gains; episodes, length: N and T of a batch; window: batches remembered by estimators
    that learn from earlier policies.
    """

    truth: World | None
    start: Float[Array, "n n"]
    radius: Float[Array, ""]
    estimator: Estimator = eqx.field(static=True)
    episodes: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    window: int = eqx.field(static=True)

    def init(self, gain: Float[Array, "m n"]) -> Remembered | None:
        if not self.estimator.replays:
            return None
        m, n = gain.shape
        shape = (self.window, self.episodes, self.length)
        no = jnp.zeros(shape, bool)
        acted = jnp.broadcast_to(gain, (*shape[:2], m, n))
        x, u, reward, x_next = (jnp.zeros((*shape, *size), gain.dtype) for size in ((n,), (m,), (), (n,)))
        return Remembered(Transition(x, u, reward, x_next, no, no), jnp.zeros(shape[:2], bool), acted)

    def acting(self, gain: Float[Array, "m n"], count: int, key: PRNGKeyArray) -> Float[Array, "c m n"]:
        if not self.estimator.perturbs or count == 1:
            return gain[None]
        directions = count if self.estimator.data == "perturbed" else count // 2
        step = jax.random.normal(key, (directions, *gain.shape), gain.dtype)
        step = self.radius * step / jnp.sqrt(jnp.sum(step**2, axis=(1, 2), keepdims=True))
        if directions < count:
            step = jnp.stack([step, -step], axis=1).reshape(count, *gain.shape)
        return gain[None] + step

    def estimate(
        self,
        memory: Remembered | None,
        policy: LinearGaussian,
        experience: Experience,
        objective: Objective,
        key: PRNGKeyArray,
    ) -> tuple[Remembered | None, Estimate]:
        del key
        rows, valid = experience.transitions, experience.valid
        acted = jnp.broadcast_to(experience.acting, (valid.shape[0], *policy.gain.shape))
        fresh = jax.tree.map(lambda leaf: leaf[None], Remembered(rows, valid, acted))
        if memory is not None:
            fresh = memory = jax.tree.map(lambda new, old: jnp.concatenate([new, old[:-1]]), fresh, memory)
        halves, source = _halves(fresh)
        world = self._world(experience)
        values = self._values(policy, halves, world, objective)
        pool = fresh.acted[:, 0]
        logs = _log_visits(policy, halves, source, pool, world) if world and self.estimator.replays else None

        def one_half(half: Remembered, source: Array, values: PolicyValues, logs: Array | None) -> Array:
            data = _trajectories(half, source, values, objective, pool, fresh.valid, logs)
            baseline = None if self.estimator.perturbs and objective.kind == "horizon" else values
            return self.estimator.function(policy, data, baseline, world)

        contributions = jax.vmap(one_half, (0, None, 0, None if logs is None else 0))(
            halves, source, values, logs
        )
        estimate = self._summary(policy, rows, valid, halves, values, contributions)
        return memory, estimate

    def _world(self, experience: Experience) -> World | None:
        if experience.model is not None and self.truth is None:
            model: LinearModel = experience.model.state
            return World(model.A, model.B, model.Q, model.R, model.W, self.start)
        return self.truth

    def _values(
        self, policy: LinearGaussian, halves: Remembered, world: World | None, objective: Objective
    ) -> PolicyValues:
        """Leading axis 2: for each half what the other half says, or twice the exact values of the world."""
        if self.estimator.needs_parameters:
            assert world is not None, "this estimator is told the parameters"
            values = exact_values(world, policy, objective)
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2, *leaf.shape)), values)

        def fit(half: Remembered) -> PolicyValues:
            rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), half.transitions)
            valid = jnp.repeat(half.valid, half.transitions.reward.shape[1])
            x, u, cost = rows.observation, rows.action, -rows.reward
            return fitted_values(policy, x, u, cost, rows.next_observation, valid, objective)

        return jax.tree.map(lambda leaf: leaf[::-1], jax.vmap(fit)(halves))

    def _summary(
        self,
        policy: LinearGaussian,
        rows: Transition,
        valid: Array,
        halves: Remembered,
        values: PolicyValues,
        contributions: Float[Array, "2 N m n"],
    ) -> Estimate:
        everything = self.estimator.visits == "behaviour"
        seen = halves.transitions if everything else rows
        moment = _mean_moment(seen.observation, halves.valid if everything else valid)
        weight = halves.valid.astype(moment.dtype)
        count = jnp.sum(weight)
        gradient = jnp.einsum("hn,hnij->ij", weight, contributions) / jnp.maximum(count, 1.0)
        n = moment.shape[0]
        inverse = jnp.linalg.inv(moment + 1e-12 * jnp.trace(moment) * jnp.eye(n, dtype=moment.dtype))
        error = gradient @ inverse / 2
        x, u, cost = (
            leaf.reshape(-1, *leaf.shape[2:]) for leaf in (rows.observation, rows.action, -rows.reward)
        )
        stage = stage_cost_of_actions(x, u, cost, jnp.repeat(valid, rows.reward.shape[1]))
        curvature = at_least(jnp.mean(values.curvature, axis=(0, 1)), stage)
        spread = contributions - gradient[None, None]
        metric = jnp.einsum("hnij,ik,hnkl,jl->hn", spread, jnp.linalg.inv(curvature), spread, inverse) / 4
        repeats = 2.0 if self.estimator.data in ("pairs", "twins") else 1.0
        noise = repeats * jnp.sum(weight * metric) / jnp.maximum(count, 1.0) ** 2
        present = valid.astype(moment.dtype)
        cost = present @ jnp.mean(-rows.reward, axis=1) / jnp.maximum(jnp.sum(present), 1.0)
        enough = jnp.all(jnp.sum(halves.valid, axis=1) > 1) & jnp.any(valid) & jnp.all(values.usable)
        finite = [jnp.all(jnp.isfinite(each)) for each in (error, curvature, noise)]
        return Estimate(error, curvature, moment, cost, enough & finite[0] & finite[1] & finite[2], noise)


def _mean_moment(x: Array, valid: Array) -> Array:
    """The second moment of the states of valid trajectories, [n, n]."""
    weight = valid.astype(x.dtype)
    count = jnp.maximum(jnp.sum(weight) * x.shape[-2], 1.0)
    return jnp.einsum("...n,...nti,...ntj->ij", weight, x, x) / count


def _halves(fresh: Remembered) -> tuple[Remembered, Int[Array, "N"]]:
    """Every batch cut in two, [2, H N/2, ...], and the batch each trajectory is from, the same in both halves."""
    batches, episodes = fresh.valid.shape
    half = episodes // 2

    def cut(leaf: Array) -> Array:
        parts = leaf[:, : 2 * half].reshape(batches, 2, half, *leaf.shape[2:])
        return jnp.swapaxes(parts, 0, 1).reshape(2, batches * half, *leaf.shape[2:])

    return jax.tree.map(cut, fresh), jnp.repeat(jnp.arange(batches), half)


def _trajectories(
    half: Remembered,
    source: Int[Array, "N"],
    values: PolicyValues,
    objective: Objective,
    pool: Float[Array, "J m n"],
    valid: Bool[Array, "J N"],
    log_visits: Float[Array, "N T"] | None,
) -> Trajectories:
    """One half as the estimators read it; the laws of first states are taken to be equal."""
    rows = half.transitions
    dtype = rows.reward.dtype
    ends = (rows.terminal | rows.truncated).at[:, -1].set(True).astype(dtype)
    horizon = objective.kind == "horizon"
    count = jnp.sum(valid, axis=1).astype(dtype)
    return Trajectories(
        x=rows.observation,
        u=rows.action,
        cost=-rows.reward,
        x_next=rows.next_observation,
        follow=objective.discount * (1.0 - ends),
        closes=objective.discount * ends,
        end_matrix=objective.terminal_cost if horizon else values.state[-1],  # pyright: ignore[reportArgumentType]
        end_offset=jnp.zeros((), dtype) if horizon else values.offset[-1],
        acted=half.acted,
        pool=pool,
        share=count / jnp.maximum(jnp.sum(count), 1.0),
        source=source,
        log_start=jnp.zeros((rows.reward.shape[0], pool.shape[0]), dtype),
        log_visits=jnp.zeros_like(rows.reward) if log_visits is None else log_visits,
        valid=half.valid,
    )


def _log_visits(
    policy: LinearGaussian, halves: Remembered, source: Array, pool: Float[Array, "J m n"], world: World
) -> Float[Array, "2 N T"]:
    """log N(x_t; 0, C_t) under the policy over the same under the one that acted, both from the states a batch began
    with: C_{t+1} = F C_t F' + W + B S B'."""
    x = halves.transitions.observation
    steps = x.shape[2]
    arriving = world.W + world.B @ policy.covariance @ world.B.T

    def law(start: Array, gain: Array) -> tuple[Array, Array]:
        F = world.A + world.B @ gain

        def forth(C: Array, _: None) -> tuple[Array, Array]:
            return F @ C @ F.T + arriving, C

        _, laws = jax.lax.scan(forth, start, length=steps)
        floor = 1e-9 * jnp.trace(laws, axis1=1, axis2=2)[:, None, None] + 1e-300
        laws = laws + floor * jnp.eye(x.shape[-1], dtype=x.dtype)[None]
        return jnp.linalg.inv(laws), jnp.linalg.slogdet(laws)[1]

    def of_batch(j: Array, gain: Array) -> tuple[Array, Array]:
        start = _mean_moment(x[:, :, :1], halves.valid & (source == j)[None])
        inverse, logdet = law(start, policy.gain)
        other, other_logdet = law(start, gain)
        return inverse - other, logdet - other_logdet

    difference, logdets = jax.vmap(of_batch)(jnp.arange(pool.shape[0]), pool)
    square = jnp.einsum("hnti,ntij,hntj->hnt", x, difference[source], x)
    return -(square + logdets[source][None]) / 2
