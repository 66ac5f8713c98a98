"""Intervals for what is estimated over seeds.

With few seeds there is no 95 % interval that assumes nothing: even the one from the least to the greatest of n values
misses the median with probability 2 (1/2)^n, 25 % for three and 3.1 % for six. Below `LEAST_SEEDS` none is claimed, for
means neither, whose intervals assume more.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, trim_mean
from scipy.stats import t as student

from mbpo.core.quantiles import quantiles

LEVEL = 0.95
LEAST_SEEDS = 6  # the least n with (1/2)^n <= (1 - LEVEL) / 2
RESAMPLES = 2000
QUARTER = 0.25


class Interval(NamedTuple):
    """An estimate and the ends of its interval, None where there are too few values for one."""

    estimate: float
    low: float | None
    high: float | None

    def columns(self, name: str) -> dict[str, float | None]:
        """The three as `name`, `name_low` and `name_high` of a table, which holds no infinities."""
        return {
            name: finite(self.estimate),
            f"{name}_low": finite(self.low),
            f"{name}_high": finite(self.high),
        }


def finite(value: float | None) -> float | None:
    """The value, or None for one that JSON and tables cannot hold."""
    return None if value is None or not math.isfinite(value) else float(value)


def quantile_interval(values: ArrayLike, share: float = 0.5, level: float = LEVEL) -> Interval:
    """The quantile over seeds and an interval from order statistics, which assumes nothing about the law of the values
    and lets some of them be infinite; no interval where the extremes leave out more than (1 - level) / 2 at an end.

    P(x_(i) <= quantile < x_(j)) = P(i <= Binomial(n, share) < j) (David and Nagaraja, Order Statistics, 7.1); as the
    confidence interval of `scipy.stats.quantile_test`.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    estimate, count = float(quantiles(ordered, [share])[0]), len(ordered)
    tail = (1 - level) / 2
    if max(share, 1 - share) ** count > tail:
        return Interval(estimate, None, None)
    low, high = (int(binom.ppf(each, count, share)) for each in (tail, 1 - tail))
    return Interval(estimate, float(ordered[low - 1]), float(ordered[high]))


def mean_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean over seeds and Student's interval, cut at the least and the greatest value; none for few seeds.

        m +- t_{n-1} s / sqrt(n)

    Cut, since what cannot be negative has no negative mean. Source: Student, Biometrika 6 (1908).
    """
    sample = np.asarray(values, np.float64)
    return _students(sample, float(np.mean(sample)), sample, len(sample), level)


def interquartile_mean_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean over seeds without a quarter of them, rounded down, at each end, and its Student's interval, cut as that
    of `mean_interval`; of two or three seeds nothing is cut off. None for few seeds.

        m +- t_{h-1} sqrt(SS_w / (h (h - 1))),    h values kept, SS_w of the sample with the others moved to its ends

    Source: Tukey and McLaughlin, Sankhya A 25 (1963), 331-352; the estimate after Agarwal et al. (NeurIPS 2021).
    """
    ordered = np.sort(np.asarray(values, np.float64))
    left_out = int(QUARTER * len(ordered))
    kept = len(ordered) - 2 * left_out
    moved = np.clip(ordered, ordered[left_out], ordered[left_out + kept - 1])
    return _students(ordered, float(trim_mean(ordered, QUARTER)), moved, kept, level)


def _students(sample: np.ndarray, middle: float, moved: np.ndarray, kept: int, level: float) -> Interval:
    if len(sample) < LEAST_SEEDS:
        return Interval(middle, None, None)
    if not np.isfinite(sample).all() or np.ptp(sample) == 0.0:
        return Interval(middle, middle, middle)
    error = math.sqrt(float(np.sum((moved - moved.mean()) ** 2)) / (kept * (kept - 1)))
    width = float(student.ppf((1 + level) / 2, kept - 1)) * error
    low, high = max(middle - width, float(sample.min())), min(middle + width, float(sample.max()))
    return Interval(middle, min(low, middle), max(high, middle))


def percentile_interval(estimate: float, resampled: np.ndarray, seeds: int) -> Interval:
    """An estimate and the ends between which the middle 95 % of its bootstrap samples lie, which is too short by some
    per cent below 16 seeds (it covers about 90 %); none for few seeds. Widened to hold the estimate."""
    if seeds < LEAST_SEEDS:
        return Interval(estimate, None, None)
    ends = np.quantile(resampled, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), method="inverted_cdf")
    return Interval(estimate, min(float(ends[0]), estimate), max(float(ends[1]), estimate))
