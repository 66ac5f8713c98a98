"""Temporal-difference values against the exact ones."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning_cases import SINGULAR, THREE, TWO, gaussian, off_optimum, scattered, z_scores

from mbpo.lqr import exact, optimum
from mbpo.lqr.critic import backward_values, lstd, moments, regress
from mbpo.lqr.objective import Objective

pytestmark = pytest.mark.usefixtures("_compile_without_optimising")
AVERAGE = [TWO, THREE]
DISCOUNTED = [replace(TWO, discount=0.9), replace(SINGULAR, discount=0.8)]


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def rows_of(system, count, key):
    """Off-policy rows: z = [x; u] explored, z' = [x'; K x'] of the target policy."""
    rows = scattered(system, gaussian(system), count, key)
    K = jnp.asarray(off_optimum(system))
    z = jnp.concatenate([rows.observation, rows.action], axis=1)
    z_next = jnp.concatenate([rows.next_observation, rows.next_observation @ K.T], axis=1)
    return rows, z, -rows.reward, z_next


@pytest.mark.parametrize("system", AVERAGE + DISCOUNTED, ids=lambda s: f"{s.name}-{s.objective}")
def test_lstd_finds_the_quality_matrix_and_the_average(system):
    """Consistent, not unbiased: a ratio of sums; at 4000 rows its bias is below a thousandth."""
    objective, expected = Objective.of(system), np.asarray(exact.quality_matrix(system, off_optimum(system)))

    @jax.jit
    @jax.vmap
    def one(key):
        _, z, cost, z_next = rows_of(system, 4000, key)
        value = lstd(moments(z, cost, z_next, jnp.ones(4000, bool)), objective)
        return value.matrix, value.average

    matrices, averages = one(jax.random.split(jax.random.key(0), 24))
    error = np.std(matrices, axis=0, ddof=1) / np.sqrt(24)
    allowance = 4.5 * error + 3e-3 * np.abs(expected).max()
    assert (np.abs(np.mean(matrices, axis=0) - expected) <= allowance).all()
    assert np.abs(np.mean(matrices, axis=0) - expected).max() < 0.1 * np.abs(expected).max()
    if system.discount is None:
        assert np.abs(z_scores(averages, exact.cost(system, off_optimum(system)))) < 5


@pytest.mark.parametrize("system", AVERAGE + DISCOUNTED, ids=lambda s: f"{s.name}-{s.objective}")
def test_lstd_is_exact_where_noise_is_negligible(system):
    quiet = replace(system, W=1e-16 * np.eye(system.state_dim))
    _, z, cost, z_next = rows_of(quiet, 400, jax.random.key(1))
    value = lstd(moments(z, cost, z_next, jnp.ones(400, bool)), Objective.of(quiet))
    expected = np.asarray(exact.quality_matrix(quiet, off_optimum(quiet)))
    np.testing.assert_allclose(value.matrix, expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(value(z), jnp.sum((z @ value.matrix) * z, axis=1) + value.offset)


def test_rows_that_are_not_valid_do_not_count():
    _, z, cost, z_next = rows_of(TWO, 700, jax.random.key(2))
    objective = Objective.of(TWO)
    expected = lstd(moments(z[:300], cost[:300], z_next[:300], jnp.ones(300, bool)), objective)
    spoiled = [leaf.at[300:].set(3.0) for leaf in (z, cost, z_next)]
    got = lstd(moments(*spoiled, jnp.arange(700) < 300), objective)
    np.testing.assert_allclose(got.matrix, expected.matrix, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("system", [TWO, DISCOUNTED[1]], ids=["average", "discount"])
def test_values_do_not_depend_on_units(system):
    _, z, cost, z_next = rows_of(system, 300, jax.random.key(3))
    objective = Objective.of(system)
    units = jnp.asarray(np.geomspace(1e-4, 1e5, z.shape[1]))
    valid = jnp.ones(300, bool)
    base = lstd(moments(z, cost, z_next, valid), objective).matrix
    scaled = lstd(moments(z * units[None], 1e3 * cost, z_next * units[None], valid), objective).matrix
    back = scaled * units[:, None] * units[None] / 1e3
    np.testing.assert_allclose(back, base, atol=1e-6 * np.abs(base).max())


def test_regression_finds_the_stage_cost():
    _, z, cost, z_next = rows_of(SINGULAR, 200, jax.random.key(4))
    got = regress(moments(z, cost + 7.0, z_next, jnp.ones(200, bool)))
    n = SINGULAR.state_dim
    np.testing.assert_allclose(got[:n, :n], SINGULAR.Q, atol=1e-8)
    np.testing.assert_allclose(got[n:, n:], SINGULAR.R, atol=1e-8)
    np.testing.assert_allclose(got[:n, n:], np.zeros((n, SINGULAR.action_dim)), atol=1e-8)


@pytest.mark.parametrize("noise", [1e-16, 1.0])
def test_backward_values_are_the_stages_values(noise):
    system = replace(TWO, horizon=4, W=noise * np.eye(2), terminal_cost=np.diag([3.0, 1.0]))
    objective = Objective.of(system)
    expected = np.asarray(exact.quality_matrix(system, off_optimum(system)))

    @jax.jit
    @jax.vmap
    def one(key):
        rows, z, cost, z_next = rows_of(system, 1000, key)
        return backward_values(z, cost, z_next, rows.next_observation, jnp.ones(1000, bool), objective)

    matrices, offsets = one(jax.random.split(jax.random.key(5), 16))
    assert offsets.shape == (16, 4)
    error = np.std(matrices, axis=0, ddof=1) / 4
    allowance = 5 * error + 1e-6 * np.abs(expected).max()
    assert (np.abs(np.mean(matrices, axis=0) - expected) <= allowance).all()
    P = np.asarray(exact.value_matrix(system, off_optimum(system)))
    steps = np.einsum("tij,ij->t", P[1:], system.W)
    spread = 5 * np.std(offsets, axis=0, ddof=1) / 4 + 1e-6
    assert (np.abs(np.mean(offsets, axis=0) - np.cumsum(steps[::-1])[::-1]) <= spread).all()


def test_the_terminal_cost_defaults_to_the_optimal_value():
    system = replace(TWO, horizon=4)
    np.testing.assert_allclose(Objective.of(system).terminal_cost, optimum.terminal_value(system))
