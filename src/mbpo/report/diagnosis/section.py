"""What a section of the diagnosis is made of, and how its numbers are worded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mbpo.core.quantiles import quantiles
from mbpo.report.drawing import Picture
from mbpo.studies.diagnosis.world import Mean

DEFECT = ("What was done", "Why it fails", "Measured", "Instead")
MIDDLE = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Table:
    """A caption, headings, and rows of words."""

    caption: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Section:
    """The finding in a sentence, four paragraphs under `headings`, an equation under the second, pictures, a table."""

    name: str
    title: str
    finding: str
    done: str
    why: str
    equation: str
    measured: str
    instead: str
    headings: tuple[str, str, str, str] = DEFECT
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def steps(self) -> tuple[tuple[str, str], ...]:
        """Heading and text of each paragraph."""
        return tuple(zip(self.headings, (self.done, self.why, self.measured, self.instead), strict=True))


def within(mean: Mean, digits: int = 2) -> str:
    """A mean and the half-width of its interval."""
    return f"{mean.value:.{digits}f} ± {mean.margin:.{digits}f}"


def percent(value: float) -> str:
    """A share or an excess with two digits, never as a power of ten; "unstable" where it is infinite."""
    if not np.isfinite(value):
        return "unstable"
    percentage = 100 * float(value)
    if percentage >= 10:
        return f"{percentage:,.0f} %"
    digits = 0 if percentage == 0 else max(1 - int(np.floor(np.log10(abs(percentage)))), 0)
    return f"{percentage:.{digits}f} %"


def median(values: np.ndarray) -> float:
    """The median; infinite where one of the two in the middle is."""
    return float(quantiles(values, (0.5,))[0])


def spread(values: np.ndarray) -> str:
    """The median of excesses or errors, and the 10th and 90th percentile."""
    low, middle, high = quantiles(values, MIDDLE)
    return f"{percent(float(middle))} ({percent(float(low))} to {percent(float(high))})"


def span(values: list[float], words: Callable[[float], str]) -> str:
    """The least and the greatest."""
    low, high = words(min(values)), words(max(values))
    return low if low == high else f"{low} to {high}"
