"""The parts of a gradient's error, as the studies of the real ratio and of the rollout length draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mbpo.report import palette
from mbpo.report.drawing import end_labels, new_figure
from mbpo.report.palette import colour
from mbpo.report.studies.curves import (
    DASHED,
    SMALL,
    Row,
    column,
    line_end,
    model_words,
    share,
    some,
    told,
    unique,
    with_interval,
)

ERRORS = {
    "bias": (colour("policy-gradient"), "o"),
    "persistent": (colour("off-pac"), "s"),
    "noise": (colour("certainty-equivalence"), "^"),
    "error": (palette.INK[0], ""),
}

Panel = tuple[str, Sequence[Row]]


def error_cases(rows: Sequence[Row]) -> list[Panel]:
    """The least and the most data with a fitted model, and the most data with each planted error."""
    amounts = unique(rows, "transitions")
    cases = [(amount, 0.0) for amount in dict.fromkeys((amounts[0], amounts[-1]))]
    cases += [(amounts[-1], size) for size in unique(rows, "planted_error") if size]
    found = [(*case, some(rows, transitions=case[0], planted_error=case[1])) for case in cases]
    return [(f"{count:,} real transitions, {model_words(size)}", same) for count, size, same in found if same]


def error_words(panels: Sequence[Panel]) -> str:
    """What the lines of `error_figure` are, and what is not there."""
    lost = sum(int(np.isnan(column(rows, name)).sum()) for _, rows in panels for name in ERRORS)
    return (
        "Error of one batch's natural gradient at a fixed gain, relative to the exact one. Bias: of the mean over sets "
        f"of data, {with_interval(panels[0][1])}; persistent: what differs between sets and more "
        "batches do not remove; noise: what differs between batches of one set. The axis is linear from 0 to its first "
        f"tick.{f' Left out: {lost} undefined values.' if lost else ''}"
    )


def error_told(panels: Sequence[Panel], across: str) -> str:
    """The first and the last point of each panel in words."""
    names = {name: "total" if name == "error" else name for name in ERRORS}
    return "; ".join(
        f"{words}, at {row[across]:g}: "
        + ", ".join(f"{said} {told(row[name])}" for name, said in names.items())
        for words, rows in panels
        for row in (rows[0], rows[-1])
    )


def error_figure(panels: Sequence[Panel], across: str, prepare: Callable[[Axes], None]) -> Figure:
    """One panel above the other with the parts of the gradient's error against the column `across`."""
    spread = np.concatenate([column(rows, name) for _, rows in panels for name in ERRORS if name != "bias"])
    sizes = np.concatenate([spread, *(column(rows, "bias") for _, rows in panels)])
    top = 1.3 * float(max(sizes[sizes > 0], default=1.0))
    linear = 10.0 ** np.floor(np.log10(float(min(spread[spread > 0], default=0.1))))
    figure, axes = new_figure(0.75 + 1.5 * len(panels), len(panels), right=0.79)
    figure.subplots_adjust(left=0.18, hspace=0.28, top=1 - 0.26 / figure.get_figheight())
    for place, (words, rows) in zip(axes, panels, strict=True):
        prepare(place)
        place.label_outer()
        _error_axis(place, linear, top)
        place.set_title(words, loc="left", fontsize=SMALL, color=palette.MUTED[0], pad=3)
        _error_lines(place, column(rows, across), rows, top)
    axes[len(axes) // 2].set_ylabel("error over exact gradient")
    return figure


def _error_axis(axes: Axes, linear: float, top: float) -> None:
    """Logarithmic above `linear`, and linear below it, since a bias may be zero."""
    axes.set_yscale("symlog", linthresh=linear, linscale=0.5)
    axes.set_ylim(0, top)
    decades = [linear * 10**i for i in range(20) if linear * 10**i <= top]
    finer = [step * each for each in decades for step in (1, 3) if step * each <= top]
    ticks = [0.0, *(finer if len(finer) < 5 else decades)]
    axes.set_yticks(ticks, [share(each) for each in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True, which="major")
    axes.set_axisbelow(True)


def _error_lines(axes: Axes, x: np.ndarray, rows: Sequence[Row], top: float) -> None:
    ends = []
    for name, (tint, mark) in ERRORS.items():
        values, total = column(rows, name), name == "error"
        line, width = (DASHED, 1.2) if total else ("solid", 1.7)
        axes.plot(x, values, color=tint, ls=line, lw=width, marker=mark, ms=4, mew=0, clip_on=False, zorder=3)
        ends += line_end(x, values, "total" if total else name, tint)
    low, high = column(rows, "bias_low"), np.minimum(column(rows, "bias_high"), top)
    axes.vlines(x, low, high, color=ERRORS["bias"][0], lw=1.2, alpha=0.75)
    end_labels(axes, ends, SMALL)
