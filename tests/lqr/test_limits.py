"""The limits against brute force, published figures, Monte Carlo and simulated certainty equivalence."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from exact_cases import SYSTEMS, close
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import chi2

from mbpo.errors import InputError
from mbpo.lqr import exact, limits, optimum
from mbpo.lqr.riccati import riccati

LAPLACIAN, BOEING = SYSTEMS["laplacian3"], SYSTEMS["boeing747"]


def constant(system, gain, sigma):
    Sigma_z = limits.regressor_covariance(system, gain, sigma**2 * np.eye(system.action_dim))
    return float(limits.asymptotic_excess(system, Sigma_z)) * optimum.solve(system).cost


@pytest.mark.parametrize(
    ("name", "gain", "sigma", "expected"),
    [
        ("laplacian3", -0.3 * np.eye(3), 1.0, 5.897),
        ("double_integrator", SYSTEMS["double_integrator"].initial_gain, 0.3, 2.980),
        ("boeing747", optimum.solve(replace(BOEING, R=20 * BOEING.R)).gain, 1.0, 3656),
        ("laplacian3", optimum.solve(LAPLACIAN).gain, 0.3, 30.4),
        ("laplacian3", optimum.solve(LAPLACIAN).gain, 3.0, 1.6),
    ],
)
def test_limit_constants(name, gain, sigma, expected):
    np.testing.assert_allclose(
        constant(SYSTEMS[name], gain, sigma), expected, rtol=0.02 if expected < 2 else 2e-3
    )


@pytest.mark.parametrize(
    "choice", [{}, {"discount": 0.9}, {"horizon": 7}], ids=["average", "discount", "horizon"]
)
def test_limit_is_the_mean_loss_over_random_models(choice):
    system = replace(SYSTEMS["singular_noise"], W=np.diag([1.0, 0.3, 0.0, 2.0]) + 0.1, **choice)
    n, m, size = system.state_dim, system.action_dim, 40_000
    rng = np.random.default_rng(0)
    root = rng.normal(size=(n + m, n + m)) + np.eye(n + m)
    G = 1e8 * root @ np.diag(10.0 ** -np.arange(n + m)) @ root.T
    error = np.linalg.cholesky(system.W + 1e-12 * np.eye(n)) @ rng.normal(size=(size, n, n + m))
    error = error @ np.linalg.cholesky(np.linalg.inv(G)).T
    DK = np.asarray(exact.gain_sensitivity(system))
    steps = (error.reshape(size, -1) @ DK.T)[:, :, None]
    best = optimum.solve(system)
    H = np.asarray(exact.hessian(system, best.gain))
    losses = (np.swapaxes(steps, 1, 2) @ H @ steps)[:, 0, 0] / (2 * best.cost)
    predicted = float(limits.asymptotic_excess(system, G))
    assert abs(losses.mean() - predicted) < 4 * losses.std() / np.sqrt(size)
    levels = np.array([0.1, 0.5, 0.9, 0.99])
    found = limits.limit_quantiles(limits.limit_weights(system, G), levels)
    below = (losses[:, None] <= found).mean(axis=0)
    assert np.all(np.abs(below - levels) < 4 * np.sqrt(levels * (1 - levels) / size))


def test_certainty_equivalence_attains_the_limit():
    system, K, count, repetitions = LAPLACIAN, -0.3 * np.eye(3), 10_000, 500
    rng = np.random.default_rng(11)
    Sigma_z = limits.regressor_covariance(system, K, np.eye(3))
    x = rng.normal(size=(repetitions, 3)) @ np.linalg.cholesky(Sigma_z[:3, :3]).T
    G, crossed = np.zeros((repetitions, 6, 6)), np.zeros((repetitions, 3, 6))
    for _ in range(count):
        u = x @ K.T + rng.normal(size=x.shape)
        z = np.concatenate([x, u], axis=1)
        x = x @ system.A.T + u @ system.B.T + rng.normal(size=x.shape)
        G += z[:, :, None] * z[:, None, :]
        crossed += x[:, :, None] * z[:, None, :]
    theta = crossed @ np.linalg.inv(G)
    best = optimum.solve(system)
    with jax.enable_x64(True):
        solve = jax.jit(jax.vmap(lambda t: riccati(t[:, :3], t[:, 3:], system.Q, system.R)))
        gains, ok = solve(theta)[1:]
        excess = np.asarray(jax.jit(jax.vmap(lambda k: exact.excess_cost(system, k, best.cost)))(gains))
    assert np.asarray(ok).all()
    weights = limits.limit_weights(system, count * Sigma_z)
    assert abs(excess.mean() - weights.sum()) < 4 * excess.std() / np.sqrt(repetitions)
    levels = np.array([0.1, 0.5, 0.9])
    below = (excess[:, None] <= limits.limit_quantiles(weights, levels)).mean(axis=0)
    assert np.all(np.abs(below - levels) < 4 * np.sqrt(levels * (1 - levels) / repetitions))


def test_regressor_covariance_matches_its_recursion():
    system = SYSTEMS["double_integrator"]
    K, S = system.initial_gain, np.array([[0.09]])
    both = np.concatenate([np.eye(2), K])
    noise = np.zeros((3, 3))
    noise[2:, 2:] = S
    Sigma = np.zeros((2, 2))
    for _ in range(3000):
        Sigma_z = both @ Sigma @ both.T + noise
        dynamics = np.hstack([system.A, system.B])
        Sigma = dynamics @ Sigma_z @ dynamics.T + system.W
    close(limits.regressor_covariance(system, K, S), Sigma_z, 1e-10)


def test_many_designs_at_once_and_those_that_identify_nothing():
    good = limits.regressor_covariance(LAPLACIAN, -0.3 * np.eye(3), np.eye(3))
    dull = limits.regressor_covariance(LAPLACIAN, -0.3 * np.eye(3), np.zeros((3, 3)))
    found = limits.asymptotic_excess(LAPLACIAN, np.stack([[good, 10 * good], [dull, 0 * good]]))
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found[0, 1], found[0, 0] / 10)
    assert np.isinf(found[1]).all()
    assert np.isinf(limits.limit_quantiles(limits.limit_weights(LAPLACIAN, dull), [0.5])).all()


def test_the_limit_does_not_depend_on_units():
    system, units = SYSTEMS["double_integrator"], np.diag([1.0, 1.0, 1e-4])
    G = limits.regressor_covariance(system, system.initial_gain, np.array([[0.09]]))
    scaled = replace(system, B=system.B * 1e4, R=system.R * 1e8)
    np.testing.assert_allclose(
        limits.asymptotic_excess(scaled, units @ G @ units), limits.asymptotic_excess(system, G), rtol=1e-7
    )


def test_systems_without_noise_reach_the_optimum():
    quiet = replace(BOEING, W=np.zeros((4, 4)), discount=0.9)
    assert float(limits.asymptotic_excess(quiet, np.eye(6))) == 0.0


def test_terminal_cost_must_be_the_optimal_value():
    horizon = replace(BOEING, horizon=7)
    same = replace(horizon, terminal_cost=optimum.solve(BOEING).value)
    expected = limits.asymptotic_excess(horizon, np.eye(6))
    np.testing.assert_allclose(limits.asymptotic_excess(same, np.eye(6)), expected)
    with pytest.raises(InputError, match="terminal cost"):
        limits.asymptotic_excess(replace(horizon, terminal_cost=np.eye(4)), np.eye(6))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("laplacian3", 7.05),
        ("double_integrator", 1.42),
        ("pendulum", 0.637),
        ("cartpole", 35.7),
        ("boeing747", 384),
    ],
)
def test_regret_constants(name, expected):
    system = SYSTEMS[name]
    np.testing.assert_allclose(limits.explore_then_commit_regret(system, 10_000), 100 * expected, rtol=2e-3)


def test_little_exploration_costs_the_regret_constant():
    best = optimum.solve(BOEING)
    M = BOEING.R + BOEING.B.T @ best.value @ BOEING.B
    S = 1e-6 * np.linalg.inv(M)
    Sigma_z = limits.regressor_covariance(BOEING, best.gain, S)
    c = float(limits.asymptotic_excess(BOEING, Sigma_z)) * best.cost
    expected = limits.regret_constant(BOEING) * np.trace(np.linalg.inv(M) @ np.linalg.inv(S))
    np.testing.assert_allclose(c, expected, rtol=1e-3)


def test_quantiles_of_equal_weights_are_those_of_chi_square():
    levels = np.array([0.0, 1e-6, 0.05, 0.5, 0.9, 0.999, 1 - 1e-9])
    for degrees in (1, 2, 5, 24):
        found = limits.limit_quantiles(np.full(degrees, 0.3), levels)
        np.testing.assert_allclose(found, 0.3 * chi2.ppf(levels, degrees), rtol=1e-5)
        np.testing.assert_allclose(found[2:6], 0.3 * chi2.ppf(levels[2:6], degrees), rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=4, max_size=8), st.floats(0.02, 0.98))
def test_quantiles_invert_the_distribution_of_imhof(weights, probability):
    lam = np.array(weights)
    x = float(limits.limit_quantiles(lam, probability))

    def integrand(u):
        angle = np.arctan(lam * u).sum() / 2 - x * u / 2
        return np.sin(angle) / (u * np.prod(1 + (lam * u) ** 2) ** 0.25)

    pieces = [quad(integrand, 20.0 * i, 20.0 * (i + 1), limit=400)[0] for i in range(40)]
    np.testing.assert_allclose(0.5 - sum(pieces) / np.pi, probability, atol=2e-3)


def test_quantiles_of_very_unequal_weights_match_sampling():
    lam = np.array([1.0, 1e-3, 1e-6, 0.0, 0.4])
    levels = np.array([0.01, 0.3, 0.5, 0.9, 0.99])
    found = limits.limit_quantiles(lam, levels)
    samples = np.random.default_rng(5).chisquare(1, size=(200_000, 5)) @ lam
    below = (samples[:, None] <= found).mean(axis=0)
    assert np.all(np.abs(below - levels) < 4 * np.sqrt(levels * (1 - levels) / 200_000))
    assert not limits.limit_quantiles(np.zeros(3), levels).any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: limits.asymptotic_excess(LAPLACIAN, np.eye(5)),
        lambda: limits.asymptotic_excess(LAPLACIAN, np.full((6, 6), np.nan)),
        lambda: limits.limit_quantiles([-1.0], [0.5]),
        lambda: limits.limit_quantiles([1.0], [1.0]),
        lambda: limits.regressor_covariance(LAPLACIAN, np.zeros((3, 3)), np.eye(3)),
        lambda: limits.regressor_covariance(LAPLACIAN, np.zeros((2, 3)), np.eye(3)),
        lambda: limits.regret_constant(replace(LAPLACIAN, discount=0.5)),
        lambda: limits.explore_then_commit_regret(LAPLACIAN, -1),
        lambda: limits.asymptotic_excess(replace(LAPLACIAN, A=2 * np.eye(3), B=np.zeros((3, 3))), np.eye(6)),
    ],
)
def test_bad_input_is_named(call):
    with pytest.raises(InputError):
        call()
