"""Figures of the study of sample efficiency on many systems: what each needs, and how far above the limit it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mbpo.report import palette
from mbpo.report.drawing import Picture, new_figure, per_cent, style, to_svg
from mbpo.report.gradient_figures import limits, times
from mbpo.report.palette import colour, label
from mbpo.report.studies.curves import Row, seeds, some, with_interval
from mbpo.report.ticks import log_axis

SMALL = 8.0  # points
MAIN = ("mbpo", "mbpo-simple", "certainty-equivalence", "policy-gradient", "dpg", "plain-gpomdp")
AGAINST_LIMIT = MAIN[:3]
MARKS: dict[str, str] = dict(zip(MAIN, ("o", "^", "s", "v", "D", "P"), strict=True))
GREY = palette.MUTED[0]
ASIDE = 0.09  # of the width, for what has no value


def catalogue_pictures(systems: Sequence[str], rows: Sequence[Row]) -> list[Picture]:
    """Transitions to 1 % on every system, and the excess at the end over the limit."""
    ends = [row for row in rows if row["part"] == "learner" and row["algorithm"] in MAIN]
    offline = some(rows, part="limit", algorithm="offline")
    bound = {row["system"]: row["to_1"] for row in offline if row["to_1"]}
    compared = [row for row in ends if row["algorithm"] in AGAINST_LIMIT]
    found = [_needed(systems, ends, bound)] if ends else []
    return [*found, _over_limit(systems, compared)] if compared else found


def _needed(systems: Sequence[str], ends: Sequence[Row], bound: dict[str, int]) -> Picture:
    """Transitions to 1 % of every learner on every system."""
    names, most = _present(ends), max(row["transitions"] for row in ends)
    seen = [row[name] for row in ends for name in ("to_1", "to_low_1") if row[name]]
    with style():
        figure, axes = _lanes(systems, names, 0.96)
        edge = _aside(axes, min([*seen, *bound.values(), most]) / 1.4, most * 1.1, "not reached")
        for height, row in _placed(systems, names, ends):
            dot(axes, height, row, "1", MARKS[row["algorithm"]], edge)
        for height, system in enumerate(systems):
            if system in bound:
                at = min(bound[system], edge)
                axes.plot([at, at], [height - 0.4, height + 0.4], color=GREY, lw=4.5, alpha=0.35)
        log_axis(axes.xaxis, axes.get_xlim(), lambda value: f"{value:,.0f}" if value <= most else "", 6)
        axes.set_xlabel("real transitions to 1 % excess cost")
        svg = to_svg(figure)
    without = ", ".join(system for system in systems if system not in bound)
    told = [f"{each}: {_to_words(some(ends, system=each), bound.get(each))}" for each in systems]
    return Picture(
        "sample-efficiency-overview", "How much data each system needs",
        f"Real transitions until the excess cost stays at or below 1 %: median {with_interval(ends)} "
        f"(an arrow: beyond the data of a run) and 90th percentile (thin bar). Hollow: not within {most:,} of them. "
        f"Grey: the limit of data gathered offline{f', which there is not for {without}' if without else ''}.",
        f"Median real transitions to 1 %. {'. '.join(told)}.",
        svg,
    )  # fmt: skip


def _to_words(ends: Sequence[Row], bound: int | None) -> str:
    values = {label(row["algorithm"]): row["to_1"] for row in ends} | {"limit": bound}
    nothing = {"limit": "none"}
    return "; ".join(
        f"{name} {nothing.get(name, 'not reached') if value is None else f'{value:,}'}"
        for name, value in values.items()
    )


def _over_limit(systems: Sequence[str], ends: Sequence[Row]) -> Picture:
    """Median excess over the limit under the data that each learner collected, and the unstable shares."""
    names = _present(ends)
    ratios = [[_over(row, end) for end in ("_low", "", "_high")] for row in ends]
    seen = [each for row in ratios for each in row if each is not None and each > 0]
    x = limits([*seen, 1.0], 1.3)
    with style():
        figure, axes = _lanes(systems, names, 0.86)
        edge = _aside(axes, *x, "undefined")
        axes.axvline(1.0, color=GREY, lw=4.5, alpha=0.35)
        for height, row in _placed(systems, names, ends):
            _ratio(axes, height, row, x, edge)
            if row["unstable"]:
                axes.text(
                    1.02, height, per_cent(row["unstable"]), transform=axes.get_yaxis_transform(), va="center",
                    fontsize=7.0, color=colour(row["algorithm"]),
                )  # fmt: skip
        axes.text(1.02, -0.62, "unstable", transform=axes.get_yaxis_transform(), fontsize=7.0, color=GREY)
        log_axis(axes.xaxis, axes.get_xlim(), lambda value: times(value) if value <= x[1] else "", 6)
        axes.set_xlabel("median excess cost over the limit")
        svg = to_svg(figure)
    zero = sum(row["over_limit"] is not None and row["over_limit"] <= 0 for row in ends)
    most = max(row["transitions"] for row in ends)
    told = [f"{each}: {'; '.join(map(_over_words, some(ends, system=each)))}" for each in systems]
    return Picture(
        "sample-efficiency-over-limit", "How far above the limit they end",
        f"Median excess cost over {seeds(ends)} after {most:,} transitions, divided by the mean that certainty "
        "equivalence tends to on the data that each learner collected (its median over seeds); lines: 95 % intervals "
        "of the median, from six seeds on. A learner at the limit lies a little below 1, as a median lies below a "
        "mean. Right: the share of runs whose gain does not stabilise, where there are any. Hollow: the median or the "
        f"limit is infinite, or the limit is zero.{f' On the left edge: zero to rounding ({zero}).' if zero else ''}",
        f"Median excess cost over the limit. {'. '.join(told)}.",
        svg,
    )  # fmt: skip


def _over(row: Row, end: str) -> float | None:
    """The excess, or an end of its interval, over the limit."""
    if row["over_limit"] is None or row[f"excess{end}"] is None:
        return None
    return row[f"excess{end}"] / row["limit"] if end else row["over_limit"]


def _over_words(row: Row) -> str:
    over = row["over_limit"]
    unstable = f" ({per_cent(row['unstable'])} unstable)" if row["unstable"] else ""
    return f"{label(row['algorithm'])} {'undefined' if over is None else times(over)}{unstable}"


def _ratio(axes: Axes, height: float, row: Row, x: tuple[float, float], edge: float) -> None:
    """One value with its interval, hollow at `edge` where there is none."""
    tint, (low, over, high) = (
        colour(row["algorithm"]),
        (_over(row, end) for end in ("_low", "", "_high")),
    )
    if over is not None and low is not None:
        ends = [max(low, x[0]), edge if high is None else max(high, x[0])]
        axes.plot(ends, [height] * 2, color=tint, lw=1.5, alpha=0.75)
        if high is None:
            axes.plot(edge, height, ">", color=tint, ms=4, mew=0)
    at, inside = (edge, palette.PAPER[0]) if over is None else (max(over, x[0]), tint)
    axes.plot(at, height, MARKS[row["algorithm"]], color=tint, mfc=inside, ms=4.8, mew=1.1, zorder=3)


def _present(ends: Sequence[Row]) -> list[str]:
    return [name for name in MAIN if any(row["algorithm"] == name for row in ends)]


def _placed(systems: Sequence[str], names: Sequence[str], ends: Sequence[Row]) -> Iterator[tuple[float, Row]]:
    """Each row with its height: learners of a system below each other, always in the same order."""
    for row in ends:
        aside = names.index(row["algorithm"]) - (len(names) - 1) / 2
        yield systems.index(row["system"]) + 0.76 * aside / len(names), row


def _lanes(systems: Sequence[str], names: Sequence[str], right: float) -> tuple[Figure, Axes]:
    """Axes with a wide row for each system, and the learners' names above."""
    above = 0.3 + 0.17 * -(-len(names) // 3)
    figure, (axes,) = new_figure(0.6 + above + (0.14 + 0.085 * len(names)) * len(systems), right=right)
    figure.subplots_adjust(left=0.36, top=1 - above / figure.get_figheight())
    rows_named(axes, systems)
    for border in range(1, len(systems)):
        axes.axhline(border - 0.5, color=palette.GRID[0], lw=0.7)
    axes.set_xscale("log")
    handles = [
        Line2D([], [], ls="none", marker=MARKS[name], color=colour(name), ms=5, mew=0, label=label(name))
        for name in names
    ]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1 - (above - 0.2) / figure.get_figheight()),
        bbox_transform=figure.transFigure, ncols=3, frameon=False, fontsize=SMALL, handletextpad=0.2,
        columnspacing=1.0, borderaxespad=0.0,
    )  # fmt: skip
    return figure, axes


def _aside(axes: Axes, low: float, high: float, words: str) -> float:
    """Sets the range of a logarithmic axis with a shaded place at its right for what has no value; its middle."""
    width = (high / low) ** (ASIDE / (1 - ASIDE))
    axes.set_xlim(low, high * width)
    axes.axvspan(high, high * width, color=palette.SHADE[0], lw=0, zorder=0)
    axes.text(1.0, 1.0, words, transform=axes.transAxes, ha="right", va="bottom", fontsize=7.0, color=GREY)
    return high * width**0.5


def rows_named(axes: Axes, names: Sequence[str]) -> None:
    """One row for each name, from the top."""
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.tick_params(axis="y", length=0, labelcolor=palette.INK[0])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)


def dot(axes: Axes, height: float, row: Row, level: str, shape: str, end: float) -> None:
    """Transitions to a level: the median with its interval and 90th percentile; hollow at `end` where not reached."""
    at, low, high, p90 = (row[f"{name}_{level}"] for name in ("to", "to_low", "to_high", "to_p90"))
    tint = colour(row["algorithm"])
    if low is not None:
        axes.plot([low, end if high is None else high], [height] * 2, color=tint, lw=1.5, alpha=0.75)
        if high is None and at is not None:
            axes.plot(end, height, ">", color=tint, ms=4, mew=0, clip_on=False)
    if p90 is not None:
        axes.plot(p90, height, "|", color=tint, ms=6, mew=1.0)
    at, inside = (end, palette.PAPER[0]) if at is None else (at, tint)
    axes.plot(at, height, shape, color=tint, mfc=inside, ms=4.8, mew=1.1, clip_on=False, zorder=3)
