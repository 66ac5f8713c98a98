"""Soft actor-critic against plain NumPy, against finite differences, and on worlds whose values are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy_sac as oracle
import pytest

from mbpo.core.types import Experience, Transition
from mbpo.deep.sac import SoftActorCritic, sample_action, values

n, m, BATCH = 3, 2, 12
SETTINGS = oracle.Settings(0.9, 0.01, 0.2, 2.5, -1.5)
AGENT = SoftActorCritic(n, m, SETTINGS.target_entropy, (7, 6), *SETTINGS[:-1])
START = AGENT.init(jax.random.key(0))
TERMINAL, TRUNCATED = np.arange(BATCH) < 4, (np.arange(BATCH) >= 4) & (np.arange(BATCH) < 8)


@jax.jit
def updated(state, rows, key):
    return AGENT.update(state, Experience(rows, jnp.ones(BATCH, bool), None), key)


def random_rows(seed):
    """A batch of which a third is terminal and a third truncated."""
    draw = np.random.default_rng(seed)
    sizes = ((BATCH, n), (BATCH, m), (BATCH,), (BATCH, n))
    numbers = [draw.normal(size=size).astype(np.float32) for size in sizes]
    numbers[1] = np.tanh(numbers[1])
    return Transition(*numbers, TERMINAL, TRUNCATED)


def start(kind="ordinary"):
    """Random networks with an actor that is ordinary, saturates tanh, or leaves the range of its log deviation."""
    draw = np.random.default_rng(1)
    nets = jax.tree.map(
        lambda leaf: leaf + 0.1 * draw.normal(size=leaf.shape).astype(np.float32), tuple(START[:3])
    )
    weight, bias = (np.array(each) for each in nets[0][-1])
    if kind == "saturated":
        bias[:m] = 9.0, -25.0
    if kind == "clipped":
        weight[:, m:], bias[m:] = 40 * weight[:, m:], (-15.0, 0.0)
    last = nets[0][-1]._replace(weight=jnp.asarray(weight), bias=jnp.asarray(bias))
    return START._replace(actor=(*nets[0][:-1], last), critics=nets[1], targets=nets[2])


def widened(layers, i=None):
    """A network as the oracle holds it; of a stack, the one at `i`."""
    return [[np.float64(leaf if i is None else leaf[i]) for leaf in layer] for layer in layers]


def oracle_state(state):
    twins = [[widened(each, i) for i in range(2)] for each in (state.critics, state.targets)]
    return oracle.State(widened(state.actor), *twins, np.float64(state.log_temperature))


def oracle_rows(rows):
    return oracle.Rows(*(np.float64(each) for each in rows[:4]), rows.terminal)


def noises(key):
    """What the actor's samples at the next and at the present observations are made of."""
    return [np.float64(jax.random.normal(each, (BATCH, m), jnp.float32)) for each in jax.random.split(key)]


def assert_close(found, expected, tolerance=2e-5):
    for one, other in zip(jax.tree.leaves(found), oracle.flat(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * tolerance, atol=tolerance)


def assert_close_gradients(optimiser, adam):
    """Adam's first moments, which hold the gradients without its division."""
    assert int(optimiser[0].count) == adam.count
    found = [np.ravel(leaf) for leaf in jax.tree.leaves(optimiser[0].mu)]
    count = len(adam.first) // len(found)  # twins are stacked here, one after the other there
    for i, one in enumerate(found):
        other = np.concatenate([np.ravel(each) for each in adam.first[i :: len(found)][:count]])
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * max(1.0, np.abs(other).max()))


@pytest.mark.parametrize("kind", ["ordinary", "saturated", "clipped"])
def test_two_updates_are_those_of_the_equations(kind):
    state = start(kind)
    expected = oracle_state(state)
    for step in range(2):
        rows, key = random_rows(step), jax.random.key(step)
        sample = oracle.draw(expected.actor, np.float64(rows.observation), noises(key)[1])
        if kind == "clipped":
            np.testing.assert_allclose([sample.std.min(), sample.std.max()], np.exp([-20.0, 2.0]))
        if kind == "saturated":
            assert np.mean(np.abs(sample.action) > 1 - 1e-7) >= 0.5
        state, info = updated(state, rows, key)
        expected, losses = oracle.update(expected, oracle_rows(rows), *noises(key), SETTINGS)
        assert info.critic_loss == pytest.approx(losses.critic, rel=1e-4)
        assert info.actor_loss == pytest.approx(losses.actor, rel=1e-4)
        assert info.entropy == pytest.approx(losses.entropy, rel=1e-4)
        assert info.mean_value == pytest.approx(losses.mean_target, rel=1e-4)
        assert info.temperature == pytest.approx(np.exp(expected.log_temperature), rel=1e-5)
        pairs = ("critic_optimiser", "critic_adam"), ("actor_optimiser", "actor_adam")
        for found, other in (*pairs, ("temperature_optimiser", "temperature_adam")):
            assert_close_gradients(getattr(state, found), getattr(expected, other))
        assert_close(state.actor, expected.actor)
        for i in range(2):
            assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], state.critics), expected.critics[i])
            assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], state.targets), expected.targets[i])


def same(left, right):
    return all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )


def test_terminal_rows_do_not_bootstrap_and_truncated_rows_do():
    state, rows, key = start(), random_rows(0), jax.random.key(0)
    after = updated(state, rows, key)

    def elsewhere(which):
        moved = np.where(which[:, None], rows.next_observation + 1, rows.next_observation)
        return updated(state, rows._replace(next_observation=moved), key)

    assert same(elsewhere(TERMINAL), after)
    assert not same(elsewhere(TRUNCATED), after)
    assert same(updated(state, rows._replace(truncated=~TRUNCATED), key), after)


def test_the_start_has_two_different_critics_their_copies_and_temperature_one():
    for fast, slow in zip(jax.tree.leaves(START.critics), jax.tree.leaves(START.targets), strict=True):
        np.testing.assert_array_equal(fast, slow)
    assert not np.array_equal(START.critics[0].weight[0], START.critics[0].weight[1])
    assert START.log_temperature == 0


@functools.partial(jax.jit, static_argnums=1)
def log_prob_and_gradient(actor, count, observation, key):
    def total(actor):
        action, log_prob = sample_action(actor, observation, key)
        return jnp.sum(log_prob[:count]), (action, log_prob)

    return jax.grad(total, has_aux=True)(actor)


@pytest.mark.parametrize("kind", ["ordinary", "clipped"])
def test_the_gradient_of_the_log_probability_agrees_with_finite_differences(kind):
    actor, observation, key = start(kind).actor, random_rows(0).observation, jax.random.key(3)
    gradient, (_, log_prob) = log_prob_and_gradient(actor, BATCH, observation, key)
    noise = np.float64(jax.random.normal(key, (BATCH, m), jnp.float32))
    wide, seen = widened(actor), np.float64(observation)
    np.testing.assert_allclose(log_prob, oracle.draw(wide, seen, noise).log_prob, rtol=1e-4, atol=1e-4)
    step = 1e-6
    for array, slope in zip(oracle.flat(wide), jax.tree.leaves(gradient), strict=True):
        for at in np.ndindex(array.shape):
            kept, ends = array[at], []
            for sign in (1, -1):
                array[at] = kept + sign * step
                ends.append(oracle.draw(wide, seen, noise).log_prob.sum())
            array[at] = kept
            assert slope[at] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-3, abs=2e-3)


def test_extreme_actions_have_finite_and_right_log_probabilities():
    actor, observation = START.actor, random_rows(0).observation
    last = actor[-1]._replace(bias=jnp.asarray([80.0, -300.0, -1.0, 2.0], jnp.float32))
    actor, key = (*actor[:-1], last), jax.random.key(4)
    gradient, (action, log_prob) = log_prob_and_gradient(actor, BATCH, observation, key)
    noise = np.float64(jax.random.normal(key, (BATCH, m), jnp.float32))
    right = oracle.draw(widened(actor), np.float64(observation), noise).log_prob
    assert right.min() > 700, "log(1 - tanh^2) alone would be -inf"
    np.testing.assert_allclose(log_prob, right, rtol=1e-5)
    np.testing.assert_array_equal(action, np.broadcast_to([1.0, -1.0], (BATCH, m)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


# Worlds whose values are known. One program serves them all: rows are drawn from a table, temperature starts small
# where the entropy must not count.
SEEKER = SoftActorCritic(1, 1, -1.0, (16,), 0.8, 0.01, 0.1)
UPDATES, SMALL = 600, -20.0


@jax.jit
def learned(table, log_temperature, key):
    def improve(state, key):
        draw, key = jax.random.split(key)
        index = jax.random.randint(draw, (32,), 0, table.reward.shape[0])
        rows = jax.tree.map(lambda leaf: leaf[index], table)
        return SEEKER.update(state, Experience(rows, jnp.ones(32, bool), None), key)

    start_key, key = jax.random.split(key)
    state = SEEKER.init(start_key)._replace(log_temperature=log_temperature)
    state, infos = jax.lax.scan(improve, state, jax.random.split(key, UPDATES))
    places = jnp.arange(-1.0, 1.5, 1.0, jnp.float32)[:, None]
    action = SEEKER.mean_action(state.actor, places)
    return values(state.critics, places, action), action[:, 0], infos


def learn(world, log_temperature=SMALL):
    """Values and mean actions at the observations -1, 0, 1; `world` gives reward, next observation and ends."""
    draw = np.random.default_rng(0)
    observation = draw.choice([-1.0, 0.0, 1.0], size=(256, 1))
    action = draw.uniform(-1, 1, size=(256, 1))
    reward, following, terminal, truncated = world(observation[:, 0], action[:, 0])
    numbers = (observation, action, reward, following[:, None])
    flags = (np.broadcast_to(each, 256).copy() for each in (terminal, truncated))
    table = Transition(
        *(np.float32(np.broadcast_to(each, (256, *each.shape[1:]))) for each in numbers), *flags
    )
    return jax.tree.map(np.asarray, learned(table, jnp.float32(log_temperature), jax.random.key(5)))


def test_probe_a_last_reward_of_one_is_worth_one():
    value, _, _ = learn(lambda x, u: (np.ones(256), x, True, False))
    np.testing.assert_allclose(value, np.ones((2, 3)), atol=0.05)


def test_probe_a_reward_is_discounted_along_a_chain():
    """-1 -> 0 -> 1 -> the end with reward one."""
    value, _, _ = learn(lambda x, u: (np.float64(x == 1), x + 1, x == 1, False))
    np.testing.assert_allclose(value, np.broadcast_to([0.64, 0.8, 1.0], (2, 3)), atol=0.06)


def test_probe_a_time_limit_leaves_the_value_of_going_on_for_ever():
    value, _, _ = learn(lambda x, u: (np.ones(256), x, False, True))
    np.testing.assert_allclose(value, np.full((2, 3), 5.0), atol=0.4)


def test_probe_the_action_that_pays_is_found_where_it_pays():
    value, action, _ = learn(lambda x, u: (-((u - 0.6 * x) ** 2), x, True, False))
    np.testing.assert_allclose(action, [-0.6, 0.0, 0.6], atol=0.12)
    np.testing.assert_allclose(value, np.zeros((2, 3)), atol=0.06)


def test_probe_the_temperature_steers_the_entropy_to_its_target():
    _, _, infos = learn(lambda x, u: (u, x, True, False), log_temperature=0.0)
    assert np.mean(infos.entropy[-100:]) == pytest.approx(-1.0, abs=0.1)
    assert 0 < infos.temperature[-1] < 1
