"""Every registered estimator against the exact E and M, by repetition.

`dpg` and `likelihood-ratio` are consistent, not unbiased: both are ratios of averages, with a bias of order 1/N for
which `BIAS` (relative to the largest entry) allows. `pathwise` adds to that only the sampling error of its value at
the end of the rollout, as the model handed to it here is the true one.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_cases import random_system
from learning_cases import THREE, TWO, gaussian, normal_rows, off_optimum, trajectories

from mbpo.core.parts import FittedModel
from mbpo.core.types import Experience
from mbpo.lqr import exact
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.lqr.model import LeastSquares, LinearModel
from mbpo.lqr.objective import Objective

REPETITIONS, EPISODES, STEPS, BIAS = 64, 80, 10, 0.02
FAST = random_system(2, 1, 0.5, 1)  # mixes within a few steps: the score's estimate is too noisy elsewhere
SYSTEMS = {
    "average": FAST,
    "average-3": THREE,
    "discount": replace(FAST, discount=0.9),
    "horizon": replace(FAST, horizon=STEPS),
}


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def true_model(system) -> FittedModel:
    A, B, Q, R, W = (jnp.asarray(each) for each in (system.A, system.B, system.Q, system.R, system.W))
    p = system.state_dim + system.action_dim
    state = LinearModel(A, B, Q, R, W, 1e12 * jnp.eye(p), jnp.asarray(1.0))
    return FittedModel(LeastSquares.of(system, 1e8), state)


def starts(system) -> np.ndarray:
    """The covariance trajectories start from: where the average cost is collected, or X0."""
    if system.objective == "average":
        policy = gaussian(system)
        return np.asarray(exact.state_covariance(system, policy.gain, policy.covariance))
    return system.initial_covariance


def repeated(name: str, system):
    policy, objective, model = gaussian(system), Objective.of(system), true_model(system)
    covariance = starts(system)

    @jax.jit
    @jax.vmap
    def one(key):
        start_key, row_key, estimate_key = jax.random.split(key, 3)
        start = normal_rows(covariance, EPISODES, start_key)
        rows = trajectories(system, policy, start, STEPS, row_key)
        experience = Experience(rows, jnp.ones(EPISODES, bool), model)
        return ESTIMATORS[name](policy, experience, objective, estimate_key)

    return jax.tree.map(np.asarray, one(jax.random.split(jax.random.key(1), REPETITIONS)))


def targets(name: str, system) -> tuple[np.ndarray, np.ndarray]:
    """Exact E and M. With a horizon the critics' estimators average stages evenly, the score's by their states."""
    K, n = off_optimum(system), system.state_dim
    G = np.asarray(exact.quality_matrix(system, K))
    if system.horizon is None:
        assert np.allclose(G[n:, :n] + G[n:, n:] @ K, np.asarray(exact.natural_gradient(system, K)) / 2)
        return G[n:, :n] + G[n:, n:] @ K, G[n:, n:]
    M = G[:, n:, n:].mean(axis=0)
    if name == "likelihood-ratio":
        S = np.asarray(gaussian(system).covariance)
        return np.asarray(exact.natural_gradient(system, K, S)) / 2, M
    return (G[:, n:, :n] + G[:, n:, n:] @ K).mean(axis=0), M


def assert_unbiased(draws, expected):
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    allowance = 4.5 * error + BIAS * np.abs(expected).max()
    assert (np.abs(draws.mean(axis=0) - expected) <= allowance).all(), (draws.mean(axis=0), expected, error)
    assert (error <= 0.2 * np.abs(expected).max()).all(), "too noisy to fail"


CASES = [
    (name, label)
    for name in ESTIMATORS
    for label in SYSTEMS
    if (name, label)
    != ("pathwise", "horizon")  # its value at the end of the rollout averages stages: own test
]


@pytest.mark.parametrize(("name", "label"), CASES)
def test_estimates_are_the_exact_error_and_curvature(name, label):
    system = SYSTEMS[label]
    estimate = repeated(name, system)
    assert estimate.usable.all()
    error, curvature = targets(name, system)
    assert_unbiased(estimate.error, error)
    assert_unbiased(estimate.curvature, curvature)
    assert (np.linalg.eigvalsh(estimate.moment) > 0).all()
    one = jax.tree.map(lambda leaf: leaf[0], estimate)
    np.testing.assert_allclose(one.gradient, 2 * one.error @ one.moment)


def test_the_pathwise_estimate_vanishes_at_the_optimum_of_a_horizon():
    system = replace(TWO, horizon=STEPS)
    best = np.asarray(exact.stationary_optimum(system).K)
    policy = replace_gain(gaussian(system), best)
    model, objective = true_model(system), Objective.of(system)

    @jax.jit
    @jax.vmap
    def one(key):
        start = normal_rows(np.eye(2), 200, key)
        rows = jax.tree.map(lambda leaf: leaf[:, 0], trajectories(system, policy, start, 1, key))
        return ESTIMATORS["pathwise"](
            policy, Experience(rows, jnp.ones(200, bool), model), objective, key
        ).error

    errors = np.asarray(one(jax.random.split(jax.random.key(2), REPETITIONS)))
    away = np.abs(np.asarray(exact.natural_gradient(system, off_optimum(system)))).max()
    spread = errors.std(axis=0, ddof=1) / np.sqrt(REPETITIONS)
    assert (np.abs(errors.mean(axis=0)) <= 4.5 * spread + 0.005 * away).all()


def replace_gain(policy, gain):
    return type(policy)(jnp.asarray(gain), policy.factor)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_without_a_valid_row_no_estimate_is_usable(name):
    system = TWO
    policy = gaussian(system)
    rows = trajectories(system, policy, jnp.ones((4, 2)), STEPS, jax.random.key(0))
    rows = jax.tree.map(jnp.zeros_like, rows)
    nothing = Experience(rows, jnp.zeros(4, bool), true_model(system))
    estimate = ESTIMATORS[name](policy, nothing, Objective.of(system), jax.random.key(0))
    step = jnp.linalg.solve(estimate.curvature, estimate.error)  # the agent checks this as well
    assert not (estimate.usable & jnp.all(jnp.isfinite(step)))
