"""How many real transitions a learner needs: one definition for every page, table and study."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mbpo.lqr.intervals import LEAST_SEEDS, quantile_interval

LEVELS = {"10": 0.1, "1": 0.01, "0.1": 0.001}  # per cent of excess cost


class Needed(NamedTuple):
    """Median over seeds of the real transitions from which on the excess cost stays at or below a level, the ends of
    its 95 % interval and the 90th percentile; None where a run had fewer, and for ends where there are too few seeds.

    first: the first record, at which a count is an upper bound; most: the transitions that the run had.
    """

    middle: int | None
    low: int | None
    high: int | None
    p90: int | None
    first: int
    most: int
    seeds: int

    @property
    def at_most(self) -> bool:
        """Whether the median was there at the first record, and may have been before."""
        return self.middle is not None and self.middle <= self.first

    def __str__(self) -> str:
        """The median, as an upper bound where it is one, with its interval where there is one."""
        if self.middle is None:
            return f"more than {self.most:,}"
        count = f"{'at most ' if self.at_most else ''}{self.middle:,}"
        if self.seeds < LEAST_SEEDS or self.low is None:
            return count
        high = f"more than {self.most:,}" if self.high is None else f"{self.high:,}"
        return count if self.low == self.middle == self.high else f"{count} ({self.low:,} to {high})"


def transitions_to(transitions: np.ndarray, excess: np.ndarray, level: float) -> np.ndarray:
    """Real transitions of each seed until its excess [S, r] stays at or below `level`, [S]; infinite where the last one
    is above it."""
    above = ~(excess <= level)
    last = excess.shape[1] - np.argmax(above[:, ::-1], axis=1)  # the round after the last one above
    first = np.where(above.any(axis=1), last, 0)
    counts = np.append(transitions.astype(np.float64), math.inf)
    return counts[first]


def needed(transitions: np.ndarray, excess: np.ndarray, level: float) -> Needed:
    """What the seeds with excess costs [S, r] after `transitions` [r] need to reach `level`."""
    each = transitions_to(transitions, excess, level)
    middle = quantile_interval(each)
    p90 = float(np.quantile(each, 0.9, method="inverted_cdf"))
    ends = int(transitions[0]), int(transitions[-1])
    return Needed(
        _whole(middle.estimate), _whole(middle.low), _whole(middle.high), _whole(p90), *ends, len(each)
    )


def bound_words(theirs: Needed, ours: Needed, ratio: str) -> str:
    """A ratio of two counts, as the bound that it is where one of them is an upper bound."""
    if theirs.at_most == ours.at_most:
        return f"about {ratio}" if ours.at_most else ratio
    return f"at least {ratio}" if ours.at_most else f"at most {ratio}"


def _whole(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else math.ceil(value)
