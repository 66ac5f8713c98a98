"""Learning to control a hidden state, by the loop and the agents that learn with a state in full view.

The history h_t = [y_t; ...; y_{t-s+1}; u_{t-1}; ...; u_{t-s+1}] takes the place of the state: the policy is u = K h,
the least-squares model h' = A_h h + B_h u is an autoregression with inputs (ARX) of order s, and the cost y'Qy y + u'Ru
is a function of h and u. What it is not is a Markov state. The residual of h' is white only in the limit of a long
history, so a learner that believes its model has a bias that no amount of data removes; how large it is says
`output_feedback.regression_limit`. And its covariance has rank p, since all other entries of h' are copies.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mbpo.core.buffer import Ring
from mbpo.core.loop import Parts, RunState, mbpo
from mbpo.core.mixing import RealRatio
from mbpo.core.parts import Agent, Environment, Model, Step
from mbpo.core.plan import Branches, Plan, Replay
from mbpo.core.precision import double_precision
from mbpo.core.rollout import RealSteps
from mbpo.core.schedule import constant
from mbpo.core.types import Transition
from mbpo.errors import InputError, did_you_mean
from mbpo.lqr.agents import CertaintyEquivalence, GradientAgent
from mbpo.lqr.algorithms import (
    ALGORITHMS,
    FAR,
    IMAGINED_EXPLORATION,
    ROUNDS,
)
from mbpo.lqr.environment import covariance_factor
from mbpo.lqr.gradients import ReplayedRows
from mbpo.lqr.hidden import HiddenSystem
from mbpo.lqr.model import LeastSquares, LinearModel
from mbpo.lqr.objective import Objective
from mbpo.lqr.output_feedback import (
    history_cost,
    lqg_cost,
    seen_state,
    starting_gain,
    whole,
)
from mbpo.lqr.reference import lyapunov

LEARNERS = ("mbpo", "certainty-equivalence")
BATCH, BRANCHES = (
    1024,
    2000,
)  # rows of a batch, imagined transitions after a fit: a quarter and a half of the usual


def used_entries(system: HiddenSystem, order: int, longest: int) -> np.ndarray:
    """Which entries `[d]` of a history of order `longest` a history of order `order` has."""
    outputs = np.repeat(np.arange(longest) < order, system.output_dim)
    inputs = np.repeat(np.arange(1, longest) < order, system.input_dim)
    return np.concatenate([outputs, inputs])


class HistoryState(NamedTuple):
    """The hidden state and what has been seen of it."""

    x: Float[Array, "n"]
    history: Float[Array, "d"]


class HistoryEnvironment(Environment):
    """A hidden system whose observation is its history; outputs and inputs before the start count as zero.

    One endless trajectory; a step that takes an entry of the history beyond `limit` is not valid. Entries that are not
    `used` (1 or 0) are zero, so that histories of several orders have one shape.
    """

    A: Float[Array, "n n"]
    B: Float[Array, "n m"]
    C: Float[Array, "p n"]
    Qy: Float[Array, "p p"]
    R: Float[Array, "m m"]
    process_factor: Float[Array, "n n"]
    output_factor: Float[Array, "p p"]
    start_factor: Float[Array, "n n"]
    limit: Float[Array, ""]
    used: Float[Array, "d"]

    @classmethod
    def of(cls, system: HiddenSystem, used: np.ndarray, limit: float) -> HistoryEnvironment:
        """The environment of `system`, whose cost is of its outputs."""
        roots = [covariance_factor(each) for each in (system.W, system.V, system.initial_covariance)]
        matrices = [system.A, system.B, system.C, system.Qy, system.R, *roots, limit, used]
        return cls(*(jnp.asarray(each, jnp.float64) for each in matrices))

    def reset(self, key: PRNGKeyArray) -> HistoryState:
        n, p = self.A.shape[0], self.C.shape[0]
        draw = jax.random.normal(key, (n + p,), self.A.dtype)
        x = self.start_factor @ draw[:n]
        before = jnp.zeros(self.used.shape[0] - p, self.A.dtype)
        return HistoryState(x, jnp.concatenate([self.C @ x + self.output_factor @ draw[n:], before]))

    def observe(self, state: HistoryState) -> Float[Array, "d"]:
        return state.history

    def step(self, state: HistoryState, action: Float[Array, "m"], key: PRNGKeyArray) -> Step:
        (n, m), p = self.B.shape, self.C.shape[0]
        past = (self.used.shape[0] - p) // (p + m)  # s - 1
        draw = jax.random.normal(key, (n + p,), self.A.dtype)
        x = self.A @ state.x + self.B @ action + self.process_factor @ draw[:n]
        y, old = self.C @ x + self.output_factor @ draw[n:], state.history
        inputs = jnp.concatenate([action, old[(past + 1) * p :]])[: past * m]
        history = self.used * jnp.concatenate([y, old[: past * p], inputs])
        reward = -(old[:p] @ self.Qy @ old[:p] + action @ self.R @ action)
        valid = jnp.all(jnp.abs(history) <= self.limit) & jnp.all(jnp.isfinite(x)) & jnp.isfinite(reward)
        kept = [jnp.where(valid, each, jnp.zeros_like(each)) for each in (old, action, reward, history)]
        no = jnp.bool_(False)
        transition = Transition(kept[0], kept[1], kept[2], kept[3], no, no)
        return Step(HistoryState(x, history), transition, valid)


class HistoryModel(Model):
    """The least-squares model of histories, sure of what entries that are not used do: nothing."""

    fitted: LeastSquares
    used: Float[Array, "d"]

    def init(self, key: PRNGKeyArray) -> LinearModel:
        return self.fitted.init(key)

    def fit(self, state: LinearModel, real: Ring, key: PRNGKeyArray) -> LinearModel:
        model = self.fitted.fit(state, real, key)
        known = jnp.concatenate([1.0 - self.used, jnp.zeros(model.B.shape[1], self.used.dtype)])
        sure = known * jnp.trace(
            model.information
        )  # without it, draws from the model's confidence are unbounded
        return model._replace(information=model.information + jnp.diag(sure))

    def step(
        self,
        state: LinearModel,
        observation: Float[Array, "B d"],
        action: Float[Array, "B m"],
        keys: PRNGKeyArray,
    ) -> tuple[Transition, Bool[Array, "B"]]:
        transition, valid = self.fitted.step(state, observation, action, keys)
        following = (
            transition.next_observation * self.used[None]
        )  # the root of a singular W leaves 1e-9 of noise there
        return transition._replace(next_observation=following), valid


@dataclass(frozen=True, eq=False)
class HistoryTraining:
    """What learning on a history did: transitions `[r]` after each round, gains `[S, r, m, d]`, their exact costs
    `[S, r]`, infinite where a gain does not stabilise, and the cost `lqg` that no policy undercuts."""

    transitions: np.ndarray
    gains: np.ndarray
    costs: np.ndarray
    lqg: float

    @property
    def excess(self) -> np.ndarray:
        """J / J* - 1 over LQG, `[S, r]`."""
        return self.costs / self.lqg - 1


@double_precision
def train_on_history(
    system: HiddenSystem,
    order: int,
    transitions: int,
    seeds: int,
    seed: int,
    algorithm: str,
    longest: int | None = None,
) -> HistoryTraining:
    """Train `mbpo` or `certainty-equivalence` on histories of that order, for many seeds at once, judged exactly.

    longest: histories are padded with zeros to that order, so that one compiled program serves all orders up to it.
    Raises `InputError` for another algorithm, a cost of the hidden state (which no learner sees), too few transitions,
    or a system that no gain of that order was found to stabilise.
    """
    if algorithm not in LEARNERS:
        raise InputError(f"{algorithm!r} does not learn on histories; {did_you_mean(algorithm, LEARNERS)}")
    if system.Q is not None or (system.R is not None and system.Qy is None):
        raise InputError(f"{system.name}: learning needs a cost of what is seen: give Qy, and no Q")
    at = whole(system, order)
    used = used_entries(system, order, max(longest or order, order))
    parts, plan = _assemble(system, order, used, transitions, algorithm)
    keys = jax.random.split(jax.random.key(seed), seeds)
    arrays, static = eqx.partition((parts, plan), eqx.is_array)
    taken, gains = jax.block_until_ready(_over_seeds(static, arrays, keys))
    gains = np.asarray(gains)[..., used]
    costs = [history_cost(at, gain)[0] for gain in gains.reshape(-1, *gains.shape[2:])]
    return HistoryTraining(
        np.asarray(taken)[0], gains, np.array(costs).reshape(gains.shape[:2]), lqg_cost(system)
    )


@functools.partial(jax.jit, static_argnums=0)
def _over_seeds(static: Any, arrays: Any, keys: Array) -> tuple[Array, Array]:
    parts, plan = eqx.combine(arrays, static)

    def watch(state: RunState, taken: RealSteps) -> Array:
        del taken
        return state.policy.average

    def one(key: Array) -> tuple[Array, Array]:
        infos = mbpo(parts, plan, key, watch)[2]
        return infos.clock.env_steps, infos.watched

    return jax.vmap(one)(keys)


def _assemble(
    system: HiddenSystem, order: int, used: np.ndarray, transitions: int, algorithm: str
) -> tuple[Parts, Plan]:
    start = np.zeros((system.input_dim, len(used)))
    start[:, used] = starting_gain(system, order)
    S = disturbing_exploration(system)
    limit = _limit(system, order, start[:, used], S)
    mask = jnp.asarray(used, jnp.float64)
    Q = np.zeros((len(used), len(used)))
    Q[: system.output_dim, : system.output_dim] = system.Qy
    numbers = [jnp.asarray(each) for each in (Q, system.R, limit, 1e-9)]
    model = HistoryModel(LeastSquares(numbers[0], numbers[1], numbers[2], numbers[3], learn_cost=False), mask)
    agent, batches = _learner(algorithm, jnp.asarray(start), jnp.asarray(np.linalg.cholesky(S)))
    parts = Parts(HistoryEnvironment.of(system, used, limit), model, agent)
    steps = max(transitions // (ROUNDS + 1), 2 * (len(used) + system.input_dim))
    rounds = min(transitions // steps - 1, ROUNDS)
    if rounds < 1:
        raise InputError(
            f"transitions: a history of order {order} needs at least {2 * steps}, got {transitions}"
        )
    plan = Plan(batches, transitions - rounds * steps, rounds, steps, ALGORITHMS[algorithm].updates)
    return parts, plan


def disturbing_exploration(system: HiddenSystem) -> np.ndarray:
    """S, diagonal, with B S B' and W of equal trace and every input contributing equally, [m, m].

    Exploring disturbs a hidden state as much as the process noise does (its start's covariance takes the place of no
    noise). The bias of a regression on histories falls as exploration grows, so what it costs is not the only question.
    """
    seen = seen_state(system)
    noise = float(np.trace(seen.W)) or float(np.trace(seen.initial_covariance))
    reach = np.sum(seen.B**2, axis=0)
    reach = np.maximum(reach, 1e-6 * np.max(reach))
    return np.diag(noise / (seen.action_dim * reach))


def _limit(system: HiddenSystem, order: int, start: np.ndarray, S: np.ndarray) -> float:
    """`FAR` standard deviations of what the starting loop shows."""
    at = whole(system, order)
    spread = np.diag(lyapunov(at.closed(start)[1], at.W + at.B @ S @ at.B.T))
    first = system.C @ system.initial_covariance @ system.C.T + system.V
    return FAR * math.sqrt(float(max(spread.max(), np.diag(first).max(), np.diag(S).max())))


def _learner(algorithm: str, start: Array, factor: Array) -> tuple[Agent, Replay]:
    """The agent, and what its updates learn from, as on a state in full view."""
    known, objective = ALGORITHMS[algorithm], Objective(jnp.asarray(1.0, jnp.float64), None, "average", None)
    if known.improve is None:
        return CertaintyEquivalence(start, factor, objective), Replay(
            RealRatio.of(jnp.asarray(1.0, jnp.float64)), 1, None
        )
    assert known.rollout_length is not None
    assert known.real_ratio is not None
    agent = GradientAgent(start, factor, IMAGINED_EXPLORATION * factor, objective, ReplayedRows())
    length, ratio = known.rollout_length, RealRatio.of(jnp.asarray(known.real_ratio, jnp.float64))
    return agent, Replay(ratio, BATCH, Branches(constant(float(length)), BRANCHES // length, length))
