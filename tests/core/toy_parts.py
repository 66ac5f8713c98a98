"""A one-file world, model and agent for the loop: small enough to predict by hand."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from mbpo.core.buffer import held
from mbpo.core.loop import Parts
from mbpo.core.mixing import RealRatio
from mbpo.core.parts import Agent, Environment, Model, Step
from mbpo.core.plan import Branches, Plan, Replay
from mbpo.core.schedule import constant
from mbpo.core.types import Transition


class Drift(NamedTuple):
    x: jax.Array
    time: jax.Array


class ToyEnvironment(Environment):
    """x' = 0.9 x + u + noise; rewards of real steps are 0; a step beyond `limit` is not valid."""

    limit: float = 100.0
    episode: int = eqx.field(static=True, default=1000)

    def reset(self, key):
        return Drift(jax.random.normal(key, (2,)), jnp.int32(0))

    def observe(self, state):
        return state.x

    def step(self, state, action, key):
        x = 0.9 * state.x + action + 0.1 * jax.random.normal(key, (2,))
        valid = jnp.all(jnp.abs(x) <= self.limit)
        zero = jnp.zeros(2)
        time = state.time + 1
        numbers = [jnp.where(valid, value, zero) for value in (state.x, action, x)]
        false = jnp.bool_(False)
        transition = Transition(
            numbers[0], numbers[1], jnp.zeros(()), numbers[2], false, time >= self.episode
        )
        return Step(Drift(numbers[2], time), transition, valid)


class ToyModel(Model):
    """x' = 0.9 x + u + drift + noise; rewards of imagined steps are 1; below `terminal` an episode is over."""

    noise: float = 0.1
    limit: float = 1e6
    terminal: float = -1e9

    def init(self, key):
        del key
        return jnp.zeros(2)

    def fit(self, state, real, key):
        del state, key
        weight = held(real).astype(real.data.reward.dtype)
        error = real.data.next_observation - 0.9 * real.data.observation - real.data.action
        return jnp.sum(error * weight[:, None], axis=0) / jnp.maximum(jnp.sum(weight), 1.0)

    def step(self, state, observation, action, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
        x = 0.9 * observation + action + state[None] + self.noise * noise
        over = x[:, 0] < self.terminal
        valid = jnp.all(jnp.abs(x) <= self.limit, axis=1)
        count = x.shape[0]
        return Transition(observation, action, jnp.ones(count), x, over, jnp.zeros(count, bool)), valid


class ToyPolicy(NamedTuple):
    gain: jax.Array
    retreats: jax.Array


class ToyAgent(Agent):
    """u = gain x + noise; `rate` 0 records what it is given and learns nothing."""

    rate: float = 0.0
    start: float = -0.5
    spread: float = eqx.field(static=True, default=0.0)

    def init(self, key):
        del key
        return ToyPolicy(jnp.full((2,), self.start), jnp.int32(0))

    def acting(self, state, count, key):
        if self.spread == 0.0 or count == 1:
            return state.gain[None]
        return state.gain[None] + self.spread * jax.random.normal(key, (count, 2))

    def act(self, acting, observation, key):
        return acting * observation + 0.2 * jax.random.normal(key, (2,))

    def act_imagined(self, acting, observation, key):
        return self.act(acting, observation, key)

    def update(self, state, experience, key):
        noise = jax.random.normal(key, (2,))
        seen = experience.transitions.next_observation
        change = self.rate * (jnp.mean(seen.reshape(-1, 2), axis=0) + 0.01 * noise)
        info = (experience.transitions, experience.valid, noise)
        return state._replace(gain=state.gain + change), info

    def policy(self, state):
        return state.gain

    def mean_action(self, policy, observation):
        return policy[None] * observation

    def retreat(self, state):
        return ToyPolicy(jnp.full((2,), self.start), state.retreats + 1)


def toy_parts(model: bool = True, rate: float = 0.0, limit: float = 100.0, episode: int = 1000) -> Parts:
    """The three parts; `model` False leaves the model out."""
    return Parts(ToyEnvironment(limit, episode), ToyModel() if model else None, ToyAgent(rate))


def toy_plan(ratio: float = 0.5, branches: bool = True, length: int = 2, updates: int = 1) -> Plan:
    """Six rounds of five real steps after ten of warm-up, batches of 12."""
    branched = Branches(constant(float(length)), count=4, longest=3, retain=2) if branches else None
    batches = Replay(RealRatio.of(jnp.asarray(ratio)), 12, branched)
    return Plan(batches, warmup_steps=10, rounds=6, steps_per_round=5, updates_per_round=updates)
