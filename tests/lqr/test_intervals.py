"""Intervals over seeds: what they cover, how many seeds they need, and infinite values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, quantile_test

from mbpo.lqr.intervals import (
    LEAST_SEEDS,
    interquartile_mean_interval,
    mean_interval,
    percentile_interval,
    quantile_interval,
)
from mbpo.studies.wording import between

LAWS = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0, 0.0),
    "uniform": (lambda rng, size: rng.random(size), 0.5, 0.5),
    "exponential": (lambda rng, size: rng.exponential(size=size), math.log(2), 1.0),
    "lognormal": (lambda rng, size: np.exp(rng.normal(size=size)), 1.0, math.exp(0.5)),
}  # how to draw, median, mean


@pytest.mark.parametrize(
    ("count", "share"),
    [(6, 0.5), (7, 0.5), (8, 0.5), (16, 0.5), (32, 0.5), (64, 0.5), (64, 0.9), (101, 0.25)],
)
def test_the_interval_of_a_quantile_covers_it_as_the_binomial_law_says(count, share):
    ranks = quantile_interval(np.arange(1.0, count + 1), share)
    low, high = int(ranks.low), int(ranks.high)
    covered = binom.cdf(high - 1, count, share) - binom.cdf(low - 1, count, share)
    assert 0.95 <= covered <= 0.993
    test = quantile_test(np.arange(1.0, count + 1), q=0, p=share).confidence_interval(0.95)
    assert (test.low, test.high) == (low, high)


@pytest.mark.parametrize("count", range(1, 6))
def test_of_five_seeds_or_fewer_no_interval_is_claimed(count):
    values = np.arange(float(count))
    for found in (quantile_interval(values), mean_interval(values), interquartile_mean_interval(values)):
        assert (found.low, found.high) == (None, None)
        assert found.columns("x") == {"x": found.estimate, "x_low": None, "x_high": None}
    assert percentile_interval(1.0, np.arange(9.0), count) == (1.0, None, None)
    assert between(None, None, count) == "too few seeds for an interval"
    assert np.isnan(quantile_test(values, q=0, p=0.5).confidence_interval(0.95)).any()


def test_six_seeds_are_the_fewest():
    assert LEAST_SEEDS == 6
    assert quantile_interval(np.arange(6.0)) == (2.5, 0.0, 5.0)
    assert quantile_interval(np.arange(20.0), 0.9) == (17.0, None, None)  # the upper end would need 36
    assert quantile_interval(np.arange(36.0), 0.9).high == 35.0
    assert between(0.1, None, 6) == "95 %: 10 % to unbounded"


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("count", [6, 7, 8, 16, 33])
def test_the_interval_of_a_median_covers_it_in_simulation(law, count):
    draw, middle, _ = LAWS[law]
    rng = np.random.default_rng(1)
    found = [quantile_interval(row) for row in draw(rng, (3000, count))]
    covered = np.mean([each.low <= middle <= each.high for each in found])
    assert covered > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 3000)
    if count == 6:  # the same ends of three seeds: three quarters
        three = np.sort(draw(rng, (3000, 3)), axis=1)
        assert np.mean((three[:, 0] <= middle) & (middle <= three[:, 2])) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("law", "least"), [("normal", 0.935), ("uniform", 0.925), ("exponential", 0.87), ("lognormal", 0.78)]
)
@pytest.mark.parametrize("count", [6, 16, 40])
def test_the_interval_of_a_mean_covers_it_in_simulation(law, least, count):
    """Student's is exact for a normal law; for skewed ones it is short, the less so the more seeds there are."""
    draw, _, mean = LAWS[law]
    found = [mean_interval(row) for row in draw(np.random.default_rng(2), (2000, count))]
    assert least < np.mean([each.low <= mean <= each.high for each in found]) < 0.97


@pytest.mark.parametrize("count", [6, 8, 10, 16, 40])
def test_the_interval_of_an_interquartile_mean_covers_it_in_simulation(count):
    for law in ("normal", "uniform"):
        draw, middle, _ = LAWS[law]
        found = [interquartile_mean_interval(row) for row in draw(np.random.default_rng(3), (2000, count))]
        assert 0.9 < np.mean([each.low <= middle <= each.high for each in found]) < 0.97


@given(st.lists(st.floats(-1e9, 1e9) | st.just(math.inf), min_size=1, max_size=40), st.randoms())
def test_a_quantile_lies_in_its_interval_whatever_the_order(values, random):
    found = quantile_interval(values)
    assert found.low is None or found.low <= found.estimate <= found.high
    random.shuffle(values)
    assert quantile_interval(values) == found


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=40))
def test_a_mean_lies_in_its_interval_and_the_interval_among_the_values(values):
    for found in (mean_interval(values), interquartile_mean_interval(values)):
        if found.low is not None:
            assert found.low <= found.estimate <= found.high
            assert min(values) - 1e-6 <= found.low
            assert found.high <= max(values) + 1e-6


def test_a_median_of_finite_values_is_the_usual_one_and_infinities_stay_infinite():
    assert quantile_interval([1.0, 2.0, 4.0, 8.0]).estimate == 3.0
    assert quantile_interval([1.0, 2.0, math.inf, math.inf]).estimate == math.inf
    assert quantile_interval([1.0, math.inf, math.inf]).estimate == math.inf
    assert quantile_interval([1.0, 2.0, math.inf]).estimate == 2.0


def test_what_does_not_vary_has_an_interval_of_no_width():
    assert mean_interval([2.0] * 6) == (2.0, 2.0, 2.0)
    assert interquartile_mean_interval([5.0] * 6) == (5.0, 5.0, 5.0)
    assert interquartile_mean_interval([1.0, 2.0, 6.0]).estimate == 3.0  # of three nothing is cut off
    assert interquartile_mean_interval([1.0, 2.0, 4.0, 60.0]).estimate == 3.0
