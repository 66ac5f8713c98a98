"""The figures of the diagnosis about the estimator: noise, clipping, endings, learning curves, attribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbpo.core.quantiles import quantiles
from mbpo.report import palette
from mbpo.report.diagnosis.section import MIDDLE, percent
from mbpo.report.diagnosis.setup_figures import BLUE, GREEN, ORANGE, PINK, legend, rows_axes
from mbpo.report.drawing import Picture, end_labels, log_axes, new_figure, per_cent, style, to_svg
from mbpo.report.palette import colour, label
from mbpo.studies.diagnosis.attribution import NAIVE, REPAIRS, Curve
from mbpo.studies.diagnosis.ending import Ending
from mbpo.studies.diagnosis.variance import ESTIMATORS, Clipping, Noise

SYSTEM_COLOURS = (BLUE, ORANGE, GREEN, PINK)
SYSTEM_MARKS = ("o", "s", "D", "^")


def noise_figure(found: Sequence[Noise]) -> Picture:
    """Relative standard deviation of one trajectory's gradient, by estimator and system."""
    with style():
        figure, axes = rows_axes(ESTIMATORS, 0.34, 0.34)
        axes.set_xscale("log")
        for noise, tint, mark in zip(found, SYSTEM_COLOURS, SYSTEM_MARKS, strict=False):
            means = [noise.spread[each] for each in ESTIMATORS]
            axes.errorbar(
                [each.value for each in means], range(len(means)), xerr=[each.margin for each in means], fmt=mark,
                color=tint, ms=5.5, mew=0, elinewidth=1.4, label=noise.system,
            )  # fmt: skip
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axes.xaxis.set_minor_formatter(lambda x, _: "")
        axes.set_xticks([1, 3, 10, 30, 100])
        axes.set_xlim(1, 100)
        axes.set_xlabel("standard deviation / size of the gradient")
        figure.subplots_adjust(top=0.89)
        entries = [(n.system, t, m) for n, t, m in zip(found, SYSTEM_COLOURS, SYSTEM_MARKS, strict=False)]
        legend(axes, entries)
        svg = to_svg(figure)
    return Picture(
        "gradient-noise",
        "Noise of one trajectory",
        f"sqrt(E|g − ∇J|²) / |∇J| of six unbiased estimators, {found[0].trajectories:,} trajectories of 10 steps "
        f"each in {found[0].batches} batches; bars (mostly hidden by the marks): 95 % interval of the mean over "
        "batches. Reading: the square of a number is how many trajectories make the noise as large as the gradient.",
        "Relative standard deviations: between 20 and 48 for total costs, about 6 with a value baseline, about 2 "
        "with the exact advantage.",
        svg,
    )


def clipping_figure(found: Sequence[Clipping]) -> Picture:
    """The mean of the clipped estimator along the exact gradient, against the clip level."""
    with style():
        figure, (axes,) = new_figure(3.5, right=0.95)
        axes.axhline(1, color=palette.INK[0], lw=1.0, ls=(0, (5, 3)))
        axes.set_xscale("log")
        entries = []
        for clip, mark in zip(found, SYSTEM_MARKS, strict=False):
            for means, tint, words in (
                (clip.total, ORANGE, "total cost"),
                (clip.baseline, BLUE, "with baseline"),
            ):
                axes.errorbar(
                    clip.clips, [m.value for m in means], yerr=[m.margin for m in means], fmt=f"{mark}-", color=tint,
                    ms=5, mew=0, lw=1.5, elinewidth=1.2, capsize=2.5,
                )  # fmt: skip
                entries.append((f"{clip.system}, {words}", tint, mark))
        axes.set_ylim(0, None)
        axes.set_xticks(found[0].clips, [f"{c:g}" for c in found[0].clips])
        axes.xaxis.set_minor_formatter(lambda x, _: "")
        axes.set_xlabel("ratios clipped at")
        axes.set_ylabel("mean, along the exact gradient")
        axes.grid(True)
        axes.set_axisbelow(True)
        figure.subplots_adjust(top=0.84)
        legend(axes, entries, 2)
        svg = to_svg(figure)
    return Picture(
        "clipping",
        "What clipping does to the mean",
        "Component of the estimator's mean along the exact gradient, in units of the gradient: 1 (dashed) is right. "
        f"{found[0].trajectories:,} trajectories of an older gain with E ρ² = 2; bars: 95 % intervals. More data "
        "make the bars shorter and leave the points where they are.",
        "Mean of the clipped gradient against the clip level: between two and three times too large with total cost "
        "and a low level, too small with a baseline, right at a high level.",
        svg,
    )


def ending_figure(found: Sequence[Ending]) -> Picture:
    """Excess average cost of the best single gain of J_T with Q_T = Q, against T."""
    with style():
        figure, (axes,) = new_figure(3.6, right=0.72)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(2e-7, 60)
        ends = []
        for ending, tint, mark in zip(found, SYSTEM_COLOURS, SYSTEM_MARKS, strict=False):
            stable = np.isfinite(ending.with_Q)
            axes.plot(
                ending.horizons[stable], ending.with_Q[stable], f"{mark}-", color=tint, lw=1.9, ms=5, mew=0
            )
            axes.plot(
                ending.horizons[~stable], np.full((~stable).sum(), 30.0), "x", color=tint, ms=6, mew=1.6
            )
            ends.append((float(ending.horizons[-1]), float(ending.with_Q[-1]), ending.system, tint))
        axes.set_xticks(found[0].horizons, [str(T) for T in found[0].horizons])
        axes.xaxis.set_minor_formatter(lambda x, _: "")
        axes.yaxis.set_major_formatter(lambda y, _: per_cent(y))
        axes.grid(True)
        axes.set_axisbelow(True)
        axes.set_xlabel("horizon T")
        axes.set_ylabel("excess average cost")
        figure.subplots_adjust(left=0.22)
        end_labels(axes, ends)
        svg = to_svg(figure)
    return Picture(
        "ending",
        "The price of the wrong end",
        "Average cost, above the optimum, of the gain that minimises the cost of T steps with terminal cost Q; the "
        "cross at the top does not stabilise. With terminal cost P* the excess is zero to rounding at every T. "
        "Exact.",
        "Excess average cost of the best finite-horizon gain against the horizon for four systems, falling with T.",
        svg,
    )


def curve_figure(curves: Sequence[Curve], name: str, title: str) -> Picture:
    """Learning curves on one system: median and 10th to 90th percentile over runs."""
    names = list(REPAIRS)
    tints = dict(zip(names, (palette.MUTED[0], palette.INK[0], ORANGE, PINK, BLUE), strict=True))
    with style():
        figure, (axes,) = new_figure(3.9, right=0.68)
        figure.subplots_adjust(left=0.19)
        bands = [quantiles(curve.excess[:, 1:], MIDDLE) for curve in curves]
        seen = np.concatenate([band.ravel() for band in bands])
        seen = seen[np.isfinite(seen) & (seen > 0)]
        used = np.concatenate([curve.transitions[1:] for curve in curves])
        top = min(float(seen.max()) * 1.6, 12.0)
        least = (
            min(float(middle.min()) for _, middle, _ in bands) / 4
        )  # lower tails of single runs say little
        log_axes(axes, (max(float(used.min()), 1.0) / 1.15, float(used.max()) * 1.15), (least, top))
        ends = []
        for curve, (low, middle, high) in zip(curves, bands, strict=True):
            tint = tints.get(curve.learner) or colour(curve.learner)
            x, known = curve.transitions[1:], np.isfinite(low)
            axes.fill_between(
                x[known],
                np.maximum(low, least)[known],
                np.minimum(high, top)[known],
                color=tint,
                alpha=0.13,
                lw=0,
            )
            shown = np.isfinite(middle)
            axes.plot(x[shown], middle[shown], color=tint, lw=1.9)
            ends.append((float(x[shown][-1]), float(middle[shown][-1]), _short(curve.learner), tint))
        axes.set_xlabel("real transitions")
        axes.set_ylabel("excess cost above the optimum")
        end_labels(axes, ends)
        svg = to_svg(figure)
    runs, system = len(curves[0].excess), curves[0].system
    lost = "; ".join(f"{_short(each.learner)} {each.lost}" for each in curves if each.lost)
    return Picture(
        name,
        title,
        f"Exact excess cost on {system}. Lines: median of {runs} runs; bands: 10th to 90th percentile. Unstable at "
        f"the end: {lost or 'none'}.",
        "Excess cost against real transitions; medians at the end: "
        + ", ".join(f"{_short(each.learner)} {percent(float(each.median[-1]))}" for each in curves),
        svg,
    )


def _short(learner: str) -> str:
    """The name of a learner beside its line."""
    named = {
        NAIVE: "naive replay",
        "no ratios: fresh data only": "on-policy, total",
        "cost-to-go": "on-policy, to go",
        "value baseline, value at the end": "value baseline",
    }
    return named.get(learner, label(learner))


def attribution_figure(curves: Sequence[Curve], systems: Sequence[str], learners: Sequence[str]) -> Picture:
    """Excess cost at the end along the chain of repairs, by system."""
    labels = [
        each if i == 0 else f"+ {each}" for i, each in enumerate(_chain_name(each) for each in learners)
    ]
    with style():
        figure, axes = rows_axes(labels, 0.42, 0.47)
        axes.set_xscale("log")
        found = {(each.system, each.learner): each for each in curves}
        edge = 6.0
        for at, (system, tint, mark) in enumerate(zip(systems, SYSTEM_COLOURS, SYSTEM_MARKS, strict=False)):
            for place, learner in enumerate(learners):
                curve = found[system, learner]
                low, middle, high = (
                    float(each) for each in np.maximum(quantiles(curve.excess[:, -1], MIDDLE), 2e-5)
                )
                y = place + 0.24 * (at - 1)
                axes.plot([min(low, edge), min(high, edge)], [y, y], color=tint, lw=2.4, alpha=0.45)
                stable = np.isfinite(middle)
                axes.plot([min(middle, edge)], [y], mark if stable else "x", color=tint, ms=5.5)
                if curve.lost:
                    axes.annotate(f"{curve.lost}✕", (edge, y), (4, 0), textcoords="offset points", va="center",
                                  fontsize=7, color=tint, annotation_clip=False)  # fmt: skip
        axes.set_xlim(2e-5, edge)
        axes.xaxis.set_major_formatter(lambda x, _: per_cent(x))
        axes.set_xticks([1e-4, 1e-2, 1])
        axes.set_xlabel("excess cost at the end")
        figure.subplots_adjust(top=0.91, right=0.93)
        legend(axes, [(s, t, m) for s, t, m in zip(systems, SYSTEM_COLOURS, SYSTEM_MARKS, strict=False)])
        svg = to_svg(figure)
    runs, used = len(curves[0].excess), int(curves[0].transitions[-1])
    return Picture(
        "attribution",
        "One repair after the other",
        f"Excess cost after {used:,} real transitions as the repairs are added from top to bottom. Marks: median of "
        f"{runs} runs; bars: 10th to 90th percentile; n✕ at the right: runs whose last gain is unstable. The first "
        "five have the best of six constant steps each.",
        "Excess cost at the end for the chain of repairs from the failing learner to model-based policy "
        "optimisation.",
        svg,
    )


def _chain_name(learner: str) -> str:
    named = {
        "no ratios: fresh data only": "fresh data, no ratios",
        "value baseline, value at the end": "value baseline and end",
        "policy-gradient": "decaying natural step",
        "dpg": "ratio-free replay (DPG)",
        "mis": "short-window replay (MIS)",
        "mbpo": "a model (MBPO)",
    }
    return named.get(learner, learner)
