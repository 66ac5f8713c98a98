"""A linear world outside JAX, ensembles that are exactly it, and a SAC policy set by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from mbpo.core import buffer
from mbpo.core.parts import FittedModel, HostEnvironment, HostStep, Model
from mbpo.core.types import Transition
from mbpo.deep.ensemble import Affine, Ensemble, Heads
from mbpo.deep.networks import Dense
from mbpo.deep.recorded import gather
from mbpo.deep.sac import SoftActorCritic

A = np.array([[0.9, 0.2], [0.0, 0.8]])
B = np.array([[0.0], [0.5]])
C, D = np.array([0.5, -0.3]), np.array([0.2])  # reward C s + D a
NOISE, REWARD_NOISE = np.array([0.1, 0.3]), 0.2


class LinearWorld(HostEnvironment):
    """s' = A s + B a + w; every episode is truncated after `length` steps, or terminal then with `dies`."""

    observation_size, action_size = 2, 1

    def __init__(self, length, dies=False, noise=1.0, reward=None):
        self.length, self.dies, self.noise, self.reward = length, dies, noise, reward

    def reset(self, seed):
        self.random, self.time = np.random.default_rng(seed), 0
        self.state = self.random.normal(size=2)
        return self.state.astype(np.float32)

    def step(self, action):
        w = self.noise * self.random.normal(size=3) * np.array([REWARD_NOISE, *NOISE])
        reward = C @ self.state + D @ action + w[0] if self.reward is None else self.reward
        self.state = A @ self.state + B @ action + w[1:]
        self.time += 1
        over = self.time == self.length
        return HostStep(self.state.astype(np.float32), reward, over and self.dies, over and not self.dies)


class BiasedModel(Model):
    """The noiseless world, rewards `factor` times the true ones plus `bias`; a step to below `floor` in s_2 is invalid,
    one to below `end` terminal."""

    bias: float = 0.0
    factor: float = 1.0
    floor: float = -1e9
    end: float = -1e9

    def init(self, key):
        del key

    def fit(self, state, real, key):
        del state, real, key

    def step(self, state, observation, action, keys):
        del state, keys
        following = observation @ jnp.float32(A.T) + action @ jnp.float32(B.T)
        reward = observation @ jnp.float32(C) + action @ jnp.float32(D)
        reward = self.factor * reward + self.bias
        never, second = jnp.zeros(len(observation), bool), following[:, 1]
        rows = Transition(observation, action, reward, following, second < self.end, never)
        return rows, second > self.floor


def biased(bias=0.0, factor=1.0, floor=-1e9, end=-1e9):
    return FittedModel(BiasedModel(bias, factor, floor, end), None)


def never(observation, action, following):
    del observation, action, following
    return jnp.bool_(False)


def exact_ensemble(overconfidence=1.0, drift=0.0, predict_change=True, scale=(1.0, 1.0, 1.0), mean=0.0):
    """Networks that are the world exactly, for silu(x) - silu(-x) = x; deviations divided by `overconfidence`,
    `drift` added to every prediction of the observation."""
    part = Ensemble(
        2, 1, never, networks=3, elites=2, hidden=(6,), decays=(0.0, 0.0), predict_change=predict_change
    )
    state = part.init(jax.random.key(0))
    linear = np.vstack([np.hstack([C, D]), np.hstack([A - predict_change * np.eye(2), B])])
    scale = np.array(scale)
    variance = 2 * np.log(np.array([REWARD_NOISE, *NOISE]) / overconfidence / scale)
    last = np.hstack([(linear / scale[:, None]).T, np.zeros((3, 3))])
    bias = np.hstack([(np.array([0.0, drift, drift]) - mean) / scale, variance])
    eye = np.eye(3)
    layers = [(np.hstack([eye, -eye]), np.zeros(6)), (np.vstack([last, -last]), bias)]
    stacked = tuple(
        Dense(*(jnp.asarray(np.stack([leaf] * 3), jnp.float32) for leaf in layer)) for layer in layers
    )
    bound = jnp.full(3, 40.0, jnp.float32)
    targets = Affine(jnp.full(3, mean, jnp.float32), jnp.asarray(scale, jnp.float32))
    return FittedModel(part, state._replace(heads=Heads(stacked, bound, -bound), targets=targets))


def agent_and_policy(value=0.0, temperature=1e-12, log_std=0.0, discount=0.9, scale=1.0):
    """SAC with critics that say `value` everywhere and an actor around 0 with a fixed deviation before tanh."""
    agent = SoftActorCritic(2, 1, -1.0, (8,), discount, reward_scale=scale)
    policy = agent.init(jax.random.key(0))
    actor = (
        *policy.actor[:-1],
        Dense(jnp.zeros((8, 2), jnp.float32), jnp.array([0.0, log_std], jnp.float32)),
    )
    last = Dense(jnp.zeros((2, 8, 1), jnp.float32), jnp.full((2, 1), value, jnp.float32))
    critics = (*policy.critics[:-1], last)
    log_temperature = jnp.float32(np.log(temperature))
    return agent, policy._replace(actor=actor, critics=critics, log_temperature=log_temperature)


def recorded(world, episodes=4, longest=400, noise=True):
    """Episodes of the policy of `agent_and_policy`."""
    return gather(world, *agent_and_policy(), episodes, longest, 0, noise)


def imagined_ring(rows=50):
    """A ring of 64 places that holds `rows` random states and actions."""
    draws = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    false, zero = np.zeros(64, bool), np.zeros(64, np.float32)
    data = Transition(draws, np.tanh(draws[:, :1]), zero, draws, false, false)
    return buffer.Ring(jax.tree.map(jnp.asarray, data), jnp.int32(rows), jnp.int32(rows))
