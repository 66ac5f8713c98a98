"""Figures of the study of forgetting: the gap and the error against s, and the grid of noises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from mbpo.report import palette
from mbpo.report.drawing import Picture, end_labels, new_figure, style, to_svg
from mbpo.report.gradient_figures import limits
from mbpo.report.palette import colour
from mbpo.report.studies.curves import with_interval
from mbpo.report.studies.forgetting_learners import (
    DASH,
    DOTS,
    SMALL,
    Ends,
    Row,
    bars,
    column,
    control_figure,
    end_of,
    log_y,
    order_axis,
    regret_figure,
    some,
)

OWN = 0.5
MOST_TINT = 0.8  # opacity of the worst cell of the grid
LEAST_GAP = 1e-12  # smallest gap that is drawn
TINTS = {
    (0.5, 0.5): (colour("mbpo"), "o"),
    (0.1, 0.1): (colour("dpg"), "s"),
    (0.1, 1.0): (colour("mbpo-simple"), "^"),
    (1.0, 0.1): (colour("dyna"), "v"),
    (1.0, 1.0): (colour("off-pac"), "D"),
    (0.0, 0.5): (colour("policy-gradient"), "x"),
}


def pictures(result: Mapping[str, Any]) -> list[Picture]:
    """Four figures for each system of the study's JSON object, and one for each system that is controlled."""
    found: list[Picture | None] = []
    for place, system in enumerate(result["systems"]):
        rows, tag = some(result["rows"], system=system), _tag(result["systems"], place)
        orders, grid, regret = (some(rows, part=part) for part in ("order", "noise", "regret"))
        found += [
            _gaps(system, orders, tag),
            _errors(system, orders, tag),
            _grid(system, grid, tag),
            regret_figure(system, regret, tag),
        ]
    control = some(result["rows"], part="control")
    controlled = list(dict.fromkeys(row["system"] for row in control))
    for place, system in enumerate(controlled):
        found.append(control_figure(system, some(control, system=system), _tag(controlled, place)))
    return [picture for picture in found if picture is not None]


def _tag(systems: Sequence[str], place: int) -> str:
    """What tells the names of one system's figures from those of the others, safe in a file's name."""
    if len(systems) == 1:
        return ""
    safe = (letter if letter.isascii() and letter.isalnum() else "-" for letter in systems[place])
    return f"-{place + 1}-{''.join(safe)[:60]}"


def _noises(rows: Sequence[Row]) -> dict[tuple[float, float], list[Row]]:
    """The rows of each pair of noises, in ascending order."""
    found: dict[tuple[float, float], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["order"]):
        found.setdefault((row["process"], row["observation"]), []).append(row)
    return found


def _words(noise: tuple[float, float]) -> str:
    return f"{noise[0]:g}, {noise[1]:g}" + (" (own)" if noise == (OWN, OWN) else "")


def _gaps(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """The gap against s on a logarithmic axis, where exponential forgetting is a straight line."""
    series, seen = _noises(rows), column(rows, "exact_gap")
    if not (seen > LEAST_GAP).any():
        return None
    with style():
        figure, (axes,) = new_figure(4.2, right=0.7)
        y = limits([float(value) for value in seen if value > LEAST_GAP], 2.0)
        order_axis(axes, rows)
        log_y(axes, y)
        ends: Ends = []
        for noise, each in series.items():
            tint, mark = TINTS.get(noise, (palette.MUTED[0], "o"))
            x, exact = column(each, "order"), column(each, "exact_gap")
            exact = np.where(exact > LEAST_GAP, exact, np.nan)
            axes.plot(x, exact, color=tint, lw=1.8)
            bars(axes, x, each, "gap", tint, mark, y)
            _predicted(axes, x, exact, each[0]["rate"], tint)
            ends += end_of(x, exact, _words(noise), tint)
        axes.set_ylabel("squared error above the Kalman filter's")
        end_labels(axes, ends, SMALL)
        svg = to_svg(figure)
    told = "; ".join(
        f"noise {_words(noise)}: {each[0]['exact_gap']:.3g} at s = {each[0]['order']}, {each[-1]['exact_gap']:.3g} at "
        f"s = {each[-1]['order']}, predicted factor {each[-1]['rate'] ** 2:.3g}"
        for noise, each in series.items()
    )
    return Picture(
        f"forgetting-gap{tag}", f"How fast the past ceases to matter: {system}",
        "Error of the best regression on the last s outputs less that of the Kalman filter. Lines: exact; marks: means "
        f"{with_interval(rows, 'runs')}; dashed: the slope that the filter's forgetting rate predicts. "
        "At the right: standard deviations of process and observation noise in the paper's units; 0, 0.5 is the case "
        "without process noise.",
        f"Gap against s, logarithmic upwards. {told}.",
        svg,
    )  # fmt: skip


def _predicted(axes: Axes, x: np.ndarray, exact: np.ndarray, rate: float, tint: str) -> None:
    """rate^(2s) through the last point, over the last half of the orders; nothing where nothing is forgotten."""
    shown = np.flatnonzero(np.isfinite(exact))
    if len(shown) < 2 or not 0 < rate < 1:
        return
    last = shown[-1]
    at = x[last // 2 : last + 1]
    axes.plot(at, exact[last] * rate ** (2 * (at - x[last])), color=tint, lw=1.0, ls=DASH)


def _errors(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """The error itself against s, a panel for each of the paper's pairs of noises."""
    series = {noise: each for noise, each in _noises(rows).items() if noise[0] > 0 and noise != (OWN, OWN)}
    if not series:
        return None
    with style():
        figure, axes = new_figure(0.9 + 1.35 * len(series), len(series), right=0.76)
        figure.subplots_adjust(hspace=0.34, top=1 - 0.3 / figure.get_figheight())
        for place, (noise, each) in zip(axes, series.items(), strict=True):
            _panel(place, noise, each)
        order_axis(axes[-1], rows)
        axes[len(axes) // 2].set_ylabel("mean squared error of the forecast")
        svg = to_svg(figure)
    told = "; ".join(
        f"noise {_words(noise)}: Kalman filter {each[0]['kalman']:.3g}, best AR {each[0]['error']:.3g} at s = 1 and "
        f"{each[-1]['error']:.3g} at s = {each[-1]['order']}, last output {each[0]['persistence']:.3g}"
        for noise, each in series.items()
    )
    return Picture(
        f"forgetting-error{tag}", f"The paper's four settings: {system}",
        "Mean squared error of the best regression on the last s outputs (line, exact), of one learned online by least "
        "squares (marks), of the Kalman filter (dashed, exact) and of forecasting the last output (dotted, exact).",
        f"Error against s for four pairs of noises. {told}.",
        svg,
    )  # fmt: skip


def _panel(axes: Axes, noise: tuple[float, float], rows: Sequence[Row]) -> None:
    tint, mark = TINTS.get(noise, (palette.MUTED[0], "o"))
    x, exact, learned = (column(rows, name) for name in ("order", "error", "learned"))
    floor, last = rows[0]["kalman"], rows[0]["persistence"]
    axes.axhline(floor, color=palette.INK[0], lw=1.1, ls=DASH)
    drawn = [*exact, *learned, floor]
    if last <= 1.5 * max(drawn):
        axes.axhline(last, color=palette.MUTED[0], lw=1.1, ls=DOTS)
        drawn.append(last)
    axes.plot(x, exact, color=tint, lw=1.8)
    axes.plot(x, learned, ls="none", marker=mark, color=tint, ms=4, mew=1.2)
    air = 0.12 * (max(drawn) - min(drawn))
    axes.set_ylim(min(drawn) - air, max(drawn) + air)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(True)
    axes.set_axisbelow(True)
    ends: Ends = [
        (float(x[-1]), float(exact[-1]), "best AR(s)", tint),
        (float(x[-1]), floor, "Kalman", palette.INK[0]),
    ]
    ends.append((float(x[-1]), float(learned[-1]), "learned", tint))
    if last in drawn:
        ends.append((float(x[-1]), last, "last output", palette.MUTED[0]))
    end_labels(axes, ends, SMALL)
    title = f"process {noise[0]:g}, observation {noise[1]:g}"
    axes.set_title(title, loc="left", fontsize=SMALL, color=palette.MUTED[0], pad=3)


def _grid(system: str, rows: Sequence[Row], tag: str) -> Picture | None:
    """Error of the best AR(2) over the Kalman filter's on the grid of noises, darker where it is worse."""
    shown = [row for row in rows if row["ratio"] is not None]
    if not shown:
        return None
    processes, observations = (sorted({row[name] for row in rows}) for name in ("process", "observation"))
    most = max(max(row["ratio"] for row in shown) - 1, 1e-12)
    with style():
        figure, (axes,) = new_figure(4.4)
        figure.subplots_adjust(left=0.13, top=0.97)
        for row in shown:
            i, j = observations.index(row["observation"]), processes.index(row["process"])
            opacity = MOST_TINT * max(row["ratio"] - 1, 0) / most
            axes.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, fc=colour("mbpo"), alpha=opacity, lw=0))
            axes.text(i, j, f"{row['ratio']:.2f}", ha="center", va="center", fontsize=SMALL - 1)
        for axis, ticks in ((axes.xaxis, observations), (axes.yaxis, processes)):
            axis.set_ticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
            axis.set_minor_locator(NullLocator())
        axes.set_xlim(-0.5, len(observations) - 0.5)
        axes.set_ylim(-0.5, len(processes) - 0.5)
        axes.tick_params(length=0)
        axes.set_xlabel("standard deviation of observation noise")
        axes.set_ylabel("standard deviation of process noise")
        svg = to_svg(figure)
    best, worst = (pick(shown, key=lambda row: row["ratio"]) for pick in (min, max))
    told = [f"{row['ratio']:.3g} at {_words((row['process'], row['observation']))}" for row in (best, worst)]
    return Picture(
        f"forgetting-grid{tag}", f"Two outputs against all of them: {system}",
        f"Mean squared error of the best AR({shown[0]['order']}) over that of the Kalman filter, both exact, in the "
        "paper's units of noise.",
        f"A grid of ratios by process and observation noise, from {told[0]} to {told[1]}.",
        svg,
    )  # fmt: skip
