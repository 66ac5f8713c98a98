"""Curves over real steps: a panel a quantity, seeds pooled, the warm-up shaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from mbpo.report import palette
from mbpo.report.drawing import end_labels, new_figure
from mbpo.report.palette import colour
from mbpo.report.task_measures import Pooled, Value, pooled
from mbpo.runs.task_record import TaskRecord

BLUE, ORANGE, GREEN, AMBER, PINK, GREY, VIOLET = (
    colour(each)
    for each in ("mbpo", "policy-gradient", "mbpo-simple", "dpg", "dyna", "certainty-equivalence", "off-pac")
)
FEW_POINTS = 12  # so many are marked one by one
PANEL = 1.15  # inches
SUBS = ((2.2, (1.0,)), (1.3, (1.0, 3.0)), (0.8, (1.0, 2.0, 5.0)), (0.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
GUIDE = (0, (4, 2.5))
End = tuple[float, float, str, str]
Drawn = tuple["Line", Pooled, Pooled | None]


@dataclass(frozen=True)
class Line:
    """A number of the records, drawn in `tint`; `error`: its standard error, where it has one."""

    text: str
    tint: str
    value: Value
    error: Value | None = None


@dataclass(frozen=True)
class Panel:
    """Lines that share an axis: logarithmic where that helps, or a share from 0 to 1, or whole numbers.

    `levels`: where dashed guides lie, with their names and colours.
    """

    label: str
    lines: tuple[Line, ...]
    levels: tuple[tuple[float, str, str], ...] = ()
    log: bool = False
    share: bool = False
    whole: bool = False


def panels_figure(runs: Sequence[TaskRecord], panels: Sequence[Panel]) -> Figure | None:
    """The panels of which something is known, above each other; None where nothing is."""
    known = [(panel, drawn) for panel in panels if (drawn := _known(runs, panel))]
    if not known:
        return None
    named = any(len(_names(panel, drawn)) > 1 for panel, drawn in known)
    height = 2.6 if len(known) == 1 else 0.62 + PANEL * len(known)
    figure, axes = new_figure(height, len(known), right=0.76 if named else 0.96)
    figure.subplots_adjust(left=0.18)
    step_axis(axes, runs)
    for place, (panel, drawn) in zip(axes, known, strict=True):
        _draw_panel(place, panel, drawn)
    figure.align_ylabels(axes)
    return figure


def _known(runs: Sequence[TaskRecord], panel: Panel) -> list[Drawn]:
    found = []
    for line in panel.lines:
        curve = pooled(runs, line.value)
        if curve is not None:
            found.append((line, curve, None if line.error is None else pooled(runs, line.error)))
    return found


def _names(panel: Panel, drawn: Sequence[Drawn]) -> list[str]:
    """The texts beside the panel."""
    return [
        text for text in (*(line.text for line, *_ in drawn), *(text for _, text, _ in panel.levels)) if text
    ]


def _draw_panel(axes: Axes, panel: Panel, drawn: Sequence[Drawn]) -> None:
    ends = [draw_curve(axes, curve, line.tint, line.text, errors) for line, curve, errors in drawn]
    for level, text, tint in panel.levels:
        axes.axhline(level, color=tint, lw=0.9, ls=GUIDE)
        ends.append((axes.get_xlim()[1], level, text, tint))
    axes.set_ylabel(panel.label)
    axes.margins(y=0.12)
    if panel.share:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    elif panel.log and _positive(drawn):
        log_scale(axes)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=panel.whole))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    grid(axes)
    if len(_names(panel, drawn)) > 1:
        name_ends(axes, [end for end in ends if end is not None and end[2]])


def _positive(drawn: Sequence[Drawn]) -> bool:
    """Whether a logarithmic axis can hold all of it, and is worth it."""
    low, high = (
        pick(float(bound(curve)) for _, curve, _ in drawn)
        for pick, bound in ((min, lambda c: c.low.min()), (max, lambda c: c.high.max()))
    )
    return low > 0 and high > 4 * low


def draw_curve(
    axes: Axes, curve: Pooled, tint: str, text: str, errors: Pooled | None = None, floor: float = -math.inf
) -> End | None:
    """The median and its range, or of one run +-2 `errors`; faint where not every run got to. Its end with its name.

    Nothing below `floor` is drawn lower than there, and nothing that is not finite at all.
    """
    low, high = curve.low, curve.high
    if errors is not None and curve.runs == 1:
        width = 2 * np.interp(curve.steps, errors.steps, errors.middle)
        low, high = curve.middle - width, curve.middle + width
    shown = np.isfinite(curve.middle)
    steps, middle = curve.steps[shown], np.maximum(curve.middle[shown], floor)
    band = np.isfinite(high) & (high > low)
    if band.any():
        inside = np.maximum(low[band], floor), np.maximum(high[band], floor)
        axes.fill_between(curve.steps[band], *inside, color=tint, alpha=0.16, lw=0)
        if band.sum() == 1:
            axes.plot(curve.steps[band][[0, 0]], [inside[0][0], inside[1][0]], color=tint, lw=1.2, alpha=0.5)
    whole = int(shown[: curve.whole].sum())
    mark = {"marker": "o", "ms": 3.4, "mew": 0} if len(steps) <= FEW_POINTS else {}
    axes.plot(steps[:whole], middle[:whole], color=tint, lw=1.8, solid_capstyle="round", zorder=3, **mark)
    if whole < len(steps):
        rest = slice(max(whole - 1, 0), None)
        axes.plot(steps[rest], middle[rest], color=tint, lw=0.9, alpha=0.7, zorder=3)
    return (float(steps[-1]), float(middle[-1]), text, tint) if len(steps) else None


def step_axis(axes: Sequence[Axes], runs: Sequence[TaskRecord], beyond: float = 1.03) -> float:
    """Real steps from 0 to `beyond` the last evaluation of `runs`, their warm-up shaded; where the axis ends."""
    end = beyond * max(run.records[-1]["env_steps"] for run in runs if run.records)
    warmup = min(min(run.settings["warmup_steps"] for run in runs), end)
    for place in axes:
        place.set_xlim(0, end)
        place.axvspan(0, warmup, color=palette.GRID[0], alpha=0.55, lw=0, zorder=0)
    axes[-1].xaxis.set_major_locator(MaxNLocator(5))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes[-1].set_xlabel("real steps, warm-up (shaded) included")
    return end


def name_ends(axes: Axes, ends: Sequence[End]) -> None:
    """The names of lines beside them, once the axis has its limits."""
    axes.autoscale_view()
    end_labels(axes, ends, 8.5)


def log_scale(axes: Axes, words: Callable[[float], str] | None = None) -> None:
    """A logarithmic axis upwards, with the ticks in `words`, else as numbers."""
    low, high = axes.get_ylim() if axes.get_yscale() == "log" else _limits(axes)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    decades = math.log10(high / low)
    axes.yaxis.set_major_locator(LogLocator(subs=next(subs for least, subs in SUBS if decades > least)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    write = number if words is None else words
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def _limits(axes: Axes) -> tuple[float, float]:
    """A range for a logarithmic axis around everything positive that is drawn."""
    seen = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    bands = [path.vertices for each in axes.collections for path in each.get_paths()]
    edges = np.concatenate([np.asarray(each)[:, 1] for each in bands]) if bands else seen
    edges = edges[np.isfinite(edges) & (edges > 0)]
    seen = np.concatenate([seen, edges])
    return (float(seen.min()) / 1.25, float(seen.max()) * 1.25) if len(seen) else (0.1, 10.0)


def grid(axes: Axes) -> None:
    """Lines behind the data."""
    axes.grid(True, which="major")
    axes.set_axisbelow(True)


def number(value: float) -> str:
    """3000 as "3,000", 0.0123 as "0.0123", -2 with a minus sign."""
    words = f"{value:,.0f}" if value == 0 or abs(value) >= 1000 else f"{value:.3g}"
    return words.replace("-", "\N{MINUS SIGN}", 1) if value < 0 else words
