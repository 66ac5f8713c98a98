"""Descent with one gain a stage: the estimator against NumPy, the optimum, the paper's liquidation, refusals."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_cases import complex_step, random_system, reference_cost
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mbpo.errors import InputError
from mbpo.lqr import catalogue, exact, step_rules
from mbpo.lqr.finite_horizon import Sampling, descend, descend_on_rollouts
from mbpo.lqr.liquidation import (
    LARGEST_IMPACT,
    RADIUS,
    SLACK,
    STEP_SIZES,
    STOCKS,
    liquidation,
    project,
    start_mean,
)
from mbpo.lqr.optimum import solve
from mbpo.lqr.rollout_gradient import draws, estimate, rollout_gradient
from mbpo.lqr.system import LinearQuadratic

SYSTEMS = {
    "scalar": replace(catalogue.get("scalar"), horizon=10),
    "laplacian3": replace(catalogue.get("laplacian3"), horizon=5),
    "varying": replace(random_system(2, 1, 0.9, 5), horizon=3, terminal_cost=5 * np.eye(2)),
    "wide": replace(random_system(3, 2, 0.9, 6), horizon=2, terminal_cost=np.eye(3)),
}


def some_gains(system: LinearQuadratic, seed: int = 0) -> np.ndarray:
    """Gains [T, m, n] that differ from stage to stage."""
    rng = np.random.default_rng(seed)
    return 0.3 * rng.normal(size=(system.horizon, system.action_dim, system.state_dim))


@pytest.mark.parametrize("name", SYSTEMS)
def test_exact_descent_is_monotone_and_reaches_the_optimal_gain_of_every_stage(name: str) -> None:
    system = SYSTEMS[name]
    study = descend(system, 4000, start_gains=some_gains(system))
    error = study.normalised_error[0]
    assert np.all(np.diff(error) <= 1e-12)
    assert error[0] == pytest.approx(reference_cost(system, some_gains(system)) / study.optimum.cost - 1)
    best = solve(system).gains
    np.testing.assert_allclose(study.gains[0], best, rtol=0, atol=1e-3 * np.abs(best).max())


def smoothed_gradient(system: LinearQuadratic, gains: np.ndarray, radius: float) -> np.ndarray:
    """(D / r^2) times the mean of J U over the circle |U| = r, for each stage of a system with D = 2."""
    angles = 2 * np.pi * np.arange(24) / 24
    out = np.zeros_like(gains)
    for t in range(len(gains)):
        for angle in angles:
            U = radius * np.array([[np.cos(angle), np.sin(angle)]])
            moved = gains.copy()
            moved[t] += U
            out[t] += 2 / radius**2 * reference_cost(system, moved) * U / len(angles)
    return out


@jax.jit
def batch_of_estimates(system, drawn, gains, keys, radius):
    return jax.vmap(lambda key: estimate(system, drawn, gains, key, 100, radius)[0])(keys)


def z_scores(system: LinearQuadratic, gains, radius, expected, mean=None, batches=300) -> np.ndarray:
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(3), batches)
        resolved = exact.resolved(system)
        found = np.asarray(batch_of_estimates(resolved, draws(resolved, mean), gains, keys, radius))
    assert found.dtype == np.float64
    error = found.std(axis=0, ddof=1) / np.sqrt(batches)
    assert np.linalg.norm(error) < 0.2 * np.linalg.norm(expected)  # else the test has no power
    return (found.mean(axis=0) - expected) / error


@pytest.mark.parametrize("radius", [0.3, 1.0])
def test_the_estimate_is_unbiased_for_the_smoothed_gradient(radius: float) -> None:
    system = SYSTEMS["varying"]
    gains = some_gains(system)
    expected = smoothed_gradient(system, gains, radius)
    z = z_scores(system, gains, radius, expected)
    assert np.abs(z).max() < 4.5
    assert np.sqrt(np.mean(z**2)) < 2


def test_smoothing_one_stage_leaves_no_bias() -> None:
    system = SYSTEMS["varying"]
    gains = some_gains(system)
    expected = complex_step(lambda K: reference_cost(system, K), gains)
    np.testing.assert_allclose(smoothed_gradient(system, gains, 2.0), expected, rtol=1e-9)


def test_the_estimate_is_unbiased_for_several_inputs_and_for_a_start_with_a_mean() -> None:
    system = SYSTEMS["wide"]
    gains = some_gains(system)
    expected = complex_step(lambda K: reference_cost(system, K), gains)
    assert np.abs(z_scores(system, gains, 1.0, expected, batches=500)).max() < 4.5
    system = liquidation()
    gains = np.full((10, 1, 2), 0.2)
    expected = complex_step(lambda K: reference_cost(system, K), gains)
    assert np.abs(z_scores(system, gains, RADIUS, expected, start_mean(), 200)).max() < 4.5


@pytest.mark.parametrize("mean", [None, start_mean()])
def test_a_mean_changes_the_spread_of_costs_and_not_their_mean(mean: np.ndarray | None) -> None:
    system = liquidation()
    gains = np.full((10, 1, 2), 0.2)
    costs = np.asarray(rollout_gradient(system, gains, jax.random.key(1), 5000, 1e-9, mean)[1]).ravel()
    z = (costs.mean() - reference_cost(system, gains)) / (costs.std() / np.sqrt(costs.size))
    assert abs(z) < 4.5
    assert (costs.std() / costs.mean() < 0.01) == (mean is not None)


entries = st.floats(-3, 3) | st.floats(-1e5, 1e5)
VERTICES = np.array([[0.0, 0.0], [(1 - SLACK) / LARGEST_IMPACT, 0.0], [0.0, 1 - SLACK]])


@settings(max_examples=200, deadline=None)
@given(entries, entries)
@example(0.2, 0.2)
@example(3e4, 3e4)
@example(-1.0, 5.0)
def test_the_projection_is_the_nearest_feasible_point(k1: float, k2: float) -> None:
    given_point = np.array([k1, k2])
    with jax.enable_x64(True):
        once = np.asarray(project(jnp.asarray(given_point.reshape(1, 1, 2))))
        twice = np.asarray(project(jnp.asarray(once)))
    scale = max(1.0, np.abs(given_point).max())
    np.testing.assert_allclose(twice, once, rtol=0, atol=1e-12 * scale)
    point = once.ravel()
    assert np.all(point >= 0)
    assert LARGEST_IMPACT * point[0] + point[1] <= 1 - SLACK + 1e-15
    # in a convex set p is nearest to y if and only if (y - p)'(v - p) <= 0 for every vertex v
    assert np.all((VERTICES - point) @ (given_point - point) <= 1e-8 * scale)


@pytest.mark.parametrize("stock", ["AAPL", "FB"])
def test_liquidation_with_known_parameters_is_within_one_per_cent(stock: str) -> None:
    study = descend(liquidation(stock), 50, STEP_SIZES["exact"], projection=project)
    assert study.iterations_to()[0] <= 15
    assert study.normalised_error[0, -1] < 1e-3


@pytest.mark.parametrize("price", [100.0, 200.0])
def test_liquidation_from_rollouts_is_within_one_per_cent(price: float) -> None:
    sampling = Sampling(200, RADIUS, 8, 20, start_mean(price))
    system = liquidation("AAPL", price)
    study = descend_on_rollouts(system, sampling, 50, STEP_SIZES["zeroth-order"], projection=project)
    assert study.normalised_error.shape == (8, 51)
    assert study.gains.shape == (8, 10, 1, 2)
    assert study.rollouts == 50 * 10 * 200
    assert np.all(study.iterations_to() <= 50)
    assert np.median(study.normalised_error[:, -1]) < 1e-2
    with jax.enable_x64(True):
        np.testing.assert_allclose(project(jnp.asarray(study.gains)), study.gains, atol=1e-12)


def test_more_scenarios_only_add_rows_and_a_seed_repeats() -> None:
    system = SYSTEMS["varying"]
    few, many = (descend_on_rollouts(system, Sampling(100, 1.0, S, 5), 8, 0.01) for S in (2, 3))
    np.testing.assert_allclose(few.normalised_error, many.normalised_error[:2], rtol=1e-6)
    assert not np.allclose(many.normalised_error[1, 1:], many.normalised_error[2, 1:])


def test_the_first_gain_sells_and_every_optimal_gain_is_feasible() -> None:
    for stock in STOCKS:
        system = liquidation(stock)
        first, x = system.initial_gain, start_mean()
        assert 0 < (first @ x)[0] < 500  # sells, and not more than there is
        assert (system.A + system.B @ first @ np.eye(2))[1] @ x < 500
        gains = solve(system).gains
        with jax.enable_x64(True):
            np.testing.assert_allclose(project(jnp.asarray(gains)), gains, rtol=0, atol=1e-15)


def test_the_catalogue_has_the_same_liquidation() -> None:
    listed, built = catalogue.get("liquidation"), liquidation()
    for name in ("A", "B", "Q", "R", "W", "initial_covariance", "terminal_cost", "initial_gain"):
        np.testing.assert_allclose(getattr(listed, name), getattr(built, name), rtol=1e-15, err_msg=name)
    assert listed.horizon == built.horizon


@pytest.mark.parametrize("step", [1e6, 1e300])
def test_a_step_out_of_the_finite_numbers_stops_without_nan(step: float) -> None:
    system = SYSTEMS["varying"]
    sampling = Sampling(100, 1.0, 3)
    for study in (descend(system, 8, step), descend_on_rollouts(system, sampling, 8, step)):
        error = study.normalised_error
        assert np.all(np.isfinite(error[:, 0]))
        assert np.all(np.isinf(error[:, -1]))
        assert not np.isnan(error).any()
        assert np.all(np.diff(np.isinf(error).astype(int), axis=1) >= 0)
        assert np.isfinite(study.gains).all()
        assert study.to_json()["stopped"] == len(error)


def test_the_rules_for_steps_and_radius() -> None:
    system = exact.resolved(SYSTEMS["wide"])
    best = solve(system)
    curvature = np.abs(np.linalg.eigvalsh(exact.hessian(system, best.gains))).max()
    assert step_rules.largest_curvature(system, best.gains) == pytest.approx(curvature, rel=1e-3)
    system = exact.resolved(SYSTEMS["varying"])
    best = solve(system)
    r = step_rules.smoothing_radius(system, best.gains, best.cost)
    angles = np.pi * np.arange(2) / 2  # two orthogonal directions give the mean over the circle
    means = []
    for t in range(system.horizon):
        costs = []
        for angle in angles:
            moved = best.gains.copy()
            moved[t] += r * np.array([[np.cos(angle), np.sin(angle)]])
            costs.append(reference_cost(system, moved))
        means.append(np.mean(costs))
    assert max(means) == pytest.approx(2 * best.cost, rel=1e-9)


def test_defaults_descend_from_rollouts_too() -> None:
    study = descend_on_rollouts(SYSTEMS["varying"], Sampling(100, scenarios=3), 8)
    assert study.rollouts == 10 * 3 * 100
    assert np.all(study.normalised_error[:, -1] < study.normalised_error[:, 0])


REFUSALS = {
    "no horizon": (lambda: descend(catalogue.get("pendulum")), "pendulum has no horizon"),
    "iterations": (lambda: descend(SYSTEMS["scalar"], 0), "iterations must be a whole number from 1"),
    "step": (
        lambda: descend(SYSTEMS["scalar"], 5, -1.0),
        "step_size must be a positive finite number, got -1.0",
    ),
    "NaN step": (lambda: descend(SYSTEMS["scalar"], 5, float("nan")), "step_size must be a positive"),
    "gains": (
        lambda: descend(SYSTEMS["scalar"], 5, start_gains=np.eye(2)),
        r"shape \[1, 1\] or \[10, 1, 1\]",
    ),
    "trajectories": (lambda: Sampling(0), "trajectories must be a whole number from 1"),
    "radius": (lambda: Sampling(radius=0.0), "radius must be a positive finite number, got 0.0"),
    "scenarios": (lambda: Sampling(scenarios=0), "scenarios must be"),
    "seed": (lambda: Sampling(seed=-1), "seed must be"),
    "mean": (
        lambda: descend_on_rollouts(liquidation(), Sampling(start_mean=np.array([1e3, 500.0])), 5, 0.05),
        "initial_covariance less the square of start_mean must be positive semidefinite",
    ),
    "mean size": (
        lambda: descend_on_rollouts(liquidation(), Sampling(start_mean=np.zeros(3)), 5, 0.05),
        "start_mean must be 2 finite numbers",
    ),
    "no cost": (
        lambda: descend(
            replace(SYSTEMS["varying"], W=np.zeros((2, 2)), initial_covariance=np.zeros((2, 2))), 5
        ),
        "the optimal cost is 0",
    ),
    "stock": (lambda: liquidation("APL"), "there is no stock 'APL', did you mean 'AAPL'?"),
    "price": (lambda: liquidation(price=0.0), "price must be a positive number"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    call, message = REFUSALS[case]
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        call()


def test_more_rollouts_than_memory_holds_are_refused() -> None:
    large = replace(random_system(6, 2, 0.9, 1), horizon=50)
    with pytest.raises(InputError, match="trajectories must be at most 111848 for gains of 600 numbers"):
        descend_on_rollouts(large, Sampling(200_000, 0.6), 5, 0.05)
