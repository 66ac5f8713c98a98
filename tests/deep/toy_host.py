"""A tiny world outside JAX, and an agent and a model that learn nothing but mark and count what passes through them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbpo.core import host_loop
from mbpo.core.host_loop import HostRound, mbpo_on_host
from mbpo.core.parts import Agent, HostEnvironment, HostStep, Model
from mbpo.core.types import Transition


class ToyHost(HostEnvironment):
    """s' = 0.9 s + (a, a / 2) + noise that the seed decides, reward s_0 + a.

    Terminal where |s_0| exceeds `bound`, truncated after `limit` steps; `started` holds the first observations.
    """

    observation_size, action_size = 2, 1

    def __init__(self, bound=np.inf, limit=10**6):
        self.bound, self.limit, self.started = bound, limit, []

    def reset(self, seed):
        self.random, self.time = np.random.default_rng(seed), 0
        self.state = self.random.normal(size=2).astype(np.float32)
        self.started.append(self.state)
        return self.state

    def step(self, action):
        reward = float(self.state[0] + action[0])
        noise = 0.1 * self.random.normal(size=2)
        self.state = np.float32(0.9 * self.state + action * np.array([1.0, 0.5]) + noise)
        self.time += 1
        return HostStep(self.state, reward, bool(abs(self.state[0]) > self.bound), self.time >= self.limit)


class Counting(Agent):
    """Acts at random, counts its updates and hands its batches on."""

    def init(self, key):
        del key
        return jnp.int32(0)

    def acting(self, state, count, key):
        del count, key
        return state[None]

    def act(self, acting, observation, key):
        del acting, observation
        return jax.random.uniform(key, (1,), jnp.float32, -1.0, 1.0)

    def act_imagined(self, acting, observation, key):
        return self.act(acting, observation, key)

    def update(self, state, experience, key):
        del key
        return state + 1, (experience.transitions, experience.valid)

    def policy(self, state):
        return state

    def mean_action(self, policy, observation):
        return jnp.zeros((observation.shape[0], 1), jnp.float32)

    def retreat(self, state):
        return state


STAGES = ("choose", "store", "refit", "imagine", "improve")
MARK = 1000  # rewards of imagined steps: MARK plus the number of the fit that imagined them


class Marking(Model):
    """Counts its fits and writes them into every reward it imagines."""

    def init(self, key):
        del key
        return jnp.int32(0)

    def fit(self, state, real, key):
        del real, key
        return state + 1

    def step(self, state, observation, action, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,), jnp.float32))(keys)
        count = observation.shape[0]
        reward = jnp.full(count, MARK, jnp.float32) + state.astype(jnp.float32)
        false = jnp.zeros(count, bool)
        return Transition(observation, action, reward, observation + noise, false, false), ~false


class Seen(NamedTuple):
    """One round in NumPy, safe from the memory the next one reuses, and how many programs each stage has compiled."""

    done: HostRound
    real: Transition
    imagined: Transition
    programs: dict[str, int]


def on_host(stages, world, key, state=None):
    """`mbpo_on_host` with stages that may be compiled already."""
    rounds = mbpo_on_host(stages.parts, stages.plan, world, key, state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_loop, "Stages", lambda parts, plan, announce: stages)
        first = next(rounds)
    yield first
    yield from rounds


def copied(tree):
    """Every array as NumPy's, keys aside."""
    return jax.tree.map(np.array, tree)


def followed(stages, world, key, state=None):
    """Every round of a run."""
    seen = []
    for done in on_host(stages, world, key, state):
        programs = {name: getattr(stages, name)._cache_size() for name in STAGES}
        done = copied(done._replace(seconds={}))
        rings = (done.state.real, done.state.imagined)
        held = (jax.tree.map(lambda leaf, n=ring.size: leaf[:n], ring.data) for ring in rings)
        seen.append(Seen(done, *held, programs))
    return seen
