"""How many transitions a learner needs: one definition, by hand."""

import math

import numpy as np

from mbpo.lqr.needed import Needed, bound_words, needed, transitions_to

USED = np.array([100, 200, 300, 400])
FALLING = np.array([0.3, 0.2, 0.05, 0.01])


def test_transitions_to_by_hand():
    excess = np.array(
        [
            FALLING,
            [0.3, 0.05, 0.2, 0.1],  # above again after the second round; at the level is within it
            [0.01, 0.01, 0.01, 0.01],
            [0.01, 0.01, 0.01, 0.2],
            [0.3, np.inf, np.inf, np.inf],
            [np.inf, np.inf, 0.09, 0.08],
            [0.1, np.nan, 0.1, 0.1],
        ]
    )
    expected = [300, 400, 100, math.inf, math.inf, 300, 300]
    np.testing.assert_array_equal(transitions_to(USED, excess, 0.1), expected)


def test_median_interval_and_bounds():
    seven = np.stack([FALLING] * 3 + [FALLING * 2] * 3 + [FALLING * 20])
    found = needed(USED, seven, 0.1)
    assert found == Needed(300, 300, None, None, 100, 400, 7)
    assert str(found) == "300 (300 to more than 400)"
    assert needed(USED, seven[:5], 0.1)[:3] == (300, None, None)  # too few seeds for an interval
    assert str(needed(USED, seven[:5], 0.1)) == "300"
    assert str(needed(USED, 100 * seven, 0.1)) == "more than 400"


def test_a_first_record_is_an_upper_bound():
    first, later = needed(USED, np.full((6, 4), 0.05), 0.1), needed(USED, np.stack([FALLING] * 6), 0.1)
    assert first.at_most
    assert not later.at_most
    assert str(first) == "at most 100"
    assert str(later) == "300"
    assert bound_words(later, first, "3") == "at least 3"
    assert bound_words(first, later, "3") == "at most 3"
    assert bound_words(first, first, "1") == "about 1"
    assert bound_words(later, later, "1") == "1"
