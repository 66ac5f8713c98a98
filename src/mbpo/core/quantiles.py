"""Medians and quantiles over seeds, some of which may have an infinite cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def median(values: ArrayLike, axis: int = 0) -> np.ndarray:
    """The median over one axis of any float array; of an even number the mean of the two in the middle.

        (x_(n/2) + x_(n/2 + 1)) / 2

    It is infinite as soon as one of these two is: with exactly half of the seeds unstable no finite number stands in
    the middle. NaN counts as +inf, so the answer is never NaN. Raises `ValueError` for no values.
    """
    ordered = _ordered(values, axis)
    count = ordered.shape[axis]
    lower, upper = (np.take(ordered, place, axis=axis) for place in ((count - 1) // 2, count // 2))
    with np.errstate(invalid="ignore"):  # -inf and inf in the middle: infinite
        return np.where(np.isposinf(upper), np.inf, (lower + upper) / 2)


def quantiles(values: ArrayLike, shares: Sequence[float], axis: int = 0) -> np.ndarray:
    """Quantiles over one axis, `[q, ...]` for q `shares`: `median` for a half, else a value that occurred.

        x_(ceil(share n)),    the least value with at least this share of all at or below it

    NaN counts as +inf, the largest. Raises `ValueError` for no values.
    """
    ordered = _ordered(values, axis)
    return np.array(
        [
            median(ordered, axis)
            if share == 0.5
            else np.quantile(ordered, share, axis=axis, method="inverted_cdf")
            for share in shares
        ]
    )


def _ordered(values: ArrayLike, axis: int) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim == 0 or array.shape[axis] == 0:
        raise ValueError("a quantile needs at least one value")
    return np.sort(np.where(np.isnan(array), np.inf, array), axis=axis)
