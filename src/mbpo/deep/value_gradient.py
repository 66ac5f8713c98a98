"""Value gradients through a learned model: short differentiable rollouts serve critic and actor alike.

The family is that of stochastic value gradients (Heess et al. 2015, arXiv 1510.09142); this member, with short training
rollouts from states that long rollouts under the present policy have reached, is that of Kubo, Parmas and Ishii
(TMLR 2025, arXiv 2512.15439). `docs/fast.md` has its equations and says what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import expit

from mbpo.core.buffer import Ring, held
from mbpo.core.parts import Agent, Estimand, FittedModel
from mbpo.core.types import Experience
from mbpo.deep import adam
from mbpo.deep.networks import Layers, forward, init_layers, lecun, orthogonal
from mbpo.deep.standardise import moments

LEAST_STD = 1e-5  # of an action before tanh
CRITIC_NORMS = 1e-5  # epsilon of the critics' layer norms
LEAST_SPREAD = 1e-4  # added to the standard deviation of an observation
LEAST_WIDTH, RELATIVE_WIDTH = (
    1.0,
    0.01,
)  # the least half width of the value range, absolute and over its centre
TAILS = (0.01, 0.99)  # quantiles of the soft reward between which values are expected


class StandardisedActor(NamedTuple):
    """What acts: the actor's layers, and the mean and scale `[n]` by which observations are standardised for it."""

    layers: Layers
    mean: Float[Array, "n"]
    scale: Float[Array, "n"]


class Range(NamedTuple):
    """Where values are expected: moving averages of both ends, and how many updates they have seen."""

    low: Float[Array, ""]
    high: Float[Array, ""]
    seen: Float[Array, ""]


class Unit(NamedTuple):
    """Q = half_width x (the critics' own output) + centre."""

    centre: Float[Array, ""]
    half_width: Float[Array, ""]


class ValueGradientState(NamedTuple):
    """What changes: the policy, a stack of critics, their slow copies, log temperature, the range of values, and the
    optimisers."""

    policy: StandardisedActor
    critics: Layers
    targets: Layers
    log_temperature: Float[Array, ""]
    range: Range
    actor_optimiser: Any
    critic_optimiser: Any
    temperature_optimiser: Any


class ValueGradientInfo(NamedTuple):
    """One update: squared errors of the critics over the squared half width, norm of the actor's gradient, temperature
    after the update, entropy -E[log pi] at the start of the rollouts, mean target of the critics, mean imagined
    reward, share of rollouts that ended, shares of values at their ends clipped from below and above, and the ends of
    the range they are clipped to."""

    critic_loss: Float[Array, ""]
    actor_gradient: Float[Array, ""]
    temperature: Float[Array, ""]
    entropy: Float[Array, ""]
    mean_value: Float[Array, ""]
    imagined_reward: Float[Array, ""]
    ended: Float[Array, ""]
    clipped_below: Float[Array, ""]
    clipped_above: Float[Array, ""]
    value_low: Float[Array, ""]
    value_high: Float[Array, ""]


class Path(NamedTuple):
    """What a rollout of H steps is differentiated for: sum_t gamma^t l_t r_t `[B]`, log pi `[H + 1, B]` of every
    action, and the last observation `[B, n]` and action `[B, m]`."""

    gained: Float[Array, "B"]
    log_prob: Float[Array, "T B"]
    observation: Float[Array, "B n"]
    action: Float[Array, "B m"]


class Along(NamedTuple):
    """What is constant along it: the first action `[B, m]`, l_t `[H + 1, B]` (1 while no earlier step was terminal) and
    the rewards `[H, B]`."""

    action: Float[Array, "B m"]
    alive: Float[Array, "T B"]
    reward: Float[Array, "H B"]


class ValueGradient(Agent):
    """Actor, critics and temperature learn from one rollout of `horizon` H steps through the model per update.

    From states s_0 of the batch, with reparametrised actions and model noise, rewards the model's means, and l_t = 1
    while nothing was terminal before step t:

        y = sum_{t<H} g^t l_t r_t - alpha sum_{t=1..H} g^t l_t log pi_t + g^H l_H clip(min of two of Q'(s_H, a_H))

    is the target of every critic at (s_0, a_0), and the actor ascends the same sum with log pi_0 and with the mean of
    the critics, differentiated through model and policy for all H steps. Values are learned in units of the range
    that the soft rewards r - alpha log pi span over 1 - g, and clipped to it. `horizon` 0 is the ordinary update of
    soft actor-critic on the batch's transitions. Actions lie in [-1, 1]^m; observations are standardised with the
    real data of the newest fit.
    """

    observation_size: int = eqx.field(static=True)
    action_size: int = eqx.field(static=True)
    target_entropy: float = eqx.field(static=True)
    horizon: int = eqx.field(static=True, default=5)
    hidden: tuple[int, ...] = eqx.field(static=True, default=(256, 256))
    critics: int = eqx.field(static=True, default=3)
    discount: float = eqx.field(static=True, default=0.995)
    learning_rate: float = eqx.field(static=True, default=3e-4)
    target_rate: float = eqx.field(static=True, default=5e-3)
    range_rate: float = eqx.field(static=True, default=3e-4)
    first_temperature: float = eqx.field(static=True, default=0.1)
    reward_scale: float = eqx.field(static=True, default=1.0)

    def init(self, key: PRNGKeyArray) -> ValueGradientState:
        actor_key, critic_key = jax.random.split(key)
        n, m = self.observation_size, self.action_size
        actor = init_layers(actor_key, (n, *self.hidden, 2 * m), orthogonal)
        sizes = (n + m, *self.hidden, 1)
        critics = jax.vmap(lambda key: init_layers(key, sizes, lecun))(
            jax.random.split(critic_key, self.critics)
        )
        *inner, last = critics
        critics = (*inner, last._replace(weight=jnp.zeros_like(last.weight)))
        log_temperature = jnp.log(jnp.float32(self.first_temperature))
        return ValueGradientState(
            StandardisedActor(actor, jnp.zeros(n, jnp.float32), jnp.ones(n, jnp.float32)),
            critics,
            jax.tree.map(jnp.copy, critics),
            log_temperature,
            Range(jnp.float32(0), jnp.float32(0), jnp.float32(0)),
            adam.init(actor),
            adam.init(critics),
            adam.init(log_temperature),
        )

    def policy(self, state: ValueGradientState) -> StandardisedActor:
        return state.policy

    def acting(self, state: ValueGradientState, count: int, key: PRNGKeyArray) -> StandardisedActor:
        del count, key
        return jax.tree.map(lambda leaf: leaf[None], state.policy)

    def act(
        self, acting: StandardisedActor, observation: Float[Array, "n"], key: PRNGKeyArray
    ) -> Float[Array, "m"]:
        noise = jax.random.normal(key, (1, self.action_size), jnp.float32)
        return draw(acting, observation[None], noise)[0][0]

    def act_imagined(
        self, acting: StandardisedActor, observation: Float[Array, "n"], key: PRNGKeyArray
    ) -> Float[Array, "m"]:
        return self.act(acting, observation, key)

    def mean_action(self, policy: StandardisedActor, observation: Float[Array, "B n"]) -> Float[Array, "B m"]:
        return jnp.tanh(distribution(policy, observation)[0])

    def on_host(self, policy: StandardisedActor) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
        return acting_on_host(policy)

    def sample(
        self, state: ValueGradientState, observation: Float[Array, "B n"], key: PRNGKeyArray
    ) -> tuple[Float[Array, "B m"], Float[Array, "B"]]:
        noise = jax.random.normal(key, (observation.shape[0], self.action_size), jnp.float32)
        action, log_prob = draw(state.policy, observation, noise)
        return action, -jnp.exp(state.log_temperature) * log_prob

    def value(
        self, state: ValueGradientState, observation: Float[Array, "B n"], action: Float[Array, "B m"]
    ) -> Float[Array, "B"]:
        """The mean over all pairs of critics of the smaller one, as the targets take it of a pair drawn at random."""
        q = self.values(state.critics, state.policy, unit(state.range), observation, action)
        if self.critics == 1:
            return q[0]
        count = self.critics
        weights = np.arange(count - 1, -1, -1) * 2.0 / (count * (count - 1))
        return jnp.sum(jnp.sort(q, axis=0) * jnp.asarray(weights, q.dtype)[:, None], axis=0)

    def estimand(self) -> Estimand:
        return Estimand(self.discount, self.reward_scale)

    def refresh(self, state: ValueGradientState, real: Ring) -> ValueGradientState:
        """Standardise by all real observations."""
        mean, scale = moments(real.data.observation, held(real).astype(jnp.float32))
        return state._replace(policy=state.policy._replace(mean=mean, scale=scale + LEAST_SPREAD))

    def update(
        self, state: ValueGradientState, experience: Experience, key: PRNGKeyArray
    ) -> tuple[ValueGradientState, ValueGradientInfo]:
        model, rows = experience.model, experience.transitions
        assert model is not None, "a value gradient needs a model"
        roll_key, pair_key = jax.random.split(key)
        start, policy = rows.observation, state.policy
        temperature = jnp.exp(state.log_temperature)
        path, along, back = self.rolled(policy, model, start, roll_key)

        # what the critics learn from: the rollout, or without one the transitions of the batch
        if self.horizon:
            action, gained, bonus, reach = along.action, *self._soft_return(path, along, temperature)
            soft = along.reward - temperature * path.log_prob[:-1]
            ending = path.observation, path.action
        else:
            pair_key, next_key = jax.random.split(pair_key)
            action, gained = rows.action, self.reward_scale * rows.reward
            noise = jax.random.normal(next_key, rows.action.shape, jnp.float32)
            following, log_prob = self.draw(policy, rows.next_observation, noise)
            reach = self.discount * (1.0 - rows.terminal.astype(jnp.float32))
            bonus = -reach * temperature * log_prob
            soft = (gained - temperature * log_prob)[None]
            ending = rows.next_observation, following
        spread = self._moved(state.range, soft)
        units = unit(spread)
        low, high = units.centre - units.half_width, units.centre + units.half_width
        pair = jax.random.permutation(pair_key, self.critics)[:2]
        slow = jax.tree.map(lambda leaf: leaf[pair], state.targets)
        promised = jnp.min(self.values(slow, policy, units, *ending), axis=0)
        target = jax.lax.stop_gradient(gained + bonus + reach * jnp.clip(promised, low, high))

        # critics
        def error(critics: Layers) -> Float[Array, ""]:
            q = self.values(critics, policy, units, start, action)
            return jnp.sum(jnp.mean(((q - target[None]) / units.half_width) ** 2, axis=1))

        loss, gradient = jax.value_and_grad(error)(state.critics)
        critics, critic_optimiser = self._adam_step(gradient, state.critic_optimiser, state.critics)

        # actor: the same rollout once more, backwards
        def judge(observation: Array, action: Array) -> Float[Array, "B"]:
            return jnp.mean(self.values(critics, policy, units, observation, action), axis=0)

        gradient = self.descent(path, along, back, temperature, judge)
        layers, actor_optimiser = self._adam_step(gradient, state.actor_optimiser, policy.layers)

        # temperature and slow critics
        mean_log_prob = jnp.mean(path.log_prob[0])
        log_temperature, temperature_optimiser = self._adam_step(
            -(mean_log_prob + self.target_entropy), state.temperature_optimiser, state.log_temperature
        )
        targets = jax.tree.map(
            lambda slow, fast: slow + self.target_rate * (fast - slow), state.targets, critics
        )
        info = ValueGradientInfo(
            critic_loss=loss,
            actor_gradient=jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))),
            temperature=jnp.exp(log_temperature),
            entropy=-mean_log_prob,
            mean_value=jnp.mean(target),
            imagined_reward=jnp.mean(along.reward if self.horizon else rows.reward),
            ended=1.0 - jnp.mean(along.alive[-1]),
            clipped_below=jnp.mean((promised < low).astype(jnp.float32)),
            clipped_above=jnp.mean((promised > high).astype(jnp.float32)),
            value_low=low,
            value_high=high,
        )
        return (
            ValueGradientState(
                policy._replace(layers=layers),
                critics,
                targets,
                log_temperature,
                spread,
                actor_optimiser,
                critic_optimiser,
                temperature_optimiser,
            ),
            info,
        )

    def retreat(self, state: ValueGradientState) -> ValueGradientState:
        return state

    def rolled(
        self,
        policy: StandardisedActor,
        model: FittedModel,
        start: Float[Array, "B n"],
        key: PRNGKeyArray,
    ) -> tuple[Path, Along, Callable[[Path], tuple[Layers]]]:
        """`horizon` imagined steps from `start` and one more action, and the pull-back of cotangents of the path to the
        actor's layers. Rows that ended stand still."""
        path, back, along = jax.vjp(
            lambda layers: self._roll(policy._replace(layers=layers), model, start, key),
            policy.layers,
            has_aux=True,
        )
        return path, along, back

    def _roll(
        self,
        policy: StandardisedActor,
        model: FittedModel,
        start: Float[Array, "B n"],
        key: PRNGKeyArray,
    ) -> tuple[Path, Along]:
        count = start.shape[0]
        action_key, *step_keys = jax.random.split(key, self.horizon + 1)
        noise = jax.random.normal(action_key, (self.horizon + 1, count, self.action_size), jnp.float32)
        observation, alive = start, jnp.ones(count, jnp.float32)
        action, log_prob = self.draw(policy, observation, noise[0])
        first, gained = jax.lax.stop_gradient(action), jnp.zeros(count, jnp.float32)
        log_probs, lives, rewards = [log_prob], [alive], []
        for time in range(self.horizon):
            following, reward, terminal = model.follow(observation, action, step_keys[time])
            gained = gained + self.discount**time * alive * self.reward_scale * reward
            rewards.append(jax.lax.stop_gradient(self.reward_scale * reward))
            alive = alive * (1.0 - terminal.astype(jnp.float32))
            stays = jax.lax.stop_gradient(observation)
            observation = jnp.where(alive[:, None] > 0, following, stays)
            action, log_prob = self.draw(policy, observation, noise[time + 1])
            log_probs.append(log_prob)
            lives.append(alive)
        reward = jnp.stack(rewards) if rewards else jnp.zeros((0, count), jnp.float32)
        return Path(gained, jnp.stack(log_probs), observation, action), Along(first, jnp.stack(lives), reward)

    def _soft_return(
        self, path: Path, along: Along, temperature: Float[Array, ""]
    ) -> tuple[Float[Array, "B"], Float[Array, "B"], Float[Array, "B"]]:
        """The first two sums of the target, and the weight g^H l_H of what is promised at the end."""
        weights = self._discounts() * along.alive
        bonus = -temperature * jnp.sum((weights * path.log_prob)[1:], axis=0)
        return path.gained, bonus, weights[-1]

    def descent(
        self,
        path: Path,
        along: Along,
        back: Callable[[Path], tuple[Layers]],
        temperature: Float[Array, ""],
        judge: Callable[[Array, Array], Float[Array, "B"]],
    ) -> Layers:
        """The gradient, with respect to the actor's layers, of minus the mean over rows of

            sum_{t<H} g^t l_t r_t - alpha sum_{t<=H} g^t l_t log pi_t + g^H l_H Q(s_H, a_H),

        Q(s, a) = `judge`, itself held fixed."""
        count = jnp.float32(path.gained.shape[0])
        weights = self._discounts() * along.alive / count

        def promise(observation: Array, action: Array) -> Float[Array, ""]:
            return jnp.sum(weights[-1] * judge(observation, action))

        by_state, by_action = jax.grad(promise, (0, 1))(path.observation, path.action)
        share = jnp.full_like(path.gained, -1.0) / count
        (gradient,) = back(Path(share, temperature * weights, -by_state, -by_action))
        return gradient

    def _discounts(self) -> Float[Array, "T 1"]:
        return jnp.asarray(self.discount ** np.arange(self.horizon + 1), jnp.float32)[:, None]

    def draw(
        self, policy: StandardisedActor, observation: Float[Array, "B n"], noise: Float[Array, "B m"]
    ) -> tuple[Float[Array, "B m"], Float[Array, "B"]]:
        """Reparametrised actions and their log densities; see `draw`."""
        return draw(policy, observation, noise)

    def values(
        self,
        critics: Layers,
        policy: StandardisedActor,
        units: Unit,
        observation: Float[Array, "B n"],
        action: Float[Array, "B m"],
    ) -> Float[Array, "C B"]:
        """Q of each critic."""
        x = jnp.concatenate([_standardised(policy, observation), action], axis=-1)
        stacked = jnp.broadcast_to(x[None], (critics[0].weight.shape[0], *x.shape))
        norms = (CRITIC_NORMS,) * len(self.hidden)
        return forward(critics, stacked, jax.nn.silu, norms)[..., 0] * units.half_width + units.centre

    def _moved(self, before: Range, soft: Float[Array, "H B"]) -> Range:
        """The range after soft rewards r - alpha log pi; the first ones set it."""
        found = jnp.quantile(soft.reshape(-1), jnp.asarray(TAILS, jnp.float32)) / (1.0 - self.discount)
        rate = jnp.where(before.seen > 0, self.range_rate, 1.0).astype(jnp.float32)
        return Range(
            before.low + rate * (found[0] - before.low),
            before.high + rate * (found[1] - before.high),
            before.seen + 1.0,
        )

    def _adam_step(self, gradient: Any, optimiser: Any, parameters: Any) -> tuple[Any, Any]:
        return adam.step(gradient, optimiser, parameters, self.learning_rate)


def unit(spread: Range) -> Unit:
    """Centre and half width of a range; constant rewards would make the width vanish, so it has a floor."""
    centre = (spread.low + spread.high) / 2.0
    floor = RELATIVE_WIDTH * jnp.abs(centre) + LEAST_WIDTH
    return Unit(centre, jnp.maximum((spread.high - spread.low) / 2.0, floor))


def distribution(
    policy: StandardisedActor, observation: Float[Array, "B n"]
) -> tuple[Float[Array, "B m"], Float[Array, "B m"]]:
    """Mean and standard deviation of the action before tanh."""
    mean, raw = jnp.split(forward(policy.layers, _standardised(policy, observation), jax.nn.silu), 2, axis=-1)
    return mean, jax.nn.softplus(raw) + LEAST_STD


def draw(
    policy: StandardisedActor, observation: Float[Array, "B n"], noise: Float[Array, "B m"]
) -> tuple[Float[Array, "B m"], Float[Array, "B"]]:
    """a = tanh(v), v = mean + std noise, and log pi(a) = sum log N(v) - log(1 - tanh(v)^2)."""
    mean, std = distribution(policy, observation)
    before = mean + std * noise
    log_normal = -0.5 * noise**2 - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi)
    squash = 2.0 * (jnp.log(2.0) - before - jax.nn.softplus(-2.0 * before))
    return jnp.tanh(before), jnp.sum(log_normal - squash, axis=-1)


def acting_on_host(policy: StandardisedActor) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
    """The same in NumPy: (observation `[n]`, noise `[m]` or None for the mean) -> action `[m]`; a compiled call for
    one row would take longer than the simulator's step."""
    layers, mean, scale = jax.tree.map(np.asarray, policy)

    def act(observation: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        x = (observation - mean) / scale
        for layer in layers[:-1]:
            x = x @ layer.weight + layer.bias
            x = x * expit(x)
        x = x @ layers[-1].weight + layers[-1].bias
        before, raw = np.split(x, 2)
        if noise is not None:
            before = before + (np.logaddexp(np.float32(0), raw) + np.float32(LEAST_STD)) * noise
        return np.tanh(before)

    return act


def _standardised(policy: StandardisedActor, observation: Float[Array, "B n"]) -> Float[Array, "B n"]:
    return (observation - policy.mean[None]) / policy.scale[None]
