"""Values of a policy: exact ones against the exact module, fitted ones against exact ones."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_cases import random_system
from learning_cases import gaussian, scattered, world_of

from mbpo.lqr import exact
from mbpo.lqr.objective import Objective
from mbpo.lqr.values import exact_values, fitted_values, visited

BASE = random_system(3, 2, 0.8, 11)
SYSTEMS = {
    "average": BASE,
    "discount": replace(BASE, discount=0.9),
    "horizon": exact.resolved(replace(BASE, horizon=4)),
}


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("label", SYSTEMS)
def test_exact_values_are_those_of_the_exact_module(label):
    system = SYSTEMS[label]
    policy = gaussian(system, 0.7)
    K, S = np.asarray(policy.gain), np.asarray(policy.covariance)
    values = exact_values(world_of(system), policy, Objective.of(system))
    quality = np.asarray(exact.quality_matrix(system, K)).reshape(values.quality.shape)
    np.testing.assert_allclose(values.quality, quality, rtol=1e-10)
    states = np.asarray(exact.state_covariance(system, K, S))
    states = {"average": states[None], "discount": 0.1 * states[None], "horizon": states[:-1]}[label]
    np.testing.assert_allclose(values.visited, states, rtol=1e-10)
    np.testing.assert_allclose(visited(world_of(system), policy, Objective.of(system)), states, rtol=1e-10)
    scale = {"average": 1.0, "discount": 10.0, "horizon": 4.0}[label]
    gradient = 2 * scale * np.mean(values.error(policy.gain) @ values.visited, axis=0)
    np.testing.assert_allclose(gradient, exact.gradient(system, K, S), rtol=1e-9)


@pytest.mark.parametrize("label", SYSTEMS)
def test_values_of_first_states_average_to_the_cost(label):
    system = SYSTEMS[label]
    policy = gaussian(system, 0.7)
    values = exact_values(world_of(system), policy, Objective.of(system))
    cost = float(exact.cost(system, policy.gain, policy.covariance))
    if label == "average":
        assert float(values.average) == pytest.approx(cost)
        return
    start = np.sum(np.asarray(values.state[0]) * system.initial_covariance) + float(values.offset[0])
    assert start == pytest.approx(cost)


@pytest.mark.parametrize("label", SYSTEMS)
def test_the_advantage_has_mean_zero_and_the_baseline_is_the_value(label):
    system = SYSTEMS[label]
    policy = gaussian(system, 0.7)
    values = exact_values(world_of(system), policy, Objective.of(system))
    x = jnp.broadcast_to(jnp.asarray([0.3, -1.0, 0.5]), (40_000, 1, 3))
    u = x @ policy.gain.T + 0.7 * jax.random.normal(jax.random.key(0), (40_000, 1, 2))
    first = {name: getattr(values, name)[:1] for name in ("quality", "exploration")}
    one = values._replace(**first, state=values.state[:2], offset=values.offset[:2])
    drawn = np.asarray(one.advantage(x, u))
    assert abs(drawn.mean()) < 4 * drawn.std() / 200
    expected = np.asarray(x[0, 0] @ values.state[0] @ x[0, 0]) + values.offset[0]
    expected += values.average  # one step is left in the window
    np.testing.assert_allclose(one.baseline(x[:1])[0, 0], expected)


@pytest.mark.parametrize("label", SYSTEMS)
def test_fitted_values_tend_to_the_exact_ones(label):
    system = SYSTEMS[label]
    policy, behaviour = gaussian(system, 0.7), gaussian(system, 1.5)
    rows = scattered(system, behaviour, 200_000, jax.random.key(3))
    objective = Objective.of(system)
    fit = jax.jit(fitted_values)(
        policy,
        rows.observation,
        rows.action,
        -rows.reward,
        rows.next_observation,
        jnp.ones(200_000, bool),
        objective,
    )
    truth = exact_values(world_of(system), policy, objective)
    for name in ("quality", "state", "exploration"):
        scale = np.abs(getattr(truth, name)).max()
        np.testing.assert_allclose(getattr(fit, name), getattr(truth, name), atol=0.03 * scale, err_msg=name)
    for name in ("offset", "average"):
        scale = max(np.abs(truth.offset).max(), float(truth.average))
        np.testing.assert_allclose(getattr(fit, name), getattr(truth, name), atol=0.03 * scale, err_msg=name)


def test_a_gain_that_does_not_stabilise_is_not_usable():
    policy = gaussian(BASE)
    wild = replace(BASE, A=3 * BASE.A)
    values = exact_values(world_of(wild), policy, Objective.of(wild))
    assert not values.usable
    assert np.isfinite(values.quality).all()
