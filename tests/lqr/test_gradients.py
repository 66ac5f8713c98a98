"""Every estimator as an agent gets it, against the exact E and M, by repetition.

They are consistent, not unbiased: the natural gradient is a ratio of averages, with a bias of order 1/N for which
`BIAS` (relative to the largest entry) allows. That the estimators themselves are unbiased is tested on the bench.
"""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_cases import random_system
from learning_cases import gaussian, normal_rows, off_optimum, trajectories, world_of

from mbpo.core.parts import FittedModel
from mbpo.core.types import Experience, Transition
from mbpo.lqr import exact
from mbpo.lqr.gradients import ESTIMATORS, FromTrajectories, ReplayedRows
from mbpo.lqr.model import LeastSquares, LinearModel
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian

pytestmark = pytest.mark.usefixtures("_compile_without_optimising")
REPETITIONS, EPISODES, STEPS, BIAS = 48, 200, 10, 0.03
FAST = random_system(2, 1, 0.5, 1)  # mixes within a few steps: the score's estimates are too noisy elsewhere
SYSTEMS = {
    "average": FAST,
    "discount": replace(FAST, discount=0.9),
    "horizon": exact.resolved(replace(FAST, horizon=STEPS)),
}
NOISY = ("zeroth-order-1", "zeroth-order-2", "truncated")  # the first two on the bench, the last is biased
WITHOUT_BASELINE = ("reinforce", "gpomdp", "importance-sampling", "per-decision", "self-normalised")
WIDELY = ("value-baseline", "mis")


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def true_model(system) -> FittedModel:
    A, B, Q, R, W = (jnp.asarray(each) for each in (system.A, system.B, system.Q, system.R, system.W))
    p = system.state_dim + system.action_dim
    return FittedModel(
        LeastSquares.of(system, 1e8), LinearModel(A, B, Q, R, W, 1e12 * jnp.eye(p), jnp.asarray(1.0))
    )


def source_of(name: str, system) -> FromTrajectories:
    estimator = ESTIMATORS[name]
    truth = world_of(system) if estimator.needs_parameters else None
    start = jnp.asarray(system.initial_covariance)
    return FromTrajectories(truth, start, jnp.asarray(0.05), estimator, EPISODES, STEPS, 3)


def starts(system) -> np.ndarray:
    """The covariance trajectories start from: where the average cost is collected, or X0."""
    policy = gaussian(system)
    if system.objective == "average":
        return np.asarray(exact.state_covariance(system, policy.gain, policy.covariance))
    return system.initial_covariance


def rolled(system, policy, acted, start, key) -> Transition:
    """`[N, T]` rows under a gain for each trajectory; neighbours share start and noise."""

    def one(gain, x, key):
        return jax.tree.map(
            lambda leaf: leaf[0],
            trajectories(system, LinearGaussian(gain, policy.factor), x[None], STEPS, key),
        )

    keys = jnp.repeat(jax.random.split(key, EPISODES // 2), 2)
    return jax.vmap(one)(acted, jnp.repeat(start[::2], 2, axis=0), keys)


def repeated(name: str, system):
    """`REPETITIONS` estimates at `off_optimum`, after two batches of other gains where the estimator remembers."""
    policy, objective, source = gaussian(system), Objective.of(system), source_of(name, system)
    model = true_model(system) if ESTIMATORS[name].world == "fitted" else None
    covariance = starts(system)
    gains = [policy.gain * factor for factor in ((0.9, 1.05, 1.0) if ESTIMATORS[name].replays else (1.0,))]

    @jax.jit
    @jax.vmap
    def one(key):
        memory = source.init(policy.gain)
        for gain in gains:
            key, start_key, row_key, act_key = jax.random.split(key, 4)
            start = normal_rows(covariance, EPISODES, start_key)
            acted = source.acting(gain, EPISODES, act_key)
            if len(acted) == 1:
                acting = LinearGaussian(gain, policy.factor)
                rows = trajectories(system, acting, start, STEPS, row_key)
            else:
                rows = rolled(system, policy, acted, start, row_key)
            experience = Experience(rows, jnp.ones(EPISODES, bool), model, acted)
            memory, estimate = source.estimate(memory, policy, experience, objective, row_key)
        return estimate

    repetitions = 8 * REPETITIONS if name in WITHOUT_BASELINE else REPETITIONS
    return jax.tree.map(np.asarray, one(jax.random.split(jax.random.key(1), repetitions)))


def assert_unbiased(draws, expected):
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    allowance = 4.5 * error + BIAS * np.abs(expected).max()
    assert (np.abs(draws.mean(axis=0) - expected) <= allowance).all(), (draws.mean(axis=0), expected, error)
    assert (error <= 0.2 * np.abs(expected).max()).all(), "too noisy to fail"


CASES = [(name, "average") for name in ESTIMATORS if name not in NOISY]
CASES += [(name, label) for name in WIDELY for label in ("discount", "horizon")]


@pytest.mark.parametrize(("name", "label"), CASES)
def test_estimates_are_the_exact_error_and_curvature(name, label):
    system = SYSTEMS[label]
    estimate = repeated(name, system)
    assert estimate.usable.all()
    K, n = off_optimum(system), system.state_dim
    S = np.asarray(gaussian(system).covariance)
    assert_unbiased(estimate.error, np.asarray(exact.natural_gradient(system, K, S)) / 2)
    M = np.asarray(exact.quality_matrix(system, K))[..., n:, n:]
    assert_unbiased(estimate.curvature, M if label != "horizon" else M.mean(axis=0))
    one = jax.tree.map(lambda leaf: leaf[0], estimate)
    np.testing.assert_allclose(one.gradient, 2 * one.error @ one.moment)


def test_the_noise_is_the_spread_of_the_estimates():
    estimate = repeated("value-baseline", FAST)
    K, S = off_optimum(FAST), np.asarray(gaussian(FAST).covariance)
    spread = estimate.error - estimate.error.mean(axis=0)
    M = np.asarray(exact.quality_matrix(FAST, K))[2:, 2:]
    Sigma = np.asarray(exact.state_covariance(FAST, K, S))
    measured = np.mean([np.trace(Sigma @ D.T @ np.linalg.solve(M, D)) for D in spread])
    assert 0.6 < np.mean(estimate.noise) / measured < 1.7


def test_replayed_rows_are_the_deterministic_gradient():
    policy, objective = gaussian(FAST), Objective.of(FAST)

    @jax.jit
    @jax.vmap
    def one(key):
        start_key, row_key = jax.random.split(key)
        start = normal_rows(np.eye(2), 2000, start_key)
        rows = jax.tree.map(lambda leaf: leaf[:, 0], trajectories(FAST, policy, start, 1, row_key))
        experience = Experience(rows, jnp.ones(2000, bool), None)
        return ReplayedRows().estimate(None, policy, experience, objective, key)[1]

    estimate = jax.tree.map(np.asarray, one(jax.random.split(jax.random.key(4), REPETITIONS)))
    K = off_optimum(FAST)
    G = np.asarray(exact.quality_matrix(FAST, K))
    assert_unbiased(estimate.error, G[2:, :2] + G[2:, 2:] @ K)
    assert_unbiased(estimate.curvature, G[2:, 2:])
    assert (estimate.noise == 0).all()


@pytest.mark.parametrize("name", ["reinforce", "value-baseline", "mis", "dpg"])
def test_without_a_valid_trajectory_no_estimate_is_usable(name):
    system, policy = FAST, gaussian(FAST)
    rows = trajectories(system, policy, jnp.ones((EPISODES, 2)), STEPS, jax.random.key(0))
    rows = jax.tree.map(jnp.zeros_like, rows)
    nothing = Experience(rows, jnp.zeros(EPISODES, bool), None, policy.gain[None])
    source = source_of(name, system)
    arguments = (policy, nothing, Objective.of(system), jax.random.key(0))
    _, estimate = jax.jit(lambda *given: source.estimate(*given))(source.init(policy.gain), *arguments)
    step = jnp.linalg.solve(estimate.curvature, estimate.error)  # the agent checks this as well
    assert not (estimate.usable & jnp.all(jnp.isfinite(step)))


@pytest.mark.parametrize("name", ["zeroth-order-1", "zeroth-order-2"])
def test_perturbed_gains_lie_on_the_sphere_and_pairs_are_opposite(name):
    source, gain = source_of(name, FAST), gaussian(FAST).gain
    acted = source.acting(gain, 8, jax.random.key(0))
    step = np.asarray(acted - gain[None])
    np.testing.assert_allclose(np.linalg.norm(step, axis=(1, 2)), 0.05)
    if name == "zeroth-order-2":
        np.testing.assert_allclose(step[::2], -step[1::2])
    np.testing.assert_array_equal(source.acting(gain, 1, jax.random.key(0)), gain[None])


def test_every_estimator_says_when_it_is_unbiased():
    for name, estimator in ESTIMATORS.items():
        assert estimator.condition, name
        assert estimator.function.__doc__, name
        assert "g = " in (sys.modules[estimator.function.__module__].__doc__ or ""), name
