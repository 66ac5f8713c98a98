"""Ratio moments against the backward recursion, quadrature, Monte Carlo, published figures and their own limits."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from exact_cases import SYSTEMS, random_system
from hypothesis import given, settings
from hypothesis import strategies as st

from mbpo.errors import InputError
from mbpo.lqr import optimum, ratio_radii, ratios
from mbpo.lqr.reference import lyapunov
from mbpo.lqr.system import LinearQuadratic

LAPLACIAN, INTEGRATOR = SYSTEMS["laplacian3"], SYSTEMS["double_integrator"]
BOEING_GAIN = optimum.solve(replace(SYSTEMS["boeing747"], R=20 * SYSTEMS["boeing747"].R)).gain
SCALAR = LinearQuadratic(A=[[0.9]], B=[[0.5]], Q=[[1.0]], R=[[1.0]], W=[[0.3]], initial_covariance=[[0.7]])
CHEAP = settings(max_examples=40, deadline=None)


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0))


def backward(system, K, K_b, S, steps, power=2, X0=None):
    """log E_b[rho^power] of the trajectory by the value function exp(x'Pi x + c), run backwards."""
    X0, n, D = system.initial_covariance if X0 is None else X0, system.state_dim, K - K_b
    W_e, F = system.W + system.B @ S @ system.B.T, system.A + system.B @ (K_b + power * D)
    seen = power * (power - 1) / 2 * D.T @ np.linalg.solve(S, D)
    Pi, c = np.zeros((n, n)), 0.0
    for t in range(steps + 1):
        L = root(X0 if t == steps else W_e)
        room = np.eye(n) - 2 * L.T @ Pi @ L
        if np.linalg.eigvalsh(room)[0] <= 0:
            return np.inf
        c -= 0.5 * np.linalg.slogdet(room)[1]
        Pi = seen + F.T @ (Pi + 2 * Pi @ L @ np.linalg.solve(room, L.T @ Pi)) @ F
    return c


def trajectories(system, K, K_b, S, steps, count, seed, X0=None):
    """rho_{0:t} of simulated trajectories under the behaviour, [count, steps], by the densities themselves."""
    rng, G = np.random.default_rng(seed), np.linalg.inv(S)
    draw = lambda C: rng.normal(size=(count, len(C))) @ root(C).T  # noqa: E731
    x, log, logs = draw(system.initial_covariance if X0 is None else X0), np.zeros(count), []
    for _ in range(steps):
        u = x @ K_b.T + draw(S)
        off, old = u - x @ K.T, u - x @ K_b.T
        log = log + (np.einsum("bi,ij,bj->b", old, G, old) - np.einsum("bi,ij,bj->b", off, G, off)) / 2
        logs.append(log)
        x = x @ system.A.T + u @ system.B.T + draw(system.W)
    return np.exp(np.stack(logs, axis=1))


def drawn_case(n, m, seed, size=0.2, noise_rank=None):
    system = random_system(n, m, 0.9, seed, noise_rank)
    rng = np.random.default_rng(seed + 1)
    K_b, D = 0.2 * rng.normal(size=(2, m, n))
    factor = rng.normal(size=(m, m))
    return system, K_b + size * D, K_b, factor @ factor.T + 0.3 * np.eye(m)


cases = st.builds(
    drawn_case,
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 10_000),
    st.sampled_from([0.03, 0.1, 0.5]),
    st.sampled_from([None, 0, 1]),
)


@CHEAP
@given(cases, st.integers(1, 25), st.booleans())
def test_forward_and_backward_recursions_agree(case, steps, from_origin):
    system, K, K_b, S = case
    X0 = np.zeros_like(system.A) if from_origin else None
    logs = ratios.log_prefix_second_moments(system, K, K_b, S, steps, X0)
    expected = [backward(system, K, K_b, S, t + 1, X0=X0) for t in range(steps)]
    np.testing.assert_allclose(logs, expected, rtol=1e-6, atol=1e-11)
    assert (np.diff(logs[np.isfinite(logs)]) >= 0).all()
    assert (logs >= 0).all()
    whole = ratios.log_ratio_second_moment(system, K, K_b, S, steps, X0)
    assert whole == logs[-1]
    assert ratios.ratio_second_moment(system, K, K_b, S, steps, X0) == pytest.approx(np.exp(whole))
    assert ratios.effective_fraction(system, K, K_b, S, steps, X0) == pytest.approx(np.exp(-whole))


@CHEAP
@given(cases, st.integers(1, 30))
def test_a_policy_against_itself_has_ratio_one(case, steps):
    system, K, _, S = case
    assert (ratios.prefix_second_moments(system, K, K, S, steps) == 1.0).all()
    assert ratios.step_second_moment(K, K, S, system.initial_covariance) == 1.0
    assert ratios.always_finite(system, K, K, S)


@CHEAP
@given(cases, st.integers(0, 1000))
def test_moments_do_not_depend_on_coordinates(case, seed):
    system, K, K_b, S = case
    n, m = system.state_dim, system.action_dim
    rng = np.random.default_rng(seed)
    T, V = np.eye(n) + 0.2 * rng.normal(size=(n, n)), np.diag(10.0 ** rng.integers(-3, 4, m))
    inverse = np.linalg.inv(T)
    moved = replace(
        system,
        A=T @ system.A @ inverse,
        B=T @ system.B @ np.linalg.inv(V),
        W=T @ system.W @ T.T,
        initial_covariance=T @ system.initial_covariance @ T.T,
        Q=np.eye(n),
        R=np.eye(m),
    )
    found = ratios.log_prefix_second_moments(moved, V @ K @ inverse, V @ K_b @ inverse, V @ S @ V, 6)
    expected = ratios.log_prefix_second_moments(system, K, K_b, S, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    ("n", "m", "seed", "rank"), [(1, 1, 1, None), (3, 2, 2, 1), (4, 1, 3, 0), (6, 3, 4, 2)]
)
def test_monte_carlo(n, m, seed, rank):
    system, K, K_b, S = drawn_case(n, m, seed, 1.0, rank)
    steps, count = 8, 100_000
    reach = ratio_radii.half_radius(system, K_b, K - K_b, S, steps)  # a third of it: light tails
    K = K_b + reach / 3 * (K - K_b) / np.linalg.norm(K - K_b)
    squared = trajectories(system, K, K_b, S, steps, count, seed) ** 2
    exact = ratios.prefix_second_moments(system, K, K_b, S, steps)
    assert exact[-1] > 1.02
    fourth = np.exp([backward(system, K, K_b, S, t + 1, power=4) for t in range(steps)])
    z = (squared.mean(axis=0) - exact) / np.sqrt((fourth - exact**2) / count)
    assert np.isfinite(fourth).all()
    assert np.abs(z).max() < 4.5, z


def test_monte_carlo_of_one_step_and_of_the_marginalised_ratio():
    rng, count = np.random.default_rng(5), 400_000
    _, K, K_b, S = drawn_case(3, 2, 8, 0.3)
    factor = rng.normal(size=(3, 3))
    C_b = factor @ factor.T + np.eye(3)
    C = C_b + 0.1 * np.diag([1.0, -2.0, 1.5])
    x = rng.normal(size=(count, 3)) @ root(C_b).T
    w = np.exp(np.einsum("bi,ij,bj->b", x, np.linalg.inv(C_b) - np.linalg.inv(C), x) / 2)
    w *= np.sqrt(np.linalg.det(C_b) / np.linalg.det(C))
    u = x @ K_b.T + rng.normal(size=(count, 2)) @ root(S).T
    off, old, G = u - x @ K.T, u - x @ K_b.T, np.linalg.inv(S)
    rho = np.exp((np.einsum("bi,ij,bj->b", old, G, old) - np.einsum("bi,ij,bj->b", off, G, off)) / 2)
    for sample, exact in (
        (w, ratios.state_ratio_second_moment(C, C_b)),
        (rho, ratios.step_second_moment(K, K_b, S, C_b)),
        (w * rho, ratios.state_action_second_moment(K, K_b, S, C, C_b)),
    ):
        assert exact > 1.01
        assert abs((sample**2).mean() - exact) < 4.5 * (sample**2).std() / np.sqrt(count)


def test_one_step_is_a_determinant():
    system, K, K_b, S = drawn_case(4, 2, 6, 0.5)
    X, D = root(system.initial_covariance), K - K_b
    expected = np.linalg.det(np.eye(4) - 2 * X.T @ D.T @ np.linalg.solve(S, D) @ X) ** -0.5
    np.testing.assert_allclose(ratios.ratio_second_moment(system, K, K_b, S, 1), expected, rtol=1e-12)
    step = ratios.step_second_moment(K, K_b, S, system.initial_covariance)
    np.testing.assert_allclose(step, expected, rtol=1e-12)


def test_two_steps_of_a_scalar_system_by_quadrature():
    a, b, k, k_b, s, w, v = 0.9, 0.5, -0.4, -0.1, 0.5, 0.3, 0.7
    grid = np.linspace(-9, 9, 61)
    x0, u0, x1, u1 = np.meshgrid(grid, grid, grid, grid, indexing="ij", sparse=True)

    def policy(x, u):  # log of pi^2 / pi_b
        return -((u - k * x) ** 2) / s + (u - k_b * x) ** 2 / (2 * s) - np.log(2 * np.pi * s) / 2

    log = -(x0**2) / (2 * v) - (x1 - a * x0 - b * u0) ** 2 / (2 * w) - np.log(4 * np.pi**2 * v * w) / 2
    total = np.exp(log + policy(x0, u0) + policy(x1, u1)).sum() * (grid[1] - grid[0]) ** 4
    found = ratios.ratio_second_moment(SCALAR, [[k]], [[k_b]], [[s]], 2)
    np.testing.assert_allclose(found, total, rtol=1e-6)


def test_state_ratio_of_scalars_by_quadrature():
    x = np.linspace(-60, 60, 400_001)
    for c, c_b in ((0.4, 1.0), (1.9, 1.0), (1e-3, 2.0)):
        log = -(x**2) / c + x**2 / (2 * c_b) + np.log(c_b / (2 * np.pi * c**2)) / 2
        expected = np.exp(log).sum() * (x[1] - x[0])
        np.testing.assert_allclose(ratios.state_ratio_second_moment([[c]], [[c_b]]), expected, rtol=1e-6)


def test_state_ratios_between_singular_covariances():
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(4, 2)) * np.array([[1e-3], [1.0], [1.0], [1e3]])
    inside = lambda a, b: basis @ np.diag([a, b]) @ basis.T  # noqa: E731
    found = ratios.state_ratio_second_moment(inside(0.5, 1.5), inside(1.0, 1.0))
    np.testing.assert_allclose(found, 1 / 0.75, rtol=1e-6)
    assert ratios.state_ratio_second_moment(np.zeros((2, 2)), np.zeros((2, 2))) == 1.0
    assert ratios.state_ratio_second_moment(inside(1.0, 0.0), inside(1.0, 1.0)) == np.inf
    assert ratios.state_ratio_second_moment(inside(1.0, 1.0), inside(1.0, 0.0)) == np.inf
    assert ratios.state_ratio_second_moment(inside(1.0, 1.0), np.zeros((4, 4))) == np.inf
    assert ratios.state_ratio_second_moment(np.diag([1.0, 1.999999]), np.eye(2)) < np.inf
    assert ratios.state_ratio_second_moment(np.diag([1.0, 2.0]), np.eye(2)) == np.inf
    quiet = ratios.state_action_second_moment([[0.1, 0.0]], [[0.0, 0.0]], [[1.0]], np.eye(2), np.eye(2))
    np.testing.assert_allclose(quiet, 0.98**-0.5)
    assert ratios.state_action_second_moment([[1.0]], [[0.0]], [[1.0]], [[1.0]], [[1.0]]) == np.inf


def published(name):
    system = SYSTEMS[name]
    gain = BOEING_GAIN if name == "boeing747" else system.initial_gain
    S = (0.5 if name == "pendulum" else 0.3) ** 2 * np.eye(system.action_dim)
    start = lyapunov(system.A + system.B @ gain, system.W + system.B @ S @ system.B.T)
    return system, gain, optimum.solve(system).gain, S, start


@pytest.mark.parametrize(
    ("name", "half", "infinite", "needed"),
    [
        ("double_integrator", 0.133, 0.171, 1.08),
        ("laplacian3", 0.039, 0.160, 0.57),
        ("boeing747", 0.021, 0.028, 0.65),
        ("pendulum", 0.90, 1.17, 6.5),
    ],
)
def test_published_radii(name, half, infinite, needed):
    system, K_b, best, S, start = published(name)
    direction, rounding = best - K_b, 0.005 if name == "pendulum" else 0.0005
    assert abs(ratio_radii.half_radius(system, K_b, direction, S, 20, start) - half) < rounding
    assert abs(ratio_radii.infinite_radius(system, K_b, direction, S, 20, start) - infinite) < rounding
    assert abs(np.linalg.norm(direction) - needed) < 10 * rounding


def test_the_path_begins_with_the_published_radii_and_stays_free_of_nan():
    system, K_b, best, S, start = published("boeing747")
    found = ratio_radii.path(system, K_b, best, S, 20, 60, "stationary")
    for share, at in ((found.share[7], 7), (0.0, 0)):
        gain = K_b + share * (best - K_b)
        start = lyapunov(system.A + system.B @ gain, system.W + system.B @ S @ system.B.T)
        half = ratio_radii.half_radius(system, gain, best - K_b, S, 20, start)
        infinite = ratio_radii.infinite_radius(system, gain, best - K_b, S, 20, start)
        np.testing.assert_allclose([found.half[at], found.infinite[at]], [half, infinite], rtol=1e-6)
    assert (found.half < found.infinite).all()
    assert (found.half[:40] < found.remaining[:40]).all()
    assert found.remaining[-1] == 0.0
    unstable = ratio_radii.path(
        LAPLACIAN, np.zeros((3, 3)), optimum.solve(LAPLACIAN).gain, S[0, 0] * np.eye(3), 9, 5
    )
    assert not unstable.stabilising[0]
    assert (unstable.half > 0).all()
    skipped = ratio_radii.path(
        LAPLACIAN, np.zeros((3, 3)), optimum.solve(LAPLACIAN).gain, np.eye(3), 9, 5, "stationary"
    )
    assert skipped.half[0] == skipped.infinite[0] == 0.0
    assert (skipped.half[1:] > 0).all()


@settings(max_examples=15, deadline=None)
@given(cases, st.integers(1, 20))
def test_radii_bracket_their_levels(case, steps):
    system, K, K_b, S = case
    direction = (K - K_b) / np.linalg.norm(K - K_b)

    def log(d):
        return backward(system, K_b + d * direction, K_b, S, steps)

    half = ratio_radii.half_radius(system, K_b, direction, S, steps)
    infinite = ratio_radii.infinite_radius(system, K_b, direction, S, steps)
    assert 0 < half < infinite < np.inf
    np.testing.assert_allclose(log(half), np.log(2), rtol=1e-5)
    assert log(infinite * (1 - 1e-6)) < np.inf
    assert log(infinite * (1 + 1e-6)) == np.inf
    nearer = ratio_radii.log_moments_along(system, K_b, direction, S, half * np.linspace(0, 1, 30), steps)
    assert nearer.shape == (30, steps)
    assert nearer.max() < np.log(2) * (1 + 1e-6)


def test_radii_of_one_scalar_step_in_closed_form():
    v, s = 0.7, 0.5  # E rho^2 = (1 - 2 d^2 v / s)^-1/2
    half = ratio_radii.half_radius(SCALAR, [[-0.1]], [[-3.0]], [[s]], 1)
    infinite = ratio_radii.infinite_radius(SCALAR, [[-0.1]], [[2.0]], [[s]], 1)
    np.testing.assert_allclose(half, np.sqrt(3 / 8 * s / v), rtol=2e-9)
    np.testing.assert_allclose(infinite, np.sqrt(s / v / 2), rtol=2e-9)


def test_directions_that_no_state_shows_and_gains_that_overflow():
    still = replace(SCALAR, initial_covariance=[[0.0]])
    assert ratio_radii.half_radius(still, [[0.0]], [[1.0]], [[1.0]], 1) == np.inf
    assert ratio_radii.infinite_radius(still, [[0.0]], [[1.0]], [[1.0]], 1) == np.inf
    assert ratio_radii.infinite_radius(still, [[0.0]], [[1.0]], [[1.0]], 2) < np.inf
    assert ratio_radii.largest_safe_share(still, [[0.0]], [[1.0]], [[1.0]], 1) == 1.0
    wild = ratio_radii.half_radius(SCALAR, [[100.0]], [[1.0]], [[1.0]], 400)
    assert wild == 0.0
    assert ratios.log_ratio_second_moment(SCALAR, [[100.0]], [[99.0]], [[1.0]], 400) == np.inf


def test_logarithms_do_not_overflow_where_moments_do():
    args = (replace(SCALAR, W=[[0.01]], initial_covariance=[[0.01]]), [[-0.4]], [[0.0]], [[1.0]])
    log = ratios.log_ratio_second_moment(*args, 20_000)
    assert 709 < log < np.inf
    assert ratios.ratio_second_moment(*args, 20_000) == np.inf
    assert ratios.effective_fraction(*args, 20_000) == 0.0


@pytest.mark.parametrize(("name", "moment"), [("boeing747", 2.0), ("laplacian3", 1.1), ("pendulum", 30.0)])
def test_largest_safe_share(name, moment):
    system, other, best, S, _ = published(name)
    share = ratio_radii.largest_safe_share(system, best, other, S, 20, moment)
    assert 0 < share < 1
    found = [
        ratios.ratio_second_moment(system, best, best + f * (other - best), S, 20)
        for f in share * np.array([0.5, 1.0, 1 + 1e-6])
    ]
    assert found[0] < moment < found[2]
    np.testing.assert_allclose(found[1], moment, rtol=1e-5)
    assert ratio_radii.largest_safe_share(system, best, best, S, 20) == 1.0
    near = best + 0.5 * share * (other - best)
    assert ratio_radii.largest_safe_share(system, best, near, S, 20, moment) == 1.0


@pytest.mark.parametrize("name", ["double_integrator", "laplacian3", "boeing747", "pendulum"])
def test_every_horizon_is_finite_below_the_norm_of_the_bounded_real_lemma(name):
    system, K_b, best, S, _ = published(name)
    direction = (best - K_b) / np.linalg.norm(best - K_b)
    L, z = root(system.W + system.B @ S @ system.B.T), np.exp(1j * np.linspace(0, np.pi, 4_001))

    def gap(d):  # of the H-infinity norm to 1/sqrt(2), by a sweep over frequencies
        F = system.A + system.B @ (K_b + 2 * d * direction)
        response = np.linalg.solve(z[:, None, None] * np.eye(len(F)) - F, L)
        through = np.linalg.inv(np.linalg.cholesky(S)) @ (d * direction) @ response
        return np.linalg.norm(through, 2, axis=(-2, -1)).max() - 0.5**0.5

    never = np.zeros_like(system.W)
    low, high = 0.0, ratio_radii.infinite_radius(system, K_b, direction, S, 20, never)
    assert not ratios.always_finite(system, K_b + high * direction, K_b, S, never)
    for _ in range(30):
        middle = (low + high) / 2
        finite = ratios.always_finite(system, K_b + middle * direction, K_b, S, never)
        low, high = (middle, high) if finite else (low, middle)
    assert gap(low * (1 - 1e-4)) < 0 < gap(low * (1 + 1e-4))
    assert low <= ratio_radii.infinite_radius(system, K_b, direction, S, 800, never) <= low * 1.005
    if name == "laplacian3":
        np.testing.assert_allclose(low, 0.1579, atol=5e-5)


def test_the_start_may_bind_before_the_noise_does():
    system, K_b, best, _, _ = published("laplacian3")
    S = np.eye(3)
    start = lyapunov(system.A + system.B @ K_b, system.W + S)
    K = K_b + 0.6 * (best - K_b) / np.linalg.norm(best - K_b)
    assert ratios.always_finite(system, K, K_b, S)
    assert not ratios.always_finite(system, K, K_b, S, start)
    assert ratios.ratio_second_moment(system, K, K_b, S, 1, start) == np.inf
    assert not ratios.always_finite(system, np.zeros((3, 3)), K_b, S)


@pytest.mark.parametrize("steps", [1, 40])
def test_no_noise_at_all(steps):
    quiet = replace(SCALAR, W=[[0.0]], initial_covariance=[[0.0]])
    found = ratios.prefix_second_moments(quiet, [[-0.2]], [[-0.1]], [[0.5]], steps)
    assert found[0] == 1.0
    np.testing.assert_allclose(
        found[-1], np.exp(backward(quiet, *map(np.array, ([[-0.2]], [[-0.1]], [[0.5]])), steps))
    )


ZERO, ONE = np.zeros((1, 2)), np.array([[1.0]])


@pytest.mark.parametrize(
    "call",
    [
        lambda: ratios.ratio_second_moment(INTEGRATOR, np.zeros((2, 2)), ZERO, ONE, 5),
        lambda: ratios.ratio_second_moment(INTEGRATOR, ZERO, ZERO, -ONE, 5),
        lambda: ratios.ratio_second_moment(INTEGRATOR, ZERO, ZERO, ONE, 0),
        lambda: ratios.ratio_second_moment(INTEGRATOR, ZERO, ZERO, ONE, 5, np.eye(3)),
        lambda: ratios.step_second_moment(ZERO, ZERO, ONE, np.eye(3)),
        lambda: ratios.step_second_moment(ZERO, np.zeros((1, 3)), ONE, np.eye(2)),
        lambda: ratios.state_ratio_second_moment(np.eye(2), np.eye(3)),
        lambda: ratios.state_ratio_second_moment(np.eye(2), np.ones((2, 3))),
        lambda: ratios.state_ratio_second_moment(-np.eye(2), np.eye(2)),
        lambda: ratios.state_action_second_moment(ZERO, ZERO, ONE, np.eye(3), np.eye(3)),
        lambda: ratio_radii.half_radius(INTEGRATOR, ZERO, ZERO, ONE, 5),
        lambda: ratio_radii.log_moments_along(INTEGRATOR, ZERO, ZERO + 1, ONE, 3.0, 5),
        lambda: ratio_radii.path(INTEGRATOR, ZERO, ZERO + 1, ONE, 5, 1),
        lambda: ratio_radii.path(INTEGRATOR, ZERO, ZERO + 1, ONE, 5, 4, "middle"),
        lambda: ratio_radii.largest_safe_share(INTEGRATOR, ZERO, ZERO + 1, ONE, 5, 1.0),
    ],
)
def test_bad_input_is_named(call):
    with pytest.raises(InputError):
        call()


def test_the_moment_falls_with_exploration_and_grows_with_horizon():
    direction = optimum.solve(INTEGRATOR).gain - INTEGRATOR.initial_gain
    table = [
        ratio_radii.log_moments_along(
            INTEGRATOR, INTEGRATOR.initial_gain, direction, [[sigma**2]], [0.01, 0.02], 30
        )
        for sigma in (0.3, 1.0)
    ]
    for low, high in itertools.pairwise(reversed(table)):
        assert (low < high).all()
    assert (np.diff(table[0], axis=1) > 0).all()
