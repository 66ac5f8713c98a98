"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905): tanh-Gaussian actor, two critics, learned temperature."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from mbpo.core.parts import Agent, Estimand
from mbpo.core.types import Experience, Transition
from mbpo.deep import adam
from mbpo.deep.networks import Layers, forward, glorot, init_layers

LOG_STD_RANGE = (-20.0, 2.0)


class SACState(NamedTuple):
    """What changes: actor, twin critics (a stack of two), their slow copies, log temperature, and the optimisers."""

    actor: Layers
    critics: Layers
    targets: Layers
    log_temperature: Float[Array, ""]
    actor_optimiser: Any
    critic_optimiser: Any
    temperature_optimiser: Any


class SACInfo(NamedTuple):
    """One update: squared Bellman errors (`bellman_error`), actor loss, temperature after the update, entropy
    -E[log pi] of the actor before it, and the mean of the critics' targets."""

    critic_loss: Float[Array, ""]
    actor_loss: Float[Array, ""]
    temperature: Float[Array, ""]
    entropy: Float[Array, ""]
    mean_value: Float[Array, ""]


class SoftActorCritic(Agent):
    """The agent of the deep world; actions lie in [-1, 1]^m.

    target_entropy: what the temperature steers E[-log pi] to; reward_scale multiplies every reward it learns from;
    target_rate: share by which the slow critics move to the fast ones at each update.
    """

    observation_size: int = eqx.field(static=True)
    action_size: int = eqx.field(static=True)
    target_entropy: float = eqx.field(static=True)
    hidden: tuple[int, ...] = eqx.field(static=True, default=(256, 256))
    discount: float = eqx.field(static=True, default=0.99)
    learning_rate: float = eqx.field(static=True, default=3e-4)
    target_rate: float = eqx.field(static=True, default=5e-3)
    reward_scale: float = eqx.field(static=True, default=1.0)
    first_temperature: float = eqx.field(static=True, default=1.0)

    def init(self, key: PRNGKeyArray) -> SACState:
        actor_key, *critic_keys = jax.random.split(key, 3)
        n, m = self.observation_size, self.action_size
        actor = init_layers(actor_key, (n, *self.hidden, 2 * m), glorot)
        twins = [init_layers(each, (n + m, *self.hidden, 1), glorot) for each in critic_keys]
        critics = jax.tree.map(lambda *leaves: jnp.stack(leaves), *twins)
        log_temperature = jnp.float32(math.log(self.first_temperature))
        return SACState(
            actor,
            critics,
            jax.tree.map(jnp.copy, critics),
            log_temperature,
            adam.init(actor),
            adam.init(critics),
            adam.init(log_temperature),
        )

    def policy(self, state: SACState) -> Layers:
        return state.actor

    def mean_action(self, policy: Layers, observation: Float[Array, "B n"]) -> Float[Array, "B m"]:
        """tanh of the mean: the policy without its noise."""
        return jnp.tanh(distribution(policy, observation)[0])

    def value(
        self, state: SACState, observation: Float[Array, "B n"], action: Float[Array, "B m"]
    ) -> Float[Array, "B"]:
        """The smaller of both critics."""
        return jnp.min(values(state.critics, observation, action), axis=0)

    def sample(
        self, state: SACState, observation: Float[Array, "B n"], key: PRNGKeyArray
    ) -> tuple[Float[Array, "B m"], Float[Array, "B"]]:
        action, log_prob = sample_action(state.actor, observation, key)
        return action, -jnp.exp(state.log_temperature) * log_prob

    def estimand(self) -> Estimand:
        return Estimand(self.discount, self.reward_scale)

    def acting(self, state: SACState, count: int, key: PRNGKeyArray) -> Layers:
        del count, key
        return jax.tree.map(lambda leaf: leaf[None], state.actor)

    def act(self, acting: Layers, observation: Float[Array, "n"], key: PRNGKeyArray) -> Float[Array, "m"]:
        return sample_action(acting, observation[None], key)[0][0]

    def act_imagined(
        self, acting: Layers, observation: Float[Array, "n"], key: PRNGKeyArray
    ) -> Float[Array, "m"]:
        return self.act(acting, observation, key)

    def update(self, state: SACState, experience: Experience, key: PRNGKeyArray) -> tuple[SACState, SACInfo]:
        rows = experience.transitions
        next_key, action_key = jax.random.split(key)
        temperature = jnp.exp(state.log_temperature)
        target = self._target(state, rows, temperature, next_key)
        critic_loss, gradient = jax.value_and_grad(bellman_error)(state.critics, rows, target)
        critics, critic_optimiser = self._adam_step(gradient, state.critic_optimiser, state.critics)
        (actor_loss, log_prob), gradient = jax.value_and_grad(actor_objective, has_aux=True)(
            state.actor, critics, rows.observation, temperature, action_key
        )
        actor, actor_optimiser = self._adam_step(gradient, state.actor_optimiser, state.actor)
        gap = -(jnp.mean(log_prob) + self.target_entropy)
        log_temperature, temperature_optimiser = self._adam_step(
            gap, state.temperature_optimiser, state.log_temperature
        )
        targets = jax.tree.map(
            lambda slow, fast: slow + self.target_rate * (fast - slow), state.targets, critics
        )
        info = SACInfo(
            critic_loss, actor_loss, jnp.exp(log_temperature), -jnp.mean(log_prob), jnp.mean(target)
        )
        return (
            SACState(
                actor,
                critics,
                targets,
                log_temperature,
                actor_optimiser,
                critic_optimiser,
                temperature_optimiser,
            ),
            info,
        )

    def retreat(self, state: SACState) -> SACState:
        return state

    def _target(
        self, state: SACState, rows: Transition, temperature: Array, key: PRNGKeyArray
    ) -> Float[Array, "B"]:
        """r + discount (1 - terminal) (min_i Q_i(s', a') - temperature log pi(a' | s')), a' ~ pi."""
        action, log_prob = sample_action(state.actor, rows.next_observation, key)
        following = jnp.min(values(state.targets, rows.next_observation, action), axis=0)
        goes_on = 1.0 - rows.terminal.astype(jnp.float32)
        soft = following - temperature * log_prob
        return self.reward_scale * rows.reward + self.discount * goes_on * soft

    def _adam_step(self, gradient: Any, optimiser: Any, parameters: Any) -> tuple[Any, Any]:
        return adam.step(gradient, optimiser, parameters, self.learning_rate)


def distribution(
    actor: Layers, observation: Float[Array, "B n"]
) -> tuple[Float[Array, "B m"], Float[Array, "B m"]]:
    """Mean and log standard deviation of the action before tanh."""
    mean, log_std = jnp.split(forward(actor, observation, jax.nn.relu), 2, axis=-1)
    return mean, jnp.clip(log_std, *LOG_STD_RANGE)


def sample_action(
    actor: Layers, observation: Float[Array, "B n"], key: PRNGKeyArray
) -> tuple[Float[Array, "B m"], Float[Array, "B"]]:
    """a = tanh(v), v ~ N(mean, std^2), and log pi(a) = sum log N(v) - log(1 - tanh(v)^2), the last term written
    2 (log 2 - v - softplus(-2 v)) so that it never overflows."""
    mean, log_std = distribution(actor, observation)
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    before = mean + jnp.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    squash = 2.0 * (jnp.log(2.0) - before - jax.nn.softplus(-2.0 * before))
    return jnp.tanh(before), jnp.sum(log_normal - squash, axis=-1)


def values(
    critics: Layers, observation: Float[Array, "B n"], action: Float[Array, "B m"]
) -> Float[Array, "2 B"]:
    """Q_1 and Q_2."""
    x = jnp.concatenate([observation, action], axis=-1)
    stacked = jnp.broadcast_to(x[None], (critics[0].weight.shape[0], *x.shape))
    return forward(critics, stacked, jax.nn.relu)[..., 0]


def bellman_error(critics: Layers, rows: Transition, target: Float[Array, "B"]) -> Float[Array, ""]:
    """sum_i mean_B (Q_i(s, a) - target)^2 / 2."""
    return 0.5 * jnp.sum(
        jnp.mean((values(critics, rows.observation, rows.action) - target[None]) ** 2, axis=1)
    )


def actor_objective(
    actor: Layers,
    critics: Layers,
    observation: Float[Array, "B n"],
    temperature: Float[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Float[Array, "B"]]:
    """mean(temperature log pi(a|s) - min_i Q_i(s, a)) with a reparametrised, and log pi."""
    action, log_prob = sample_action(actor, observation, key)
    value = jnp.min(values(critics, observation, action), axis=0)
    return jnp.mean(temperature * log_prob - value), log_prob
