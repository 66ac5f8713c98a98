"""Figures of a study on a control task: returns while it learns, and the last ones against what is asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mbpo.report import palette
from mbpo.report.drawing import Picture, new_figure, style, to_svg
from mbpo.report.step_curves import AMBER, BLUE, GREEN, GREY, ORANGE, VIOLET, grid, name_ends, number
from mbpo.report.studies.curves import with_interval

TINTS = (BLUE, GREEN, AMBER, ORANGE, VIOLET)
WITHOUT = "no model"
ASKED = {
    "ratio": ("share of real transitions in a batch", "ratio "),
    "rollout_length": ("imagined steps of a branch", "length "),
}

Row = Mapping[str, Any]


def pictures(result: Mapping[str, Any]) -> list[Picture]:
    """The two figures of the study's JSON object."""
    column = next(name for name in ASKED if name in result["columns"])
    arms: dict[Any, list[Row]] = {}
    for row in result["rows"]:
        arms.setdefault(row[column], []).append(row)
    return [_learning(result, column, arms), _final(result, column, arms)]


def _learning(result: Mapping[str, Any], column: str, arms: Mapping[Any, Sequence[Row]]) -> Picture:
    with style():
        figure, (axes,) = new_figure(3.7, right=0.74)
        figure.subplots_adjust(left=0.17)
        _step_axis(axes, result)
        ends = [
            _curve(axes, rows, _words(column, value), *_look(place, value))
            for place, (value, rows) in enumerate(arms.items())
        ]
        _return_axis(axes)
        grid(axes)
        name_ends(axes, ends)
        svg = to_svg(figure)
    told = "; ".join(
        f"{_words(column, value)} from {number(rows[0]['return'])} to {number(rows[-1]['return'])}"
        for value, rows in arms.items()
    )
    return Picture(
        "learning", f"While it learns: {result['systems'][0]}",
        f"Undiscounted return of the mean policy at each evaluation: {_over(result)}. Shaded: the "
        "warm-up.",
        f"Return against real steps: {told}.",
        svg,
    )  # fmt: skip


def _final(result: Mapping[str, Any], column: str, arms: Mapping[Any, Sequence[Row]]) -> Picture:
    last = {value: rows[-1] for value, rows in arms.items()}
    with style():
        figure, (axes,) = new_figure(2.9)
        figure.subplots_adjust(left=0.17)
        for place, (value, row) in enumerate(last.items()):
            tint, _ = _look(place, value)
            if row["return_low"] is not None:
                axes.plot([place, place], [row["return_low"], row["return_high"]], color=tint, lw=1.6)
            hollow = palette.PAPER[0] if value == WITHOUT else tint
            axes.plot(place, row["return"], "o", color=tint, ms=6.5, mfc=hollow, mew=1.4, zorder=3)
        axes.set_xlim(-0.5, len(last) - 0.5)
        axes.set_xticks(range(len(last)), [str(value) for value in last])
        axes.set_xlabel(ASKED[column][0])
        _return_axis(axes)
        axes.grid(True, axis="y")
        axes.set_axisbelow(True)
        svg = to_svg(figure)
    told = "; ".join(
        f"{_words(column, value)} {number(row['return'])}{_ends(row)}" for value, row in last.items()
    )
    steps = next(iter(last.values()))["env_steps"]
    return Picture(
        "final-return", f"After {steps:,} real steps: {result['systems'][0]}",
        f"Return of the last evaluation: {_over(result)}. Places are evenly apart.",
        f"Return of the last evaluation: {told}.",
        svg,
    )  # fmt: skip


def _over(result: Mapping[str, Any]) -> str:
    return f"interquartile mean {with_interval([{'seeds': result['seeds']}])}"


def _ends(row: Row) -> str:
    low, high = row["return_low"], row["return_high"]
    return "" if low is None else f", {number(low)} to {number(high)}"


def _curve(
    axes: Axes, rows: Sequence[Row], words: str, tint: str, dash: palette.Dash
) -> tuple[float, float, str, str]:
    """Draw one arm; its end with its name."""
    steps = np.array([row["env_steps"] for row in rows])
    middle, low, high = (
        np.array([row[name] for row in rows], float) for name in ("return", "return_low", "return_high")
    )
    axes.fill_between(steps, low, high, color=tint, alpha=0.14, lw=0)
    if len(steps) == 1:  # a band has no width
        axes.plot(steps[[0, 0]], [low[0], high[0]], color=tint, lw=1.2, alpha=0.5)
    axes.plot(steps, middle, color=tint, lw=1.8, ls=dash, marker="o", ms=3.0, mew=0, zorder=3)
    return float(steps[-1]), float(middle[-1]), words, tint


def _look(place: int, value: Any) -> tuple[str, palette.Dash]:
    """Colour and line style of an arm."""
    return (GREY, palette.DASHED) if value == WITHOUT else (TINTS[place % len(TINTS)], palette.SOLID)


def _words(column: str, value: Any) -> str:
    return WITHOUT if value == WITHOUT else f"{ASKED[column][1]}{value}"


def _step_axis(axes: Axes, result: Mapping[str, Any]) -> None:
    end = 1.03 * max(row["env_steps"] for row in result["rows"])
    axes.set_xlim(0, end)
    warmup = min(result["settings"]["warmup_steps"], end)
    axes.axvspan(0, warmup, color=palette.GRID[0], alpha=0.55, lw=0, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("real steps, warm-up (shaded) included")


def _return_axis(axes: Axes) -> None:
    axes.margins(y=0.1)
    axes.set_ylabel("mean return of an evaluation")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
