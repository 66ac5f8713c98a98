"""Figures of the study of the published bounds: beside the truth, how loose they are, and the lengths they choose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mbpo.report import palette
from mbpo.report.drawing import Picture, end_labels, new_figure, per_cent, style, to_svg
from mbpo.report.gradient_figures import limits
from mbpo.report.palette import colour
from mbpo.report.ticks import log_axis, power

TRUTH = palette.INK[0]
THEOREMS = {"41": colour("mbpo-simple"), "42": colour("policy-gradient"), "43": colour("mbpo")}
MARKS = {"41": "s", "42": "D", "43": "o"}
TICKS = (0, 1, 5, 10, 20, 50, 100, 200)
SMALL = 8.0  # points
SPREAD = {"41": 0.22, "42": 0.0, "43": -0.22}  # of a line's height, so that marks do not hide each other

Row = Mapping[str, Any]


def pictures(result: Mapping[str, Any]) -> list[Picture]:
    """Three figures for each system of the study's JSON object."""
    found: list[Picture] = []
    for place, system in enumerate(result["systems"]):
        rows = [row for row in result["rows"] if row["system"] == system]
        suffix = "" if len(result["systems"]) == 1 else f"-{place + 1}"
        found += [
            _beside_truth(system, rows, suffix),
            _looseness(system, _cells(rows), suffix),
            _lengths(system, _cells(rows), suffix),
        ]
    return [picture for picture in found if picture is not None]


def _cells(rows: Sequence[Row]) -> list[Row]:
    """One row for each number of transitions and policy: every theorem at the length that it likes best, and `last_k`,
    the longest rollout of the table whose true error is within a tenth of the least."""
    cells = []
    for row in rows:
        if row["k"] == row["best_k_43"]:
            alike = [each for each in rows if _case(each) == _case(row)]
            without = next(each for each in alike if each["k"] == row["best_k_42"])
            cell = {name: (without if "_42" in name else row)[name] for name in row}
            least = min(each["gap"] for each in alike)
            cells.append(cell | {"last_k": max(each["k"] for each in alike if each["gap"] <= 1.1 * least)})
    return cells


def _case(row: Row) -> tuple[int, float]:
    return row["transitions"], row["share"]


def _at(cells: Sequence[Row]) -> str:
    return f"{cells[0]['transitions']:,} transitions, {per_cent(cells[0]['share'])} of the way"


def _beside_truth(system: str, rows: Sequence[Row], suffix: str) -> Picture:
    """Bounds 4.2 and 4.3 and the true error against k: little data and a small step, to all data and the optimum."""
    sizes, shares = (sorted({row[name] for row in rows}) for name in ("transitions", "share"))
    places = np.linspace(0, len(sizes) - 1, min(3, len(sizes))).round().astype(int)
    policies = np.linspace(0, len(shares) - 1, len(places)).round().astype(int)
    cases = [
        [row for row in rows if _case(row) == (sizes[i], shares[j])]
        for i, j in zip(places, policies, strict=True)
    ]
    drawn = [row[name] for case in cases for row in case for name in ("gap", "bound_42", "bound_43")]
    y = limits([value for value in drawn if value > 0] or [1.0], 2.0)
    with style():
        figure, axes = new_figure(0.9 + 1.75 * len(cases), len(cases), right=0.74)
        figure.subplots_adjust(hspace=0.3, top=1 - 0.3 / figure.get_figheight())
        for each, case in zip(axes, cases, strict=True):
            _panel(each, case, y)
        _length_axis(axes[-1], max(row["k"] for row in rows))
        axes[-1].set_xlabel("steps k of a branched rollout")
        axes[len(axes) // 2].set_ylabel("error of the discounted return")
        svg = to_svg(figure)
    told = "; ".join(
        f"{_at(case)}: theorem 4.3 from {case[0]['bound_43']:.3g} at k = 0 to {case[-1]['bound_43']:.3g} at k = "
        f"{case[-1]['k']}, the truth from {case[0]['gap']:.3g} to {case[-1]['gap']:.3g}"
        for case in cases
    )
    return Picture(
        f"bound-beside-truth{suffix}", f"The bounds beside the truth: {system}",
        "How far the return imagined over branched rollouts of k steps is from the real one, and what the theorems "
        "allow; means over fitted models. Dots: where each curve is least. Above the dotted line a bound says nothing.",
        f"Bounds and true error against the rollout length, logarithmic upwards. {told}.",
        svg,
    )  # fmt: skip


def _panel(axes: Axes, case: Sequence[Row], y: tuple[float, float]) -> None:
    x = np.sqrt([row["k"] for row in case])
    axes.set_yscale("log")
    axes.set_ylim(y)
    axes.set_xlim(0, float(x.max()) * 1.02)
    log_axis(axes.yaxis, y, power)
    axes.grid(True, which="major")
    axes.set_axisbelow(True)
    trivial = case[0]["trivial"]
    axes.axhline(trivial, color=palette.MUTED[0], lw=1.0, ls=(0, (1, 2)))
    ends = [(float(x[-1]), trivial, "says nothing", palette.MUTED[0])]
    lines = (("bound_42", THEOREMS["42"], "theorem 4.2"), ("bound_43", THEOREMS["43"], "theorem 4.3"))
    for name, tint, words in (*lines, ("gap", TRUTH, "true error")):
        values, low, high = (
            np.array([row[name + end] for row in case], float) for end in ("", "_low", "_high")
        )
        shown = values > 0
        if not shown.any():
            continue
        axes.fill_between(x[shown], np.maximum(low, y[0])[shown], high[shown], color=tint, alpha=0.16, lw=0)
        axes.plot(x[shown], values[shown], color=tint, lw=1.9, solid_capstyle="round")
        least = int(np.flatnonzero(shown)[values[shown].argmin()])
        axes.plot(x[least], values[least], "o", color=tint, ms=5, mew=0, clip_on=False, zorder=5)
        ends.append((float(x[-1]), float(values[shown][-1]), words, tint))
    end_labels(axes, ends, SMALL)
    axes.set_title(_at(case), loc="left", fontsize=SMALL, color=palette.MUTED[0], pad=3)


def _length_axis(axes: Axes, longest: int) -> None:
    """Lengths on a square-root scale: fine where they are short, and 0 has a place."""
    ticks = [k for k in TICKS if k <= longest]
    axes.set_xticks(np.sqrt(ticks), [str(k) for k in ticks])


def _looseness(system: str, cells: Sequence[Row], suffix: str) -> Picture | None:
    """Bound over true error at the length that each theorem likes best; `None` where there is no error."""
    seen = [row[f"looseness_{each}"] for row in cells for each in THEOREMS if row[f"looseness_{each}"]]
    if not seen:
        return None
    with style():
        figure, axes = _strip(cells)
        axes.set_xscale("log")
        axes.set_xlim(*limits(seen, 2.0))
        log_axis(axes.xaxis, axes.get_xlim(), power)
        for height, row in enumerate(cells):
            for each, tint in THEOREMS.items():
                _mark(
                    axes,
                    height + SPREAD[each],
                    row,
                    f"looseness_{each}",
                    tint,
                    MARKS[each],
                    _hollow(row, each),
                )
        axes.set_xlabel("bound over true error")
        _key(axes, [(f"theorem {each[0]}.{each[1]}", tint, MARKS[each]) for each, tint in THEOREMS.items()])
        svg = to_svg(figure)
    return Picture(
        f"bound-looseness{suffix}", f"How loose they are: {system}",
        "Bound over true error: theorem 4.1 for rollouts in the model alone, 4.2 without any (k = 0, the length it "
        "likes best) and 4.3 at the length it likes best. Lines: 95 % intervals, from six models on. Hollow: the bound "
        "says nothing.",
        "Theorem 4.3's bound over the true error: "
        + "; ".join(f"{_at([row])} {row['looseness_43']:.3g}" for row in cells if row["looseness_43"]) + ".",
        svg,
    )  # fmt: skip


def _lengths(system: str, cells: Sequence[Row], suffix: str) -> Picture:
    """The lengths that the theorems recommend beside the one at which the true error is least."""
    names = ("last_k", "best_k", "best_k_43", "best_k_high", "best_k_43_high")
    longest = max(row[name] for row in cells for name in names if row[name] is not None)
    with style():
        figure, axes = _strip(cells)
        axes.set_xlim(-0.25, float(np.sqrt(longest)) * 1.04 + 0.1)
        _length_axis(axes, longest)
        for height, row in enumerate(cells):
            axes.plot(np.sqrt([row["enough_k"], row["last_k"]]), [height] * 2, color=TRUTH, lw=6, alpha=0.16)
            roots = {
                name: math.sqrt(row[name])
                for name in row
                if name.startswith("best_k") and row[name] is not None
            }
            _mark(axes, height, roots, "best_k", TRUTH, "|", False)
            _mark(axes, height + SPREAD["41"], roots, "best_k_42", THEOREMS["42"], MARKS["42"], False)
            _mark(axes, height + SPREAD["43"], roots, "best_k_43", THEOREMS["43"], MARKS["43"], False)
        axes.set_xlabel("steps k of a branched rollout")
        named = [("theorem 4.2", THEOREMS["42"], MARKS["42"]), ("theorem 4.3", THEOREMS["43"], MARKS["43"])]
        _key(axes, [*named, ("true error least", TRUTH, "|")])
        svg = to_svg(figure)
    return Picture(
        f"bound-lengths{suffix}", f"The rollout length they choose: {system}",
        "Lengths at which each bound and the true error are least; lines are 95 % intervals, from six models on. Grey: "
        "from the shortest to the longest rollout whose true error is within a tenth of the least.",
        "Lengths by theorem 4.3 and in truth: "
        + "; ".join(f"{_at([row])} {row['best_k_43']} and {row['best_k']}" for row in cells)
        + ". Theorem 4.2 always chooses 0.",
        svg,
    )  # fmt: skip


def _strip(cells: Sequence[Row]) -> tuple[Figure, Axes]:
    """Axes with a line for each number of transitions and policy, named on the left."""
    figure, (axes,) = new_figure(1.2 + 0.33 * len(cells), right=0.95)
    figure.subplots_adjust(left=0.34, top=1 - 0.36 / figure.get_figheight())
    names = [f"{row['transitions']:,} · {per_cent(row['share'])}" for row in cells]
    axes.set_yticks(range(len(cells)), names)
    axes.tick_params(axis="y", length=0, labelcolor=palette.INK[0])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_ylabel("real transitions · share of the way to the optimum")
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    for above, below in pairwise(range(len(cells))):
        if cells[above]["transitions"] != cells[below]["transitions"]:
            axes.axhline(below - 0.5, color=palette.GRID[0], lw=0.8)
    return figure, axes


def _mark(axes: Axes, height: float, row: Row, name: str, tint: str, mark: str, hollow: bool) -> None:
    """A value with its interval; nothing where there is none."""
    if row[name] is None or (axes.get_xscale() == "log" and not row[name] > 0):
        return
    low, high = (row.get(name + end) for end in ("_low", "_high"))
    if low is not None and high is not None:
        axes.plot([low, high], [height, height], color=tint, lw=1.3, solid_capstyle="butt")
    size = {"|": 11.0, "D": 4.8}.get(mark, 5.6)
    inside = palette.PAPER[0] if hollow else tint
    axes.plot(
        row[name], height, mark, ms=size, mec=tint, mfc=inside, mew=2.0 if mark == "|" else 1.3, clip_on=False
    )


def _hollow(row: Row, theorem: str) -> bool:
    """Whether the bound says nothing."""
    return row[f"bound_{theorem}"] > row["trivial"]


def _key(axes: Axes, entries: Sequence[tuple[str, str, str]]) -> None:
    handles = [
        Line2D([], [], ls="none", marker=mark, color=tint, ms=9 if mark == "|" else 5.5, label=words)
        for words, tint, mark in entries
    ]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=3, frameon=False, fontsize=SMALL,
        handletextpad=0.2, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip
