"""The figure of how many real transitions each run needs: a panel a level, or a row a run where there are many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from mbpo.lqr.needed import bound_words
from mbpo.report import palette
from mbpo.report.drawing import FEW, Picture, new_figure, per_cent, style, to_svg
from mbpo.report.measures import LEVELS, ratio_words, reference_of, transitions_to
from mbpo.report.palette import colour, label
from mbpo.report.ticks import log_axis
from mbpo.runs.record import RunRecord

LEVEL_MARKS = (("o", "none", 6.0), ("o", "full", 6.0), ("D", "full", 5.5))


def needed_figure(records: Sequence[RunRecord]) -> Picture:
    """Real transitions until the median excess is at 10 %, 1 % and 0.1 %, with the ratio to MBPO."""
    if len(records) > FEW:
        return _all_levels_in_a_row(records)
    with style():
        figure, rows = new_figure(0.6 + len(LEVELS) * (0.28 + 0.2 * len(records)), len(LEVELS), right=0.72)
        figure.subplots_adjust(left=0.31, hspace=0.32, top=0.93)
        longest = max(int(record.transitions[-1]) for record in records)
        first = min(int(record.transitions[0]) for record in records)
        for axes, level in zip(rows, LEVELS, strict=True):
            _needed_rows(axes, records, level)
            axes.set_title(f"to {per_cent(level)}", loc="left", fontsize=9.5, pad=3, color=palette.INK[0])
        rows[0].set_xscale("log")
        rows[0].set_xlim(max(first, 1) / 1.5, longest * 1.1)
        rows[0].xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        rows[0].xaxis.set_minor_formatter(lambda x, _: "")
        rows[-1].set_xlabel("real transitions")
        for axes in rows[:-1]:
            axes.spines["bottom"].set_visible(False)
            axes.tick_params(axis="x", length=0)
        svg = to_svg(figure)
    name = label(reference_of(records).name)
    return Picture(
        "transitions-needed",
        "How much data they need",
        "Real transitions until the excess cost of a seed stays within 10 %, 1 % and 0.1 %, median over seeds; "
        f"in brackets, how many times as many as {name}. ≤: there at the first record, perhaps before. An open circle "
        "marks a run that ended before.",
        "Real transitions needed to reach three levels of excess cost; the numbers are in the table below.",
        svg,
    )


def _needed_rows(axes: Axes, records: Sequence[RunRecord], level: float) -> None:
    reference = reference_of(records)
    base = transitions_to(reference, level)
    for row, record in enumerate(records):
        tint, found = colour(record.name), transitions_to(record, level)
        used, at = found.middle, found.middle or found.most
        axes.plot([1, at], [row, row], color=tint, lw=2.2, alpha=0.45)
        axes.plot([at], [row], "o", color=tint, ms=5.5, mfc=tint if used is not None else "none", mew=1.3)
        words = "not reached" if used is None else f"{'≤ ' if found.at_most else ''}{used:,}"
        if used is not None and base.middle and record is not reference:
            words += f" ({bound_words(found, base, ratio_words(used / base.middle))})"
        axes.annotate(
            words, (at, row), (7, 0), textcoords="offset points", va="center", fontsize=8.5, color=tint
        )
    axes.set_yticks(range(len(records)), [label(record.name) for record in records], fontsize=8.5)
    axes.tick_params(axis="y", length=0, labelcolor=palette.INK[0])
    axes.set_ylim(len(records) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)


def _all_levels_in_a_row(records: Sequence[RunRecord]) -> Picture:
    """One row a run, the fastest to 1 % on top, with a mark for each level that it reached."""
    reached = [(record, [transitions_to(record, level).middle for level in LEVELS]) for record in records]
    reached.sort(key=lambda each: [np.inf if used is None else used for used in (each[1][1], each[1][0])])
    with style():
        figure, (axes,) = new_figure(1.0 + 0.215 * len(records), right=0.95)
        figure.subplots_adjust(left=0.34, top=1 - 0.42 / figure.get_figheight())
        axes.set_xscale("log")
        longest, first = (pick(int(r.transitions[at]) for r in records) for pick, at in ((max, -1), (min, 0)))
        axes.set_xlim(max(first, 1) / 1.5, longest * 1.15)
        for row, (record, used) in enumerate(reached):
            _row_of_marks(axes, row, record, used)
        axes.set_yticks(range(len(reached)), [label(record.name) for record, _ in reached], fontsize=8.5)
        axes.tick_params(axis="y", length=0, labelcolor=palette.INK[0])
        axes.set_ylim(len(reached) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        log_axis(axes.xaxis, axes.get_xlim(), lambda x: f"{x:,.0f}", 4)
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel("real transitions")
        _level_legend(axes)
        svg = to_svg(figure)
    return Picture(
        "transitions-needed",
        "How much data they need",
        "Real transitions until the excess cost of a seed stays within 10 %, 1 % and 0.1 %, median over seeds, the "
        "fastest to 1 % on top. A cross: the run ended before 10 %.",
        "Real transitions needed to reach three levels of excess cost; the numbers are in the table below.",
        svg,
    )


def _row_of_marks(axes: Axes, row: int, record: RunRecord, used: Sequence[int | None]) -> None:
    tint, end = colour(record.name), int(record.transitions[-1])
    there = [each for each in used if each is not None]
    axes.plot([1, max(there, default=end)], [row, row], color=tint, lw=1.6, alpha=0.3)
    if not there:
        axes.plot([end], [row], "x", color=tint, ms=5.5, mew=1.4)
    for at, (shape, fill, size) in zip(used, LEVEL_MARKS, strict=True):
        if at is not None:
            face = palette.PAPER[0] if fill == "none" else tint
            axes.plot([at], [row], shape, color=tint, mfc=face, ms=size, mew=1.3, zorder=3)


def _level_legend(axes: Axes) -> None:
    handles = [
        axes.plot(
            [], [], shape, color=palette.INK[0], mfc="none" if fill == "none" else palette.INK[0],
            ms=size, mew=1.3, label=f"to {per_cent(level)}",
        )[0]
        for level, (shape, fill, size) in zip(LEVELS, LEVEL_MARKS, strict=True)
    ]  # fmt: skip
    axes.legend(
        handles=handles, frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3,
        handletextpad=0.2, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip
