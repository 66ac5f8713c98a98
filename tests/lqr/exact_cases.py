"""Systems and independent formulas that the tests of the exact answers share in NumPy."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from mbpo.lqr import catalogue, optimum
from mbpo.lqr.system import LinearQuadratic


def random_system(n: int, m: int, radius: float, seed: int, noise_rank: int | None = None) -> LinearQuadratic:
    """A system with A of the given spectral radius and dense weights; W of rank `noise_rank` (default n)."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    Q, R, X0 = (_covariance(rng, k, k) for k in (n, m, n))
    W = _covariance(rng, n, n if noise_rank is None else noise_rank)
    return LinearQuadratic(
        A=A, B=rng.normal(size=(n, m)), Q=Q, R=R, W=W, initial_covariance=X0, name=f"random{n}{m}"
    )


def _covariance(rng: np.random.Generator, size: int, rank: int) -> np.ndarray:
    root = rng.normal(size=(size, rank)) / np.sqrt(size)
    return root @ root.T + (0.1 * np.eye(size) if rank == size else 0.0)


SYSTEMS = {name: catalogue.get(name) for name in ("double_integrator", "laplacian3", "pendulum", "cartpole")}
SYSTEMS |= {
    "boeing747": catalogue.get("boeing747"),
    "stable": random_system(4, 2, 0.8, 1),
    "unstable": random_system(6, 2, 1.3, 2),
    "singular_noise": random_system(4, 2, 1.1, 3, noise_rank=1),
}
OBJECTIVES = {"average": {}, "discount": {"discount": 0.9}, "horizon": {"horizon": 7}}
EVERYWHERE = ("stable", "boeing747", "singular_noise")
CASES = [
    replace(system, name=f"{name}-{objective}", **choice)
    for objective, choice in OBJECTIVES.items()
    for name, system in SYSTEMS.items()
    if objective == "average" or name in EVERYWHERE
]

NARROW = [case for case in CASES if (case.state_dim, case.action_dim) == (4, 2)]


def each(cases: list[LinearQuadratic]) -> pytest.MarkDecorator:
    """Run a test for each of these systems, under its name."""
    return pytest.mark.parametrize("system", cases, ids=[case.name for case in cases])


def some_gain(system: LinearQuadratic) -> np.ndarray:
    """A stabilising gain that is not optimal for `system`: control five times dearer and no symmetry left."""
    steady = replace(system, horizon=None, terminal_cost=None, R=5 * system.R)
    gain = optimum.solve(steady).gain
    return gain * (1 + 0.01 * np.cos(np.arange(gain.size))).reshape(gain.shape)


def exploration(system: LinearQuadratic) -> np.ndarray:
    m = system.action_dim
    return 0.3 * np.eye(m) + 0.1 * np.ones((m, m))


def kronecker_lyapunov(F: np.ndarray, X: np.ndarray) -> np.ndarray:
    """S = F S F' + X without conjugation, so that complex steps pass through."""
    n = len(F)
    return np.linalg.solve(np.eye(n * n) - np.kron(F, F), X.reshape(-1)).reshape(n, n)


@lru_cache
def _terminal(system: LinearQuadratic) -> np.ndarray:
    return optimum.terminal_value(system)


def reference_cost(system: LinearQuadratic, gain, S=None, A=None, B=None) -> np.ndarray:
    """The cost from state covariances, not value matrices; analytic in gain, A and B. Gains as everywhere."""
    A, B = system.A if A is None else A, system.B if B is None else B
    S = np.zeros((system.action_dim,) * 2) if S is None else S
    W_e, effort = system.W + B @ S @ B.T, np.sum(system.R * S)
    if system.horizon is not None:
        Sigma, total = system.initial_covariance, 0.0
        gains = gain if np.ndim(gain) == 3 else [gain] * system.horizon
        for K in gains:
            total = total + np.sum((system.Q + K.T @ system.R @ K) * Sigma) + effort
            Sigma = (A + B @ K) @ Sigma @ (A + B @ K).T + W_e
        return total + np.sum(_terminal(system) * Sigma)
    C, F, g = system.Q + gain.T @ system.R @ gain, A + B @ gain, system.discount
    if g is None:
        return np.sum(C * kronecker_lyapunov(F, W_e)) + effort
    visited = kronecker_lyapunov(np.sqrt(g) * F, system.initial_covariance + g * W_e / (1 - g))
    return np.sum(C * visited) + effort / (1 - g)


def complex_step(function, point: np.ndarray) -> np.ndarray:
    """The derivative of an analytic function at a real array, to rounding."""
    step, out = 1e-30, np.empty(point.shape)
    for index in np.ndindex(point.shape):
        moved = point.astype(complex)
        moved[index] += 1j * step
        out[index] = np.imag(function(moved)) / step
    return out


def close(actual, expected, tolerance: float) -> None:
    """Fail unless the largest difference is at most `tolerance` times the largest expected entry."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == np.float64
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())
