"""Figures of the study of the rollout length: excess cost, gradient error, and the best length beside the theorem's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from mbpo.report import palette
from mbpo.report.drawing import Picture, end_labels, new_figure, per_cent, style, to_svg
from mbpo.report.palette import colour
from mbpo.report.studies.curves import (
    DASHED,
    SMALL,
    Row,
    Series,
    column,
    excess_axis,
    excess_curve,
    excess_limits,
    left_out,
    line_end,
    model_words,
    seeds,
    some,
    tag_of,
    unique,
    values_told,
    with_interval,
)
from mbpo.report.studies.gradient_errors import error_cases, error_figure, error_told, error_words

OWN = (colour("mbpo"), "o")
OTHERS = tuple(
    (colour(n), m) for n, m in (("dpg", "s"), ("mbpo-simple", "^"), ("dyna", "v"), ("off-pac", "D"))
)
SIDESTEP = 1.045  # between marks that would hide each other, on a logarithmic axis
BEST, THEOREM = (palette.INK[0], "|"), (colour("mbpo"), "o")  # as in the study of the bounds
TICKS = (0, 1, 2, 5, 10, 20, 40, 100, 200)


def pictures(result: Mapping[str, Any]) -> list[Picture]:
    """Three figures for each system of the study's JSON object."""
    found: list[Picture | None] = []
    for place, system in enumerate(result["systems"]):
        rows, tag = some(result["rows"], system=system), tag_of(result["systems"], place)
        rows = sorted(rows, key=lambda row: row["rollout_length"])
        found += [draw(system, rows, tag) for draw in (_excess, _gradient, _theorem)]
    return [picture for picture in found if picture is not None]


def _excess(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """Excess cost against the length at all of the data, one line for each spectral radius."""
    most = max((row["transitions"] for row in rows), default=0)
    chosen = some(rows, part="length", transitions=most)
    if not chosen:
        return None
    pairs = dict.fromkeys((row["planted_error"], row["equal"]) for row in chosen)
    cases = [(pair, _by_radius(some(chosen, planted_error=pair[0], equal=pair[1]))) for pair in pairs]
    with style():
        figure, axes = new_figure(0.8 + 2.0 * len(cases), len(cases), right=0.745)
        figure.subplots_adjust(left=0.18, hspace=0.2, top=1 - 0.26 / figure.get_figheight())
        for place, (pair, series) in zip(axes, cases, strict=True):
            _excess_panel(place, pair, series, chosen)
        svg = to_svg(figure)
    words = "; ".join(
        f"{_case_title(pair)}, radius {each.words} ({values_told(each.rows, 'rollout_length')})"
        for pair, series in cases
        for each in series
    )
    return Picture(
        f"rollout-length-excess{tag}", f"What longer branches do: {system}",
        f"Median excess cost J/J* − 1 after {most:,} real transitions, {with_interval(chosen)}; a "
        "line for each spectral radius that A is scaled to. Solid: the fitted model; dashed: the same with an error "
        "that data do not remove. With equally many rows, short branches are as many as give the rows of the longest; "
        f"with equally many branches, they give fewer.{left_out(chosen)}",
        f"Median excess cost by rollout length, both logarithmic. {words}.",
        svg,
    )  # fmt: skip


def _by_radius(rows: Sequence[Row]) -> list[Series]:
    others, found = iter(OTHERS * len(rows)), []
    for radius in unique(rows, "radius"):
        same = some(rows, radius=radius)
        words, look = (" (own)", OWN) if same[0]["own_radius"] else ("", next(others))
        found.append(Series(f"{radius:.3g}{words}", *look, same))
    return found


def _case_title(pair: tuple[float, str]) -> str:
    return f"{model_words(pair[0])}, equally many {pair[1]}"


def _excess_panel(axes: Axes, pair: tuple[float, str], series: Sequence[Series], rows: Sequence[Row]) -> None:
    excess_axis(axes, excess_limits(rows))
    _length_axis(axes, rows)
    axes.label_outer()
    axes.set_title(_case_title(pair), loc="left", fontsize=SMALL, color=palette.MUTED[0], pad=3)
    axes.set_title("spectral radius", loc="right", x=1.36, fontsize=SMALL, color=palette.MUTED[0], pad=3)
    ends = []
    for i, each in enumerate(series):
        x = column(each.rows, "rollout_length") * SIDESTEP ** (i - (len(series) - 1) / 2)
        excess_curve(axes, x, each, DASHED if pair[0] else "solid", band=False, place=i)
        ends += line_end(
            x, np.maximum(column(each.rows, "excess"), axes.get_ylim()[0]), each.words, each.tint
        )
    end_labels(axes, ends, SMALL)


def _length_axis(axes: Axes, rows: Sequence[Row]) -> None:
    """The lengths that were tried, on a logarithmic axis."""
    tried = unique(rows, "rollout_length")
    axes.set_xscale("log")
    axes.set_xlim(tried[0] / 1.15, tried[-1] * 1.15)
    axes.set_xticks(tried, [str(k) for k in tried])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("steps k of an imagined branch")


def _gradient(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """The parts of the gradient's error against the length, at the system's own spectral radius."""
    measured = some(rows, part="length", own_radius=True, equal="rows")
    if not measured:
        return None
    panels = error_cases(measured)
    with style():
        svg = to_svg(error_figure(panels, "rollout_length", lambda axes: _length_axis(axes, measured)))
    return Picture(
        f"rollout-length-gradient{tag}", f"Why: the error of the gradient: {system}",
        f"{error_words(panels)} Equally many rows. Spectral radius {measured[0]['radius']:.3g}, the system's own.",
        f"Error of the gradient by rollout length. {error_told(panels, 'rollout_length')}.",
        svg,
    )  # fmt: skip


def _theorem(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """The best length with its bootstrap range beside the theorem's, a line for each setting."""
    cases = some(rows, part="best", equal="rows")
    if not cases:
        return None
    cases.sort(key=lambda row: (row["radius"], row["transitions"], row["planted_error"]))
    with style():
        figure, axes = _strip(cases)
        for height, row in enumerate(cases):
            _case(axes, height, row)
        svg = to_svg(figure)
    timed = any(row["theorem_low"] is not None for row in cases)
    lost, undefined = (sum(row[name] is None for row in cases) for name in ("excess", "theorem"))
    missing = f" No bar: no length has a finite median excess ({lost})." if lost else ""
    missing += f" No dot: the theorem's length is undefined ({undefined})." if undefined else ""
    return Picture(
        f"rollout-length-theorem{tag}", f"Would theorem 4.3 have chosen it: {system}",
        "With equally many rows. Bars: the tried length with the least median excess cost; grey: the lengths that are "
        f"best in 95 % of bootstrap samples over {seeds(cases)}. Dots: what theorem 4.3 recommends, up to the longest "
        f"length tried, {'and the 95 % interval of its median.' if timed else 'too few seeds for an interval.'}"
        f"{missing}",
        "Best length, its range, and the theorem's: " + "; ".join(map(_case_words, cases)) + ".",
        svg,
    )  # fmt: skip


def _strip(cases: Sequence[Row]) -> tuple[Figure, Axes]:
    """Axes with a line for each setting, named on the left, and lengths on a square-root scale, where 0 has a place."""
    longest = max(row[name] or 0 for row in cases for name in ("rollout_length", "best_high", "theorem_high"))
    figure, (axes,) = new_figure(1.1 + 0.21 * len(cases), right=0.96)
    figure.subplots_adjust(left=0.41, top=1 - 0.32 / figure.get_figheight())
    axes.set_xlim(-0.25, float(np.sqrt(longest)) * 1.04 + 0.1)
    ticks = [k for k in TICKS if k <= longest]
    axes.set_xticks(np.sqrt(ticks), [str(k) for k in ticks])
    axes.set_xlabel("steps k of an imagined branch")
    names = [f"{r['radius']:.3g} · {r['transitions']:,} · {per_cent(r['planted_error'])}" for r in cases]
    axes.set_yticks(range(len(cases)), names, fontsize=SMALL)
    axes.tick_params(axis="y", length=0, labelcolor=palette.INK[0])
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.set_ylabel("spectral radius · real transitions · planted error", fontsize=SMALL)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    for above, below in pairwise(range(len(cases))):
        if cases[above]["radius"] != cases[below]["radius"]:
            axes.axhline(below - 0.5, color=palette.MUTED[0], lw=0.5)
    looks = {"best": BEST, "theorem 4.3": THEOREM}
    handles = [
        Line2D([], [], ls="none", marker=m, color=c, ms=9 if m == "|" else 5.5, mew=1.6, label=words)
        for words, (c, m) in looks.items()
    ]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2, frameon=False, fontsize=SMALL,
        handletextpad=0.2, borderaxespad=0.2,
    )  # fmt: skip
    return figure, axes


def _case(axes: Axes, height: float, row: Row) -> None:
    """One setting; the best length means nothing where every median is infinite."""
    if row["excess"] is not None:
        tint, mark = BEST
        if row["best_low"] is not None and row["best_high"] is not None:
            ends = np.sqrt([row["best_low"], row["best_high"]])
            axes.plot(ends, [height] * 2, color=tint, lw=6, alpha=0.18, solid_capstyle="round")
        axes.plot(np.sqrt(row["rollout_length"]), height, mark, color=tint, ms=10, mew=2, zorder=3)
    if row["theorem"] is not None:
        tint, mark = THEOREM
        if row["theorem_low"] is not None:
            ends = np.sqrt([row["theorem_low"], row["theorem_high"]])
            axes.plot(ends, [height] * 2, color=tint, lw=1.2, zorder=4)
        axes.plot(np.sqrt(row["theorem"]), height, mark, color=tint, ms=5.4, mew=0, zorder=4)


def _case_words(row: Row) -> str:
    best = f"{row['rollout_length']} ({row['best_low']} to {row['best_high']})"
    ends = "" if row["theorem_low"] is None else f" ({row['theorem_low']} to {row['theorem_high']})"
    theorem = f"{row['theorem']}{ends}"
    chosen = "undefined" if row["theorem"] is None else theorem
    return (
        f"radius {row['radius']:.3g}, {row['transitions']:,} transitions, {model_words(row['planted_error'])}: "
        f"{'none' if row['excess'] is None else best} and {chosen}"
    )
