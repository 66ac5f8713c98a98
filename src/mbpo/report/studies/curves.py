"""Rows of a study as lines: choosing them, saying them, and drawing excess costs with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mbpo.lqr.intervals import LEAST_SEEDS
from mbpo.report import palette
from mbpo.report.drawing import per_cent
from mbpo.report.gradient_figures import limits
from mbpo.report.ticks import log_axis, power

SMALL = 8.5  # points
DASHED: palette.Dash = (0, (4, 1.6))

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Series:
    """Rows that are drawn as one line."""

    words: str
    tint: str
    mark: str
    rows: Sequence[Row]


def tag_of(systems: Sequence[str], place: int) -> str:
    """What tells the names of one system's figures from those of the others, safe in a file's name."""
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in systems[place])
    return "" if len(systems) == 1 else f"-{place + 1}-{safe[:60]}"


def some(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """One column, NaN where there is no value."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], float)


def unique(rows: Sequence[Row], name: str) -> list[Any]:
    """The values of a column, each once, in order."""
    return sorted({row[name] for row in rows})


def seeds(rows: Sequence[Row]) -> str:
    """How many seeds the rows are about."""
    return f"{rows[0]['seeds']:,} seed{'s' * (rows[0]['seeds'] != 1)}"


def with_interval(rows: Sequence[Row], name: str = "seeds") -> str:
    """How many seeds (or runs) a median or a mean is over, and whether it has an interval."""
    count = rows[0][name]
    words = f"over {count:,} {name if count != 1 else name[:-1]}"
    return f"{words}, too few for an interval" if count < LEAST_SEEDS else f"{words} and its 95 % interval"


def model_words(size: float) -> str:
    """What kind of model an error of this size is planted in."""
    return f"model kept {per_cent(size)} wrong" if size else "fitted model"


def values_told(rows: Sequence[Row], across: str) -> str:
    """Every median of a line."""
    return ", ".join(f"{row[across]}: {told(row['excess'])}" for row in rows)


def told(value: float | None) -> str:
    """A share as a caption says it."""
    return "not finite" if value is None else per_cent(value)


def left_out(rows: Sequence[Row]) -> str:
    """What the caption says of medians that a logarithmic axis cannot hold; nothing where it holds all of them."""
    middle = column(rows, "excess")
    lost, zero = int(np.isnan(middle).sum()), int((middle <= 0).sum())
    words = f" Crosses: no finite median, as most gains do not stabilise ({lost})." if lost else ""
    return words + (f" On the lower edge: zero to rounding ({zero})." if zero else "")


def excess_limits(rows: Sequence[Row]) -> tuple[float, float]:
    """A range that holds every median, the intervals up to a tenth and ten times of those, and crosses above them."""
    middle, low, high = (column(rows, f"excess{end}") for end in ("", "_low", "_high"))
    seen = middle[middle > 0]
    if not len(seen):
        return 1e-3, 1.0
    bottom, top = limits([*seen, *low[low > seen.min() / 10], *high[high < 10 * seen.max()]], 1.3)
    return bottom, top * ((top / bottom) ** 0.2 if np.isnan(middle).any() else 1.0)


def excess_axis(axes: Axes, y: tuple[float, float]) -> None:
    """Excess cost, logarithmic upwards."""
    axes.set_yscale("log")
    axes.set_ylim(y)
    log_axis(axes.yaxis, y, share, 6)
    axes.grid(True, which="major")
    axes.set_axisbelow(True)
    axes.set_ylabel("excess cost")


def share(value: float) -> str:
    """A share as an axis says it."""
    return per_cent(value) if value < 20 else f"{power(100 * value)} %"


def excess_curve(
    axes: Axes, x: np.ndarray, line: Series, dash: palette.Dash = "solid", band: bool = True, place: int = 0
) -> None:
    """Medians and their intervals, which run off the top where infinite; a cross there for an infinite median.

    `place`: of the line among the others, so that their crosses do not hide each other.
    """
    bottom, top = axes.get_ylim()
    middle, low, high = (column(line.rows, f"excess{end}") for end in ("", "_low", "_high"))
    lower, upper = np.clip(low, bottom, top), np.clip(np.where(np.isnan(high), top, high), bottom, top)
    # without a lower end there is no interval, or a median far off the top: nothing is drawn
    if band:
        axes.fill_between(x, lower, upper, color=line.tint, alpha=0.13, lw=0)
    else:
        axes.vlines(x, lower, upper, color=line.tint, lw=1.2, alpha=0.75)
    shown = np.maximum(middle, bottom)
    axes.plot(x, shown, color=line.tint, ls=dash, lw=1.8, marker=line.mark, ms=4.4, mew=0, zorder=3)
    lost, up = x[np.isnan(middle)], axes.get_xaxis_transform()
    axes.plot(
        lost,
        np.full(len(lost), 0.98 - 0.05 * place),
        "x",
        color=line.tint,
        ms=5.5,
        mew=1.4,
        transform=up,
        zorder=4,
    )


def line_end(x: np.ndarray, y: np.ndarray, words: str, tint: str) -> list[tuple[float, float, str, str]]:
    """The last point of a line that is there, with its name; none where there is none."""
    shown = np.flatnonzero(np.isfinite(y))
    return [(float(x[shown[-1]]), float(y[shown[-1]]), words, tint)] if len(shown) else []
