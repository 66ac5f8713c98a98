"""Expected total variation against closed forms, another integral in many digits, and Monte Carlo."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mbpo.errors import InputError
from mbpo.lqr.total_variation import (
    expected_total_variation,
    linear_total_variation,
    model_total_variation,
    total_variation,
)

SIZES = 10.0 ** np.arange(-12.0, 13.0, 3.0)


def by_imhof(eigenvalues):
    """P(Z^2 - sum lam_i g_i^2 / 4 < 0) from the characteristic function (Imhof 1961)."""
    weights = [mpmath.mpf(1), *(-mpmath.mpf(float(each)) / 4 for each in eigenvalues)]

    def integrand(u):
        angle = sum(mpmath.atan(w * u) for w in weights) / 2
        modulus = mpmath.fprod((1 + (w * u) ** 2) ** 0.25 for w in weights)
        return mpmath.sin(angle) / (u * modulus)

    points = [0, *(mpmath.mpf(10) ** k for k in range(-3, 13)), mpmath.inf]
    return float(mpmath.mpf(1) / 2 - mpmath.quad(integrand, points) / mpmath.pi)


def test_total_variation_is_half_the_integral_of_the_difference():
    x = np.linspace(-12, 14, 200_001)
    for distance in (0.0, 1e-3, 0.7, 3.0):
        overlap = np.trapezoid(np.abs(norm.pdf(x) - norm.pdf(x, distance)), x) / 2
        assert float(total_variation(distance)) == pytest.approx(overlap, abs=1e-9)


@pytest.mark.parametrize("lam", SIZES)
def test_one_eigenvalue_and_two_equal_ones_have_closed_forms(lam):
    one, two = expected_total_variation([[lam, 0.0], [lam, lam]])
    assert one == pytest.approx(2 / np.pi * np.arctan(np.sqrt(lam) / 2), rel=1e-14)
    assert two == pytest.approx(np.sqrt(lam / (lam + 4)), rel=1e-11)


@pytest.mark.parametrize(
    "eigenvalues", [[0.5, 1.0, 3.0], [1e-3, 1e3], [20.0, 0.3, 1e-7, 0.3], [2.0] * 8, [1e-4] * 3]
)
def test_an_integral_of_another_kind_agrees(eigenvalues):
    found = float(expected_total_variation(eigenvalues))
    assert found == pytest.approx(by_imhof(eigenvalues), abs=1e-8)


def test_zero_infinite_tiny_and_huge_eigenvalues():
    found = expected_total_variation([[0.0, 0.0], [np.inf, 1.0], [1e-300, 0.0], [1e308, 1e308]])
    np.testing.assert_allclose(found, [0.0, 1.0, 1e-150 / np.pi, 1.0], rtol=1e-14)
    assert expected_total_variation(np.ones((0, 3))).shape == (0,)
    for wrong in ([-1.0], [np.nan], 3.0, np.ones((2, 0))):
        with pytest.raises(InputError, match="at least 0"):
            expected_total_variation(wrong)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-9, 4), min_size=1, max_size=6), st.integers(0, 5), st.floats(1.001, 10))
def test_order_monotony_and_the_inequalities_of_concavity(logs, which, factor):
    lam = 10.0 ** np.array(logs)
    larger = lam.copy()
    larger[which % len(lam)] *= factor
    total, spread = lam.sum(), np.zeros_like(lam)
    spread[0] = total
    found, more, swapped, least, most = expected_total_variation(
        [lam, larger, lam[::-1], spread, np.full_like(lam, total / len(lam))]
    )
    assert 0 < found < 1 + 1e-15
    assert more >= found * (1 - 1e-12)
    assert swapped == pytest.approx(found, rel=1e-12)
    assert least * (1 - 1e-12) <= found <= most * (1 + 1e-12)  # a concave function of a fixed sum
    assert most <= float(total_variation(np.sqrt(total))) * (1 + 1e-12)  # Jensen


def test_monte_carlo_of_the_definition():
    """E_x,u of half the L1 distance of the next states' densities, as E (1 - p'/p)_+ under p."""
    rng, size = np.random.default_rng(3), 400_000
    n, m = 3, 2
    K, dA, dB = rng.normal(size=(m, n)), 0.2 * rng.normal(size=(4, n, n)), 0.2 * rng.normal(size=(4, n, m))
    roots = [np.tril(rng.normal(size=(k, k))) + np.eye(k) for k in (n, n, m, n)]
    first, second, S, W = (root @ root.T for root in roots)
    exact = model_total_variation(dA, dB, K, np.stack([first, second]), S, W)
    assert exact.shape == (4, 2)
    for i, t in ((0, 0), (3, 1)):
        x = rng.normal(size=(size, n)) @ roots[t].T
        u = x @ K.T + rng.normal(size=(size, m)) @ roots[2].T
        noise = rng.normal(size=(size, n)) @ roots[3].T
        apart = x @ dA[i].T + u @ dB[i].T
        precision = np.linalg.inv(W)
        log_ratio = -0.5 * (
            np.einsum("si,ij,sj->s", noise - apart, precision, noise - apart)
            - np.einsum("si,ij,sj->s", noise, precision, noise)
        )
        lost = np.maximum(1 - np.exp(log_ratio), 0.0)
        assert abs(lost.mean() - exact[i, t]) < 4.5 * lost.std() / np.sqrt(size)
        assert lost.mean() == pytest.approx(exact[i, t], rel=0.01)


def test_what_has_overflowed_counts_as_one():
    D = np.array([[[1e200]], [[1.0]], [[0.0]]])
    found = linear_total_variation(D, np.array([[1e250]]), np.eye(1))
    np.testing.assert_allclose(found, [1.0, 1.0, 0.0])
