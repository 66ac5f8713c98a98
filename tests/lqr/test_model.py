"""Least squares, its confidence, the learned cost and the stability test, each against NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from learning_cases import SINGULAR, THREE, TWO, gaussian, ring_of, scattered

from mbpo.lqr.model import LeastSquares, contracts, least_squares, plausible_models, semidefinite

pytestmark = pytest.mark.usefixtures("_compile_without_optimising")
RIDGE = 1e-9


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def fit(rows, weight=None):
    weight = jnp.ones(rows.reward.shape[0]) if weight is None else weight
    return least_squares(rows.observation, rows.action, rows.next_observation, weight, jnp.asarray(RIDGE))


@pytest.mark.parametrize("system", [TWO, THREE, SINGULAR], ids=["2", "3", "singular"])
def test_fit_is_numpy_s_least_squares(system):
    rows = scattered(system, gaussian(system), 200, jax.random.key(0))
    weight = jnp.arange(200) % 3 < 2
    model = fit(rows, weight.astype(jnp.float64))
    keep = np.asarray(weight)
    z = np.concatenate([rows.observation, rows.action], axis=1)[keep]
    target = np.asarray(rows.next_observation)[keep]
    expected = np.linalg.lstsq(z, target, rcond=None)[0]
    got = np.concatenate([model.A, model.B], axis=1).T
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    residual = target - z @ expected
    np.testing.assert_allclose(model.W, residual.T @ residual / (len(z) - z.shape[1]), atol=1e-6)
    np.testing.assert_allclose(model.information, z.T @ z, rtol=1e-12, atol=1e-9)
    scaled = z / np.sqrt(np.mean(z**2, axis=0))
    np.testing.assert_allclose(model.condition, np.linalg.cond(scaled), rtol=1e-6)


def test_fit_ignores_what_the_ring_does_not_hold():
    rows = scattered(TWO, gaussian(TWO), 60, jax.random.key(1))
    part = LeastSquares.of(TWO, 1e6)
    start = part.init(jax.random.key(0))
    assert not start.identified
    garbage = jax.tree.map(lambda leaf: leaf.at[40:].set(jnp.asarray(77, leaf.dtype)), rows)
    ring = ring_of(garbage)._replace(size=jnp.int32(40))
    got = part.fit(start, ring, jax.random.key(0))
    expected = fit(jax.tree.map(lambda leaf: leaf[:40], rows))
    np.testing.assert_allclose(got.A, expected.A, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.W, expected.W, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(got.Q, TWO.Q)


def test_parts_travel_through_jit_as_arguments():
    rows = scattered(TWO, gaussian(TWO), 50, jax.random.key(1))
    for learn_cost in (False, True):
        part = LeastSquares.of(TWO, 1e6, learn_cost)
        fitted = jax.jit(lambda part, ring: part.fit(None, ring, None))(part, ring_of(rows))
        assert np.isfinite(fitted.A).all()
        assert eqx.tree_equal(part, jax.tree.map(lambda leaf: leaf, part))


@pytest.mark.parametrize("units", [1.0, 1e6, 1e-5])
@pytest.mark.parametrize("system", [TWO, THREE, SINGULAR], ids=["2", "3", "singular"])
def test_without_exploration_the_model_says_it_is_not_identified(system, units):
    silent, keys = gaussian(system, 0.0), jax.random.split(jax.random.key(0), 24)

    @jax.jit
    @jax.vmap
    def one(key):
        rows = scattered(system, silent, 300, key)
        return fit(rows._replace(observation=rows.observation * units, action=rows.action * units))

    model = one(keys)
    assert not model.identified.any()
    assert np.isfinite(model.A).all()
    assert np.isfinite(model.B).all()
    loop = (np.asarray(model.A) + np.asarray(model.B) @ np.asarray(silent.gain)) * units
    np.testing.assert_allclose(
        loop, np.broadcast_to(system.A + system.B @ np.asarray(silent.gain), loop.shape), atol=1.0
    )
    explored = jax.jit(jax.vmap(lambda key: fit(scattered(system, gaussian(system, 1e-2), 300, key))))(keys)
    assert explored.identified.all()


def test_errors_are_chi_square_in_the_model_s_own_units():
    repetitions, count = 300, 80
    z_dim = 3

    @jax.jit
    @jax.vmap
    def one(key):
        model = fit(scattered(TWO, gaussian(TWO), count, key))
        error = jnp.concatenate([model.A - TWO.A, model.B - TWO.B], axis=1)
        white = jnp.linalg.solve(jnp.linalg.cholesky(jnp.asarray(TWO.W)), error)
        return jnp.sum((white @ model.information) * white), model.W

    statistic, W = one(jax.random.split(jax.random.key(2), repetitions))
    assert scipy.stats.kstest(statistic, scipy.stats.chi2(2 * z_dim).cdf).pvalue > 1e-3
    error = np.std(W, axis=0, ddof=1) / np.sqrt(repetitions)
    assert (np.abs(np.mean(W, axis=0) - TWO.W) <= 4.5 * error).all()


def test_plausible_models_are_draws_from_the_confidence_set():
    model = fit(scattered(TWO, gaussian(TWO), 60, jax.random.key(3)))
    count = 20_000
    A, B = plausible_models(model, count, jax.random.key(4))
    np.testing.assert_allclose(A[0], model.A)
    np.testing.assert_allclose(B[0], model.B)
    error = np.concatenate([A - model.A[None], B - model.B[None]], axis=2)[1:].reshape(count - 1, -1)
    covariance = np.kron(model.W, np.linalg.inv(model.information))
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert np.abs(np.cov(error.T) - covariance).max() <= 6 * scale.max() / np.sqrt(count)
    assert np.abs(error.mean(axis=0)).max() <= 4.5 * np.sqrt(np.diag(covariance).max() / count)


@pytest.mark.parametrize("system", [TWO, SINGULAR], ids=["2", "singular"])
def test_the_cost_is_learned_exactly_from_costs_without_noise(system):
    rows = scattered(system, gaussian(system), 200, jax.random.key(5))
    part = LeastSquares.of(system, 1e6, learn_cost=True)
    model = part.fit(part.init(jax.random.key(0)), ring_of(rows), jax.random.key(0))
    np.testing.assert_allclose(model.Q, system.Q, atol=1e-7 * np.abs(system.Q).max())
    np.testing.assert_allclose(model.R, system.R, atol=1e-7 * np.abs(system.R).max())


def test_a_learned_cost_is_never_indefinite():
    rows = scattered(TWO, gaussian(TWO), 12, jax.random.key(6))
    rows = rows._replace(reward=5 * jax.random.normal(jax.random.key(7), (12,)))
    part = LeastSquares.of(TWO, 1e6, learn_cost=True)
    model = part.fit(part.init(jax.random.key(0)), ring_of(rows), jax.random.key(0))
    assert np.linalg.eigvalsh(model.Q).min() >= -1e-12 * np.abs(model.Q).max()
    assert np.isfinite(model.R).all()


def test_projection_is_the_nearest_semidefinite_matrix():
    S = np.diag([3.0, -1.0, 0.5])
    V = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(
        semidefinite(jnp.asarray(V @ S @ V.T), 0.0), V @ np.diag([3, 0, 0.5]) @ V.T, atol=1e-12
    )


def test_imagined_steps_have_the_model_s_moments():
    model = fit(scattered(TWO, gaussian(TWO), 60, jax.random.key(3)))._replace(Q=TWO.Q, R=TWO.R)
    part = LeastSquares.of(TWO, 1e6)
    x, u = jnp.asarray([1.0, -2.0]), jnp.asarray([0.5])
    count = 10_000
    x_rows, u_rows = jnp.tile(x, (count, 1)), jnp.tile(u, (count, 1))
    rows, valid = part.step(model, x_rows, u_rows, jax.random.split(jax.random.key(0), count))
    noise = np.asarray(rows.next_observation - (model.A @ x + model.B @ u)[None])
    W = np.asarray(model.W)
    spread = np.sqrt((np.outer(np.diag(W), np.diag(W)) + W**2) / count)
    assert (np.abs(noise.T @ noise / count - W) <= 4.5 * spread).all()
    np.testing.assert_allclose(rows.reward, -(x @ TWO.Q @ x + u @ TWO.R @ u), rtol=1e-12)
    assert valid.all()
    assert not part.step(model, 1e9 * x[None], u[None], jax.random.split(jax.random.key(0), 1))[1].any()


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 4),
    radius=st.floats(0.0, 3.0),
    seed=st.integers(0, 2**31),
)
def test_contracts_agrees_with_the_eigenvalues(size, radius, seed):
    F = np.random.default_rng(seed).normal(size=(size, size))
    values, vectors = np.linalg.eig(F)
    assume(np.linalg.cond(vectors) < 100)
    F *= radius / np.abs(values).max()
    verdict = bool(compiled(jnp.asarray(F)))
    if verdict:
        assert radius < 1 + 1e-12, "F itself is rounded"
    if radius < 1 - 1e-6:
        assert verdict


compiled = jax.jit(contracts)


@pytest.mark.parametrize(
    "F",
    [
        [[4.0, -2.0], [4.0, -2.0]],  # eigenvalues 2 and 0: powers keep the signs of a nilpotent matrix
        [[1e200, 0.0], [0.0, 0.0]],
        [[np.nan, 0.0], [0.0, 0.0]],
        [[np.inf, 0.0], [0.0, 0.5]],
        [[1.0, 0.0], [0.0, 0.2]],
    ],
)
def test_a_loop_that_diverges_never_contracts(F):
    assert not contracts(jnp.asarray(F))


@pytest.mark.parametrize("radius", [0.999_99, 1.000_01])
def test_contracts_sees_slow_loops_in_any_units(radius):
    """A servo at 2 kHz closes 1e-5 of the gap a step; in other units its powers are as large as 1e16 for long."""
    slow = np.array([[radius, 0.3, 0.0], [0.0, 0.9, 0.2], [0.0, 0.0, 0.5]])
    for units in ([1.0, 1.0, 1.0], [1e8, 1.0, 1e-8], [1e-6, 1e3, 1.0]):
        D = np.diag(units)
        assert bool(contracts(jnp.asarray(D @ slow @ np.linalg.inv(D)))) is (radius < 1)


def test_contracts_takes_batches():
    F = jnp.stack([0.5 * jnp.eye(2), 1.5 * jnp.eye(2), jnp.asarray([[0.0, 100.0], [0.0, 0.0]])])
    assert contracts(F[None]).tolist() == [[True, False, True]]
