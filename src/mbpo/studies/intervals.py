"""Intervals for what is estimated over seeds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, bootstrap, trim_mean

LEVEL = 0.95
RESAMPLES = 2000
QUARTER = 0.25


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, float | None]:
        """The three as `name`, `name_low` and `name_high` of a table, which holds no infinities."""
        return {
            name: finite(self.estimate),
            f"{name}_low": finite(self.low),
            f"{name}_high": finite(self.high),
        }


def finite(value: float) -> float | None:
    """The value, or None for one that JSON and tables cannot hold."""
    return float(value) if math.isfinite(value) else None


def quantile_interval(values: ArrayLike, share: float = 0.5, level: float = LEVEL) -> Interval:
    """The quantile over seeds and an interval from order statistics, which assumes nothing about the law of the values
    and lets some of them be infinite; the ends are the extremes where there are too few values for `level`.

    P(x_(i) <= quantile < x_(j)) = P(i <= Binomial(n, share) < j) (David and Nagaraja, Order Statistics, 7.1).
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    if count == 0:
        raise ValueError("a quantile needs at least one value")
    low, high = (int(binom.ppf(tail, count, share)) for tail in ((1 - level) / 2, (1 + level) / 2))
    estimate = np.quantile(ordered, share, method="inverted_cdf")
    if share == 0.5 and math.isfinite(ordered[count // 2]):
        estimate = np.median(ordered)
    ends = ordered[max(low - 1, 0)], ordered[min(high, count - 1)]
    return Interval(float(estimate), float(ends[0]), float(ends[1]))


def mean_interval(values: ArrayLike, seed: int = 0, level: float = LEVEL) -> Interval:
    """The mean over seeds and its bootstrap interval (bias-corrected and accelerated), reproducible by `seed`."""
    sample = np.asarray(values, np.float64)
    mean = float(np.mean(sample))
    if len(sample) < 2 or not np.isfinite(sample).all() or np.ptp(sample) == 0.0:
        return Interval(mean, mean, mean)
    found = bootstrap(
        (sample,),
        np.mean,
        confidence_level=level,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Interval(mean, float(low), float(high))


def interquartile_mean_interval(values: ArrayLike, seed: int = 0, level: float = LEVEL) -> Interval:
    """The mean over seeds without a quarter of them, rounded down, at each end, and its percentile bootstrap interval,
    reproducible by `seed`; of two or three seeds nothing is cut off.

    Too short for few seeds: of three, the interval runs from the least to the greatest (Agarwal et al. 2021).
    """
    sample = np.asarray(values, np.float64)
    middle = float(trim_mean(sample, QUARTER))
    if len(sample) < 2 or not np.isfinite(sample).all() or np.ptp(sample) == 0.0:
        return Interval(middle, middle, middle)
    found = bootstrap(
        (sample,),
        lambda drawn, axis: trim_mean(drawn, QUARTER, axis=axis),
        confidence_level=level,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Interval(middle, float(low), float(high))
