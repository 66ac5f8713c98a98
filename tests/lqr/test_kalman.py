"""Kalman filter and best regressions against closed forms, dense Gaussian conditioning, python-control and runs."""

from dataclasses import replace
from itertools import pairwise

import control
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

from mbpo.errors import InputError
from mbpo.lqr.autoregressive import fixed_forecasts
from mbpo.lqr.hidden import HiddenSystem, resolve_hidden, simulate
from mbpo.lqr.kalman import (
    autoregression_error,
    best_autoregression,
    forecast_weights,
    forecasts,
    forgetting_rate,
    kalman_error,
    persistence,
    stationary_filter,
)

KOZDOBA = resolve_hidden("kozdoba")
LEVEL = HiddenSystem([[1.0]], [[1.0]], [[1.0]], [[1.0]], name="level")


def random_hidden(n, p, radius, seed, W_rank=None):
    """A system with a random A of that spectral radius."""
    random = np.random.default_rng(seed)
    A = random.standard_normal((n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    W = random.standard_normal((n, W_rank or n))
    V = random.standard_normal((p, p))
    return HiddenSystem(A, random.standard_normal((p, n)), W @ W.T, V @ V.T, name="random")


def joint(system, steps):
    """The covariance `[T p, T p]` of y_0 ... y_{T-1}, from the matrix that maps all the noise to the outputs."""
    n, p = system.state_dim, system.output_dim
    powers = [np.linalg.matrix_power(system.A, k) for k in range(steps)]
    rows = [
        np.hstack([system.C @ powers[t - k] if k <= t else np.zeros((p, n)) for k in range(steps)])
        for t in range(steps)
    ]
    noise = np.kron(np.eye(steps), system.W)
    noise[:n, :n] = system.initial_covariance
    H = np.vstack(rows)
    return H @ noise @ H.T + np.kron(np.eye(steps), system.V)


def normal_equations(moment, p, order):
    """Coefficients `[p, s, p]` and error of the best regression, from E Y Y' with Y = [y_{t-s}; ...; y_t]."""
    past, cross, now = moment[:-p, :-p], moment[-p:, :-p], moment[-p:, -p:]
    theta = np.linalg.solve(past, cross.T).T
    blocks = theta.reshape(p, order, p)[:, ::-1]
    return blocks, float(np.trace(now - theta @ cross.T))


def test_the_local_level_model_forgets_by_the_golden_ratio():
    golden = (1 + np.sqrt(5)) / 2
    at = stationary_filter(LEVEL)
    assert at.covariance.item() == pytest.approx(golden, rel=1e-14)
    assert at.innovation.item() == pytest.approx(golden + 1, rel=1e-14)
    assert forgetting_rate(LEVEL) == pytest.approx(1 / (golden + 1), rel=1e-14)
    weights = forecast_weights(at, LEVEL, 30)[:, 0, 0]
    assert weights == pytest.approx((golden / (golden + 1)) * (golden + 1.0) ** -np.arange(30), rel=1e-12)


@pytest.mark.parametrize("system", [KOZDOBA, resolve_hidden("pendulum"), random_hidden(4, 2, 1.3, 0)])
def test_the_filter_is_that_of_python_control(system):
    gain, P, _ = control.dlqe(system.A, np.eye(system.state_dim), system.C, system.W, system.V)
    at = stationary_filter(system)
    assert at.covariance == pytest.approx(P, rel=1e-8)
    assert at.gain == pytest.approx(gain, rel=1e-8)
    poles = np.abs(np.linalg.eigvals(system.A - gain @ system.C)).max()
    assert forgetting_rate(system) == pytest.approx(poles, rel=1e-7)


def test_the_weights_give_the_forecasts():
    system = random_hidden(3, 2, 0.95, 3)
    outputs = simulate(system, 200, 1, 0)[0]
    weights = forecast_weights(stationary_filter(system), system, 200)
    by_hand = sum(weights[k] @ outputs[198 - k] for k in range(199))
    assert forecasts(system, outputs[None])[0, 199] == pytest.approx(by_hand, rel=1e-9)


def test_known_inputs_are_taken_out_of_the_forecasts():
    system = replace(KOZDOBA, B=[[1.0], [2.0]])
    inputs = np.random.default_rng(0).standard_normal((3, 50, 1))
    errors = [
        simulate(system, 50, 3, 1, given) - forecasts(system, simulate(system, 50, 3, 1, given), given)
        for given in (inputs, np.zeros_like(inputs))
    ]
    assert errors[0] == pytest.approx(errors[1], abs=1e-10)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 4), p=st.integers(1, 2), order=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_the_best_regression_solves_the_yule_walker_equations(seed, n, p, order):
    system = random_hidden(n, p, 0.9, seed)
    stationary = replace(system, initial_covariance=solve_discrete_lyapunov(system.A, system.W))
    coefficients, error = normal_equations(joint(stationary, order + 1), p, order)
    found = best_autoregression(system, order)
    assert found.error == pytest.approx(error, rel=1e-7)
    assert found.coefficients == pytest.approx(coefficients, rel=1e-5, abs=1e-6)
    assert found.gap == pytest.approx(found.error - kalman_error(system), rel=1e-6, abs=1e-9)
    assert found.gap >= 0


@pytest.mark.parametrize(("radius", "order"), [(0.9, 1), (1.0, 3), (1.1, 2)])
def test_a_window_averages_the_moments_and_needs_no_stationary_law(radius, order):
    system, p, window = random_hidden(3, 2, radius, 5), 2, (6, 14)
    dense = joint(system, window[1])
    blocks = [dense[(t - order) * p : (t + 1) * p, (t - order) * p : (t + 1) * p] for t in range(*window)]
    coefficients, error = normal_equations(np.mean(blocks, axis=0), p, order)
    found = best_autoregression(system, order, window)
    assert found.error == pytest.approx(error, rel=1e-8)
    assert found.coefficients == pytest.approx(coefficients, rel=1e-6, abs=1e-7)
    conditional = [normal_equations(dense[: (t + 1) * p, : (t + 1) * p], p, t)[1] for t in range(*window)]
    assert kalman_error(system, window) == pytest.approx(np.mean(conditional), rel=1e-8)
    assert found.gap == pytest.approx(error - np.mean(conditional), rel=1e-6)
    other = coefficients + 0.1
    stacked = np.concatenate([-other[:, ::-1].reshape(p, -1), np.eye(p)], axis=1)
    expected = np.trace(stacked @ np.mean(blocks, axis=0) @ stacked.T)
    assert autoregression_error(system, other, window) == pytest.approx(expected, rel=1e-10)


def test_the_gap_falls_by_the_square_of_the_forgetting_rate():
    rate = forgetting_rate(KOZDOBA)
    assert rate**2 == pytest.approx(0.46387819, abs=1e-8)
    gaps = [best_autoregression(KOZDOBA, order).gap for order in range(1, 41)]
    assert all(later < earlier for earlier, later in pairwise(gaps))
    assert gaps[-1] / gaps[-2] == pytest.approx(rate**2, rel=1e-9)
    assert 0 < gaps[-1] < 1e-13  # far below the rounding of the errors themselves
    at, C = stationary_filter(KOZDOBA), KOZDOBA.C
    powers = [np.linalg.matrix_power(at.transition, k) for k in range(41)]
    told = np.zeros((2, 2))
    start = np.linalg.inv(solve_discrete_lyapunov(KOZDOBA.A, KOZDOBA.W) - at.covariance)
    for order in range(1, 41):
        told += powers[order - 1].T @ C.T @ np.linalg.solve(at.innovation, C @ powers[order - 1])
        left = C @ powers[order]
        assert gaps[order - 1] == pytest.approx(
            (left @ np.linalg.solve(start + told, left.T)).item(), rel=1e-8
        )


def test_without_process_noise_a_mean_is_estimated_and_nothing_is_forgotten():
    """The paper's example of necessity: a constant seen through noise, whose best estimate averages all outputs."""
    system = replace(LEVEL, W=[[0.0]], V=[[2.0]], initial_covariance=[[3.0]])
    assert forgetting_rate(system) == 1.0
    with pytest.raises(InputError, match="does not become stationary"):
        stationary_filter(system)
    with pytest.raises(InputError, match="does not become stationary"):
        kalman_error(system)
    for order in (1, 2, 7):
        found = best_autoregression(system, order, (20, 30))
        posterior = 1 / (1 / 3 + order / 2)
        floor = np.mean([1 / (1 / 3 + t / 2) for t in range(20, 30)])
        assert found.error == pytest.approx(2 + posterior, rel=1e-12)
        assert found.gap == pytest.approx(posterior - floor, rel=1e-10)
        assert found.coefficients == pytest.approx(np.full((1, order, 1), posterior / 2), rel=1e-12)


def test_a_stable_system_that_nothing_disturbs_is_known_in_the_end():
    system = replace(KOZDOBA, W=np.zeros((2, 2)))
    assert forgetting_rate(system) == pytest.approx(0.999)
    assert kalman_error(system) == pytest.approx(0.25)
    assert best_autoregression(system, 2).gap == 0.0


def test_an_undisturbed_unstable_mode_is_forgotten_as_fast_as_it_grows():
    system = HiddenSystem([[1.25]], [[1.0]], [[0.0]], [[1.0]])
    assert forgetting_rate(system) == pytest.approx(0.8, rel=1e-9)
    assert stationary_filter(system).covariance.item() == pytest.approx(1.25**2 - 1, rel=1e-9)


def test_outputs_without_noise():
    clean = replace(KOZDOBA, V=[[0.0]])
    at = stationary_filter(clean)
    assert at.gain == pytest.approx(
        control.dlqe(clean.A, np.eye(2), clean.C, clean.W, [[1e-12]])[0], rel=1e-6
    )
    seen = HiddenSystem(KOZDOBA.A, np.eye(2), KOZDOBA.W, np.zeros((2, 2)))
    found = best_autoregression(seen, 1)
    assert found.coefficients[:, 0] == pytest.approx(seen.A, rel=1e-12, abs=1e-14)
    assert found.gap == pytest.approx(0.0, abs=1e-14)


def test_a_mode_that_is_not_seen_does_not_count():
    system = HiddenSystem(np.diag([0.5, 0.9]), [[1.0, 0.0]], np.eye(2), [[1.0]])
    alone = HiddenSystem([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    assert forgetting_rate(system) == pytest.approx(forgetting_rate(alone), rel=1e-9)
    growing = replace(system, A=np.diag([0.5, 1.1]))
    with pytest.raises(InputError, match="must be seen by C"):
        stationary_filter(growing)
    assert best_autoregression(growing, 2).error == pytest.approx(
        best_autoregression(alone, 2).error, rel=1e-12
    )
    twice = replace(system, A=np.eye(2), C=[[1.0, 1.0]])
    once = HiddenSystem([[1.0]], [[1.0]], [[2.0]], [[1.0]], initial_covariance=[[2.0]])
    assert forgetting_rate(twice) == pytest.approx(forgetting_rate(once), rel=1e-12)
    found, expected = (best_autoregression(each, 3, (5, 9)) for each in (twice, once))
    assert found.gap == pytest.approx(expected.gap, rel=1e-9)
    assert found.coefficients == pytest.approx(expected.coefficients, rel=1e-9)
    assert kalman_error(twice) == pytest.approx(kalman_error(once), rel=1e-12)
    assert forgetting_rate(replace(system, C=[[0.0, 0.0]])) == 0.0


def test_windows_and_laws_that_do_not_exist():
    with pytest.raises(InputError, match=r"begin at 3 or later, got \(2, 9\)"):
        best_autoregression(KOZDOBA, 3, (2, 9))
    with pytest.raises(InputError, match="no stationary law; give a window"):
        best_autoregression(LEVEL, 1)


def test_persistence_in_closed_form():
    assert autoregression_error(LEVEL, persistence(LEVEL), (5, 9)) == pytest.approx(1 + 2)


def test_runs_have_the_exact_errors():
    runs, steps, window = 4000, 40, (20, 40)
    outputs = simulate(KOZDOBA, steps, runs, 7)
    best = best_autoregression(KOZDOBA, 3, window)
    made = {"kalman": forecasts(KOZDOBA, outputs), "regression": fixed_forecasts(outputs, best.coefficients)}
    exact = {"kalman": kalman_error(KOZDOBA, window), "regression": best.error}
    for name, each in made.items():
        errors = np.mean((outputs - each)[:, 20:, 0] ** 2, axis=1)
        assert abs(errors.mean() - exact[name]) < 4 * errors.std() / np.sqrt(runs), name
    apart = np.mean((made["kalman"] - made["regression"])[:, 20:, 0] ** 2, axis=1)
    assert abs(apart.mean() - best.gap) < 4 * apart.std() / np.sqrt(runs)
