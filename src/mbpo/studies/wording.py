"""Numbers in sentences."""

from __future__ import annotations


def per_cent(value: float) -> str:
    """0.01 as "1 %", 0.00012 as "0.012 %"."""
    percentage = 100 * value
    rounded = float(f"{percentage:.2g}")
    if percentage >= 1000 or rounded < 100:
        return f"{percentage:,.0f} %" if percentage >= 1000 else f"{percentage:.2g} %"
    return f"{rounded:,.0f} %"


def between(low: float | None, high: float | None) -> str:
    """A 95 % interval of a relative quantity, whose ends may be infinite (None)."""
    ends = ["unbounded" if each is None else per_cent(each) for each in (low, high)]
    return f"95 %: {ends[0]} to {ends[1]}"
