"""The same loop for a world outside JAX: `act` runs on the host, the other stages are compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from mbpo.core.buffer import Ring, add
from mbpo.core.loop import (
    WARM_UP,
    Parts,
    RunState,
    branch,
    improve,
    piece_keys,
    refit,
    round_keys,
    start_from,
)
from mbpo.core.parts import Agent, HostEnvironment
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
    """What one piece of a round led to: the state after it, the real steps taken in it (leaves `[T]`, None where none
    were), whether the model was refitted, the mean realised real share and the agent's info of the last update (None
    where it made none), the seconds each stage took, and whether the round is complete."""

    state: RunState
    transitions: Transition | None
    refitted: bool
    realised_ratio: Array | None
    update: Any
    seconds: dict[str, float]
    complete: bool


Announce = Callable[[str], None]
"""Told what the loop is about to do, in a word or two."""


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
    """The compiled stages of a run; each compiles once, which `announce` is told of."""

    def __init__(self, parts: Parts, plan: Plan, announce: Announce = lambda doing: None) -> None:
        self.parts, self.plan, self.announce = parts, plan, announce
        self.choose = jax.jit(self._choose)
        self.store = jax.jit(
            lambda ring, rows: add(ring, rows, jnp.ones(len(rows.reward), bool)), donate_argnums=0
        )
        self.refit = jax.jit(lambda state, key: refit(parts, state, key).model)
        self.look = jax.jit(parts.agent.refresh)
        self.imagine = jax.jit(self._imagine, donate_argnums=0)
        self.improve = jax.jit(self._improve, donate_argnums=0)
        self._compiled: set[str] = set()

    def begin(self, stage: str) -> None:
        """Say what comes next."""
        self.announce(stage if stage in self._compiled else "compiling")
        self._compiled.add(stage)

    def actions(self, state: RunState, key: PRNGKeyArray) -> Callable[[int, np.ndarray], np.ndarray]:
        """(step of the round, observation `[n]`) -> exploring action `[m]`; in NumPy where the agent offers it."""
        agent = self.parts.agent
        on_host = agent.on_host(agent.policy(state.policy))
        if on_host is not None:
            noise = np.asarray(self._noise(state, key))
            return lambda step, observation: on_host(observation, noise[step])
        keys = piece_keys(key, self.plan.steps_per_round)
        return lambda step, observation: np.asarray(self.choose(state.policy, observation, keys[step]))

    def _noise(self, state: RunState, key: PRNGKeyArray) -> Array:
        shape = (self.plan.steps_per_round, state.real.data.action.shape[1])
        return jax.random.normal(key, shape, jnp.float32)

    def _choose(self, policy: Any, observation: Array, key: PRNGKeyArray) -> Array:
        acting = self.parts.agent.acting(policy, 1, jax.random.fold_in(key, 0))
        one = jax.tree.map(lambda leaf: leaf[0], acting)
        return self.parts.agent.act(one, observation, jax.random.fold_in(key, 1))

    def _imagine(self, imagined: Ring, state: RunState, key: PRNGKeyArray) -> Ring:
        assert isinstance(self.plan.batches, Replay)
        assert self.plan.batches.branches is not None
        return branch(self.parts, self.plan.batches.branches, state._replace(imagined=imagined), key).imagined

    def _improve(
        self, changing: tuple[Any, Ring | None], state: RunState, key: PRNGKeyArray
    ) -> tuple[tuple[Any, Ring | None], Array, Any]:
        policy, imagined = changing
        state = state._replace(policy=policy, imagined=imagined)
        state, share, info = improve(self.parts, self.plan, state, None, key)
        return (state.policy, state.imagined), share, info


def mbpo_on_host(
    parts: Parts,
    plan: Plan,
    world: HostWorld,
    key: PRNGKeyArray,
    state: RunState | None = None,
    announce: Announce = lambda doing: None,
) -> Iterator[HostRound]:
    """A whole run in `world`, piece by piece; it goes on from `state`, the state after any piece, when that is given.

    The warm-up acts uniformly over the actions [-1, 1]^m, a step a piece. A round after it acts `steps_per_round` steps
    under a frozen policy, refits and imagines when due, and improves. A round of one step is one piece; in longer ones
    the acting, every fit and every block of `updates_per_round` updates are pieces. The states that are yielded are
    read at once or not at all: the next piece reuses their memory.
    """
    stages = Stages(parts, plan, announce)
    state = start_from(parts, plan, None, example_of(world.environment), key) if state is None else state
    while int(state.clock.env_steps) < plan.warmup_steps:
        announce("warming up")
        step_key = jax.random.fold_in(jax.random.fold_in(key, state.clock.env_steps), WARM_UP)
        action = jax.random.uniform(step_key, (world.environment.action_size,), jnp.float32, -1.0, 1.0)
        transitions = _stacked([world.step(np.asarray(action))])
        state = _stored(stages, state, transitions)
        yield HostRound(state, transitions, False, None, None, {}, False)
    while not (_complete(plan, state) and int(state.clock.env_steps) >= plan.total_env_steps):
        for done in _round(stages, state, world, key):
            state = done.state
            yield done


def _complete(plan: Plan, state: RunState) -> bool:
    """Whether all that belongs to the rounds begun so far is done."""
    rounds, steps, updates, fits = (int(each) for each in state.clock)
    due = (plan.env_steps_after(rounds), plan.updates_after(rounds), plan.fits_after(rounds))
    return (steps, updates, fits) == due


def _stacked(rows: list[Transition]) -> Transition:
    return Transition(*(np.stack(leaves) for leaves in zip(*rows, strict=True)))  # type: ignore[arg-type]


def _stored(stages: Stages, state: RunState, rows: Transition) -> RunState:
    clock = state.clock._replace(env_steps=state.clock.env_steps + len(rows.reward))
    return state._replace(clock=clock, real=stages.store(state.real, rows))


@jax.jit
def _round_keys(key: PRNGKeyArray, number: Array) -> tuple[PRNGKeyArray, ...]:
    return tuple(round_keys(key, number))


def _round(stages: Stages, state: RunState, world: HostWorld, key: PRNGKeyArray) -> Iterator[HostRound]:
    """What is left of the present round, or else the next one: act, fit and imagine when due, improve."""
    parts, plan, watch = stages.parts, stages.plan, _Stopwatch()
    whole = plan.steps_per_round == 1  # a round this short is one piece
    if _complete(plan, state):
        state = state._replace(clock=state.clock._replace(rounds=state.clock.rounds + 1))
    number = int(state.clock.rounds)
    action_key, fit_key, imagine_key, improve_key = _round_keys(key, state.clock.rounds)

    # act
    transitions = None
    if int(state.clock.env_steps) < plan.env_steps_after(number):
        stages.begin("acting")
        choose = stages.actions(state, action_key)
        rows = [world.step(choose(step, world.observation)) for step in range(plan.steps_per_round)]
        transitions = _stacked(rows)
        state = _stored(stages, state, transitions)
        watch.lap("act", state.real.size)
        if not whole:
            yield HostRound(state, transitions, False, None, None, watch.taken(), False)

    # fit, and imagine unless updates do
    due = plan.fits_after(number) - plan.fits_after(number - 1)
    left = plan.fits_after(number) - int(state.clock.fits)
    for piece_key in piece_keys(fit_key, max(due, 1))[due - left : due]:
        if parts.model is not None:
            stages.begin("fitting")
            state = state._replace(model=stages.refit(state, piece_key))
            watch.lap("fit", state.model)
        left -= 1
        state = state._replace(clock=state.clock._replace(fits=state.clock.fits + 1))
        if left == 0:
            if type(parts.agent).refresh is not Agent.refresh:
                state = state._replace(policy=stages.look(state.policy, state.real))
            batches = plan.batches
            if isinstance(batches, Replay) and batches.branches is not None and plan.refresh_every is None:
                stages.begin("imagining")
                rest = state._replace(imagined=None)
                state = state._replace(imagined=stages.imagine(state.imagined, rest, imagine_key))
                watch.lap("imagine", state.imagined.size)
        if not whole:
            yield HostRound(state, None, parts.model is not None, None, None, watch.taken(), False)

    # improve
    due = (plan.updates_after(number) - plan.updates_after(number - 1)) // plan.updates_per_round
    left = (plan.updates_after(number) - int(state.clock.updates)) // plan.updates_per_round
    for piece_key in piece_keys(improve_key, due)[due - left :]:
        stages.begin("improving")
        changing = (state.policy, state.imagined)
        rest = state._replace(policy=None, imagined=None)
        (policy, imagined), share, info = stages.improve(changing, rest, piece_key)
        clock = state.clock._replace(updates=state.clock.updates + plan.updates_per_round)
        state = state._replace(clock=clock, policy=policy, imagined=imagined)
        watch.lap("improve", policy)
        left -= 1
        refitted = whole and parts.model is not None and bool(plan.refit_due(number))
        yield HostRound(
            state, transitions if whole else None, refitted, share, info, watch.taken(), left == 0
        )


class _Stopwatch:
    """Seconds of each stage, from the end of the one before."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str, result: Any) -> None:
        jax.block_until_ready(result)
        now = time.perf_counter()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def taken(self) -> dict[str, float]:
        """Seconds since this was last asked; what happens until the next lap counts to it."""
        seconds, self._seconds = self._seconds, {}
        self._last = time.perf_counter()
        return seconds
