"""One step of the environment against A x + B u, W and the quadratic cost."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning_cases import SINGULAR, TWO

from mbpo.lqr.environment import LinearQuadraticEnvironment, LinearQuadraticState, covariance_factor


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("system", [TWO, SINGULAR], ids=["double_integrator", "singular_noise"])
def test_moments_of_one_step(system):
    count = 20_000
    environment = LinearQuadraticEnvironment.of(system, 1e6, None)
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=system.state_dim), rng.normal(size=system.action_dim)
    state = LinearQuadraticState(jnp.asarray(x), jnp.int32(0))
    keys = jax.random.split(jax.random.key(0), count)
    steps = jax.jit(jax.vmap(lambda key: environment.step(state, jnp.asarray(u), key)))(keys)
    noise = np.asarray(steps.transition.next_observation) - (system.A @ x + system.B @ u)
    W = system.W
    mean_error = np.sqrt(np.diag(W) / count)
    assert (np.abs(noise.mean(axis=0)) <= 4.5 * mean_error + 1e-7).all()
    spread = np.sqrt((np.outer(np.diag(W), np.diag(W)) + W**2) / count)
    assert (np.abs(noise.T @ noise / count - W) <= 4.5 * spread + 1e-12).all()
    values, vectors = np.linalg.eigh(W)
    silent = vectors[:, values < 1e-9]
    assert np.abs(noise @ silent).max(initial=0) < 1e-6
    np.testing.assert_allclose(steps.transition.reward, -(x @ system.Q @ x + u @ system.R @ u), rtol=1e-12)
    assert steps.valid.all()
    assert not (steps.transition.terminal | steps.transition.truncated).any()
    np.testing.assert_array_equal(steps.state.x, steps.transition.next_observation)


def test_starts_have_the_initial_covariance():
    X0 = np.array([[2.0, 0.6], [0.6, 0.5]])
    environment = LinearQuadraticEnvironment.of(replace(TWO, initial_covariance=X0), 1e6, None)
    starts = np.asarray(jax.vmap(environment.reset)(jax.random.split(jax.random.key(1), 20_000)).x)
    spread = np.sqrt((np.outer(np.diag(X0), np.diag(X0)) + X0**2) / 20_000)
    assert (np.abs(starts.T @ starts / 20_000 - X0) <= 4.5 * spread).all()


def test_episodes_are_truncated_not_terminated():
    environment = LinearQuadraticEnvironment.of(TWO, 1e6, 3)
    state = environment.reset(jax.random.key(0))
    ends = []
    for step in range(3):
        state, transition, valid = environment.step(state, jnp.zeros(1), jax.random.key(step))
        ends.append(bool(transition.truncated))
        assert valid
        assert not transition.terminal
    assert ends == [False, False, True]


@pytest.mark.parametrize("action", [1e9, np.nan, np.inf, -np.inf])
def test_a_step_beyond_the_limit_is_all_zeros(action):
    environment = LinearQuadraticEnvironment.of(TWO, 1e3, None)
    state = LinearQuadraticState(jnp.ones(2), jnp.int32(0))
    after, transition, valid = environment.step(state, jnp.full(1, action), jax.random.key(0))
    assert not valid
    for leaf in jax.tree.leaves((after.x, transition)):
        assert (np.asarray(leaf) == 0).all()


def test_a_cost_that_overflows_is_not_kept():
    idle = replace(TWO, B=np.zeros((2, 1)))
    environment = LinearQuadraticEnvironment.of(idle, 1e3, None)
    state = LinearQuadraticState(jnp.ones(2), jnp.int32(0))
    _, transition, valid = environment.step(state, jnp.full(1, 1e200), jax.random.key(0))
    assert not valid
    assert transition.reward == 0


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_covariance_factor_squares_to_the_covariance(rank):
    root = np.random.default_rng(rank).normal(size=(3, rank))
    covariance = root @ root.T
    factor = covariance_factor(covariance)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-12)
