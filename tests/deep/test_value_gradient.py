"""The value-gradient agent against exact answers: linear-quadratic systems, and soft actor-critic."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from mbpo.core.parts import FittedModel, Followed, Model
from mbpo.core.types import Experience, Transition
from mbpo.deep.networks import Dense
from mbpo.deep.value_gradient import (
    LEAST_WIDTH,
    RELATIVE_WIDTH,
    Range,
    StandardisedActor,
    ValueGradient,
    acting_on_host,
    distribution,
    draw,
    unit,
)
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.environments.true_model import TrueModel

KEY = jax.random.key(5)
LIMIT = 1e3  # action limits this wide are never met
DISCOUNT = 0.95


class LinearPolicies(ValueGradient):
    """The agent with u = K x / LIMIT and noise of deviation `spread`, and an entropy that counts nothing."""

    spread: float = 0.0

    def draw(self, policy, observation, noise):
        gain = policy.layers[0].weight
        return (observation @ gain + self.spread * noise) / LIMIT, jnp.zeros(len(observation))


class Known(NamedTuple):
    """A system, a gain, its exact discounted value matrix, and the loop closed by it."""

    A: np.ndarray
    B: np.ndarray
    Q: np.ndarray
    R: np.ndarray
    K: np.ndarray
    P: np.ndarray

    @property
    def loop(self):
        return self.A + self.B @ self.K

    def costs(self, x, u):
        after = x @ self.A.T + u @ self.B.T
        terms = (x, self.Q), (u, self.R), (after, DISCOUNT * self.P)
        return sum(jnp.einsum("bi,ij,bj->b", z, M, z) for z, M in terms)


def known():
    rng = np.random.default_rng(0)
    A = np.array([[1.01, 0.1, 0.0], [0.0, 0.95, 0.1], [0.05, 0.0, 0.9]])
    B, Q, R = rng.normal(size=(3, 2)), np.diag([1.0, 0.5, 2.0]), np.array([[1.0, 0.2], [0.2, 0.6]])
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    K = -0.3 * np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)  # far from the optimum, and stable
    F = A + B @ K
    P = scipy.linalg.solve_discrete_lyapunov(np.sqrt(DISCOUNT) * F.T, Q + K.T @ R @ K)
    return Known(A, B, Q, R, K, P)


SYSTEM = known()


def model_of(noise=0.0):
    parts = (SYSTEM.A, SYSTEM.B, SYSTEM.Q, SYSTEM.R, noise * np.eye(3), np.full(2, LIMIT), np.full(3, np.inf))
    return FittedModel(TrueModel(*(jnp.asarray(each, jnp.float32) for each in parts)), None)


def linear(horizon, spread=0.0):
    agent = LinearPolicies(3, 2, -2.0, horizon=horizon, discount=DISCOUNT, spread=spread)
    weight = jnp.asarray(SYSTEM.K.T, jnp.float32)
    policy = StandardisedActor(
        (Dense(weight, jnp.zeros(2, jnp.float32)),), jnp.zeros(3, jnp.float32), jnp.ones(3, jnp.float32)
    )
    return agent, policy


def exact_q(observation, action):
    return -SYSTEM.costs(observation, action * LIMIT).astype(jnp.float32)


STARTS = jax.random.normal(jax.random.key(1), (64, 3), jnp.float32)


def gradient_of(horizon):
    """dJ/dK of the cost, from the rollout of the agent."""
    agent, policy = linear(horizon)
    path, along, back = agent.rolled(policy, model_of(), STARTS, KEY)
    layers = agent.descent(path, along, back, jnp.float32(0), exact_q)
    return np.asarray(layers[0].weight, np.float64).T


def terms_of_the_series(count):
    """g^t 2 E mean(x_t x_t'), t = 0 .. count - 1, with E = (R + g B'PB) K + g B'PA: the policy-gradient theorem."""
    A, B, R, K, P = SYSTEM.A, SYSTEM.B, SYSTEM.R, SYSTEM.K, SYSTEM.P
    E = (R + DISCOUNT * B.T @ P @ B) @ K + DISCOUNT * B.T @ P @ A
    x = np.asarray(STARTS, np.float64)
    found = []
    for time in range(count):
        found.append(DISCOUNT**time * 2 * E @ (x.T @ x) / len(x))
        x = x @ SYSTEM.loop.T
    return np.array(found)


@pytest.mark.parametrize("horizon", [1, 2, 5, 12])
def test_the_gradient_is_the_first_terms_of_the_exact_series(horizon):
    expected = terms_of_the_series(horizon + 1).sum(axis=0)
    np.testing.assert_allclose(gradient_of(horizon), expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_the_gradient_tends_to_the_whole_and_stays_bounded():
    """The rest falls as the series does; the norm never exceeds the sum of the terms' norms."""
    whole = terms_of_the_series(400).sum(axis=0)
    horizons = (1, 4, 10, 30)
    found = [gradient_of(each) for each in horizons]
    rests = [np.linalg.norm(each - whole) / np.linalg.norm(whole) for each in found]
    expected = [
        np.linalg.norm(terms_of_the_series(400)[each + 1 :].sum(axis=0)) / np.linalg.norm(whole)
        for each in horizons
    ]
    np.testing.assert_allclose(rests, expected, rtol=0.01, atol=3e-4)
    assert rests[-1] < 0.1 * rests[0]
    bound = sum(np.linalg.norm(each) for each in terms_of_the_series(400))
    assert max(np.linalg.norm(each) for each in found) <= bound


@pytest.mark.parametrize("horizon", [1, 3, 10])
def test_the_critics_target_is_exact_at_every_horizon(horizon):
    agent, policy = linear(horizon)
    path, along, _ = agent.rolled(policy, model_of(), STARTS, KEY)
    reach = DISCOUNT**horizon * along.alive[-1]
    target = path.gained + reach * exact_q(path.observation, path.action)
    np.testing.assert_allclose(target, exact_q(STARTS, along.action), rtol=1e-4)


def test_with_noise_the_target_is_exact_on_average():
    """Noise of the model adds g/(1-g) tr(P W) to the cost, that of the actions what it costs afterwards; the means of
    20,000 rollouts of 3 steps are within five standard errors."""
    agent, policy = linear(3, spread=0.3)
    starts = jnp.broadcast_to(jnp.array([1.0, -0.5, 0.3], jnp.float32), (20_000, 3))
    path, along, _ = agent.rolled(policy, model_of(0.1), starts, KEY)
    W = 0.1**2 * np.eye(3)
    M = SYSTEM.R + DISCOUNT * SYSTEM.B.T @ SYSTEM.P @ SYSTEM.B
    constant = (DISCOUNT * np.trace(SYSTEM.P @ W) + DISCOUNT * 0.09 * np.trace(M)) / (1 - DISCOUNT)
    ends = path.gained + DISCOUNT**3 * (exact_q(path.observation, path.action) - constant)
    gap = np.asarray(ends - (exact_q(starts, along.action) - constant), np.float64)
    assert abs(gap.mean()) < 5 * gap.std() / np.sqrt(len(gap))
    assert gap.std() > 0.1


# ---------------------------------------------------------------- networks


AGENT = ValueGradient(4, 2, -2.0, horizon=0, hidden=(16, 16), critics=1, discount=0.9, learning_rate=1e-2)


class Untouched(Model):
    """A model that must not be asked for anything."""

    def init(self, key):
        del key

    def fit(self, state, real, key):
        raise AssertionError

    def step(self, state, observation, action, keys):
        raise AssertionError


def stored(count=32):
    rng = np.random.default_rng(3)
    draws = [rng.normal(size=(count, 4)), rng.uniform(-1, 1, (count, 2)), rng.normal(size=count)]
    draws.append(rng.normal(size=(count, 4)))
    rows = [jnp.asarray(each, jnp.float32) for each in draws]
    return Transition(*rows, jnp.asarray(rng.random(count) < 0.3), jnp.zeros(count, bool))


def random_critics(agent, state):
    draw_ = np.random.default_rng(4)
    *inner, last = state.critics
    weight = jnp.asarray(draw_.normal(size=last.weight.shape) * 0.1, jnp.float32)
    critics = (*inner, last._replace(weight=weight))
    slow = jax.tree.map(lambda leaf: 0.8 * leaf, critics)
    wide = Range(jnp.float32(-50), jnp.float32(70), jnp.float32(1))
    return state._replace(critics=critics, targets=slow, range=wide)


def test_without_a_horizon_an_update_is_that_of_soft_actor_critic():
    """Target r + g (1 - terminal)(Q'(s', a') - alpha log pi(a'|s')), actor loss mean(alpha log pi - Q), written out."""
    agent = dataclasses.replace(AGENT, range_rate=0.0)
    state, rows = random_critics(agent, agent.init(KEY)), stored()
    experience = Experience(rows, jnp.ones(32, bool), FittedModel(Untouched(), None))
    after, info = agent.update(state, experience, KEY)
    roll_key, pair_key = jax.random.split(KEY)
    _, next_key = jax.random.split(pair_key)
    noise = jax.random.normal(next_key, (32, 2), jnp.float32)
    units, alpha = unit(state.range), 0.1
    following, log_prob = draw(state.policy, rows.next_observation, noise)
    promised = agent.values(state.targets, state.policy, units, rows.next_observation, following)[0]
    goes_on = 1.0 - rows.terminal.astype(jnp.float32)
    target = rows.reward + 0.9 * goes_on * (promised - alpha * log_prob)

    def critic_loss(critics):
        q = agent.values(critics, state.policy, units, rows.observation, rows.action)[0]
        return jnp.mean((q - target) ** 2) / units.half_width**2

    loss, slope = jax.value_and_grad(critic_loss)(state.critics)
    assert info.critic_loss == pytest.approx(float(loss), rel=1e-5)
    assert info.mean_value == pytest.approx(float(target.mean()), rel=1e-5)
    critics, _ = agent._adam_step(slope, state.critic_optimiser, state.critics)
    (action_key,) = jax.random.split(roll_key, 1)
    noise = jax.random.normal(action_key, (1, 32, 2), jnp.float32)[0]

    def actor_loss(layers):
        policy = state.policy._replace(layers=layers)
        action, log_prob = draw(policy, rows.observation, noise)
        q = agent.values(critics, state.policy, units, rows.observation, action)[0]
        return jnp.mean(alpha * log_prob - q)

    layers, _ = agent._adam_step(
        jax.grad(actor_loss)(state.policy.layers), state.actor_optimiser, state.policy.layers
    )
    for got, expected in ((after.critics, critics), (after.policy.layers, layers)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6), got, expected)


def test_the_gradient_through_networks_is_that_of_the_return_written_out():
    """The shared pull-back against plain differentiation of the whole sum, terminal rows included."""
    system = LinearQuadraticTask("laplacian3")
    agent = ValueGradient(3, 3, -3.0, horizon=3, hidden=(16, 16), discount=0.9)
    state = random_critics(agent, agent.init(KEY))
    model = FittedModel(Ending(), TrueModel.of(system))
    starts, alpha = jax.random.normal(jax.random.key(2), (40, 3), jnp.float32), jnp.float32(0.2)
    units = unit(state.range)

    def judge(observation, action):
        return agent.values(state.critics, state.policy, units, observation, action).mean(axis=0)

    path, along, back = agent.rolled(state.policy, model, starts, KEY)
    found = agent.descent(path, along, back, alpha, judge)
    assert 0.1 < float(1 - along.alive[-1].mean()) < 0.9

    def loss(layers):
        policy = state.policy._replace(layers=layers)
        action_key, *step_keys = jax.random.split(KEY, 4)
        noise = jax.random.normal(action_key, (4, 40, 3), jnp.float32)
        x, alive, total = starts, jnp.ones(40, jnp.float32), 0.0
        for time in range(3):
            a, log_prob = draw(policy, x, noise[time])
            after, reward, over = model.follow(x, a, step_keys[time])
            total += 0.9**time * alive * (reward - alpha * log_prob)
            alive = jnp.where(over, 0.0, alive)
            x = jnp.where(alive[:, None] > 0, after, jax.lax.stop_gradient(x))
        a, log_prob = draw(policy, x, noise[3])
        return -jnp.mean(total + 0.9**3 * alive * (judge(x, a) - alpha * log_prob))

    expected = jax.grad(loss)(state.policy.layers)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), found, expected)


class Ending(Model):
    """The true system, in which an episode ends where x_0 exceeds 0.5."""

    def init(self, key):
        del key

    def fit(self, state, real, key):
        return state

    def step(self, state, observation, action, keys):
        raise AssertionError

    def follow(self, state, observation, action, key):
        followed = state.follow(None, observation, action, key)
        return followed._replace(terminal=followed.observation[:, 0] > 0.5)


def test_constant_rewards_keep_a_range_of_values():
    """Rewards of one at every step: the quantiles coincide, so the floor is the half width."""
    flat = unit(Range(jnp.float32(200), jnp.float32(200), jnp.float32(1)))
    assert float(flat.half_width) == pytest.approx(RELATIVE_WIDTH * 200 + LEAST_WIDTH)
    agent = ValueGradient(4, 2, -2.0, horizon=2, hidden=(16, 16), discount=0.995)
    state = agent.init(KEY)._replace(log_temperature=jnp.float32(-40))
    experience = Experience(stored(), jnp.ones(32, bool), FittedModel(Constant(), None))
    for _ in range(3):
        state, info = agent.update(state, experience, KEY)
    assert all(np.isfinite(value) for value in info)
    assert float(unit(state.range).half_width) == pytest.approx(3.0, rel=1e-3)
    assert float(info.mean_value) == pytest.approx(200.0, abs=3.0)


class Constant(Model):
    """Nothing changes, every step pays one."""

    def init(self, key):
        del key

    def fit(self, state, real, key):
        return state

    def step(self, state, observation, action, keys):
        raise AssertionError

    def follow(self, state, observation, action, key):
        del state, key
        count = len(observation)
        moved = observation + 0.0 * action[:, :1]
        return Followed(moved, jnp.ones(count, jnp.float32), jnp.zeros(count, bool))


def test_a_model_without_derivatives_is_refused_by_name():
    with pytest.raises(TypeError, match="Untouched cannot be differentiated"):
        FittedModel(Untouched(), None).follow(jnp.zeros((1, 4)), jnp.zeros((1, 2)), KEY)
    assert not Untouched().differentiable
    assert Constant().differentiable
    assert TrueModel.of(LinearQuadraticTask("scalar")).differentiable


def test_the_value_is_the_mean_over_pairs_of_the_smaller_critic():
    agent = ValueGradient(4, 2, -2.0, hidden=(16, 16), critics=4)
    state, rows = random_critics(agent, agent.init(KEY)), stored()
    q = np.asarray(
        agent.values(state.critics, state.policy, unit(state.range), rows.observation, rows.action)
    )
    pairs = [np.minimum(q[i], q[j]) for i in range(4) for j in range(i)]
    np.testing.assert_allclose(
        agent.value(state, rows.observation, rows.action), np.mean(pairs, axis=0), rtol=1e-4, atol=1e-4
    )


def test_numpy_acts_as_jax_does():
    agent = ValueGradient(4, 2, -2.0, hidden=(16, 16))
    state = agent.init(KEY)
    rng = np.random.default_rng(0)
    moments = jnp.asarray(rng.normal(size=4), jnp.float32), jnp.asarray(rng.random(4) + 0.5, jnp.float32)
    policy = state.policy._replace(mean=moments[0], scale=moments[1])
    act = acting_on_host(policy)
    seen = rng.normal(size=(20, 4)).astype(np.float32) * 3
    noise = rng.normal(size=(20, 2)).astype(np.float32)
    expected = draw(policy, jnp.asarray(seen), jnp.asarray(noise))[0]
    np.testing.assert_allclose([act(*row) for row in zip(seen, noise, strict=True)], expected, atol=1e-5)
    np.testing.assert_allclose([act(row, None) for row in seen], agent.mean_action(policy, seen), atol=1e-5)
    assert act(seen[0], None).dtype == np.float32


def test_log_densities_are_those_of_a_squashed_gaussian():
    """exp(log pi) integrates to one over (-1, 1)."""
    agent = ValueGradient(1, 1, -1.0, hidden=(8, 8))
    policy = agent.init(KEY).policy
    mean, std = (float(each[0, 0]) for each in distribution(policy, jnp.ones((1, 1), jnp.float32)))
    before = np.linspace(mean - 8 * std, mean + 8 * std, 4001)
    noise = ((before - mean) / std).astype(np.float32)[:, None]
    action, log_prob = draw(policy, jnp.ones((4001, 1), jnp.float32), jnp.asarray(noise))
    assert np.trapezoid(np.exp(np.float64(log_prob)), np.float64(action[:, 0])) == pytest.approx(
        1.0, abs=1e-3
    )


@pytest.mark.slow
def test_five_steps_through_the_true_model_beat_one():
    """Equal updates, networks and starts; the excess cost is exact. The critics begin at zero, so that a longer
    rollout knows more of the value."""
    task = LinearQuadraticTask("laplacian3")
    model = FittedModel(TrueModel.of(task), None)
    spread = np.linalg.cholesky(np.asarray(task.system.W)).T

    def learned(horizon, seed):
        scale = 1.0 / task.optimum.cost
        agent = ValueGradient(
            3, 3, -3.0, horizon, (32, 32), discount=0.99, learning_rate=1e-3, reward_scale=scale
        )
        state = agent.init(jax.random.key(seed))

        def one(state, key):
            start_key, update_key = jax.random.split(key)
            start = (
                2.0 * jax.random.normal(start_key, (128, 3), jnp.float32) @ jnp.asarray(spread, jnp.float32)
            )
            zero = jnp.zeros(128, jnp.float32)
            rows = Transition(start, start, zero, start, zero > 1, zero > 1)
            return agent.update(state, Experience(rows, zero < 1, model), update_key)[0], None

        keys = jax.random.split(jax.random.key(seed + 100), 400)
        state = jax.jit(lambda state: jax.lax.scan(one, state, keys)[0])(state)
        mean = jax.jit(agent.mean_action)

        def physical(x):
            return np.asarray(mean(state.policy, jnp.asarray(x, jnp.float32)), np.float64) * task.action_limit

        return task.excess_of(physical, samples=4000).relative

    found = {horizon: [learned(horizon, seed) for seed in (0, 1)] for horizon in (1, 5)}
    assert max(found[5]) < min(found[1])
