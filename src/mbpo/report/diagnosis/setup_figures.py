"""The figures of the diagnosis, defects 1 to 4 and 8: references, scores, models, costs, the landscape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mbpo.core.quantiles import quantiles
from mbpo.report import palette
from mbpo.report.diagnosis.section import MIDDLE
from mbpo.report.drawing import Picture, end_labels, new_figure, per_cent, style, to_svg
from mbpo.report.palette import colour
from mbpo.studies.diagnosis.identification import CostRegression, Identification
from mbpo.studies.diagnosis.reference import Landscape, References
from mbpo.studies.diagnosis.silence import Silence, Stampede

BLUE, ORANGE, GREEN, AMBER, PINK, GREY = (
    colour(each)
    for each in ("mbpo", "policy-gradient", "mbpo-simple", "dpg", "dyna", "certainty-equivalence")
)
SHOWN_RUNS = 12
FEW = 1e-6  # the lowest excess shown


def rows_axes(labels: Sequence[str], height: float = 0.3, left: float = 0.4) -> tuple[Figure, Axes]:
    """A figure with one named row for each label, the first on top."""
    figure, (axes,) = new_figure(0.85 + height * len(labels), right=0.95)
    figure.subplots_adjust(left=left)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, labelcolor=palette.INK[0])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    return figure, axes


def legend(axes: Axes, entries: Sequence[tuple[str, str, str]], columns: int = 3) -> None:
    """Names above the axes: (text, colour, marker or "-" for a line)."""
    handles = [
        Line2D([], [], color=tint, lw=1.9, label=text)
        if mark == "-"
        else Line2D([], [], color=tint, marker=mark, ls="", label=text)
        for text, tint, mark in entries
    ]
    figure = axes.figure
    top = axes.get_position().y1
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.0, top), ncols=columns, frameon=False, fontsize=8.5,
        handlelength=1.2, columnspacing=1.0,
    )  # fmt: skip


def reference_figure(found: References) -> Picture:
    """What each reference gain costs, relative to the optimum; crosses do not stabilise."""
    named = (("K = 0", GREY, "o"), ("continuous, as +K", ORANGE, "s"), ("continuous, as −K", AMBER, "D"),
             ("discrete, wrong sign", PINK, "^"))  # fmt: skip
    with style():
        figure, axes = rows_axes([row.system for row in found.rows], 0.46, 0.31)
        axes.set_xscale("log")
        axes.set_xlim(1e-5, 3e3)
        for place, row in enumerate(found.rows):
            for (name, tint, mark), shift in zip(named, (-0.24, -0.08, 0.08, 0.24), strict=True):
                excess = row.costs[name] / row.optimal_cost - 1
                stable = np.isfinite(excess)
                axes.plot(
                    [excess if stable else 1.2e3],
                    [place + shift],
                    mark if stable else "x",
                    color=tint,
                    ms=5.5,
                    mew=1.5 if not stable else 0,
                )
        axes.axvline(4e2, color=palette.MUTED[0], lw=0.8, ls=(0, (1, 2)))
        axes.text(4.6e2, -0.42, "unstable", fontsize=8.5, va="center")
        axes.xaxis.set_major_formatter(lambda x, _: per_cent(x))
        axes.set_xticks([1e-5, 1e-3, 1e-1, 1e1])
        axes.set_xlabel("excess cost above the true optimum")
        figure.subplots_adjust(top=0.84)
        legend(axes, named, 2)
        svg = to_svg(figure)
    return Picture(
        "reference-gains",
        "What the reference gain costs",
        "J/J* − 1 of four gains used as u = +Kx, on a logarithmic scale; the true optimum would lie at 0. Crosses "
        "at the right: the gain does not stabilise the system. Exact numbers, nothing is repeated.",
        "Excess cost of the zero gain, the continuous-time gain with both signs and the discrete gain with the "
        "wrong sign on five systems; on all but the first and the zero gain on the last they are unstable.",
        svg,
    )


def cosine_figure(found: Silence) -> Picture:
    """Which way a step points: a dot for each repetition, a bar for the mean and its interval."""
    rows = [
        ("exactly: off the old gain", found.exact, "with_old", ORANGE),
        ("exactly: downhill", found.exact, "with_descent", ORANGE),
        ("sampled: off the old gain", found.sampled, "with_old", BLUE),
        ("sampled: downhill", found.sampled, "with_descent", BLUE),
    ]
    with style():
        figure, axes = rows_axes([name for name, *_ in rows], 0.42, 0.39)
        axes.axvline(0, color=palette.MUTED[0], lw=0.8)
        for place, (_, draws, which, tint) in enumerate(rows):
            means = found.exact_means if draws is found.exact else found.sampled_means
            jitter = place + 0.2 * np.sin(2.4 * np.arange(len(draws[which])))
            axes.plot(draws[which], jitter, "o", color=tint, ms=2.6, alpha=0.3, mew=0)
            mean = means[which]
            axes.plot(
                [mean.value - mean.margin, mean.value + mean.margin],
                [place] * 2,
                color=palette.INK[0],
                lw=3.2,
            )
            axes.plot([mean.value] * 2, [place - 0.3, place + 0.3], color=palette.INK[0], lw=1.6)
        axes.set_xlim(-1.05, 1.05)
        axes.set_xlabel("cosine of the angle")
        svg = to_svg(figure)
    return Picture(
        "step-direction",
        "Where a step points",
        "Cosine between the step on replayed data and two directions: away from the gain that collected the data, "
        f"and down the exact gradient. One dot for each of {found.repetitions} repetitions with {found.trajectories} "
        "trajectories; bar: mean with its 95 % interval. Orange: actions executed as Kx; blue: sampled.",
        f"Cosines: away from the old gain {found.exact_means['with_old'].value:.3f} when executed exactly, downhill "
        f"{found.exact_means['with_descent'].value:.3f}.",
        svg,
    )


def stampede_figure(found: Stampede) -> Picture:
    """The way of K in the loop that failed: distance from the start, and cost."""
    with style():
        figure, (upper, lower) = new_figure(4.3, 2, right=0.93)
        for axes, values, name in (
            (upper, found.moved, "distance |K − K₀|"),
            (lower, found.cost, "cost J / J*"),
        ):
            for run in values[:SHOWN_RUNS]:
                known = np.isfinite(run)
                axes.plot(np.maximum(found.updates[known], 0.5), run[known], color=ORANGE, lw=0.7, alpha=0.45)
            low, middle, high = quantiles(values, MIDDLE)
            known = np.isfinite(high)
            axes.fill_between(
                np.maximum(found.updates[known], 0.5), low[known], high[known], color=ORANGE, alpha=0.14, lw=0
            )
            axes.plot(np.maximum(found.updates, 0.5), middle, color=palette.INK[0], lw=1.9)
            axes.set_ylabel(name)
            axes.grid(True)
            axes.set_axisbelow(True)
        upper.set_xscale("log")
        upper.set_ylim(0, 1.15 * float(np.median(found.moved[:, -1])) + 2)
        lower.set_yscale("log")
        lower.set_ylim(1, 100)
        lower.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        lower.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        lower.set_xlabel("updates")
        svg = to_svg(figure)
    return Picture(
        "stampede",
        "K runs away from its data",
        f"The loop of the set-up that failed: {found.episodes} episodes, {found.updates_each} updates after each, "
        f"{found.repetitions} runs. Black: median; band: 10th to 90th percentile; thin lines: {SHOWN_RUNS} runs. "
        "Each jump is an episode's new data, each flat stretch a place where all ratios have vanished.",
        "Distance of the gain from its start and cost against updates: both grow in steps and do not come back.",
        svg,
    )


def identification_figure(without: Identification, explored: Identification) -> Picture:
    """Errors of A, B and A + BK against data, without and with exploration."""
    with style():
        figure, rows = new_figure(4.6, 2, right=0.8)
        for axes, found, words in zip(
            rows, (without, explored), ("u = Kx exactly", "explored, σ = 0.5"), strict=True
        ):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(0.015, 12)
            axes.set_title(words, loc="left", fontsize=9.5, pad=3, color=palette.INK[0])
            ends = []
            for name, values, tint in (
                ("A", found.A, ORANGE), ("B", found.B, PINK), ("A + BK", found.closed_loop, BLUE),
            ):  # fmt: skip
                low, middle, high = quantiles(values, MIDDLE)
                axes.fill_between(found.sizes, low, high, color=tint, alpha=0.16, lw=0)
                axes.plot(found.sizes, middle, color=tint, lw=1.9)
                ends.append((float(found.sizes[-1]), float(middle[-1]), name, tint))
            axes.grid(True)
            axes.set_axisbelow(True)
            axes.set_ylabel("relative error")
            axes.yaxis.set_major_formatter(lambda y, _: per_cent(y))
            end_labels(axes, ends)
        rows[-1].xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        rows[-1].set_xlabel("real transitions")
        figure.subplots_adjust(top=0.93, left=0.2)
        svg = to_svg(figure)
    return Picture(
        "identification",
        "What the data say about the model",
        f"Relative error of least squares on {without.system}. Lines: median of {without.repetitions} repetitions; "
        "bands: 10th to 90th percentile. Without exploration only the closed loop A + BK gets better.",
        "Relative errors of A, B and A + BK against transitions, without and with exploration.",
        svg,
    )


def cost_figure(found: CostRegression) -> Picture:
    """The diagonals of Q and R recovered by the two regressions."""
    n = len(found.truth) // 2
    labels = [f"{name}{i + 1}{i + 1}" for name in "QR" for i in range(n)]
    with style():
        figure, axes = rows_axes(labels, 0.34, 0.13)
        axes.set_xscale("log")
        for place, truth in enumerate(found.truth):
            axes.plot([truth] * 2, [place - 0.34, place + 0.34], color=palette.INK[0], lw=1.6)
            for values, tint, shift in ((found.wrong, ORANGE, -0.13), (found.right, BLUE, 0.13)):
                low, middle, high = np.maximum(quantiles(values[:, place], MIDDLE), 2e-3)
                axes.plot([low, high], [place + shift] * 2, color=tint, lw=2.6, alpha=0.55)
                axes.plot([middle], [place + shift], "o", color=tint, ms=5.5, mew=0)
        axes.set_xlim(2e-3, 2)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axes.set_xlabel("recovered value")
        figure.subplots_adjust(top=0.88)
        legend(
            axes, [("on x at t", ORANGE, "o"), ("on x at t + 1", BLUE, "o"), ("truth", palette.INK[0], "|")]
        )
        svg = to_svg(figure)
    return Picture(
        "cost-regression",
        "The cost that is recovered",
        f"Diagonals of Q and R from {found.rows:,} costs on {found.system}, by regression on the squares of the "
        f"state before and after the step. Dots: median of {found.repetitions} repetitions; bars: 10th to 90th "
        "percentile.",
        "Recovered entries of Q and R: regression on the state before the step gives nearly the same value for all "
        "entries of Q, regression on the state after it the exact ones.",
        svg,
    )


def landscape_figure(found: Sequence[Landscape]) -> Picture:
    """Excess cost at given distances from the optimum: the band over directions, and named gains."""
    with style():
        figure, (axes,) = new_figure(3.9)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for landscape, tint in zip(found, (ORANGE, BLUE), strict=True):
            stable = np.isfinite(landscape.highest)
            x = landscape.distances[stable]
            axes.fill_between(
                x, landscape.lowest[stable], landscape.highest[stable], color=tint, alpha=0.25, lw=0
            )
            axes.plot(x, landscape.median[stable], color=tint, lw=1.9)
        for name, (distance, excess) in found[0].points.items():
            axes.plot([distance], [excess], "o", color=palette.INK[0], ms=5)
            if "−K" not in name:  # it lies on top of the one with +K
                words = name.removesuffix(", +K")
                axes.annotate(
                    words, (distance, excess), (-7, 5), textcoords="offset points", ha="right", fontsize=8.5
                )
        axes.set_ylim(FEW / 3, 10)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axes.yaxis.set_major_formatter(lambda y, _: per_cent(y))
        axes.grid(True)
        axes.set_axisbelow(True)
        axes.set_xlabel("distance |K − K*|")
        axes.set_ylabel("excess cost above the optimum")
        figure.subplots_adjust(top=0.92, left=0.21)
        legend(axes, [(each.system, tint, "-") for each, tint in zip(found, (ORANGE, BLUE), strict=True)])
        svg = to_svg(figure)
    return Picture(
        "landscape",
        "How much distance says",
        "Exact excess cost at a given distance from the optimum: the band runs from the least to the greatest over all "
        f"directions, the line is the median of {found[0].directions} random ones. Points: gains of "
        f"{found[0].system}. Where the band is high, distance does not rank gains.",
        "Excess cost against distance from the optimal gain for two systems; the band of the first spans two "
        "decades.",
        svg,
    )
