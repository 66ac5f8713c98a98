"""Numbers in sentences."""

from __future__ import annotations

from collections.abc import Callable

from mbpo.lqr.intervals import LEAST_SEEDS

TOO_FEW = "too few seeds for an interval"


def per_cent(value: float) -> str:
    """0.01 as "1 %", 0.00012 as "0.012 %"."""
    percentage = 100 * value
    rounded = float(f"{percentage:.2g}")
    if percentage >= 1000 or rounded < 100:
        return f"{percentage:,.0f} %" if percentage >= 1000 else f"{percentage:.2g} %"
    return f"{rounded:,.0f} %"


def between(
    low: float | None, high: float | None, seeds: int, words: Callable[[float], str] = per_cent
) -> str:
    """A 95 % interval over so many seeds, whose ends may be infinite (None); of few seeds, that there is none."""
    if seeds < LEAST_SEEDS:
        return TOO_FEW
    ends = ["unbounded" if each is None else words(each) for each in (low, high)]
    return f"95 %: {ends[0]} to {ends[1]}"
