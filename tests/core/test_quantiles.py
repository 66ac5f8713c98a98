"""Medians and quantiles over seeds of which some are infinite."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbpo.core.quantiles import median, quantiles

INF = math.inf


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        ([1.0, 2.0, 4.0, 8.0], 3.0),
        ([1.0, 2.0, INF, INF], INF),  # exactly half: one of the two in the middle is infinite
        ([1.0, 2.0, 4.0, INF], 3.0),
        ([1.0, 2.0, INF], 2.0),
        ([1.0, INF, INF], INF),
        ([1.0, math.nan], INF),
        ([INF, INF], INF),
        ([-INF, INF], INF),
        ([5.0], 5.0),
    ],
)
def test_a_median_with_infinite_values(values, middle):
    assert median(values) == middle
    assert quantiles(values, [0.5])[0] == middle


def test_other_quantiles_are_values_that_occurred():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, INF]
    assert quantiles(values, (0.1, 0.5, 0.9, 1.0)).tolist() == [1.0, 5.5, 9.0, INF]


def test_the_axis_is_the_one_asked_for():
    values = np.array([[1.0, INF], [3.0, 2.0], [INF, INF], [7.0, 4.0]])
    assert median(values).tolist() == [5.0, INF]
    assert median(values, axis=1).tolist() == [INF, 2.5, INF, 5.5]
    assert quantiles(values, (0.25, 0.5)).tolist() == [[1.0, 2.0], [5.0, INF]]


def test_no_values_have_no_median():
    with pytest.raises(ValueError, match="at least one value"):
        median([])


@given(
    st.lists(st.floats(-1e9, 1e9) | st.just(INF) | st.just(math.nan), min_size=1, max_size=30), st.randoms()
)
def test_a_median_is_never_nan_and_no_finite_one_has_half_of_the_values_infinite(values, random):
    found = float(median(values))
    assert not math.isnan(found)
    lost = sum(not math.isfinite(each) for each in values)
    assert math.isinf(found) == (2 * lost >= len(values))
    random.shuffle(values)
    assert float(median(values)) == found
