"""Intervals over seeds: what they cover, and infinite values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mbpo.studies.intervals import mean_interval, quantile_interval


@pytest.mark.parametrize(("count", "share"), [(16, 0.5), (32, 0.5), (64, 0.5), (64, 0.9), (101, 0.25)])
def test_the_interval_of_a_quantile_covers_it_as_the_binomial_law_says(count, share):
    ranks = quantile_interval(np.arange(1.0, count + 1), share)
    low, high = int(ranks.low), int(ranks.high)
    covered = binom.cdf(high - 1, count, share) - binom.cdf(low - 1, count, share)
    assert covered >= 0.95 or (low, high) == (1, count)
    assert covered <= 0.999 or count < 20 or (low, high) == (1, count)


@given(st.lists(st.floats(-1e9, 1e9) | st.just(math.inf), min_size=1, max_size=40), st.randoms())
def test_a_quantile_lies_in_its_interval_whatever_the_order(values, random):
    found = quantile_interval(values)
    assert found.low <= found.estimate <= found.high
    random.shuffle(values)
    assert quantile_interval(values) == found


def test_a_median_of_finite_values_is_the_usual_one_and_infinities_stay_infinite():
    assert quantile_interval([1.0, 2.0, 4.0, 8.0]).estimate == 3.0
    assert quantile_interval([1.0, math.inf, math.inf]).estimate == math.inf
    assert quantile_interval([1.0, 2.0, math.inf]).estimate == 2.0


def test_the_interval_of_a_mean_covers_it():
    rng = np.random.default_rng(0)
    inside = [
        found.low <= 1.0 <= found.high
        for found in (mean_interval(rng.exponential(size=40)) for _ in range(100))
    ]
    assert 0.85 <= np.mean(inside) <= 1.0
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert mean_interval([1.0, 3.0], seed=4) == mean_interval([1.0, 3.0], seed=4)
