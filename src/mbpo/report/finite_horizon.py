"""The page and the figure of a study of gradient descent over a finite horizon, from its JSON result alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mbpo.report import palette
from mbpo.report.drawing import Picture, end_labels, new_figure, per_cent, style, to_svg
from mbpo.report.templates import environment

NAMES = {"exact": "exact gradient", "zeroth-order": "rollouts only"}
COLOURS = {"exact": palette.COLOURS["mbpo"][0], "zeroth-order": palette.COLOURS["policy-gradient"][0]}
FLOOR = 1e-12


def study_files(result: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, str]:
    """`report.html` and the figure by path, for a result as `mbpo finite-horizon --json` prints it.

    `about` has command, versions, platform, devices and source.
    """
    picture = error_figure(result)
    page = (
        environment()
        .get_template("finite_horizon.html.j2")
        .render(
            title=f"Gradient descent over a finite horizon: {_title(result)}",
            result=result,
            rows=[method_row(each) for each in result["methods"]],
            finding=finding(result),
            picture=picture,
            colours=list(palette.variables().values()),
            command=shlex.join(about["command"]),
            about=about,
        )
    )
    page = page.replace(" %", "\N{NO-BREAK SPACE}%")
    return {f"figures/{picture.name}.svg": picture.svg, "report.html": page}


def _title(result: Mapping[str, Any]) -> str:
    stock = result["stock"]
    return result["system"] if stock is None else f"{result['system']}, {stock} at {result['price']:g}"


def finding(result: Mapping[str, Any]) -> str:
    """What came out, one clause for each method."""
    clauses = []
    for method in result["methods"]:
        name, first = NAMES[method["method"]], method["iterations_to_1_percent"]
        when = "did not come within 1 %" if first is None else f"was within 1 % after {first:g} iterations"
        count = method["scenarios"]
        every = f", in {_share(method['share_within'], count)} scenarios" if count > 1 else ""
        typically = "the median " if count > 1 else ""
        clauses.append(f"{name}: {typically}{when}{every}")
    sentence = "; ".join(clauses)
    return f"{sentence[0].upper()}{sentence[1:]}."


def method_row(method: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of one method in words."""
    final, first = method["final"], method["iterations_to_1_percent"]
    sampled = method["radius"] is not None
    return {
        "method": method["method"],
        "label": NAMES[method["method"]],
        "tint": f"var({palette.variables()[COLOURS[method['method']]][0]})",
        "step": f"{method['step_size']:.4g}",
        "rollouts": f"{method['rollouts']:,}",
        "sampling": f"{method['trajectories']} a stage, radius {method['radius']:.3g}" if sampled else "none",
        "first": "not reached" if first is None else f"{first:g}",
        "within": _share(method["share_within"], method["scenarios"]),
        "at_end": _share(method["share_at_end"], method["scenarios"]),
        "final": _error(final["median"]),
        "spread": f"{_error(final['p10'])} to {_error(final['p90'])}" if method["scenarios"] > 1 else "",
    }


def _error(value: float | None) -> str:
    if value is None:
        return "stopped"
    return per_cent(value) if value < 100 else f"{100 * value:.1e} %"


def _share(share: float, scenarios: int) -> str:
    """How many of the scenarios, in words."""
    return f"{round(share * scenarios)} of {scenarios}"


def error_figure(result: Mapping[str, Any]) -> Picture:
    """The normalised error after each iteration: medians and bands from the 10th to the 90th percentile."""
    curves = {each["method"]: _curves(each["normalised_error"]) for each in result["methods"]}
    with style():
        figure, (axes,) = new_figure(3.6, right=0.72)
        _axes(axes, result["iterations"], list(curves.values()))
        ends = [_draw(axes, name, each) for name, each in curves.items()]
        axes.axhline(0.01, color=palette.MUTED[0], lw=0.8, ls=(0, (1, 2)))
        end_labels(axes, [end for end in ends if end is not None])
        svg = to_svg(figure)
    finals = ", ".join(f"{NAMES[m['method']]} {_error(m['final']['median'])}" for m in result["methods"])
    return Picture(
        "normalised-error",
        "How fast the cost comes down",
        "Exact error (J − J*)/J* after each iteration; lines: median over scenarios, bands: 10th to 90th "
        "percentile, dotted: 1 %.",
        f"Normalised error against iterations, logarithmic upwards; medians at the end: {finals}.",
        svg,
    )


def _curves(error: Mapping[str, Sequence[float | None]]) -> dict[str, np.ndarray]:
    """Each curve as floats, infinite where the JSON has null."""
    return {
        name: np.array([np.inf if value is None else value for value in values])
        for name, values in error.items()
    }


def _axes(axes: Axes, iterations: int, curves: Sequence[Mapping[str, np.ndarray]]) -> None:
    seen = np.concatenate([values for each in curves for values in each.values()])
    seen = np.append(seen[np.isfinite(seen) & (seen > FLOOR)], 0.01)
    axes.set_yscale("log")
    axes.set_ylim(float(seen.min()) / 1.6, float(seen.max()) * 1.6)
    axes.set_xlim(0, iterations)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: per_cent(value)))
    axes.grid(True, which="major")
    axes.set_axisbelow(True)
    axes.set_xlabel("iterations")
    axes.set_ylabel("error above the optimal cost")


def _draw(axes: Axes, name: str, curves: Mapping[str, np.ndarray]) -> tuple[float, float, str, str] | None:
    """A median and its band; the end of the line with its label, unless nothing is finite."""
    tint, top = COLOURS[name], axes.get_ylim()[1]
    middle, at = curves["median"], np.arange(len(curves["median"]))
    band = np.isfinite(curves["p10"])
    low, high = np.maximum(curves["p10"], FLOOR), np.minimum(curves["p90"], top)
    axes.fill_between(at[band], low[band], high[band], color=tint, alpha=0.16, lw=0)
    shown = np.isfinite(middle)
    axes.plot(at[shown], np.maximum(middle, FLOOR)[shown], color=tint, lw=1.9, solid_capstyle="round")
    if not shown.any():
        return None
    last = int(np.flatnonzero(shown)[-1])
    return float(last), max(float(middle[last]), FLOOR), NAMES[name], tint
