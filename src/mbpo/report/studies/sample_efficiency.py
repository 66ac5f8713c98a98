"""Figures of the study of sample efficiency: how fast learners learn and what they need, beside the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mbpo.lqr.needed import LEVELS
from mbpo.report import palette
from mbpo.report.drawing import Picture, end_labels, new_figure, per_cent, style, to_svg
from mbpo.report.palette import colour, label, mark
from mbpo.report.studies.curves import (
    Row,
    column,
    excess_axis,
    excess_limits,
    left_out,
    some,
    tag_of,
    with_interval,
)
from mbpo.report.studies.sample_efficiency_catalogue import GREY, MAIN, catalogue_pictures, dot, rows_named
from mbpo.report.ticks import log_axis

FEW = 2  # systems of which each has figures of its own
SMALL = 8.0  # points
FAMILIES = {"o": "likelihood ratios", "s": "importance sampling", "v": "cost differences"}  # by mark
# width, opacity; the median of the limit law is wide and pale, since certainty equivalence is grey and lies on it
MEDIAN, P90, REGRET = ("solid", 4.5, 0.35), ((0, (1, 1.3)), 1.6, 0.8), ((0, (5, 2)), 1.1, 0.9)
BELOW = 1e3  # times below the least median: a limit farther down than that is left to the description


def pictures(result: Mapping[str, Any]) -> list[Picture]:
    """Two figures for each of one or two systems, two for all of more."""
    systems, rows = result["systems"], result["rows"]
    if len(systems) > FEW:
        return catalogue_pictures(systems, rows)
    found: list[Picture | None] = []
    for place, system in enumerate(systems):
        own, tag = some(rows, system=system), tag_of(systems, place)
        found += [_curves(system, own, tag), _needed(system, own, tag)]
    return [picture for picture in found if picture is not None]


def _curves(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """Excess cost against real transitions, a panel for each family of learners."""
    curves, bounds = some(rows, part="curve"), some(rows, part="limit")
    if not curves:
        return None
    panels, used = _families(curves), column(curves, "transitions")
    x = float(used.min()) / 1.08, float(used.max()) * 1.02
    y = _with_limits(excess_limits(curves), bounds)
    with style():
        figure, axes = new_figure(3.6 if len(panels) == 1 else 0.8 + 1.95 * len(panels), len(panels), 0.66)
        figure.subplots_adjust(left=0.18, hspace=0.2, top=1 - 0.28 / figure.get_figheight())
        for place, (words, lines) in zip(axes, panels, strict=True):
            place.set_xscale("log")
            place.set_xlim(x)
            log_axis(place.xaxis, x, lambda value: f"{value:,.0f}", 4)
            excess_axis(place, y)
            place.set_title(words, loc="left", fontsize=SMALL, color=GREY, pad=3)
            ends = [_curve(place, own, number) for number, own in enumerate(lines)]
            end_labels(place, [*ends, *_limit_lines(place, bounds)], SMALL)
        axes[-1].set_xlabel("real transitions")
        svg = to_svg(figure)
    ended = "; ".join(_at_the_end(row) for row in some(rows, part="learner"))
    return Picture(
        f"sample-efficiency-curves{tag}", f"How fast they learn: {system}",
        f"Excess cost J/J* − 1: median {with_interval(curves)}, and the 90th percentile (thin; it ends "
        f"where more than a tenth do not stabilise).{left_out(curves)} {_limits_named(bounds)}",
        f"Excess cost against real transitions, both logarithmic. Medians at the end: {ended}. {_limits_told(bounds)}",
        svg,
    )  # fmt: skip


def _families(curves: Sequence[Row]) -> list[tuple[str, list[list[Row]]]]:
    """Panels of lines: the main learners, then the other estimators by family."""
    panels: dict[str, list[list[Row]]] = {}
    for name in dict.fromkeys(row["algorithm"] for row in curves):
        family = "main learners" if name in MAIN else FAMILIES.get(mark(name), "others")
        line = sorted(some(curves, algorithm=name), key=lambda row: row["transitions"])
        panels.setdefault(family, []).append(line)
    return list(panels.items())


def _with_limits(y: tuple[float, float], bounds: Sequence[Row]) -> tuple[float, float]:
    """The range of the excess, extended to what the limits end at."""
    seen = [row[name] for row in bounds for name in ("excess", "law_median") if row[name]]
    return min([y[0], *(each / 1.3 for each in seen if each > y[0] / BELOW)]), max(
        [y[1], *(each * 1.3 for each in seen)]
    )


def _curve(axes: Axes, rows: Sequence[Row], number: int) -> tuple[float, float, str, str]:
    """One learner: median, interval, 90th percentile, and crosses for medians that are infinite; its labelled end."""
    name, (bottom, top), x = rows[0]["algorithm"], axes.get_ylim(), column(rows, "transitions")
    middle, low, high, p90 = (column(rows, f"excess{end}") for end in ("", "_low", "_high", "_p90"))
    tint, height = colour(name), 0.975 - 0.045 * number
    upper = np.clip(np.where(np.isnan(high), top, high), bottom, top)
    axes.fill_between(x, np.clip(low, bottom, top), upper, color=tint, alpha=0.13, lw=0)
    axes.plot(x, np.maximum(middle, bottom), color=tint, lw=1.8, ls=palette.dash(name), zorder=3)
    axes.plot(x, np.maximum(p90, bottom), color=tint, lw=0.6, alpha=0.8)
    lost = np.isnan(middle)
    axes.plot(
        x[lost], np.full(lost.sum(), height), "x", color=tint, ms=4.5, mew=1.2, zorder=4,
        transform=axes.get_xaxis_transform(),
    )  # fmt: skip
    end = bottom * (top / bottom) ** height if lost[-1] else max(float(middle[-1]), bottom)
    return float(x[-1]), end, label(name), tint


def _limit_lines(axes: Axes, bounds: Sequence[Row]) -> list[tuple[float, float, str, str]]:
    """The limits that are positive and finite, drawn over the whole width; their labelled ends."""
    x, ends = np.geomspace(*axes.get_xlim(), 33), []
    for row in bounds:
        share = row["transitions"] / x
        lines = (("law_median", MEDIAN, share, "limit: median"), ("law_p90", P90, share, "limit: p90"))
        if row["algorithm"] == "regret":
            lines = (("excess", REGRET, np.sqrt(share), "regret limit"),)
        for name, (dash, width, opacity), scale, words in lines:
            if row[name]:
                y = row[name] * scale
                axes.plot(x, y, color=GREY, ls=dash, lw=width, alpha=opacity, zorder=1.5)
                if y[-1] >= axes.get_ylim()[0]:
                    ends.append((float(x[-1]), float(y[-1]), words, GREY))
    return ends


def _limits_named(bounds: Sequence[Row]) -> str:
    """What the grey lines are, and which of them there are not."""
    offline, regret = (some(bounds, algorithm=name) for name in ("offline", "regret"))
    if offline and offline[0]["law_median"]:
        words = (
            "Grey: median (wide) and 90th percentile (dotted) of the limit law of data gathered offline, c/N."
        )
    else:
        words = "Data gathered offline have no limit law here."
    if regret and regret[0]["excess"]:
        words += (
            " Dashed: the regret 2m√(τT) of the best exploring and then committing, per transition; it is paid while "
            "learning, so that what has been learned may cost less."
        )
    return words


def _limits_told(bounds: Sequence[Row]) -> str:
    told = [
        f"{words} {per_cent(row[name])}"
        for row in bounds
        for name, words in (("law_median", "median"), ("law_p90", "90th percentile"), ("excess", "mean"))
        if row["algorithm"] == "offline" and row[name] is not None
    ]
    told += [f"regret {per_cent(row['excess'])}" for row in some(bounds, algorithm="regret") if row["excess"]]
    return f"Limits there: {', '.join(told)}." if told else "There are no limits."


def _at_the_end(row: Row) -> str:
    middle = "infinite" if row["excess"] is None else per_cent(row["excess"])
    unstable = f" ({per_cent(row['unstable'])} unstable)" if row["unstable"] else ""
    return f"{label(row['algorithm'])} {middle}{unstable}"


def _needed(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """Transitions to each level: a panel a level, a row a learner, the limit as a line through all rows."""
    ends, offline = some(rows, part="learner"), some(rows, part="limit", algorithm="offline")
    if not ends:
        return None
    end = max(row["transitions"] for row in ends)
    limit = {level: offline[0][f"to_{level}"] if offline else None for level in LEVELS}
    seen = [row[f"{name}_{level}"] for row in ends for level in LEVELS for name in ("to", "to_low")]
    seen = [each for each in (*seen, *limit.values(), end) if each]
    with style():
        figure, axes = new_figure(0.6 + len(LEVELS) * (0.3 + 0.17 * len(ends)), len(LEVELS), right=0.82)
        top = 0.3 / figure.get_figheight()
        figure.subplots_adjust(left=0.32, hspace=0.32 if len(ends) < 9 else 0.12, top=1 - top)
        axes[0].set_xscale("log")
        axes[0].set_xlim(min(seen) / 1.5, max(seen) * 1.15)
        for place, level in zip(axes, LEVELS, strict=True):
            _level(place, level, ends, limit[level], end)
        log_axis(axes[0].xaxis, axes[0].get_xlim(), lambda value: f"{value:,.0f}", 5)
        axes[-1].set_xlabel("real transitions")
        svg = to_svg(figure)
    grey = "Grey: the limit of data gathered offline, c over the level." if any(limit.values()) else ""
    return Picture(
        f"sample-efficiency-needed{tag}", f"How much data they need: {system}",
        "Real transitions until the excess cost stays at or below 10 %, 1 % and 0.1 %: median "
        f"{with_interval(ends)} (an arrow: beyond the data of a run) and 90th percentile (thin bar, none where "
        f"beyond). Hollow: more than half of the runs did not get there. {grey or 'Offline data have no limit here.'}",
        "Median real transitions to 10 %, 1 % and 0.1 %: "
        + "; ".join(f"{label(row['algorithm'])} {_to_words(row)}" for row in ends)
        + (f"; the limit {_to_words(offline[0])}." if offline else "."),
        svg,
    )  # fmt: skip


def _level(axes: Axes, level: str, ends: Sequence[Row], limit: int | None, end: float) -> None:
    """One level: a row a learner, its median in words at the right."""
    rows_named(axes, [label(row["algorithm"]) for row in ends])
    axes.set_title(f"to {per_cent(LEVELS[level])}", loc="left", fontsize=9.5, pad=3)
    if limit:
        axes.axvline(limit, color=GREY, lw=4.5, alpha=0.35)
        axes.set_title(f"limit {limit:,}", loc="right", fontsize=SMALL, color=GREY, pad=3)
    for height, row in enumerate(ends):
        dot(axes, height, row, level, "o", end)
        at = row[f"to_{level}"]
        axes.text(
            1.02, height, "not reached" if at is None else f"{at:,}", transform=axes.get_yaxis_transform(),
            va="center", fontsize=SMALL, color=GREY if at is None else colour(row["algorithm"]),
        )  # fmt: skip


def _to_words(row: Row) -> str:
    found = [row[f"to_{level}"] for level in LEVELS]
    return ", ".join("not reached" if each is None else f"{each:,}" for each in found)
