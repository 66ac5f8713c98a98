"""Hundreds of MBPO runs that differ in a few numbers and in their seeds, in one compiled program.

What may differ between runs are the knobs: they are arguments of the program, and nothing else in it depends on them.
Everything else (batch size, branches, updates, real steps) is the same for all runs of a sweep.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mbpo.core.buffer import Ring
from mbpo.core.loop import Parts, RunState, mbpo
from mbpo.core.mixing import RealRatio
from mbpo.core.parts import Model
from mbpo.core.plan import Branches, Plan, Replay
from mbpo.core.precision import double_precision
from mbpo.core.rollout import RealSteps
from mbpo.core.schedule import Linear, constant
from mbpo.core.types import Transition
from mbpo.lqr import exact
from mbpo.lqr.agents import GradientAgent
from mbpo.lqr.algorithms import ALGORITHMS, Choices, Setup, Sizes, assemble
from mbpo.lqr.model import LinearModel
from mbpo.studies.result import Progress

CHUNK = 32  # runs that one device computes side by side: enough to fill vectors, few enough for its cache


@dataclasses.dataclass(frozen=True)
class Effort:
    """What all runs of a sweep spend: `warmup` real steps, `early` rounds of other sizes, then `rounds` of `steps` real
    steps, each with `branches` imagined ones of up to `longest` steps and `updates` updates on batches of `batch`
    transitions."""

    warmup: int
    rounds: int
    steps: int
    updates: int
    batch: int = 512
    branches: int = 100
    longest: int = 20
    early: tuple[int, ...] = ()

    @classmethod
    def of(cls, transitions: int, rounds: int, updates: int, longest: int = 20) -> Effort:
        """`transitions` real steps in `rounds` equal rounds after a warm-up of about the same length."""
        steps = transitions // (rounds + 1)
        return cls(transitions - rounds * steps, rounds, steps, updates, longest=longest)

    @property
    def transitions(self) -> np.ndarray:
        """Real transitions used after each round, [rounds]."""
        return self.warmup + np.cumsum([*self.early, *[self.steps] * self.rounds])


class Knobs(NamedTuple):
    """What may differ between runs, with leading axes, one for each run: the schedule of the real ratio; the rollout
    length; the standard deviation of exploration inside the model, relative to the world's; whether every length gives
    equally many imagined rows rather than equally many branches; and an error added to every fitted [A B]."""

    ratio: Linear
    length: Float[Array, "*runs"]
    width: Float[Array, "*runs"]
    equal_rows: Bool[Array, "*runs"]
    error: Float[Array, "*runs n p"]


class Outcome(NamedTuple):
    """What came of each run after each round: excess_cost [runs, rounds], J/J* - 1, infinite where the gain does not
    stabilise; model_error [runs, rounds], relative, of [A B]; realised_ratio [runs, rounds]; gains
    [runs, rounds, m, n]; models [runs, rounds, n, n+m], the fitted [A B]."""

    excess_cost: np.ndarray
    model_error: np.ndarray
    realised_ratio: np.ndarray
    gains: np.ndarray
    models: np.ndarray


class MistakenModel(Model):
    """A model that adds the same error to (A, B) at every fit, so that more data do not remove it."""

    inner: Model
    error: Float[Array, "n p"]

    def init(self, key: PRNGKeyArray) -> LinearModel:
        return self.inner.init(key)

    def fit(self, state: LinearModel, real: Ring, key: PRNGKeyArray) -> LinearModel:
        fitted: LinearModel = self.inner.fit(state, real, key)
        n = fitted.A.shape[0]
        return fitted._replace(A=fitted.A + self.error[:, :n], B=fitted.B + self.error[:, n:])

    def step(self, state: LinearModel, observation: Array, action: Array, keys: PRNGKeyArray):
        return self.inner.step(state, observation, action, keys)


@double_precision
def base(setup: Setup, effort: Effort, model: bool = True) -> tuple[Parts, Plan]:
    """The parts and the plan that all runs share: `mbpo` with the deterministic policy gradient; without a model the
    same learner on real data alone."""
    known = ALGORITHMS["mbpo"] if model else ALGORITHMS["dpg"]
    sizes = Sizes(effort.warmup, effort.early, effort.rounds + len(effort.early), effort.steps)
    chosen = Choices("dpg", known.real_ratio, None, known.rollout_length)
    parts, plan = assemble(setup, known, sizes, chosen)
    assert isinstance(plan.batches, Replay)
    branches = None
    if model:
        length, refill = constant(jnp.asarray(1.0, jnp.float64)), jnp.bool_(False)
        branches = Branches(length, effort.branches, effort.longest, varies=True, refill=refill)
    batches = dataclasses.replace(plan.batches, batch_size=effort.batch, branches=branches)
    return parts, dataclasses.replace(plan, batches=batches, updates_per_round=effort.updates)


def configured(parts: Parts, plan: Plan, knobs: Knobs) -> tuple[Parts, Plan]:
    """The parts and the plan of one run."""
    assert isinstance(plan.batches, Replay)
    batches = dataclasses.replace(plan.batches, real_ratio=RealRatio(knobs.ratio))
    if parts.model is not None:
        assert batches.branches is not None
        length = constant(jnp.asarray(knobs.length, jnp.float64))
        branches = dataclasses.replace(batches.branches, length=length, refill=jnp.asarray(knobs.equal_rows))
        batches = dataclasses.replace(batches, branches=branches)
        agent = parts.agent
        assert isinstance(agent, GradientAgent)
        agent = dataclasses.replace(agent, imagined_factor=knobs.width * agent.factor)
        parts = dataclasses.replace(parts, model=MistakenModel(parts.model, knobs.error), agent=agent)
    return parts, dataclasses.replace(plan, batches=batches)


@double_precision
def sweep(
    setup: Setup,
    shared: tuple[Parts, Plan],
    knobs: Knobs,
    keys: PRNGKeyArray,
    optimal_cost: float,
    progress: Progress,
) -> Outcome:
    """Every run, `chunks(runs)` calls of one program; `keys` [runs] decide all that is random in each. Gains and models
    are in the coordinates of `setup`."""
    arrays, static = eqx.partition(shared, eqx.is_array)
    found = []
    runs = keys.shape[0]
    for rows in _chunks(runs):
        own = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf)[rows], knobs)
        gains, models, shares = _compiled(static, _mesh(), arrays, own, keys[rows])
        excess = exact.excess_costs(setup.system, gains, optimal_cost)
        found.append([np.asarray(each) for each in (excess, models, shares, gains)])
        progress(f"{min(sum(len(each[0]) for each in found), runs)} of {runs} runs")
    excess, models, shares, gains = (np.concatenate(each)[:runs] for each in zip(*found, strict=True))
    truth = np.concatenate([setup.system.A, setup.system.B], axis=1)
    error = np.linalg.norm(models - truth, axis=(-2, -1)) / np.linalg.norm(truth)
    return Outcome(excess, error, shares, gains, models)


def chunks(runs: int) -> int:
    """How often a sweep of so many runs reports progress."""
    return -(-runs // (CHUNK * len(jax.local_devices())))


def _chunks(runs: int) -> Iterator[np.ndarray]:
    """Rows of equally long chunks; the last is filled up with the first rows."""
    size = CHUNK * len(jax.local_devices())
    for first in range(0, runs, size):
        yield np.arange(first, first + size) % runs if first + size > runs else np.arange(first, first + size)


def _mesh() -> Mesh | None:
    devices = jax.local_devices()
    return Mesh(np.array(devices), ("runs",)) if len(devices) > 1 else None


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(static: Any, mesh: Mesh | None, arrays: Any, knobs: Knobs, keys: Array) -> Any:
    def several(arrays: Any, knobs: Knobs, keys: Array) -> Any:
        parts, plan = eqx.combine(arrays, static)

        def one(knobs: Knobs, key: Array) -> Any:
            own_parts, own_plan = configured(parts, plan, knobs)
            _, _, infos = mbpo(own_parts, own_plan, key, _watched)
            return *infos.watched, infos.realised_ratio

        return jax.vmap(one)(knobs, keys)

    if mesh is None:
        return several(arrays, knobs, keys)
    each = PartitionSpec("runs")
    spread = jax.shard_map(
        several, mesh=mesh, in_specs=(PartitionSpec(), each, each), out_specs=each, check_vma=False
    )
    return spread(arrays, knobs, keys)


def _watched(state: RunState, taken: RealSteps) -> tuple[Array, Array]:
    """The gain that answers, and the fitted [A B] (NaN without a model)."""
    del taken
    gain = state.policy.average
    if state.model is None:
        rows: Transition = state.real.data
        size = (rows.observation.shape[1], rows.observation.shape[1] + rows.action.shape[1])
        return gain, jnp.full(size, jnp.nan, gain.dtype)
    return gain, jnp.concatenate([state.model.A, state.model.B], axis=1)
