"""Figures of what is learned in the study of forgetting: regret over time, and MBPO on histories of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from mbpo.lqr.intervals import LEAST_SEEDS
from mbpo.report import palette
from mbpo.report.drawing import Picture, end_labels, new_figure, per_cent, style, to_svg
from mbpo.report.gradient_figures import limits
from mbpo.report.palette import colour
from mbpo.report.studies.curves import with_interval
from mbpo.report.ticks import log_axis, power

SMALL = 8.0  # points
LEAST_EXCESS = 1e-6  # smallest excess that is drawn
DASH: palette.Dash = (0, (5, 2))
DOTS: palette.Dash = (0, (1, 2))
LEARNERS = {
    "gradient descent (published step)": ("published step", colour("policy-gradient"), "s"),
    "gradient descent (published step, c = 2500)": ("published, c = 2500", colour("reinforce"), "v"),
    "gradient descent (scaled step)": ("scaled step", colour("dpg"), "D"),
    "least squares": ("least squares", colour("mbpo"), "o"),
}
CONTROL = {
    "MBPO": ("MBPO", colour("mbpo"), "o"),
    "certainty equivalence, unlimited data": ("unlimited data", palette.INK[0], ""),
    "best gain found": ("best gain", colour("certainty-equivalence"), ""),
}

Row = Mapping[str, Any]
Ends = list[tuple[float, float, str, str]]


def some(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """One column, NaN where there is no value."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], float)


def end_of(x: np.ndarray, y: np.ndarray, words: str, tint: str) -> Ends:
    """The last point of a line that is there, with its name; none where there is none."""
    shown = np.flatnonzero(np.isfinite(y))
    return [(float(x[shown[-1]]), float(y[shown[-1]]), words, tint)] if len(shown) else []


def order_axis(axes: Axes, rows: Sequence[Row]) -> None:
    """Across: the orders of the rows."""
    orders = sorted({row["order"] for row in rows})
    axes.set_xlim(orders[0] - 0.3, orders[-1] + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("outputs s that are seen")


def log_y(axes: Axes, y: tuple[float, float], words: Callable[[float], str] = power) -> None:
    """A logarithmic axis upwards."""
    axes.set_yscale("log")
    axes.set_ylim(y)
    log_axis(axes.yaxis, y, words)
    axes.grid(True, which="major")
    axes.set_axisbelow(True)


def bars(
    axes: Axes, x: np.ndarray, rows: Sequence[Row], name: str, tint: str, mark: str, y: tuple[float, float]
) -> None:
    """Marks with their intervals, cut at the ends of the axis."""
    middle, low, high = (column(rows, name + end) for end in ("", "_low", "_high"))
    high = np.where(np.isfinite(high), high, y[1])
    axes.vlines(x, np.clip(low, *y), np.clip(high, *y), color=tint, lw=1.2)
    axes.plot(x, np.where(middle >= y[0], middle, np.nan), ls="none", marker=mark, color=tint, ms=4, mew=1.2)


def regret_figure(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """Regret of the online learners over time, and the published bound without its constants."""
    if not rows:
        return None
    seen = [row[name] for row in rows for name in ("regret", "regret_high", "bound")]
    y = limits([value for value in seen if value is not None and value > 0] or [1.0], 2.5)
    with style():
        figure, (axes,) = new_figure(3.6, right=0.7)
        axes.set_xscale("log")
        times = sorted({row["time"] for row in rows})
        axes.set_xlim(times[0] / 1.1, times[-1] * 1.1)
        axes.set_xticks(times, [f"{time:,}" for time in times])
        axes.xaxis.set_minor_locator(NullLocator())
        log_y(axes, y)
        ends: Ends = []
        for name, (words, tint, mark) in LEARNERS.items():
            each = sorted(some(rows, learner=name), key=lambda row: row["time"])
            x, lost, bound = (column(each, field) for field in ("time", "regret", "bound"))
            axes.plot(x, np.where(lost > 0, lost, np.nan), color=tint, lw=1.6)
            bars(axes, x, each, "regret", tint, mark, y)
            ends += end_of(x, np.where(lost > 0, lost, np.nan), words, tint)
            if np.isfinite(bound).any():
                axes.plot(x, bound, color=palette.INK[0], lw=1.2, ls=DASH)
                ends += end_of(x, bound, "2 (D² + B₀²) √t", palette.INK[0])
        axes.set_xlabel("real transitions t")
        axes.set_ylabel("regret against the Kalman filter")
        end_labels(axes, ends, SMALL)
        svg = to_svg(figure)
    last = some(rows, time=times[-1])
    return Picture(
        f"forgetting-regret{tag}", f"Learning online: {system}",
        f"Summed squared error of AR({rows[0]['order']}) learned online less that of the Kalman filter; means "
        f"{with_interval(rows, 'runs')}. Dashed: the published bound for the published step, without its "
        "constant C_S and its term ε t.",
        f"Regret after {times[-1]:,} transitions: "
        + ", ".join(f"{row['learner']} {row['regret']:.3g}" for row in last) + ".",
        svg,
    )  # fmt: skip


def control_figure(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """Excess cost over LQG against the length of the history."""
    seen = [row["excess"] for row in rows if row["excess"] is not None and row["excess"] > LEAST_EXCESS]
    if not seen:
        return None
    with style():
        figure, (axes,) = new_figure(3.6, right=0.68)
        y = limits(seen, 2.0)
        order_axis(axes, rows)
        log_y(axes, y, per_cent)
        ends: Ends = []
        for name, (words, tint, mark) in CONTROL.items():
            each = sorted(some(rows, learner=name), key=lambda row: row["order"])
            x, excess = column(each, "order"), column(each, "excess")
            excess = np.where(excess > LEAST_EXCESS, excess, np.nan)
            axes.plot(x, excess, color=tint, lw=1.7, ls="solid" if mark else DASH if name[0] == "c" else DOTS)
            if mark:
                bars(axes, x, each, "excess", tint, mark, y)
            ends += end_of(x, excess, words, tint)
        axes.set_ylabel("cost above the optimum, LQG")
        end_labels(axes, ends, SMALL)
        svg = to_svg(figure)
    learned = sorted(some(rows, learner="MBPO"), key=lambda row: row["order"])
    told = ", ".join(
        f"{'not finite' if r['excess'] is None else per_cent(r['excess'])} at s = {r['order']}"
        for r in learned
    )
    about = ""
    if learned:
        few = learned[0]["runs"] < LEAST_SEEDS
        about = (
            f" over {learned[0]['runs']} seeds after {learned[0]['time']:,} real transitions"
            f"{', too few for an interval' if few else ' and its 95 % interval'}"
        )
    return Picture(
        f"forgetting-control{tag}", f"MBPO that sees only outputs: {system}",
        f"Exact cost J/J* − 1 above LQG. Blue: MBPO on a history of s outputs, median{about}. "
        "Dashed: the gain that is optimal for the least-squares model of that order, with unlimited data: what is left "
        "is the model's bias. Dotted: the best gain found on the same history; where it ends, that gain is LQG itself.",
        f"Excess cost over LQG by length of the history: MBPO {told or 'not run'}.",
        svg,
    )  # fmt: skip
