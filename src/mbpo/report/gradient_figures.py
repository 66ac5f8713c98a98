"""Figures of one bench of gradient estimators: bias against spread, and what a gradient of 10 % costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox, blended_transform_factory

from mbpo.report import palette
from mbpo.report.drawing import Picture, new_figure, per_cent, spaced, style, to_svg
from mbpo.report.palette import colour, label, mark
from mbpo.report.ticks import log_axis, power

BAND = 0.46  # of the width, for estimators without bias
SMALL = 8.0  # points
Row = Mapping[str, Any]
Side = Literal["left", "center", "right"]
SIDES: tuple[tuple[int, Side], ...] = ((1, "left"), (-1, "right"))


def times(value: float) -> str:
    """0.753 as "0.75", 30.7 as "31", 51131 as "51,131"."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def limits(values: Sequence[float], air: float = 1.6) -> tuple[float, float]:
    """The range of positive values with some air."""
    return min(values) / air, max(values) * air


def bias_figure(estimators: Sequence[Row]) -> Picture | None:
    """Relative bias against relative standard deviation; `None` where nothing is measured relative to the gradient."""
    shown = [row for row in estimators if row["relative_std"] and row["relative_bias"] is not None]
    if not shown:
        return None
    plain, biased = ([row for row in shown if bool(row["relative_bias"]) is each] for each in (False, True))
    with style():
        figure, (axes,) = new_figure(max(4.4, 1.2 + 0.165 * len(plain)))
        y = limits([row["relative_std"] for row in shown], 1.8)
        biases = [row["relative_bias"] for row in biased] or [0.1]
        ends = 0.6 * min(biases), max(2.5 * max(biases), 10 * min(biases))
        _two_parts(axes, ends, y)
        _unbiased(axes, plain)
        _beside(axes, [(row, (row["relative_bias"], row["relative_std"])) for row in biased])
        svg = to_svg(figure)
    left_out = [label(row["name"]) for row in estimators if row["relative_std"] == 0]
    without = f" {', '.join(left_out).capitalize()}: neither bias nor spread, not shown." if left_out else ""
    return Picture(
        "bias-and-spread",
        "Bias against spread",
        "Bias of the mean and standard deviation of one trajectory, both relative to the exact gradient. At the left: "
        "no bias; hollow there: a bias too small to see, or a mean that these trajectories cannot show."
        + without,
        "Each estimator's bias and standard deviation, both logarithmic; the numbers are in the table below.",
        svg,
    )


def _two_parts(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """A band for no bias at the left, a logarithmic axis right of it."""
    width = math.log10(x[1] / x[0]) * BAND / (1 - BAND)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(x[0] * 10**-width, x[1])
    axes.set_ylim(y)
    log_axis(axes.xaxis, x, per_cent, 4)
    log_axis(axes.yaxis, y, power)
    ticks = [tick for tick in axes.xaxis.get_majorticklocs() if x[0] <= tick <= x[1]]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: per_cent(value)))
    axes.grid(True, which="major", axis="y")
    axes.set_axisbelow(True)
    axes.axvspan(axes.get_xlim()[0], x[0], color=palette.SHADE[0], lw=0, zorder=0)
    below = blended_transform_factory(axes.transAxes, axes.transAxes)
    axes.text(BAND / 2, -0.035, "unbiased", transform=below, ha="center", va="top", color=palette.MUTED[0])
    axes.set_xlabel("relative bias", x=(1 + BAND) / 2)
    axes.set_ylabel("standard deviation of one trajectory\nrelative to the gradient")
    axes.yaxis.set_label_coords(-0.115, 0.5)
    axes.figure.subplots_adjust(left=0.165)


def _dot(axes: Axes, row: Row, x: float, y: float, **options: Any) -> None:
    tint, hollow = colour(row["name"]), not row["relative_bias"] and row["unbiased"] is not True
    face = palette.PAPER[0] if hollow else tint
    axes.plot([x], [y], mark(row["name"]), color=tint, mfc=face, ms=6, mew=1.2, zorder=4, **options)


def _unbiased(axes: Axes, rows: Sequence[Row]) -> None:
    """The column of the unbiased, their names pushed apart beside it."""
    both = blended_transform_factory(axes.transAxes, axes.transData)
    to_axes = axes.transData + axes.transAxes.inverted()
    gap = 1.22 * SMALL / (axes.get_window_extent().height * 72 / axes.figure.dpi)
    at = [float(to_axes.transform((axes.get_xlim()[0], row["relative_std"]))[1]) for row in rows]
    for row, height, place in zip(rows, at, spaced(at, gap, 0.02, 0.98) if at else [], strict=True):
        tint = colour(row["name"])
        _dot(axes, row, 0.035, row["relative_std"], transform=both)
        axes.plot(
            [0.05, 0.085, 0.1],
            [height, place, place],
            transform=axes.transAxes,
            color=tint,
            lw=0.6,
            alpha=0.6,
        )
        axes.text(
            0.108,
            place,
            label(row["name"]),
            transform=axes.transAxes,
            color=tint,
            va="center",
            fontsize=SMALL,
        )


def _beside(axes: Axes, points: Sequence[tuple[Row, tuple[float, float]]]) -> None:
    """Dots with a name each, placed where it hits neither a dot nor another name."""
    whole, scale = axes.get_window_extent(), axes.figure.dpi / 72
    centres = [axes.transData.transform(at) for _, at in points]
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in centres]
    room = Bbox.from_extents(whole.x0 + BAND * whole.width + 4, whole.y0, whole.x1 + 8, whole.y1)
    for (row, at), centre in sorted(zip(points, centres, strict=True), key=lambda each: -each[1][1]):
        tint = colour(row["name"])
        _dot(axes, row, *at)
        text = axes.annotate(
            label(row["name"]),
            at,
            (0, 0),
            textcoords="offset points",
            fontsize=SMALL,
            color=tint,
            va="center",
        )
        width, height = (
            scale * text.get_window_extent().width,
            1.25 * SMALL * scale,
        )  # SVG text is measured in points
        (dx, dy), side = _free(centre, width, height, taken, room, scale)
        text.set_position((dx / scale, dy / scale))
        text.set_horizontalalignment(side)
        taken.append(_label_box(centre, width, height, (dx, dy), side))
        if math.hypot(dx, dy) > 16 * scale:
            line = {"arrowstyle": "-", "color": tint, "lw": 0.6, "alpha": 0.6, "shrinkA": 4, "shrinkB": 1}
            axes.annotate(
                "", at, (dx / scale, dy / scale), textcoords="offset points", arrowprops=line, zorder=2
            )


def _label_box(centre: Any, width: float, height: float, offset: tuple[float, float], side: Side) -> Bbox:
    left = centre[0] + offset[0] - (width if side == "right" else width / 2 if side == "center" else 0)
    return Bbox.from_bounds(left, centre[1] + offset[1] - height / 2, width, height)


def _free(
    centre: Any, width: float, height: float, taken: Sequence[Bbox], room: Bbox, scale: float
) -> tuple[tuple[float, float], Side]:
    """The nearest offset, in pixels, at which a name hits nothing that is taken and stays in the room."""
    heights = (0, 7, -7, 14, -14, 22, -22, 30, -30, 40, -40)
    beside: list[tuple[tuple[float, float], Side]] = [
        ((sign * 8 * scale, dy * scale), side) for dy, (sign, side) in product(heights, SIDES)
    ]
    above: list[tuple[tuple[float, float], Side]] = [
        ((0.0, dy * scale), "center") for dy in (11, -11, 20, -20, 30, -30)
    ]
    candidates = [*beside, *above]
    candidates.sort(key=lambda each: abs(each[0][1]) + 0.5 * abs(each[0][0]))
    for offset, side in candidates:
        box = _label_box(centre, width, height, offset, side)
        inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
        if inside and not any(box.overlaps(other) for other in taken):
            return offset, side
    return (8 * scale, 0.0), "left"


def transitions_figure(estimators: Sequence[Row], told: Sequence[str]) -> Picture | None:
    """Real transitions for a gradient with an error of 10 %, the cheapest first; `None` where there is no gradient."""
    rows = [row for row in estimators if row["relative_std"] is not None]
    if not any(row["transitions_to_10_percent"] for row in rows):
        return None
    rows = sorted(rows, key=lambda row: (_needed(row), row["relative_bias"] or 0.0))
    finite = [row["transitions_to_10_percent"] for row in rows if row["transitions_to_10_percent"]]
    with style():
        figure, (axes,) = new_figure(0.75 + 0.235 * len(rows), right=0.8)
        figure.subplots_adjust(left=0.34)
        axes.set_xscale("log")
        axes.set_xlim(10 ** math.floor(math.log10(min(finite) / 3)), max(finite) * 1.5)
        for place, row in enumerate(rows):
            _bar(axes, place, row, row["name"] in told)
        axes.set_yticks(range(len(rows)), [label(row["name"]) for row in rows], fontsize=8.5)
        axes.tick_params(axis="y", length=0, labelcolor=palette.INK[0])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        log_axis(axes.xaxis, axes.get_xlim(), short, 4)
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel("transitions")
        svg = to_svg(figure)
    return Picture(
        "transitions-to-10-percent",
        "What a gradient costs",
        "Transitions after which the standard deviation of the mean is 10 % of the gradient: T (std / 0.1)², at least "
        "one trajectory. Pale bars: the estimator is told parameters of the system. A bias above 10 % never goes away.",
        "Bars, logarithmic, the cheapest estimator on top; the numbers are in the table below.",
        svg,
    )


def _needed(row: Row) -> float:
    needed = row["transitions_to_10_percent"]
    return np.inf if needed is None else float(needed)


def _bar(axes: Axes, place: int, row: Row, told: bool) -> None:
    tint, needed = colour(row["name"]), row["transitions_to_10_percent"]
    start = axes.get_xlim()[0]
    if needed:
        axes.barh(place, needed - start, left=start, height=0.62, color=tint, alpha=0.45 if told else 1.0)
        words = short(needed)
    elif needed is None:
        words = f"never: bias {per_cent(row['relative_bias'])}"
    else:
        words = "none: it samples nothing"
    axes.annotate(
        words,
        (needed or start, place),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=tint,
    )


def short(value: float) -> str:
    """1133 as "1,133", 57012 as "57,000", 5228850 as "5.2 million", 1.6e11 as "160 billion"."""
    if value < 1e4:
        return f"{value:,.0f}"
    rounded = float(f"{value:.2g}")
    for size, name in ((1e9, " billion"), (1e6, " million")):
        if size <= rounded < 1e3 * size:
            return f"{rounded / size:.{0 if rounded >= 10 * size else 1}f}".removesuffix(".0") + name
    return f"{rounded:,.0f}" if rounded < 1e6 else f"{value:.1e}".replace("e+", "e")
