"""The Gaussian policy against the density's own derivative and its moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbpo.lqr.policy import LinearGaussian, linear_action, score


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def case(m: int, n: int):
    rng = np.random.default_rng(10 * m + n)
    factor = np.tril(rng.normal(size=(m, m)), -1) + np.diag(rng.uniform(0.5, 2, m))
    policy = LinearGaussian(jnp.asarray(rng.normal(size=(m, n))), jnp.asarray(factor))
    return policy, jnp.asarray(rng.normal(size=(5, 4, n))), jnp.asarray(rng.normal(size=(5, 4, m)))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 3), (3, 2)])
def test_score_is_the_derivative_of_the_log_density(m, n):
    policy, x, u = case(m, n)

    def log_density(gain, x, u):
        return jax.scipy.stats.multivariate_normal.logpdf(u, gain @ x, policy.covariance)

    expected = jax.vmap(jax.grad(log_density), (None, 0, 0))(policy.gain, x.reshape(-1, n), u.reshape(-1, m))
    np.testing.assert_allclose(score(policy, x, u), expected.reshape(5, 4, m, n), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(score(policy, x[0, 0], u[0, 0]), expected[0], rtol=1e-9, atol=1e-10)


def test_samples_have_the_policy_s_mean_and_covariance():
    policy, x, _ = case(2, 3)
    count, at = 20_000, x[0, 0]
    u = jax.vmap(lambda key: policy.sample(at, key))(jax.random.split(jax.random.key(0), count))
    e = np.asarray(u) - np.asarray(policy.gain @ at)
    S = np.asarray(policy.factor @ policy.factor.T)
    np.testing.assert_allclose(policy.covariance, S)
    assert (np.abs(e.mean(axis=0)) <= 4.5 * np.sqrt(np.diag(S) / count)).all()
    spread = np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / count)
    assert (np.abs(e.T @ e / count - S) <= 4.5 * spread).all()
    np.testing.assert_allclose(linear_action(policy.gain, x)[0, 0], policy.gain @ at, rtol=1e-12)
    np.testing.assert_allclose(policy.deviation(at, u[0]), e[0], rtol=1e-12)
