"""The figures that compare runs on one system: excess cost, model error, spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbpo.core.quantiles import median, quantiles
from mbpo.report import palette
from mbpo.report.drawing import FEW, Picture, end_labels, log_axes, new_figure, per_cent, style, to_svg
from mbpo.report.measures import excess_words, median_excess, reference_of, told
from mbpo.report.palette import colour, dash, label
from mbpo.runs.record import RunRecord

FLOOR = 1e-12
SMALL = 8.0  # points, where there are many names
Limits = tuple[tuple[float, float], tuple[float, float]]
BAND = (0.1, 0.9)


def excess_figure(records: Sequence[RunRecord]) -> Picture:
    """Relative excess cost against real transitions: medians, p10-p90 bands (of `FEW` runs), and the limit."""
    with style():
        figure, (axes,) = _tall_figure(4.0, len(records))
        x, (low, high) = _limits(records, [record.excess_cost for record in records])
        log_axes(axes, x, (low / 3, high))
        ends = []
        for record in records:
            low, high = quantiles(record.excess_cost, BAND)
            ends.append(_line(axes, record, low, median_excess(record), high, len(records) > FEW))
        _guides(axes)
        _limit_line(axes, records)
        axes.set_xlabel("real transitions")
        axes.set_ylabel("excess cost above the optimum")
        end_labels(axes, [end for end in ends if end is not None], SMALL if len(records) > FEW else None)
        svg = to_svg(figure)
    few = len(records) <= FEW
    bands, limit = ("; bands: 10th to 90th percentile", "Dashed") if few else ("", "Black, dashed")
    ended = ", ".join(f"{label(r.name)} {excess_words(float(median_excess(r)[-1]))}" for r in records)
    return Picture(
        "excess-cost",
        "How fast they learn",
        f"Exact relative excess cost, J/J* − 1. Lines: median over seeds{bands}. {limit}: "
        "the mean that certainty equivalence tends to on the data collected; a median runs below its mean."
        + (
            " Learners that are told parameters of the system may pass it." if any(map(told, records)) else ""
        ),
        f"Excess cost against real transitions, both logarithmic; medians at the end: {ended}.",
        svg,
    )


def _tall_figure(height: float, lines: int) -> tuple[Figure, list[Axes]]:
    """A figure with room beside the axes for the names of all lines."""
    figure, axes = new_figure(height if lines <= FEW else max(height, 0.7 + 0.142 * lines), right=0.66)
    if lines > FEW:
        figure.subplots_adjust(left=0.21)
    return figure, axes


def _limits(records: Sequence[RunRecord], values: Sequence[np.ndarray]) -> Limits:
    """The ranges of both axes: every round, and the bands of `values` [S, r] with some air."""
    seen = np.concatenate([quantiles(each, BAND).ravel() for each in values])
    seen = seen[np.isfinite(seen) & (seen > FLOOR)]
    used = np.concatenate([record.transitions for record in records])
    used = used[used > 0]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (1e-4, 1.0)
    return (float(used.min()) / 1.15, float(used.max()) * 1.15), (low / 1.6, high * 1.6)


def _line(
    axes: Axes, record: RunRecord, low: np.ndarray, middle: np.ndarray, high: np.ndarray, crowded: bool
) -> tuple[float, float, str, str] | None:
    """Draw a median and its band, in a crowd without the band and in a style of its own; the end of the line with its
    label, unless nothing is finite."""
    tint, used = colour(record.name), np.maximum(record.transitions, 1)
    top = axes.get_ylim()[1]
    shown = np.isfinite(middle)
    curve = used[shown], np.maximum(middle, FLOOR)[shown]
    if crowded:
        axes.plot(*curve, color=tint, lw=1.4, ls=dash(record.name))
    else:
        band = np.isfinite(low)
        upper = np.minimum(np.where(np.isfinite(high), high, top), top)
        axes.fill_between(used[band], np.maximum(low, FLOOR)[band], upper[band], color=tint, alpha=0.16, lw=0)
        axes.plot(*curve, color=tint, lw=1.9, solid_capstyle="round")
    if not shown.any():
        return None
    last = np.flatnonzero(shown)[-1]
    return float(used[last]), max(float(middle[last]), FLOOR), label(record.name), tint


def _guides(axes: Axes) -> None:
    low, high = axes.get_ylim()
    for level in (0.1, 0.01):
        if low < level < high:
            axes.axhline(level, color=palette.MUTED[0], lw=0.8, ls=(0, (1, 2)))


def _limit_line(axes: Axes, records: Sequence[RunRecord]) -> None:
    record = next(
        (each for each in records if each.algorithm == "certainty-equivalence"), reference_of(records)
    )
    shown = np.isfinite(record.limit_curve) & (record.limit_curve > 0)
    if record.model_error is None or not shown.any():
        return
    used, limit = record.transitions[shown], record.limit_curve[shown]
    axes.plot(used, limit, color=palette.INK[0], lw=1.3, ls=(0, (5, 3)))
    words = "limit: no learner does better\nin the long run"
    axes.plot(
        [0.025, 0.145], [0.085, 0.085], transform=axes.transAxes, color=palette.INK[0], lw=1.3, ls=(0, (5, 3))
    )
    axes.text(0.17, 0.085, words, transform=axes.transAxes, va="center", fontsize=8.5)


def model_error_figure(records: Sequence[RunRecord]) -> Picture | None:
    """Relative error of the fitted [A B] against real transitions; `None` when no run has a model."""
    fitted = [record for record in records if record.model_error is not None]
    if not fitted:
        return None
    with style():
        figure, (axes,) = _tall_figure(3.4, len(fitted))
        errors = [record.model_error for record in fitted if record.model_error is not None]
        log_axes(axes, *_limits(fitted, errors))
        ends = []
        for record, error in zip(fitted, errors, strict=True):
            low, high = quantiles(error, BAND)
            ends.append(_line(axes, record, low, median(error), high, len(fitted) > FEW))
        axes.set_xlabel("real transitions")
        axes.set_ylabel("relative error of the model [A B]")
        end_labels(axes, [end for end in ends if end is not None], SMALL if len(fitted) > FEW else None)
        svg = to_svg(figure)
    bands = ": median and 10th to 90th percentile" if len(fitted) <= FEW else ": medians over seeds"
    return Picture(
        "model-error",
        "How good the model is",
        f"Frobenius norm of the error of the fitted [A B] over the norm of [A B]{bands}.",
        "Relative error of the fitted model against real transitions, both logarithmic.",
        svg,
    )


def spread_figure(records: Sequence[RunRecord]) -> Picture:
    """The final excess cost of every seed, one dot each, a bar at the median."""
    with style():
        height = 0.34 if len(records) <= FEW else 0.22
        figure, (axes,) = new_figure(0.75 + height * len(records), right=0.95)
        figure.subplots_adjust(left=0.31)
        axes.set_xscale("log")
        final = np.concatenate([record.excess_cost[:, -1] for record in records])
        stable = np.maximum(final[np.isfinite(final)], FLOOR)
        low, high = (float(stable.min()), float(stable.max())) if len(stable) else (1e-4, 1.0)
        axes.set_xlim(low / 2, high * 4)
        for row, record in enumerate(records):
            _strip(axes, row, record, high * 2.5)
        size = None if len(records) <= FEW else 8.5
        axes.set_yticks(range(len(records)), [label(record.name) for record in records], fontsize=size)
        axes.tick_params(axis="y", length=0, labelcolor=palette.INK[0])
        axes.set_ylim(len(records) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(lambda x, _: per_cent(x))
        axes.xaxis.set_minor_formatter(lambda x, _: "")
        axes.spines["left"].set_visible(False)
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel("excess cost at the end")
        svg = to_svg(figure)
    lost = sum(record.unstable for record in records)
    return Picture(
        "final-spread",
        "How much luck matters",
        "Excess cost of every seed at the end of its run; the bar is the median, a cross at the right a seed "
        f"whose policy does not stabilise the system ({lost or 'none'} here). Runs differ in length.",
        f"One dot for each seed and algorithm; {lost} seeds are unstable at the end.",
        svg,
    )


def _strip(axes: Axes, row: int, record: RunRecord, edge: float) -> None:
    tint, final = colour(record.name), record.excess_cost[:, -1]
    stable = np.isfinite(final)
    offsets = row + 0.16 * np.sin(2.4 * np.arange(len(final)))  # apart, and the same on every run
    axes.plot(np.maximum(final[stable], FLOOR), offsets[stable], "o", color=tint, ms=4.5, alpha=0.65, mew=0)
    axes.plot(np.full((~stable).sum(), edge), offsets[~stable], "x", color=tint, ms=5.5, mew=1.4)
    middle = float(median_excess(record)[-1])
    if np.isfinite(middle):
        axes.plot([max(middle, FLOOR)] * 2, [row - 0.32, row + 0.32], color=tint, lw=2.2)
