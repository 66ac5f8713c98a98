"""Exact costs of history gains and of LQG against runs, finite differences and each other."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr import optimum
from mbpo.lqr.hidden import HiddenSystem, resolve_hidden
from mbpo.lqr.kalman import forgetting_rate, stationary_filter
from mbpo.lqr.output_feedback import (
    best_history_gain,
    history_cost,
    history_size,
    lqg_cost,
    regression_limit,
    seen_state,
    short_memory_gain,
    starting_gain,
    whole,
)
from mbpo.lqr.reference import stabilising_value

PENDULUM = resolve_hidden("pendulum")
DOUBLE = resolve_hidden("double_integrator")
RANDOM = np.random.default_rng(0)
WIDE = HiddenSystem(
    0.6 * np.linalg.qr(RANDOM.standard_normal((3, 3)))[0], RANDOM.standard_normal((2, 3)), np.diag([1.0, 0.5, 0.0]),
    np.diag([0.3, 0.0]), B=RANDOM.standard_normal((3, 2)), Q=np.diag([0.0, 1.0, 0.0]), Qy=np.diag([1.0, 2.0]),
    R=[[1.0, 0.2], [0.2, 0.5]], name="wide",
)  # fmt: skip


def rolled(system, order, gain, steps, runs, exploration=0.0, seed=1):
    """Histories `[T, R, d]`, inputs and costs `[T, R]` of u = K h + e, written without the package's matrices."""
    random = np.random.default_rng(seed)
    n, p, m = system.state_dim, system.output_dim, system.input_dim
    W, V = (np.linalg.cholesky(each + 1e-15 * np.eye(len(each))) for each in (system.W, system.V))
    x, ys, us = np.zeros((runs, n)), [np.zeros((runs, p))] * order, [np.zeros((runs, m))] * order
    histories, inputs, costs = [], [], []
    for _ in range(steps):
        y = x @ system.C.T + random.standard_normal((runs, p)) @ V.T
        ys = [y, *ys[:-1]]
        h = np.concatenate([*ys, *us[: order - 1]], axis=1)
        u = h @ gain.T + exploration * random.standard_normal((runs, m))
        cost = np.einsum("ri,ij,rj->r", u, system.R, u)
        if system.Qy is not None:
            cost = cost + np.einsum("ri,ij,rj->r", y, system.Qy, y)
        if system.Q is not None:
            cost = cost + np.einsum("ri,ij,rj->r", x, system.Q, x)
        histories.append(h)
        inputs.append(u)
        costs.append(cost)
        us = [u, *us[:-1]]
        x = x @ system.A.T + u @ system.B.T + random.standard_normal((runs, n)) @ W.T
    return np.array(histories), np.array(inputs), np.array(costs)


@pytest.mark.parametrize(("system", "order"), [(PENDULUM, 1), (PENDULUM, 3), (WIDE, 1), (WIDE, 3)])
def test_the_exact_cost_is_that_of_runs(system, order):
    d = history_size(system, order)
    gain = 0.05 * np.random.default_rng(2).standard_normal((system.input_dim, d))
    exact, _ = history_cost(whole(system, order), gain)
    costs = rolled(system, order, gain, 900, 200)[2][500:].mean(axis=0)
    assert abs(costs.mean() - exact) < 4 * costs.std() / np.sqrt(len(costs))


@pytest.mark.parametrize(("system", "order"), [(PENDULUM, 2), (WIDE, 2)])
def test_the_gradient_is_that_of_finite_differences(system, order):
    at = whole(system, order)
    gain = 0.05 * np.random.default_rng(3).standard_normal((system.input_dim, history_size(system, order)))
    gradient, step = history_cost(at, gain)[1], 1e-6
    for i in np.ndindex(gain.shape):
        moved = np.zeros_like(gain)
        moved[i] = step
        difference = (history_cost(at, gain + moved)[0] - history_cost(at, gain - moved)[0]) / (2 * step)
        assert gradient[i] == pytest.approx(difference, rel=1e-5, abs=1e-7)


def test_a_gain_that_does_not_stabilise_costs_infinitely_much():
    cost, gradient = history_cost(whole(PENDULUM, 1), np.array([[100.0]]))
    assert math.isinf(cost)
    assert np.array_equal(gradient, [[0.0]])


@pytest.mark.parametrize("system", [PENDULUM, WIDE])
def test_lqg_costs_what_its_runs_cost(system):
    best, at = optimum.solve(seen_state(system)).gain, stationary_filter(system)
    correction = at.covariance @ system.C.T @ np.linalg.inv(at.innovation)
    random, runs, steps = np.random.default_rng(4), 300, 700
    W, V = (np.linalg.cholesky(each + 1e-15 * np.eye(len(each))) for each in (system.W, system.V))
    x = estimate = np.zeros((runs, system.state_dim))
    total = np.zeros(runs)
    for t in range(steps):
        y = x @ system.C.T + random.standard_normal((runs, system.output_dim)) @ V.T
        u = (estimate + (y - estimate @ system.C.T) @ correction.T) @ best.T
        if t >= 200:
            Q = np.zeros_like(system.A) if system.Q is None else system.Q
            total += np.sum(x @ Q * x, 1) + np.sum(y @ system.Qy * y, 1) + np.sum(u @ system.R * u, 1)
        estimate = estimate @ system.A.T + u @ system.B.T + (y - estimate @ system.C.T) @ at.gain.T
        x = x @ system.A.T + u @ system.B.T + random.standard_normal((runs, system.state_dim)) @ W.T
    total /= steps - 200
    assert abs(total.mean() - lqg_cost(system)) < 4 * total.std() / np.sqrt(runs)


def test_seen_outputs_that_are_the_state_leave_lqr():
    system = replace(PENDULUM, C=np.eye(2), V=np.zeros((2, 2)), Qy=np.diag([1.0, 0.0]))
    assert lqg_cost(system) == pytest.approx(optimum.solve(seen_state(system)).cost, rel=1e-12)
    assert best_history_gain(system, 1)[1] == pytest.approx(lqg_cost(system), rel=1e-9)


@pytest.mark.parametrize("system", [PENDULUM, DOUBLE])
def test_a_history_of_n_plus_1_outputs_reaches_lqg_and_none_passes_it(system):
    lqg = lqg_cost(system)
    costs = [best_history_gain(system, order)[1] for order in (2, 3, 4)]
    assert costs[0] > 1.01 * lqg
    assert costs[1:] == pytest.approx([lqg, lqg], rel=1e-9)


def test_short_memory_becomes_lqg_as_fast_as_the_filter_forgets():
    gain, lqg = optimum.solve(seen_state(PENDULUM)).gain, lqg_cost(PENDULUM)
    excess = [
        history_cost(whole(PENDULUM, s), short_memory_gain(PENDULUM, s, gain))[0] / lqg - 1
        for s in (10, 20, 30)
    ]
    assert 0 < excess[1] < 1e-5
    rate = forgetting_rate(PENDULUM)
    assert excess[1] < 30 * excess[0] * rate**20
    assert excess[2] == pytest.approx(0.0, abs=1e-9)


def test_starts():
    assert np.array_equal(starting_gain(PENDULUM, 3), np.zeros((1, 5)))
    assert math.isfinite(history_cost(whole(DOUBLE, 2), starting_gain(DOUBLE, 2))[0])
    with pytest.raises(InputError, match="no history gain of order 1 was found that stabilises"):
        starting_gain(DOUBLE, 1)


def test_the_regression_limit_is_the_gain_of_a_model_fitted_to_very_much_data():
    order, S = 2, np.array([[4.0]])
    gain, cost = regression_limit(PENDULUM, order, S)
    histories, inputs, _ = rolled(PENDULUM, order, gain, 700, 300, exploration=2.0, seed=5)
    now, u, then = (
        each.reshape(-1, each.shape[2]) for each in (histories[200:-1], inputs[200:-1], histories[201:])
    )
    z = np.concatenate([now, u], axis=1)
    fitted = np.linalg.lstsq(z, then, rcond=None)[0].T
    weights = np.diag([1.0, 0.0, 0.0])
    refit = stabilising_value(fitted[:, :3], fitted[:, 3:], weights, PENDULUM.R, 1.0)
    assert refit is not None
    assert refit[0] == pytest.approx(gain, rel=0.02)
    assert cost == pytest.approx(history_cost(whole(PENDULUM, order), gain)[0])
    excess = [regression_limit(PENDULUM, s, S)[1] / lqg_cost(PENDULUM) - 1 for s in (2, 4, 6)]
    assert excess[0] > 1 > 10 * excess[1] / 2 > 10 * excess[2]


def test_a_model_that_misleads_its_planner_has_no_limit():
    assert math.isinf(regression_limit(DOUBLE, 2, np.eye(1))[1])


def test_what_cannot_be_controlled_is_said():
    kozdoba = resolve_hidden("kozdoba")
    for ask in (lambda: whole(kozdoba, 1), lambda: lqg_cost(kozdoba), lambda: starting_gain(kozdoba, 1)):
        with pytest.raises(InputError, match="kozdoba: control needs B, R and a cost of the outputs Qy"):
            ask()
    with pytest.raises(InputError, match="order of at least 1, got 0"):
        whole(PENDULUM, 0)
