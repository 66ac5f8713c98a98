"""The certified optimum against 60 digits, python-control and closed forms, and the conditions it names."""

from dataclasses import replace

import control
import mpmath
import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr import catalogue, reference
from mbpo.lqr.optimum import Optimum, default_gain, solve, terminal_value
from mbpo.lqr.system import LinearQuadratic


def random_system(seed: int, radius: float, discount: float | None = None) -> LinearQuadratic:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 13)), int(rng.integers(1, 4))
    A = rng.normal(size=(n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    root, factor = rng.normal(size=(n, n)), rng.normal(size=(n, max(1, n // 2)))
    weight = rng.normal(size=(m, m))
    X0 = np.diag(rng.uniform(0, 2, size=n))
    B, Q, R, W = (
        rng.normal(size=(n, m)),
        root @ root.T,
        weight @ weight.T + 0.1 * np.eye(m),
        factor @ factor.T,
    )
    return LinearQuadratic(A, B, Q, R, W, X0, discount=discount)


def in_other_units(system: LinearQuadratic, seed: int) -> LinearQuadratic:
    """The same system with each state and input measured in a unit between 1e-3 and 1e3."""
    rng = np.random.default_rng(seed)
    state = 10.0 ** rng.integers(-3, 4, size=system.state_dim)
    inputs = 10.0 ** rng.integers(-3, 4, size=system.action_dim)
    return replace(
        system,
        A=state[:, None] * system.A / state,
        B=state[:, None] * system.B / inputs,
        Q=system.Q / np.outer(state, state),
        R=system.R / np.outer(inputs, inputs),
        W=system.W * np.outer(state, state),
    )


def exact_optimum(system: LinearQuadratic) -> tuple[np.ndarray, np.ndarray, float]:
    """Gain, value and cost by structured doubling with 60 digits."""
    with mpmath.workdps(60):
        g = mpmath.mpf(1) if system.discount is None else mpmath.mpf(system.discount)
        A, B, Q, R = (mpmath.matrix(x.tolist()) for x in (system.A, system.B, system.Q, system.R))
        eye, step, G, H = mpmath.eye(len(system.A)), mpmath.sqrt(g) * A, g * B * R**-1 * B.T, Q.copy()
        for _ in range(60):
            inverse = (eye + G * H) ** -1
            rise = step.T * H * inverse * step
            step, G, H = step * inverse * step, G + step * inverse * G * step.T, H + rise
            if mpmath.mnorm(rise, 1) <= mpmath.mpf(10) ** -50 * mpmath.mnorm(H, 1):
                break
        K = -((R + g * B.T * H * B) ** -1) * (g * B.T * H * A)
        F = A + B * K
        defect = Q + K.T * R * K + g * F.T * H * F - H
        assert mpmath.mnorm(defect, 1) < mpmath.mpf(10) ** -25 * mpmath.mnorm(H, 1)
        noise, start = (mpmath.matrix(x.tolist()) for x in (system.W, system.initial_covariance))
        cost = trace(H * noise)
        if system.discount is not None:
            cost = trace(H * start) + g * cost / (1 - g)
        return to_floats(K), to_floats(H), float(cost)


def trace(M: mpmath.matrix) -> mpmath.mpf:
    return sum((M[i, i] for i in range(M.rows)), mpmath.mpf(0))


def to_floats(M: mpmath.matrix) -> np.ndarray:
    return np.array(M.tolist(), dtype=float)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def assert_exact(best: Optimum, system: LinearQuadratic, tolerance: float) -> None:
    K, P, cost = exact_optimum(system)
    assert relative_error(best.gain, K) < tolerance
    assert relative_error(best.value, P) < tolerance
    assert abs(best.cost / cost - 1) < tolerance
    assert best.residual < 1e-14
    assert best.spectral_radius == pytest.approx(
        np.abs(np.linalg.eigvals(system.A + system.B @ best.gain)).max()
    )


@pytest.mark.parametrize("radius", [0.3, 0.95, 1.0, 1.3])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("discount", [None, 0.9])
def test_agrees_with_sixty_digits(seed: int, radius: float, discount: float | None) -> None:
    system = random_system(seed, radius, discount)
    assert_exact(solve(system), system, 1e-11)


@pytest.mark.parametrize("seed", range(6))
def test_units_do_not_cost_digits(seed: int) -> None:
    system = in_other_units(random_system(10 + seed, 1.1), seed)
    assert_exact(solve(system), system, 1e-10)


@pytest.mark.parametrize("radius", [3.4, 10.0])
@pytest.mark.parametrize("discount", [None, 0.9])
def test_one_input_for_many_unstable_modes(radius: float, discount: float | None) -> None:
    rng = np.random.default_rng(5)
    A = rng.normal(size=(9, 9))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    system = LinearQuadratic(A, rng.normal(size=(9, 1)), np.eye(9), [[1.0]], discount=discount)
    K, P, cost = exact_optimum(system)
    best = solve(system)
    assert relative_error(best.gain, K) < 1e-11
    assert relative_error(best.value, P) < 1e-11
    assert best.cost == pytest.approx(cost, rel=1e-11)


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_python_control(seed: int) -> None:
    system = random_system(20 + seed, 1.05)
    K, P, _ = control.dlqr(system.A, system.B, system.Q, system.R)
    best = solve(system)
    assert relative_error(best.gain, -K) < 1e-6
    assert relative_error(best.value, P) < 1e-6


@pytest.mark.parametrize("broken", ["raises", "wrong", "infinite"])
def test_survives_a_failing_riccati_solver(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def bad_solver(A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray) -> np.ndarray:
        if broken == "raises":
            raise np.linalg.LinAlgError("failed to find a finite solution")
        return np.zeros_like(A) if broken == "wrong" else np.full_like(A, np.inf)

    system = random_system(3, 1.2)
    monkeypatch.setattr(reference.scipy.linalg, "solve_discrete_are", bad_solver)
    assert_exact(solve(system), system, 1e-11)


def test_scalar_closed_form() -> None:
    # P = 1 + 1.21 P - 1.21 P^2 / (1 + P), so P^2 - 1.21 P - 1 = 0
    P = (1.21 + np.sqrt(1.21**2 + 4)) / 2
    best = solve(catalogue.get("scalar"))
    assert best.value[0, 0] == pytest.approx(P, rel=1e-14)
    assert best.gain[0, 0] == pytest.approx(-1.1 * P / (1 + P), rel=1e-14)
    assert best.cost == pytest.approx(P, rel=1e-14)


def test_a_discounted_optimum_may_leave_the_loop_unstable() -> None:
    system = LinearQuadratic([[1.03]], [[1.0]], [[1e-4]], [[1.0]], discount=0.9)
    best = solve(system)
    assert 1 < best.spectral_radius < 1 / np.sqrt(0.9)
    assert_exact(best, system, 1e-12)


def test_an_unreachable_mode_may_grow_below_the_discount() -> None:
    system = LinearQuadratic(np.diag([1.02, 0.5]), [[0.0], [1.0]], np.eye(2), [[1.0]], discount=0.9)
    assert solve(system).spectral_radius == pytest.approx(1.02)
    with pytest.raises(InputError, match="not stabilisable"):
        solve(replace(system, discount=None))


def test_horizon_with_the_default_terminal_cost_is_stationary() -> None:
    system = replace(catalogue.get("cartpole"), horizon=15, initial_covariance=np.diag([1.0, 2.0, 3.0, 4.0]))
    best, stationary = solve(system), solve(catalogue.get("cartpole"))
    assert best.gains is not None
    assert best.gains.shape == (15, 1, 4)
    np.testing.assert_allclose(best.gains, np.broadcast_to(stationary.gain, (15, 1, 4)), rtol=1e-10)
    start = np.trace(stationary.value @ system.initial_covariance)
    assert best.cost == pytest.approx(start + 15 * stationary.cost, rel=1e-12)
    np.testing.assert_array_equal(terminal_value(system), stationary.value)


def test_horizon_cost_is_that_of_the_quadratic_programme() -> None:
    """Three steps without noise: minimise over the inputs directly, by least squares."""
    rng = np.random.default_rng(5)
    A, B, x0 = 0.8 * rng.normal(size=(2, 2)), rng.normal(size=(2, 1)), rng.normal(size=2)
    Q, QT, R = np.diag([1.0, 0.3]), np.diag([4.0, 2.0]), np.array([[0.5]])
    free = np.vstack([x0, A @ x0, A @ A @ x0, A @ A @ A @ x0]).reshape(-1)
    forced = np.zeros((8, 3))
    for t in range(1, 4):
        for s in range(t):
            forced[2 * t : 2 * t + 2, s] = (np.linalg.matrix_power(A, t - 1 - s) @ B)[:, 0]
    weight = np.zeros((8, 8))
    for t in range(4):
        weight[2 * t : 2 * t + 2, 2 * t : 2 * t + 2] = QT if t == 3 else Q
    inputs = -np.linalg.solve(forced.T @ weight @ forced + 0.5 * np.eye(3), forced.T @ weight @ free)
    states = free + forced @ inputs
    expected = states @ weight @ states + 0.5 * inputs @ inputs
    system = LinearQuadratic(A, B, Q, R, np.zeros((2, 2)), np.outer(x0, x0), horizon=3, terminal_cost=QT)
    best = solve(system)
    assert best.cost == pytest.approx(expected, rel=1e-12)
    assert best.gain @ x0 == pytest.approx(inputs[:1], rel=1e-12)
    assert best.residual < 1e-14


def test_a_value_that_overflows_is_an_error() -> None:
    system = LinearQuadratic([[1e10]], [[0.0]], [[1.0]], [[1.0]], horizon=100, terminal_cost=[[1.0]])
    with pytest.raises(InputError, match="overflows 16 steps before the end"):
        solve(system)


@pytest.mark.parametrize(("a", "b"), [(1e300, 1.0), (1e200, 1e-200), (2.0, 1e-200)])
@pytest.mark.parametrize("n", [1, 2])
def test_numbers_beyond_doubles_are_refused_in_a_sentence(a: float, b: float, n: int) -> None:
    with pytest.raises(InputError, match=r"^system: "):
        solve(LinearQuadratic(a * np.eye(n), b * np.eye(n), np.eye(n), np.eye(n)))


@pytest.mark.parametrize("n", [1, 2])
def test_large_numbers_alone_are_no_reason_to_refuse(n: int) -> None:
    best = solve(LinearQuadratic(1e308 * np.eye(n), 1e308 * np.eye(n), np.eye(n), np.eye(n)))
    np.testing.assert_allclose(best.gain, -np.eye(n), atol=1e-15)  # K = -1 undoes A at once: P = Q + R
    assert best.cost == pytest.approx(2 * n)


def test_default_gain_prefers_the_given_one_and_checks_it() -> None:
    system = catalogue.get("pendulum")
    np.testing.assert_array_equal(default_gain(system), system.initial_gain)
    with pytest.raises(InputError, match=r"pendulum: initial_gain must stabilise .* radius 1\.1566"):
        default_gain(replace(system, initial_gain=[[0.0, 0.0]]))
    other_sign = [[-each for each in row] for row in np.asarray(system.initial_gain)]
    with pytest.raises(InputError, match=r"initial_gain must stabilise .*; -K stabilises .* u = -Kx"):
        default_gain(replace(system, initial_gain=other_sign))
    undamped = replace(system, discount=0.6, initial_gain=[[0.0, 0.0]])
    np.testing.assert_array_equal(default_gain(undamped), [[0.0, 0.0]])


def test_default_gain_is_zero_for_a_calm_system_else_stabilises() -> None:
    np.testing.assert_array_equal(default_gain(catalogue.get("boeing747")), np.zeros((2, 4)))
    system = catalogue.get("cartpole")
    gain = default_gain(system)
    assert reference.spectral_radius(system.A + system.B @ gain) < 1
    assert relative_error(gain, exact_optimum(replace(system, R=100 * system.R))[0]) < 1e-11
    assert default_gain(catalogue.get("liquidation")).shape == (1, 2)


def test_answers_are_read_only() -> None:
    best = solve(catalogue.get("pendulum"))
    with pytest.raises(ValueError, match="read-only"):
        best.gain[0, 0] = 1
