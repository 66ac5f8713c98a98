"""Ticks of logarithmic axes: how many there are, and their words."""

from __future__ import annotations

import math
from collections.abc import Callable

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator


def power(value: float) -> str:
    """100 as "100", 30000 as "3·10⁴", 0.01 as "0.01"."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if -3 <= exponent < 3:
        return f"{value:,.0f}" if exponent >= 1 else f"{value:.2g}"
    first = f"{value / 10.0**exponent:.2g}"
    raised = str(exponent).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    return f"10{raised}" if first == "1" else f"{first}·10{raised}"


def log_axis(axis: Axis, limits: tuple[float, float], words: Callable[[float], str], most: int = 7) -> None:
    """At most about `most` ticks of a logarithmic axis, in `words`."""
    low, high = (math.log10(each) for each in limits)
    every, steps = max(math.ceil((high - low) / most), 1), (1.0,)
    for finer in ((1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = sum(low <= decade + math.log10(step) <= high for decade in range(-30, 30) for step in finer)
        steps = finer if every == 1 and ticks <= most else steps
    axis.set_major_locator(LogLocator(base=10.0**every, subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
