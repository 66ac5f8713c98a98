"""Exact answers against formulas of another kind: covariances, complex steps, series, finite differences."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_cases import (
    CASES,
    NARROW,
    SYSTEMS,
    close,
    complex_step,
    each,
    exploration,
    random_system,
    reference_cost,
    some_gain,
)

from mbpo.errors import InputError
from mbpo.lqr import exact, optimum

each_case = each(CASES)
each_narrow = each(NARROW)
each_of_few = each([case for case in NARROW if case.name.startswith("singular_noise")])


@each_case
def test_cost_gradient_and_model_sensitivity_match_complex_steps(system):
    K, S = some_gain(system), exploration(system)
    close(exact.cost(system, K, S), reference_cost(system, K, S), 1e-9)
    close(exact.gradient(system, K, S), complex_step(lambda k: reference_cost(system, k, S), K), 1e-8)
    by_A = complex_step(lambda A: reference_cost(system, K, S, A=A), system.A)
    by_B = complex_step(lambda B: reference_cost(system, K, S, B=B), system.B)
    close(exact.cost_sensitivity(system, K, S), np.hstack([by_A, by_B]), 1e-8)


@each_narrow
def test_hessian_matches_differences_of_complex_steps(system):
    K, S = some_gain(system), exploration(system)
    scale = 1e-4 * np.abs(K).max()
    columns = []
    for index in np.ndindex(K.shape):
        D = np.zeros(K.shape)
        D[index] = scale
        slopes = [complex_step(lambda k: reference_cost(system, k, S), K + c * D) for c in (-2, -1, 1, 2)]
        columns.append((slopes[0] - 8 * slopes[1] + 8 * slopes[2] - slopes[3]).reshape(-1) / (12 * scale))
    close(exact.hessian(system, K, S), np.stack(columns, axis=1), 1e-6)


@each_of_few
def test_differentiation_of_the_cost_agrees_with_the_formulas(system):
    K, S = some_gain(system), exploration(system)
    open_system = exact.resolved(system)
    with jax.enable_x64(True):
        cost = lambda k: exact.cost(open_system, k, S)  # noqa: E731
        close(jax.grad(cost)(K), exact.gradient(system, K, S), 1e-11)
        close(jax.jit(jax.hessian(cost))(K).reshape(K.size, K.size), exact.hessian(system, K, S), 1e-10)
        slope = jax.grad(lambda s: exact.cost(s, K, S))(open_system)
        close(np.hstack([slope.A, slope.B]), exact.cost_sensitivity(system, K, S), 1e-11)
        weights = complex_step(lambda Q: reference_cost(replace_raw(system, Q=Q), K, S), system.Q)
        close(slope.Q, weights, 1e-9)
        assert slope.horizon == system.horizon


def replace_raw(system, **changes):
    """A copy without validation, which complex numbers would not pass."""
    copy = object.__new__(type(system))
    copy.__dict__.update(system.__dict__ | {"terminal_cost": exact.resolved(system).terminal_cost} | changes)
    return copy


@each_narrow
def test_everything_vanishes_at_the_optimum(system):
    best = optimum.solve(system)
    K = best.gain
    slope = np.abs(np.asarray(exact.state_covariance(system, K))).max() * np.abs(best.value).max()
    assert np.abs(np.asarray(exact.gradient(system, K))).max() < 1e-9 * slope
    assert abs(float(exact.excess_cost(system, K, best.cost))) < 1e-10
    assert np.abs(np.asarray(exact.gauss_newton_step(system, K))).max() < 1e-8 * np.abs(K).max()
    P, found, ok = exact.stationary_optimum(system)
    assert bool(ok)
    close(P, best.value, 1e-8)
    close(found, K, 1e-8)


@each_narrow
def test_hessian_at_the_optimum_is_a_kronecker_product(system):
    K, g = optimum.solve(system).gain, system.discount or 1.0
    P, Sigma = np.asarray(exact.value_matrix(system, K)), np.asarray(exact.state_covariance(system, K))
    if system.horizon is not None:
        P, Sigma = P[-1], Sigma[:-1].sum(axis=0)
    M = system.R + g * system.B.T @ P @ system.B
    close(exact.hessian(system, K), 2 * np.kron(M, Sigma), 1e-7)


@each_narrow
def test_performance_difference_is_exact_between_distant_gains(system):
    old, new = some_gain(system), optimum.solve(system).gain
    G = np.asarray(exact.quality_matrix(system, old))
    G = G if system.horizon is not None else G[None]
    Sigma = np.asarray(exact.state_covariance(system, new))
    Sigma = Sigma[:-1] if system.horizon is not None else Sigma[None]
    n, D = system.state_dim, new - old
    total = 0.0
    for quality, visited in zip(G, Sigma, strict=True):
        M, E = quality[n:, n:], quality[n:, :n] + quality[n:, n:] @ old
        total += np.trace(visited @ (D.T @ E + E.T @ D + D.T @ M @ D))
    difference = float(exact.cost(system, new)) - float(exact.cost(system, old))
    np.testing.assert_allclose(difference, total, rtol=1e-8)


@each_narrow
def test_quality_matrix_gives_the_value_back_along_the_policy(system):
    K = some_gain(system)
    P, G = np.asarray(exact.value_matrix(system, K)), np.asarray(exact.quality_matrix(system, K))
    along = np.concatenate([np.eye(system.state_dim), K])
    close(along.T @ G @ along, P if system.horizon is None else P[:-1], 1e-9)


@each_of_few
def test_policy_iteration_converges_quadratically(system):
    best = optimum.solve(system)
    K = some_gain(system)
    errors = []
    for _ in range(4):
        errors.append(float(exact.excess_cost(system, K, best.cost)))
        K = K - np.asarray(exact.gauss_newton_step(system, K))
    assert errors[0] > 1e-4
    assert errors[3] < 1e-10
    assert errors[1] < errors[0] / 10


@each_of_few
def test_natural_gradient_is_the_gradient_over_the_covariance(system):
    K, S = some_gain(system), exploration(system)
    Sigma = np.asarray(exact.state_covariance(system, K, S))
    Sigma = Sigma if system.horizon is None else Sigma[:-1].sum(axis=0)
    close(np.asarray(exact.natural_gradient(system, K, S)) @ Sigma, exact.gradient(system, K, S), 1e-9)


def test_discounted_cost_is_the_sum_of_discounted_stage_costs():
    system = replace(SYSTEMS["singular_noise"], discount=0.8)
    K, S = some_gain(system), exploration(system)
    F, W_e = system.A + system.B @ K, system.W + system.B @ S @ system.B.T
    Sigma, total, visited = system.initial_covariance, 0.0, 0.0
    for t in range(3000):
        weight = 0.8**t
        total += weight * (np.sum((system.Q + K.T @ system.R @ K) * Sigma) + np.sum(system.R * S))
        visited = visited + weight * Sigma
        Sigma = F @ Sigma @ F.T + W_e
    close(exact.cost(system, K, S), np.asarray(total), 1e-10)
    close(exact.state_covariance(system, K, S), visited, 1e-10)


def test_gains_of_each_stage_over_a_finite_horizon():
    base = replace(random_system(3, 2, 1.2, 8), horizon=5, terminal_cost=np.diag([3.0, 0.0, 1.0]))
    best = optimum.solve(base)
    K = best.gains * np.linspace(0.7, 1.1, 5)[:, None, None]
    S = exploration(base)
    close(exact.cost(base, K, S), reference_cost(base, K, S), 1e-12)
    close(exact.gradient(base, K, S), complex_step(lambda k: reference_cost(base, k, S), K), 1e-11)
    assert exact.hessian(base, K).shape == (K.size, K.size)
    assert exact.closed_loop(base, K).shape == (5, 3, 3)
    assert np.abs(np.asarray(exact.gradient(base, best.gains))).max() < 1e-12 * float(best.cost)
    close(exact.cost(base, best.gains), np.asarray(best.cost), 1e-12)
    step, natural = exact.gauss_newton_step(base, K), exact.natural_gradient(base, K)
    last = np.linalg.solve(base.R + base.B.T @ base.terminal_cost @ base.B, np.asarray(natural)[-1] / 2)
    close(np.asarray(step)[-1], last, 1e-12)


def test_gains_that_do_not_stabilise_cost_infinity_and_poison_nothing():
    system, zero = SYSTEMS["singular_noise"], np.zeros((2, 4))
    good = some_gain(system)
    assert float(exact.cost(system, zero)) == np.inf
    assert float(exact.excess_cost(system, zero, 1.0)) == np.inf
    assert not bool(exact.is_stabilising(system, zero))
    for function in (exact.gradient, exact.value_matrix, exact.state_covariance, exact.quality_matrix):
        assert np.isnan(np.asarray(function(system, zero))).all()
    both = np.stack([good, zero])
    with jax.enable_x64(True):
        costs, slopes = jax.vmap(jax.value_and_grad(lambda k: exact.cost(system, k)))(both)
    assert np.isinf(costs[1])
    assert np.isfinite(costs[0])
    assert np.isfinite(slopes).all()
    close(slopes[0], exact.gradient(system, good), 1e-10)


def test_a_discounted_gain_may_leave_the_closed_loop_unstable():
    system = replace(SYSTEMS["laplacian3"], discount=0.9)
    zero = np.zeros((3, 3))
    assert float(exact.spectral_radius(system, zero)) > 1
    assert bool(exact.is_stabilising(system, zero))
    assert np.isfinite(float(exact.cost(system, zero)))
    assert not bool(exact.is_stabilising(system, 0.06 * np.eye(3)))
    assert bool(exact.is_stabilising(replace(system, discount=None, horizon=4), 9 * np.eye(3)))


@pytest.mark.parametrize("switch", [False, True])
def test_answers_are_float64_whatever_the_switch(switch):
    for system in (SYSTEMS["singular_noise"], replace(SYSTEMS["singular_noise"], horizon=7)):
        K = some_gain(system)
        reference = reference_cost(system, K)
        with jax.enable_x64(switch):
            for function in (exact.gradient, exact.value_matrix):
                assert function(system, K).dtype == np.float64
            close(exact.cost(system, K), reference, 1e-12)


def test_systems_map_compile_and_come_back():
    system = replace(SYSTEMS["laplacian3"], discount=0.9)
    leaves, shape = jax.tree.flatten(system)
    again = jax.tree.unflatten(shape, leaves)
    assert (again.name, again.horizon, again.discount) == (system.name, None, 0.9)
    K = np.stack([some_gain(system), -0.2 * np.eye(3)])
    noisy = [replace(system, W=s * np.eye(3)) for s in (1.0, 2.0)]
    with jax.enable_x64(True):
        many = jax.tree.map(lambda *each: jnp.stack([jnp.asarray(x) for x in each]), *noisy)
        costs = jax.jit(jax.vmap(exact.cost))(many, K)
    for single, gain, found in zip(noisy, K, costs, strict=True):
        close(found, reference_cost(single, gain), 1e-12)


def test_an_open_terminal_cost_cannot_be_traced():
    system = replace(SYSTEMS["laplacian3"], horizon=3)
    K = some_gain(system)
    with jax.enable_x64(True):
        with pytest.raises(InputError, match="resolved"):
            jax.grad(lambda s: exact.cost(s, K))(system)
        assert jax.jit(exact.cost)(exact.resolved(system), K).shape == ()


@pytest.mark.parametrize(
    ("gain", "S", "word"),
    [
        (np.zeros((3, 2)), None, "gain"),
        (np.zeros((4, 3, 3)), None, "gain"),
        (np.zeros(3), None, "gain"),
        (np.zeros((3, 3)), np.eye(2), "exploration"),
        (np.zeros((3, 3)), np.ones(3), "exploration"),
    ],
)
def test_wrong_shapes_are_named(gain, S, word):
    with pytest.raises(InputError, match=word):
        exact.cost(SYSTEMS["laplacian3"], gain, S)


def test_no_cost_is_no_excess():
    system = replace(SYSTEMS["laplacian3"], W=np.zeros((3, 3)))
    assert float(exact.excess_cost(system, some_gain(system), 0.0)) == 0.0
    assert float(exact.excess_cost(SYSTEMS["laplacian3"], some_gain(system), 0.0)) == np.inf
