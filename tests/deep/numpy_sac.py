"""Soft actor-critic in NumPy float64, written from its equations with derivatives by hand: a second opinion.

Networks are lists of `[W, b]`, hidden layers are ReLU. Equations: Haarnoja et al. 2018 (arXiv 1812.05905), with the
conventions of Stable-Baselines3: the critics' loss is the sum of half their mean squared errors, and the temperature
descends -log(alpha) (log pi + target entropy).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

LOWEST, HIGHEST = -20.0, 2.0  # of the log standard deviation
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's usual ones


class Rows(NamedTuple):
    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_observation: np.ndarray
    terminal: np.ndarray


class Settings(NamedTuple):
    discount: float
    learning_rate: float
    target_rate: float
    reward_scale: float
    target_entropy: float


class Losses(NamedTuple):
    critic: float
    actor: float
    temperature_gradient: float
    entropy: float
    mean_target: float


@dataclass
class Adam:
    """One moment pair for each array."""

    count: int = 0
    first: list = field(default_factory=list)
    second: list = field(default_factory=list)

    def step(self, arrays, gradients, rate):
        if self.count == 0:
            self.first = [np.zeros_like(each) for each in arrays]
            self.second = [np.zeros_like(each) for each in arrays]
        self.count += 1
        for i, gradient in enumerate(gradients):
            self.first[i] = BETA_1 * self.first[i] + (1 - BETA_1) * gradient
            self.second[i] = BETA_2 * self.second[i] + (1 - BETA_2) * gradient**2
        first = [each / (1 - BETA_1**self.count) for each in self.first]
        second = [each / (1 - BETA_2**self.count) for each in self.second]
        pairs = zip(arrays, first, second, strict=True)
        return [each - rate * m / (np.sqrt(v) + EPSILON) for each, m, v in pairs]


@dataclass
class State:
    actor: list
    critics: list  # two networks
    targets: list
    log_temperature: np.ndarray
    actor_adam: Adam = field(default_factory=Adam)
    critic_adam: Adam = field(default_factory=Adam)
    temperature_adam: Adam = field(default_factory=Adam)


def flat(net):
    return [array for layer in net for array in layer]


def unflat(arrays):
    return [list(pair) for pair in zip(arrays[::2], arrays[1::2], strict=True)]


def forward(net, x):
    """The output, and what each layer was given."""
    given = []
    for i, (weight, bias) in enumerate(net):
        given.append(x)
        x = x @ weight + bias
        if i < len(net) - 1:
            x = np.maximum(x, 0.0)
    return x, given


def backward(net, given, slope):
    """Derivatives by every array and by the input, for `slope` the derivative by the output."""
    found = []
    for i in reversed(range(len(net))):
        found.append([given[i].T @ slope, slope.sum(axis=0)])
        slope = slope @ net[i][0].T
        if i > 0:
            slope = slope * (given[i] > 0)
    return found[::-1], slope


class Sample(NamedTuple):
    action: np.ndarray
    log_prob: np.ndarray
    std: np.ndarray
    clipped: np.ndarray
    given: list


def draw(actor, observation, noise):
    """a = tanh(v), v = mean + std noise; log pi(a) = log N(v) - sum log(1 - tanh(v)^2)."""
    output, given = forward(actor, observation)
    mean, raw = np.split(output, 2, axis=1)
    log_std = np.clip(raw, LOWEST, HIGHEST)
    before = mean + np.exp(log_std) * noise
    log_normal = -(noise**2) / 2 - log_std - np.log(2 * np.pi) / 2
    log_slope = 2 * np.log(2.0) - 2 * np.logaddexp(before, -before)  # log(1 / cosh^2)
    return Sample(
        np.tanh(before), (log_normal - log_slope).sum(axis=1), np.exp(log_std), log_std != raw, given
    )


def draw_backward(actor, sample, noise, by_action, by_log_prob):
    """Derivatives by the actor's arrays."""
    by_before = by_action * (1 - sample.action**2) + by_log_prob[:, None] * 2 * sample.action
    by_log_std = by_before * sample.std * noise - by_log_prob[:, None]
    return backward(actor, sample.given, np.hstack([by_before, np.where(sample.clipped, 0.0, by_log_std)]))[0]


def bellman_target(state, rows, noise, settings):
    """r + discount (1 - terminal) (min Q'(s', a') - alpha log pi(a' | s'))."""
    sample = draw(state.actor, rows.next_observation, noise)
    x = np.hstack([rows.next_observation, sample.action])
    value = np.minimum(*(forward(net, x)[0][:, 0] for net in state.targets))
    soft = value - np.exp(state.log_temperature) * sample.log_prob
    return settings.reward_scale * rows.reward + settings.discount * np.where(rows.terminal, 0.0, soft)


def critic_loss(state, rows, target):
    """sum_i mean (Q_i - target)^2 / 2, and its derivatives by both critics."""
    x, total, found = np.hstack([rows.observation, rows.action]), 0.0, []
    for net in state.critics:
        value, given = forward(net, x)
        error = value[:, 0] - target
        total += np.mean(error**2) / 2
        found.append(backward(net, given, error[:, None] / len(error))[0])
    return total, found


def actor_loss(state, critics, rows, noise):
    """mean(alpha log pi - min Q), its derivatives by the actor, and log pi."""
    count, temperature = len(rows.reward), np.exp(state.log_temperature)
    sample = draw(state.actor, rows.observation, noise)
    x, width = np.hstack([rows.observation, sample.action]), sample.action.shape[1]
    values, slopes = [], []
    for net in critics:
        value, given = forward(net, x)
        values.append(value[:, 0])
        slopes.append(backward(net, given, np.ones_like(value))[1][:, -width:])
    first = values[0] < values[1]
    by_action = -np.where(first[:, None], *slopes) / count
    loss = np.mean(temperature * sample.log_prob - np.minimum(*values))
    by_log_prob = np.full(count, temperature / count)
    return loss, draw_backward(state.actor, sample, noise, by_action, by_log_prob), sample.log_prob


def update(state, rows, next_noise, noise, settings):
    """Critics, then the actor against the new critics, temperature, and the slow critics; the state and the losses."""
    rate = settings.learning_rate
    target = bellman_target(state, rows, next_noise, settings)
    bellman, slopes = critic_loss(state, rows, target)
    arrays = [array for net in state.critics for array in flat(net)]
    arrays = state.critic_adam.step(arrays, [array for net in slopes for array in flat(net)], rate)
    half = len(arrays) // 2
    critics = [unflat(arrays[:half]), unflat(arrays[half:])]
    loss, slope, log_prob = actor_loss(state, critics, rows, noise)
    actor = unflat(state.actor_adam.step(flat(state.actor), flat(slope), rate))
    gap = -np.mean(log_prob + settings.target_entropy)
    (log_temperature,) = state.temperature_adam.step([state.log_temperature], [gap], rate)
    keep = 1 - settings.target_rate
    targets = [
        unflat([keep * a + settings.target_rate * b for a, b in zip(flat(slow), flat(fast), strict=True)])
        for slow, fast in zip(state.targets, critics, strict=True)
    ]
    after = State(
        actor, critics, targets, log_temperature, state.actor_adam, state.critic_adam, state.temperature_adam
    )
    return after, Losses(bellman, loss, gap, -np.mean(log_prob), np.mean(target))
