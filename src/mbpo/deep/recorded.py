"""Whole episodes of a policy that is not learning, step by step, and windows cut out of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mbpo.core.parts import Agent, HostEnvironment
from mbpo.core.types import Transition

STREAM = 1_880_011_003  # keeps these seeds and keys apart from those of training and of evaluation


class Recorded(NamedTuple):
    """E episodes of at most T steps, padded with zeros: transitions, leaves `[E, T, ...]`, and lengths `[E]`, in NumPy.

    The last step of an episode is terminal or truncated, the latter also where it was cut after T steps.
    """

    transitions: Transition
    lengths: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Which steps took place, `[E, T]`."""
        return np.arange(self.transitions.reward.shape[1]) < self.lengths[:, None]

    @property
    def ends(self) -> np.ndarray:
        """Which episodes ended in a terminal state, `[E]`."""
        return np.any(np.asarray(self.transitions.terminal), axis=1)


class Places(NamedTuple):
    """N steps of recorded episodes: episode and time `[N]`, and which of them are no padding."""

    episode: np.ndarray
    time: np.ndarray
    used: np.ndarray


class Windows(NamedTuple):
    """H steps from each of N places, leaves `[N, H, ...]`: transitions, and `inside`, whether the step took place."""

    transitions: Transition
    inside: np.ndarray


def gather(
    environment: HostEnvironment,
    agent: Agent,
    policy_state: Any,
    episodes: int,
    longest: int,
    seed: int,
    noise: bool = True,
) -> Recorded:
    """Episodes of the exploring policy, or without `noise` of the mean policy, each to its end or `longest` steps.

    Starts and noise depend on nothing but `seed` and the number of the episode. Raises ValueError unless at least one
    step is asked for.
    """
    if episodes < 1 or longest < 1:
        raise ValueError(
            f"at least one step of one episode, got {episodes} episodes of at most {longest} steps"
        )
    recorded = _blank(environment, episodes, longest)
    key = jax.random.fold_in(jax.random.key(seed), STREAM)
    for number in range(episodes):
        shape = (longest, environment.action_size)
        choose = _chooser(agent, policy_state, shape, jax.random.fold_in(key, number), noise)
        words = np.random.SeedSequence([STREAM, seed, number]).generate_state(1)
        observation = environment.reset(int(words[0] >> 1))
        for time in range(longest):
            action = choose(time, observation)
            step = environment.step(action)
            cut = step.truncated or (time + 1 == longest and not step.terminal)
            row = (observation, action, step.reward, step.observation, step.terminal, cut)
            for store, value in zip(recorded.transitions, row, strict=True):
                store[number, time] = value
            observation, recorded.lengths[number] = step.observation, time + 1
            if step.terminal or cut:
                break
    return recorded


def _chooser(
    agent: Agent, policy_state: Any, shape: tuple[int, int], key: PRNGKeyArray, noise: bool
) -> Callable[[int, np.ndarray], np.ndarray]:
    """(time, observation `[n]`) -> action `[m]`, in NumPy where the agent offers it."""
    policy = agent.policy(policy_state)
    on_host = agent.on_host(policy)
    if on_host is not None:
        draws = np.asarray(jax.random.normal(key, shape, np.float32)) if noise else None
        return lambda time, observation: on_host(observation, None if draws is None else draws[time])
    if not noise:
        return lambda time, observation: np.asarray(_mean(agent, policy, observation))
    acting = jax.tree.map(lambda leaf: leaf[0], agent.acting(policy_state, 1, key))
    return lambda time, observation: np.asarray(_action(agent, acting, observation, key, np.int32(time)))


def _blank(environment: HostEnvironment, episodes: int, longest: int) -> Recorded:
    shape, n, m = (episodes, longest), environment.observation_size, environment.action_size
    sizes = ((*shape, n), (*shape, m), shape, (*shape, n))
    numbers: Any = [np.zeros(size, np.float32) for size in sizes]
    flags: Any = [np.zeros(shape, bool) for _ in range(2)]
    return Recorded(Transition(*numbers, *flags), np.zeros(episodes, np.int64))


@jax.jit
def _action(
    agent: Agent, acting: Any, observation: Float[Array, "n"], key: PRNGKeyArray, time: Int[Array, ""]
) -> Float[Array, "m"]:
    return agent.act(acting, observation, jax.random.fold_in(key, time))


@jax.jit
def _mean(agent: Agent, policy: Any, observation: Float[Array, "n"]) -> Float[Array, "m"]:
    return agent.mean_action(policy, observation[None])[0]


def spread(eligible: np.ndarray, count: int) -> Places:
    """`count` places spread evenly over the `eligible` steps `[E, T]`; all of them where there are fewer."""
    flat = np.flatnonzero(eligible)
    number = np.arange(count)
    if len(flat) > count:
        index, used = flat[((number + 0.5) * len(flat) / count).astype(np.int64)], np.ones(count, bool)
    else:
        used = number < len(flat)
        index = np.zeros(count, np.int64)
        index[used] = flat
    episode, time = np.divmod(index, eligible.shape[1])
    return Places(episode, time, used)


def windows(recorded: Recorded, places: Places, steps: int) -> Windows:
    """What happened in the `steps` steps from each place; padding repeats the last row that there is room for."""
    time = places.time[:, None] + np.arange(steps)
    inside = (time < recorded.lengths[places.episode][:, None]) & places.used[:, None]
    index = places.episode[:, None], np.minimum(time, recorded.transitions.reward.shape[1] - 1)
    return Windows(jax.tree.map(lambda leaf: leaf[index], recorded.transitions), inside)


def plain(value: Any) -> Any:
    """Floats and lists of them, None where a number is not finite."""
    if isinstance(value, np.ndarray):
        return [plain(each) for each in value]
    return float(value) if np.isfinite(value) else None
