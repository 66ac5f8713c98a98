"""Lyapunov and Riccati solvers against extended precision, SciPy and finite differences."""

import time
from dataclasses import replace

import jax
import mpmath
import numpy as np
import pytest
from exact_cases import CASES, NARROW, SYSTEMS, close, each, kronecker_lyapunov, random_system
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_are

from mbpo.lqr import exact
from mbpo.lqr.lyapunov import discrete_lyapunov, matrix_spectral_radius
from mbpo.lqr.riccati import riccati


def with_radius(n: int, radius: float, seed: int) -> np.ndarray:
    F = np.random.default_rng(seed).normal(size=(n, n))
    return F * radius / np.abs(np.linalg.eigvals(F)).max()


@pytest.mark.parametrize("radius", [0.5, 0.99, 0.9999])
@pytest.mark.parametrize("n", [1, 4, 8])
def test_lyapunov_matches_fifty_digits(n, radius):
    F, X = with_radius(n, radius, n), np.eye(n) + np.ones((n, n))
    with mpmath.workdps(50):
        S, power = mpmath.matrix(X.tolist()), mpmath.matrix(F.tolist())
        for _ in range(22):
            S, power = S + power * S * power.T, power * power
        expected = np.array(S.tolist(), dtype=float)
    close(discrete_lyapunov(F, X), expected, 1e-15 + 2e-16 / (1 - radius) * 10)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.0, 0.999), scale=st.floats(1e-6, 1e6))
def test_lyapunov_satisfies_its_equation_also_when_not_symmetric(seed, radius, scale):
    F, X = with_radius(4, radius, seed), scale * np.random.default_rng(seed + 1).normal(size=(4, 4))
    S = np.asarray(discrete_lyapunov(F, X))
    assert np.abs(S - F @ S @ F.T - X).max() <= 1e-12 * np.abs(S).max() * max(1.0, np.abs(F).max() ** 2)


def test_lyapunov_differentiates_in_both_modes_and_twice():
    F, X = with_radius(3, 0.9, 0), np.diag([1.0, 2.0, 3.0])
    weights = np.arange(9.0).reshape(3, 3)
    ours = lambda f, x: (weights * discrete_lyapunov(f, x)).sum()  # noqa: E731
    step, expected = 1e-30, np.empty((3, 3))
    for index in np.ndindex(3, 3):
        moved = F.astype(complex)
        moved[index] += 1j * step
        expected[index] = np.imag((weights * kronecker_lyapunov(moved, X)).sum()) / step
    with jax.enable_x64(True):
        close(jax.jit(jax.grad(ours))(F, X), expected, 1e-12)
        close(jax.jit(jax.jacfwd(ours))(F, X), expected, 1e-12)
        close(jax.grad(ours, argnums=1)(F, X), kronecker_lyapunov(F.T, weights), 1e-12)
        second = jax.jit(jax.hessian(ours))(F, X)
        slope = jax.jit(jax.grad(ours))
        near = (slope(F + 1e-6 * weights, X) - slope(F - 1e-6 * weights, X)) / 2e-6
        close(np.einsum("ijkl,kl->ij", second, weights), near, 1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(1e-3, 50.0))
def test_spectral_radius_matches_the_eigenvalues(seed, radius):
    F = with_radius(4, radius, seed)
    np.testing.assert_allclose(float(matrix_spectral_radius(F)), radius, rtol=1e-10)


def test_spectral_radius_of_awkward_matrices():
    jordan = 0.99 * np.eye(4) + np.eye(4, k=1)
    rotation = 1.0000001 * np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    for F, expected in [
        (np.zeros((3, 3)), 0.0),
        (np.eye(3, k=1), 0.0),
        (jordan, 0.99),
        (rotation, 1.0000001),
    ]:
        np.testing.assert_allclose(float(matrix_spectral_radius(F)), expected, rtol=1e-9)
    assert float(matrix_spectral_radius(np.full((2, 2), np.nan))) == np.inf


def numbers(system):
    return system.A, system.B, system.Q, system.R


@pytest.mark.parametrize("name", SYSTEMS)
def test_riccati_matches_scipy(name):
    A, B, Q, R = numbers(SYSTEMS[name])
    P, K, ok = riccati(A, B, Q, R)
    expected = solve_discrete_are(A, B, Q, R)
    assert bool(ok)
    close(P, expected, 1e-9)
    close(K, -np.linalg.solve(R + B.T @ expected @ B, B.T @ expected @ A), 1e-9)


def test_riccati_matches_extended_precision_where_scipy_struggles():
    A, B, Q, R = (
        np.array(x) for x in ([[1.2, 1.0], [0.0, 0.3]], [[1e-3], [1.0]], [[1.0, 0], [0, 0]], [[1e-6]])
    )
    with mpmath.workdps(60):
        a, b, q, r = (mpmath.matrix(x.tolist()) for x in (A, B, Q, R))
        p = q.copy()
        for _ in range(4000):
            p = q + a.T * p * a - a.T * p * b * ((r + b.T * p * b) ** -1) * b.T * p * a
        expected = np.array(p.tolist(), dtype=float)
    P, _, ok = riccati(A, B, Q, R)
    assert bool(ok)
    close(P, expected, 1e-8)


BAD = {
    "unstabilisable": ([[1.2, 0.0], [0.0, 0.5]], [[0.0], [1.0]], np.eye(2)),
    "undetectable and unstable": ([[1.2, 0.0], [0.0, 0.5]], np.eye(2), np.diag([0.0, 1.0])),
    "undetectable on the unit circle": ([[1.0, 0.0], [0.0, 0.5]], np.eye(2), np.diag([0.0, 1.0])),
    "not finite": ([[np.nan, 0.0], [0.0, 0.5]], np.eye(2), np.eye(2)),
    "overflowing": ([[1e200, 0.0], [0.0, 0.5]], [[0.0], [1.0]], np.eye(2)),
}


@pytest.mark.parametrize("case", BAD)
def test_riccati_without_solution_says_so_and_stays_finite(case):
    A, B, Q = (np.array(x, dtype=float) for x in BAD[case])
    R = np.eye(B.shape[1])
    P, K, ok = riccati(A, B, Q, R)
    assert not bool(ok)
    assert not np.any(P)
    assert not np.any(K)
    with jax.enable_x64(True):
        for slope in jax.grad(lambda a, b: riccati(a, b, Q, R).P.sum(), argnums=(0, 1))(A, B):
            assert not np.any(np.asarray(slope))


def test_riccati_maps_over_systems_of_which_one_fails():
    systems = [random_system(4, 2, 1.2, seed) for seed in range(63)]
    stacks = [np.stack(each) for each in zip(*(numbers(s) for s in systems), strict=True)]
    hopeless = [np.diag([2.0, 0.5, 0.5, 0.5]), np.eye(4)[:, 1:3], np.eye(4), np.eye(2)]
    stacks = [np.concatenate([stack, one[None]]) for stack, one in zip(stacks, hopeless, strict=True)]
    with jax.enable_x64(True):
        solve = jax.jit(jax.vmap(riccati))
        P, _, ok = jax.block_until_ready(solve(*stacks))
        start = time.perf_counter()
        jax.block_until_ready(solve(*stacks))
        assert time.perf_counter() - start < 1.0
    assert ok.tolist() == [True] * 63 + [False]
    for index in range(0, 63, 9):
        close(P[index], solve_discrete_are(*(stack[index] for stack in stacks)), 1e-9)


@each(NARROW + [case for case in CASES if case.action_dim == 1])
def test_gain_sensitivity_matches_differences_of_scipy(system):
    n, scale = system.state_dim, np.sqrt(system.discount or 1.0)
    theta = np.hstack([system.A, system.B])

    def gain(theta):
        A, B = scale * theta[:, :n], scale * theta[:, n:]
        P = solve_discrete_are(A, B, system.Q, system.R)
        return -np.linalg.solve(system.R + B.T @ P @ B, B.T @ P @ A).reshape(-1)

    columns = []
    for index in np.ndindex(theta.shape):
        D = np.zeros(theta.shape)
        D[index] = 2e-5 if system.name.startswith(("pendulum", "cartpole")) else 3e-4
        slopes = gain(theta - 2 * D) - 8 * gain(theta - D) + 8 * gain(theta + D) - gain(theta + 2 * D)
        columns.append(slopes / (12 * D[index]))
    close(exact.gain_sensitivity(system), np.stack(columns, axis=1), 1e-6)


def test_riccati_differentiates_in_the_cost_and_backwards():
    A, B, Q, R = numbers(SYSTEMS["singular_noise"])
    with jax.enable_x64(True):
        gain = lambda q, r: riccati(A, B, q, r).K  # noqa: E731
        backward = jax.jit(jax.jacrev(gain, argnums=(0, 1)))(Q, R)
        forward = jax.jit(jax.jacfwd(gain, argnums=(0, 1)))(Q, R)
    for index, D in ((0, np.ones((4, 4))), (1, np.eye(2))):
        close(backward[index], np.asarray(forward[index]), 1e-10)
        near = [riccati(A, B, *((Q + c * D, R) if index == 0 else (Q, R + c * D))).K for c in (-1e-5, 1e-5)]
        slope = (np.asarray(near[1]) - np.asarray(near[0])) / 2e-5
        close(np.einsum("ijkl,kl->ij", np.asarray(backward[index]), D), slope, 1e-6)


def test_gain_sensitivity_without_optimum_is_undefined():
    hopeless = replace(SYSTEMS["double_integrator"], B=np.array([[0.0], [0.0]]))
    assert np.isnan(np.asarray(exact.gain_sensitivity(hopeless))).all()
    assert not bool(exact.stationary_optimum(hopeless).ok)
