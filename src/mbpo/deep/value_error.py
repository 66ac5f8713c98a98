"""What the model promises the policy beyond what the world gives, and what the critics promise beyond both."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mbpo.core.buffer import Ring, sample
from mbpo.core.parts import Agent, FittedModel
from mbpo.core.types import Transition
from mbpo.deep.recorded import Recorded, plain, spread, windows


class Rollout(NamedTuple):
    """T imagined steps of B rows, `[T, B]`: rewards; the bonus (`Agent.sample`) of the action that follows each step
    (0 for the mean policy); whether the step took place; whether it was terminal. `lost` `[B]`: the model broke down
    on the way; `following` `[B]`: the value where the row is after its last step, None without values."""

    reward: Float[Array, "T B"]
    bonus: Float[Array, "T B"]
    taken: Bool[Array, "T B"]
    terminal: Bool[Array, "T B"]
    lost: Bool[Array, "B"]
    following: Float[Array, "B"] | None


def exploitation(
    model: FittedModel,
    agent: Agent,
    policy: Any,
    recorded: Recorded,
    horizon: int,
    starts: int,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    """Return of the mean policy imagined minus real, `gap`, over the `horizon` steps from states along its `recorded`
    episodes, undiscounted; its `standard_error` takes the starts as independent.

    A start closer than that to a truncation is used only in an episode that is shorter, and then up to its end; after
    a terminal state both returns stand still. `lost`: share of starts left out because the model broke down.
    """
    length, ends = recorded.lengths[:, None], recorded.ends[:, None]
    time = np.arange(recorded.transitions.reward.shape[1])
    eligible = recorded.inside & (ends | (time <= np.maximum(length - horizon, 0)))
    places = spread(eligible, starts)
    real = windows(recorded, places, horizon)
    first = jax.tree.map(lambda leaf: leaf[:, 0], real.transitions)
    rolled = _roll(model, agent, policy, first.observation, first.action, horizon, False, key)
    left = np.minimum((recorded.lengths[places.episode] - places.time), horizon)
    left = np.where(recorded.ends[places.episode], horizon, left)
    counted = np.asarray(rolled.taken).T & (np.arange(horizon) < left[:, None])
    imagined = np.sum(np.where(counted, _float64(rolled.reward).T, 0.0), axis=1)
    truth = np.sum(_float64(real.transitions.reward) * real.inside, axis=1)
    good = places.used & ~np.asarray(rolled.lost) & np.isfinite(imagined)
    gap, error = _mean_and_error((imagined - truth)[good], np.arange(np.sum(good)))
    return {
        "gap": gap,
        "standard_error": error,
        "imagined": _mean(imagined[good]),
        "real": _mean(truth[good]),
        "horizon": _mean(left[good]),
        "starts": int(np.sum(good)),
        "lost": 1.0 - float(np.sum(good) / np.sum(places.used)),
    }


def critic_bias_in_reality(
    agent: Agent, policy: Any, recorded: Recorded, tail: float, key: PRNGKeyArray
) -> dict[str, Any] | None:
    """The agent's value Q(s_t, a_t) minus the soft return G_t of the exploring policy along its `recorded` episodes,

        G_t = scale r_t + discount (1 - terminal_t) (bonus(a' | s_{t+1}) + G_{t+1}),

    with a' ~ pi drawn afresh, bonus -temperature log pi where the agent has a temperature, and G = Q(s, a') at a
    truncation; None without values. Counted are the steps of episodes that
    end in a terminal state, and those n steps before a truncation with discount^n < `tail`: the critics' own part in
    G shrinks a bias by no more than `tail` of it. The standard error takes episodes, not steps, as independent.
    """
    rows, (discount, scale) = recorded.transitions, agent.estimand()
    last = rows.next_observation[np.arange(len(recorded.lengths)), recorded.lengths - 1]
    judged = _judge(agent, policy, rows, last, key)
    if judged is None:
        return None
    value, bonus, following = (_float64(each) for each in judged)
    soft = np.zeros(rows.reward.shape)
    for time in reversed(range(rows.reward.shape[1])):
        at_end = time == recorded.lengths - 1
        later = np.where(at_end, following, soft[:, min(time + 1, soft.shape[1] - 1)])
        goes_on = discount * ~rows.terminal[:, time]
        soft[:, time] = scale * rows.reward[:, time] + goes_on * (bonus[:, time] + later)
    left = recorded.lengths[:, None] - np.arange(rows.reward.shape[1])
    counted = recorded.inside & (recorded.ends[:, None] | (left >= _horizon(discount, tail)))
    return _bias(value[counted], soft[counted], np.nonzero(counted)[0])


def critic_bias_in_imagination(
    model: FittedModel,
    agent: Agent,
    policy: Any,
    imagined: Ring,
    rows: int,
    tail: float,
    most_steps: int,
    key: PRNGKeyArray,
) -> dict[str, Any] | None:
    """Q(s, a) of rows sampled from the `imagined` ring minus the soft return, as in `critic_bias_in_reality`, of the
    exploring policy in the model after taking a in s; n steps with discount^n < `tail`, then Q.

    None without values, when nothing is imagined yet, or when it takes more than `most_steps`. Rows on which the
    model broke down are left out; `lost` is their share.
    """
    discount, scale = agent.estimand()
    steps = _horizon(discount, tail)
    if int(imagined.size) == 0 or steps > most_steps:
        return None
    sample_key, roll_key = jax.random.split(key)
    row = _rows(imagined, rows, sample_key)
    found = _value(agent, policy, *row)
    if found is None:
        return None
    value = _float64(found)
    rolled = _roll(model, agent, policy, *row, int(steps), True, roll_key)
    taken, steps = np.asarray(rolled.taken), int(steps)
    goes_on = taken & ~np.asarray(rolled.terminal)
    gained = np.where(taken, scale * _float64(rolled.reward), 0.0)
    gained += np.where(goes_on, discount * _float64(rolled.bonus), 0.0)
    soft = np.sum(discount ** np.arange(steps)[:, None] * gained, axis=0)
    soft += discount**steps * np.where(goes_on[-1], _float64(rolled.following), 0.0)
    good = ~np.asarray(rolled.lost) & np.isfinite(soft)
    return {**_bias(value[good], soft[good], np.arange(np.sum(good))), "lost": 1.0 - float(np.mean(good))}


def _horizon(discount: float, tail: float) -> float:
    """The least n with discount^n < tail; infinite without discounting."""
    if discount >= 1.0:
        return math.inf
    return 1 if discount <= 0.0 else max(math.floor(math.log(tail) / math.log(discount)) + 1, 1)


@partial(jax.jit, static_argnames=("steps", "noise"))
def _roll(
    model: FittedModel,
    agent: Agent,
    policy: Any,
    start: Float[Array, "B n"],
    action: Float[Array, "B m"],
    steps: int,
    noise: bool,
    key: PRNGKeyArray,
) -> Rollout:
    """`action` in `start`, then the agent's policy, with or without its noise, up to a terminal or invalid step."""
    count = start.shape[0]

    def choose(observation: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        if not noise:
            return agent.mean_action(agent.policy(policy), observation), jnp.zeros(count, jnp.float32)
        return agent.sample(policy, observation, key)

    def advance(carry: tuple[Array, Array, Array, Array], key: PRNGKeyArray):
        observation, action, alive, lost = carry
        step_key, action_key = jax.random.split(key)
        rows, valid = model.step(observation, action, jax.random.split(step_key, count))
        taken = alive & valid
        following = jnp.where(taken[:, None], rows.next_observation, observation)
        action, bonus = choose(following, action_key)
        carry = (following, action, taken & ~rows.terminal, lost | (alive & ~valid))
        return carry, (rows.reward, bonus, taken, rows.terminal)

    alive, lost = jnp.ones(count, bool), jnp.zeros(count, bool)
    carry, seen = jax.lax.scan(advance, (start, action, alive, lost), jax.random.split(key, steps))
    return Rollout(*seen, carry[3], agent.value(policy, carry[0], carry[1]))


@jax.jit
def _judge(
    agent: Agent, policy: Any, rows: Transition, last: Float[Array, "E n"], key: PRNGKeyArray
) -> tuple[Float[Array, "E T"], Float[Array, "E T"], Float[Array, "E"]] | None:
    """Q(s, a) of every step, the bonus of an action drawn after it, and Q of one drawn in `last`."""
    shape = rows.reward.shape
    flat = jax.tree.map(lambda leaf: leaf.reshape(shape[0] * shape[1], *leaf.shape[2:]), rows)
    bonus_key, last_key = jax.random.split(key)
    value = agent.value(policy, flat.observation, flat.action)
    if value is None:
        return None
    _, bonus = agent.sample(policy, flat.next_observation, bonus_key)
    action, _ = agent.sample(policy, last, last_key)
    following = agent.value(policy, last, action)
    assert following is not None
    return value.reshape(shape), bonus.reshape(shape), following


@jax.jit
def _value(
    agent: Agent, policy: Any, observation: Float[Array, "B n"], action: Float[Array, "B m"]
) -> Float[Array, "B"] | None:
    return agent.value(policy, observation, action)


@partial(jax.jit, static_argnames="count")
def _rows(ring: Ring, count: int, key: PRNGKeyArray) -> tuple[Float[Array, "B n"], Float[Array, "B m"]]:
    rows = sample(ring, count, key)
    return rows.observation, rows.action


def _bias(value: np.ndarray, soft: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """The mean of value - soft return with its standard error, means of both, and the bias over |mean soft return|
    (Chen et al. 2021)."""
    bias, error = _mean_and_error(value - soft, groups)
    returns = _mean(soft)
    normalised = None if bias is None or not returns else bias / abs(returns)
    return {
        "bias": bias,
        "standard_error": error,
        "value": _mean(value),
        "soft_return": returns,
        "normalised_bias": normalised,
        "rows": len(value),
    }


def _mean(rows: np.ndarray) -> float | None:
    return plain(np.mean(rows)) if len(rows) else None


def _mean_and_error(rows: np.ndarray, groups: np.ndarray) -> tuple[float | None, float | None]:
    """The mean of `rows` `[N]` and its standard error when only different `groups` `[N]` of G are independent,
    sqrt(G / (G - 1) sum_g (sum_{i in g} (x_i - mean))^2) / N."""
    mean = _mean(rows)
    number = len(np.unique(groups))
    if mean is None or number < 2:
        return mean, None
    sums = np.bincount(groups, rows - mean)
    return mean, plain(np.sqrt(number / (number - 1) * np.sum(sums**2)) / len(rows))


def _float64(array: Any) -> np.ndarray:
    return np.asarray(array, np.float64)
