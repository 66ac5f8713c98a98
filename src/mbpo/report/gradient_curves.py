"""Figures of how gradient estimators degrade, and of how far importance ratios reach on the way to the optimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullLocator

from mbpo.report import palette
from mbpo.report.drawing import Picture, end_labels, new_figure, per_cent, style, to_svg
from mbpo.report.gradient_figures import limits
from mbpo.report.palette import colour, label
from mbpo.report.ticks import log_axis, power

SAME = 1.05  # a line within this factor of itself does not depend on the axis
SMALL = 8.0  # points
LEAST = 1e-4  # smallest fraction of a sample that is drawn


@dataclass(frozen=True)
class Axis:
    """One sweep: what the figure is called, what the axis shows, and what moves along it."""

    name: str
    title: str
    across: str
    meaning: str


AXES = {
    "horizon": Axis(
        "degradation-horizon", "Longer trajectories", "steps of a trajectory",
        "Each point has the same number of trajectories, so a longer one holds more data.",
    ),
    "exploration": Axis(
        "degradation-exploration", "Less exploration", "standard deviation of exploration",
        "The scores of a likelihood ratio grow as exploration vanishes.",
    ),
    "distance": Axis(
        "degradation-distance", "Data from farther away", "distance from the gain that acted",
        "Ratios of densities grow with the distance. Where their spread falls again, it is not small but unseen: "
        "the rare trajectories that carry it were not among those drawn.",
    ),
}  # fmt: skip


def sweep_figures(result: Mapping[str, Any]) -> list[Picture]:
    """One figure for each sweep of the result, and the fraction of the sample that is left with distance."""
    sweeps = result.get("degradation") or {}
    biased = {row["name"] for row in result["estimators"] if row["unbiased"] is False}
    found = [sweep_figure(AXES[name], sweep, biased) for name, sweep in sweeps.items() if name in AXES]
    if "distance" in sweeps:
        found.append(fraction_figure(sweeps["distance"]))
    return [picture for picture in found if picture is not None]


def _series(sweep: Mapping[str, Any], field: str) -> dict[str, np.ndarray]:
    """The values of each estimator along the axis, NaN where the JSON has null; without empty ones."""
    rows = {
        name: np.array([np.nan if value is None else value for value in each.get(field) or []], float)
        for name, each in sweep["estimators"].items()
    }
    return {name: row for name, row in rows.items() if (row > 0).any()}


def sweep_figure(axis: Axis, sweep: Mapping[str, Any], biased: set[str]) -> Picture | None:
    """Relative standard deviation along one axis; `None` where nothing is measured."""
    rows, at = _series(sweep, "relative_std"), np.asarray(sweep["values"], float)
    if not rows:
        return None
    grey = {name for name, row in rows.items() if _same(row)}
    with style():
        figure, (axes,) = new_figure(max(3.6, 0.9 + 0.148 * len(rows)), right=0.665)
        _prepare(axes, at, [value for row in rows.values() for value in row[row > 0]], power)
        ends = [_line(axes, name, at, row, name in grey, name in biased) for name, row in rows.items()]
        axes.set_xlabel(axis.across)
        axes.set_ylabel("standard deviation of one trajectory\nrelative to the gradient")
        axes.yaxis.set_label_coords(-0.19, 0.5)
        figure.subplots_adjust(left=0.17)
        end_labels(axes, ends, SMALL)
        svg = to_svg(figure)
    greyed = " Grey: does not depend on this axis." if grey else ""
    return Picture(
        axis.name, axis.title,
        f"Standard deviation of one trajectory over the size of the exact gradient. Dashed: biased.{greyed} "
        f"{axis.meaning}",
        f"One line for each estimator against the {axis.across}, both logarithmic: {_in_words(at, rows)}.",
        svg,
    )  # fmt: skip


def _same(row: np.ndarray) -> bool:
    seen = row[row > 0]
    return bool(seen.max() <= SAME * seen.min())


def _in_words(at: np.ndarray, rows: Mapping[str, np.ndarray]) -> str:
    """The first and the last value of each line."""
    parts = []
    for name, row in rows.items():
        seen = row[row > 0]
        parts.append(f"{label(name)} from {seen[0]:.3g} to {seen[-1]:.3g}")
    return ", ".join(parts)


def _prepare(axes: Axes, at: np.ndarray, seen: Sequence[float], words: Callable[[float], str]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(float(at.min()) / 1.08, float(at.max()) * 1.08)
    axes.set_ylim(limits(seen, 1.4))
    words_at = [power(value) for value in at]
    every = 2 if max(len(each) for each in words_at) > 5 else 1
    axes.set_xticks(at[::every], words_at[::every])
    axes.xaxis.set_minor_locator(NullLocator())
    log_axis(axes.yaxis, axes.get_ylim(), words)
    axes.grid(True, which="major")
    axes.set_axisbelow(True)


def _line(
    axes: Axes, name: str, at: np.ndarray, row: np.ndarray, grey: bool, dashed: bool
) -> tuple[float, float, str, str]:
    """Draw a line; its end with its name. A point that is missing leaves a gap."""
    tint = palette.MUTED[0] if grey else colour(name)
    shown = np.where(row > 0, row, np.nan)
    axes.plot(
        at, shown, color=tint, lw=0.9 if grey else 1.6, alpha=0.75 if grey else 1.0,
        ls=(0, (4, 2)) if dashed else "solid", marker="o", ms=2.0 if grey else 3.2, mew=0, zorder=2 if grey else 3,
    )  # fmt: skip
    last = int(np.flatnonzero(np.isfinite(shown))[-1])
    return float(at[last]), float(shown[last]), label(name), tint


def fraction_figure(sweep: Mapping[str, Any]) -> Picture | None:
    """What is left of the sample with distance, measured and exact; `None` where no estimator has weights."""
    rows, at = _series(sweep, "effective_sample_fraction"), np.asarray(sweep["values"], float)
    rows = {
        name: np.maximum(row, LEAST) for name, row in rows.items() if not (row[np.isfinite(row)] == 1).all()
    }
    if not rows:
        return None
    exact = {name: row for name, row in _series(sweep, "exact_fraction").items() if name in rows}
    with style():
        figure, (axes,) = new_figure(3.4, right=0.665)
        seen = [value for row in rows.values() for value in row[row > 0]]
        _prepare(axes, at, [*seen, 1.0], per_cent)
        axes.set_ylim(min(seen) / 1.5, 1.15)
        log_axis(axes.yaxis, axes.get_ylim(), per_cent)
        ends = [_line(axes, name, at, row, False, False) for name, row in rows.items()]
        for row in exact.values():
            kept = row >= axes.get_ylim()[0]
            axes.plot(at[kept], row[kept], "_", color=palette.INK[0], ms=11, mew=1.3, zorder=5)
        axes.set_xlabel(AXES["distance"].across)
        axes.set_ylabel("effective part of the sample")
        figure.subplots_adjust(left=0.17)
        end_labels(axes, ends, SMALL)
        svg = to_svg(figure)
    bars = " Bars: the exact 1/E w²." if exact else ""
    return Picture(
        "effective-sample", "What is left of the sample",
        f"(Σ w)² / (N Σ w²), the smallest over the steps, for estimators that weight their data.{bars}",
        f"Effective part of the sample against the distance of the gains, both logarithmic: {_in_words(at, rows)}.",
        svg,
    )  # fmt: skip


PATH_LINES = (
    ("infinite", "variance infinite", "policy-gradient"),
    ("half", "half worthless", "self-normalised"),
    ("remaining", "left to the optimum", None),
)


def path_figure(path: Mapping[str, Any] | None, steps: int) -> Picture | None:
    """How far ratios reach from each point of the way to the optimum; `None` where there is no way."""
    if path is None:
        return None
    values = {
        name: np.array([np.nan if v is None else v for v in each], float) for name, each in path.items()
    }
    share, stable = values["share"], values["stabilising"] > 0
    lines = {name: np.where(stable & (values[name] > 0), values[name], np.nan) for name, *_ in PATH_LINES}
    lines["remaining"] = np.where(values["remaining"] > 0, values["remaining"], np.nan)
    if not np.isfinite([lines["half"], lines["infinite"]]).any():
        return None
    with style():
        figure, (axes,) = new_figure(3.6, right=0.655)
        seen = [value for row in lines.values() for value in row[np.isfinite(row)]]
        _path_axes(axes, limits(seen, 1.5))
        ends = [end for end in (_path_line(axes, share, lines, each) for each in PATH_LINES) if end]
        end_labels(axes, ends)
        svg = to_svg(figure)
    return Picture(
        "ratio-path", "How far ratios reach",
        "At each point of the straight way from the first gain to the optimum: that gain gathers the data and stays "
        "fixed, while the target moves from it towards the optimum. Where E ρ² = 2 half the sample is worthless, where "
        f"E ρ² = ∞ the variance is infinite, for ratios over {steps} steps. {reach_words(lines, share)}",
        "Two radii and the distance that remains against the share of the way to the optimum, logarithmic upwards. "
        + reach_words(lines, share),
        svg,
    )  # fmt: skip


def _path_axes(axes: Axes, y: tuple[float, float]) -> None:
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(y)
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == 0 else per_cent(value)))
    log_axis(axes.yaxis, y, power)
    axes.grid(True, which="major")
    axes.set_axisbelow(True)
    axes.set_xlabel("share of the way to the optimum")
    axes.set_ylabel("distance between gains")


def _path_line(
    axes: Axes, share: np.ndarray, lines: Mapping[str, np.ndarray], line: tuple[str, str, str | None]
) -> tuple[float, float, str, str] | None:
    name, words, like = line
    row, tint = lines[name], palette.INK[0] if like is None else colour(like)
    if not np.isfinite(row).any():
        return None
    axes.plot(share, row, color=tint, lw=1.9, ls=(0, (5, 2)) if like is None else "solid")
    last = int(np.flatnonzero(np.isfinite(row))[-1])
    return float(share[last]), float(row[last]), words, tint


def reach_words(lines: Mapping[str, np.ndarray], share: np.ndarray) -> str:
    """From where on the optimum lies within each radius."""
    half, left = lines["half"], lines["remaining"]
    words = []
    if np.isfinite(half[0]) and np.isfinite(left[0]):
        words.append(f"The optimum is {left[0] / half[0]:.2g} half radii away from the first gain")
    within = np.flatnonzero(~(left > half) & np.isfinite(half))
    if len(within) and within[0] > 0:
        words.append(f"within one from {per_cent(float(share[within[0]]))} of the way on")
    return ", ".join(words) + "." if words else ""
