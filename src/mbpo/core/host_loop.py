"""The same loop for a world outside JAX: `act` runs on the host, the other stages are compiled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from mbpo.core.buffer import Ring, add
from mbpo.core.loop import WARM_UP, Parts, RunState, branch, improve, refit, round_keys, start_from
from mbpo.core.parts import HostEnvironment
from mbpo.core.plan import Plan, Replay
from mbpo.core.types import Transition
from mbpo.errors import InputError


class Episode(NamedTuple):
    """The running episode: its number, which with the run's seed names its start, its actions so far `[T, m]`, and what
    was seen last `[n]`.

    Replaying them is the one way to restore a simulator that is exact to the last bit for every task.
    """

    number: int
    actions: tuple[np.ndarray, ...]
    observation: np.ndarray


class HostRound(NamedTuple):
    """What one real step led to: the state after it, the transition, whether the model was refitted before the
    updates, the mean realised real share and the agent's info of the last update (None in the warm-up), and the
    seconds each stage took."""

    state: RunState
    transition: Transition
    refitted: bool
    realised_ratio: Array | None
    update: Any
    seconds: dict[str, float]


class HostWorld:
    """A host environment with the position in its current episode."""

    def __init__(self, environment: HostEnvironment, seed: int, episode: Episode | None = None) -> None:
        self.environment = environment
        self._seed = seed
        self._number, self._actions = 0, []
        self.observation = self._reset(0)
        if episode is not None:
            self._replay(episode)

    @property
    def episode(self) -> Episode:
        """Where the world stands, so that another can be brought there."""
        return Episode(self._number, tuple(self._actions), self.observation)

    def step(self, action: np.ndarray) -> Transition:
        """The transition under `action`; a new episode begins where this one ends."""
        before = self.observation
        after = self.environment.step(action)
        ends = np.bool_(after.terminal), np.bool_(after.truncated)
        row: Any = (before, action, np.float32(after.reward), after.observation, *ends)
        transition = Transition(*row)
        if after.terminal or after.truncated:
            self.observation = self._reset(self._number + 1)
        else:
            self.observation = after.observation
            self._actions.append(action)
        return transition

    def _reset(self, number: int) -> np.ndarray:
        self._number, self._actions = number, []
        words = np.random.SeedSequence([self._seed, number]).generate_state(1)
        return self.environment.reset(int(words[0] >> 1))

    def _replay(self, episode: Episode) -> None:
        self.observation = self._reset(episode.number)
        for action in episode.actions:
            self.step(np.asarray(action, np.float32))
        if self._number != episode.number or not np.array_equal(self.observation, episode.observation):
            raise InputError(
                f"the environment did not repeat its episode {episode.number} from the same seed and actions, so the "
                "run cannot go on; mbpo check-env tells more"
            )


def example_of(environment: HostEnvironment) -> Transition:
    """A float32 transition of the shapes of `environment`."""
    observation = jnp.zeros(environment.observation_size, jnp.float32)
    action = jnp.zeros(environment.action_size, jnp.float32)
    false = jnp.bool_(False)
    return Transition(observation, action, jnp.float32(0), observation, false, false)


class Stages:
    """The compiled stages of a run; each compiles once."""

    def __init__(self, parts: Parts, plan: Plan) -> None:
        self.parts, self.plan = parts, plan
        self.choose = jax.jit(self._choose)
        self.store = jax.jit(lambda ring, row: add(ring, row, jnp.ones(1, bool)), donate_argnums=0)
        self.refit = jax.jit(lambda state, key: refit(parts, state, key).model)
        self.imagine = jax.jit(self._imagine, donate_argnums=0)
        self.improve = jax.jit(self._improve, donate_argnums=0)

    def _choose(self, policy: Any, observation: Array, key: PRNGKeyArray) -> Array:
        acting = self.parts.agent.acting(policy, 1, jax.random.fold_in(key, 0))
        one = jax.tree.map(lambda leaf: leaf[0], acting)
        return self.parts.agent.act(one, observation, jax.random.fold_in(key, 1))

    def _imagine(self, imagined: Ring, state: RunState, key: PRNGKeyArray) -> Ring:
        assert isinstance(self.plan.batches, Replay)
        assert self.plan.batches.branches is not None
        return branch(self.parts, self.plan.batches.branches, state._replace(imagined=imagined), key).imagined

    def _improve(self, policy: Any, state: RunState, key: PRNGKeyArray) -> tuple[Any, Array, Any]:
        state, share, info = improve(self.parts, self.plan, state._replace(policy=policy), None, key)
        return state.policy, share, info


def mbpo_on_host(
    parts: Parts, plan: Plan, world: HostWorld, key: PRNGKeyArray, state: RunState | None = None
) -> Iterator[HostRound]:
    """A whole run in `world`, one round after every real step; it goes on from `state` when that is given.

    The warm-up acts uniformly over the actions [-1, 1]^m. A round after it acts once, refits and imagines when due,
    and improves. The states that are yielded are read at once or not at all: the next round reuses their memory.
    """
    stages = Stages(parts, plan)
    state = start_from(parts, plan, None, example_of(world.environment), key) if state is None else state
    while int(state.clock.env_steps) < plan.total_env_steps:
        if int(state.clock.env_steps) < plan.warmup_steps:
            step_key = jax.random.fold_in(jax.random.fold_in(key, state.clock.env_steps), WARM_UP)
            action = jax.random.uniform(step_key, (world.environment.action_size,), jnp.float32, -1.0, 1.0)
            transition = world.step(np.asarray(action))
            state = _stored(stages, state, transition)
            yield HostRound(state, transition, False, None, None, {})
        else:
            state, done = _round(stages, state, world, key)
            yield done


def _stored(stages: Stages, state: RunState, transition: Transition) -> RunState:
    row = jax.tree.map(lambda leaf: leaf[None], transition)
    clock = state.clock._replace(env_steps=state.clock.env_steps + 1)
    return state._replace(clock=clock, real=stages.store(state.real, row))


@jax.jit
def _round_keys(key: PRNGKeyArray, number: Array) -> tuple[PRNGKeyArray, ...]:
    return tuple(round_keys(key, number))


def _round(
    stages: Stages, state: RunState, world: HostWorld, key: PRNGKeyArray
) -> tuple[RunState, HostRound]:
    """Act, fit and imagine when due, improve, once."""
    plan, watch = stages.plan, _Stopwatch()
    state = state._replace(clock=state.clock._replace(rounds=state.clock.rounds + 1))
    action_key, fit_key, imagine_key, improve_key = _round_keys(key, state.clock.rounds)
    action = np.asarray(stages.choose(state.policy, world.observation, action_key))
    transition = world.step(action)
    state = _stored(stages, state, transition)
    watch.lap("act", state.real.size)
    refitted = stages.parts.model is not None and bool(plan.refit_due(state.clock.rounds))
    if refitted:
        state = state._replace(model=stages.refit(state, fit_key))
        watch.lap("fit", state.model)
        assert isinstance(plan.batches, Replay)
        if plan.batches.branches is not None:
            rest = state._replace(imagined=None)
            state = state._replace(imagined=stages.imagine(state.imagined, rest, imagine_key))
            watch.lap("imagine", state.imagined.size)
    rest = state._replace(policy=None)
    policy, share, info = stages.improve(state.policy, rest, improve_key)
    clock = state.clock._replace(updates=state.clock.updates + plan.updates_per_round)
    state = state._replace(clock=clock, policy=policy)
    watch.lap("improve", policy)
    return state, HostRound(state, transition, refitted, share, info, watch.seconds)


class _Stopwatch:
    """Seconds of each stage, from the end of the one before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str, result: Any) -> None:
        jax.block_until_ready(result)
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now
