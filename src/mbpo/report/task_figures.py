"""The figures that compare everything run on one task: returns, and where the optimum is known the distance from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from mbpo.report import palette
from mbpo.report.drawing import Picture, new_figure, per_cent, style, to_svg
from mbpo.report.palette import colour
from mbpo.report.published import CAUTION, Series, unlike
from mbpo.report.step_curves import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    VIOLET,
    End,
    draw_curve,
    grid,
    log_scale,
    name_ends,
    number,
    step_axis,
)
from mbpo.report.task_measures import (
    CLOSE,
    Arm,
    Task,
    Value,
    above_floor,
    at,
    excess,
    pooled,
)

Band = Callable[[Axes, Arm, str], None]
PAST = 1.15  # how far published curves go on past the last evaluation
FLOOR = 1e-6  # the lowest excess drawn
ARMS = (BLUE, ORANGE, GREEN, VIOLET, colour("gpomdp"), colour("pathwise-true"))
METHODS = {
    "MBPO": (palette.INK[0], palette.DASHED),
    "MBPO port": (palette.INK[0], palette.DASHED),
    "SAC": (GREY, palette.DOTTED),
    "REDQ": (PINK, palette.MIXED),
    "CrossQ": (AMBER, palette.DOTTED),
    "DHMBPO": (colour("marginalised"), palette.DASHED),
}


def learning_figure(task: Task, curves: Sequence[Series]) -> Picture | None:
    """Mean return over real steps, and the published `curves`; None before the first evaluation."""
    runs = [run for arm in task.arms for run in arm.recorded]
    if not runs:
        return None
    with style():
        figure, (axes,) = new_figure(3.7, right=0.74 if curves or len(task.arms) > 1 else 0.96)
        figure.subplots_adjust(left=0.17)
        limit = step_axis([axes], runs, PAST if curves else 1.03)
        ends = [end for series in curves if (end := _draw_series(axes, task, series, limit))]
        ends += _draw_arms(axes, task, at("mean_return"), _episodes)
        axes.set_ylabel("mean return of an evaluation")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        grid(axes)
        if len(ends) > 1:
            name_ends(axes, ends)
        svg = to_svg(figure)
    finals = ", ".join(_final(arm) for arm in task.arms if arm.recorded)
    return Picture(
        "learning",
        "How well it does",
        f"Undiscounted return of the mean policy. {_band_words(task, 'least to greatest of its episodes')}"
        + _published_words(task, curves, limit),
        f"Mean return against real steps; at the last evaluation: {finals}.",
        svg,
    )


def _final(arm: Arm) -> str:
    curve = pooled(arm.recorded, at("mean_return"))
    return "" if curve is None else f"{arm.name} {number(float(curve.middle[-1]))}"


def _band_words(task: Task, single: str = "") -> str:
    """What lines and bands are; `single`: what the band of a single run is, where it has one."""
    counts = {len(arm.recorded) for arm in task.arms if arm.recorded}
    words = []
    if 1 in counts and single:
        words.append(f"Band of a single run: {single}.")
    if max(counts) > 1:
        words.append(
            "Of several seeds: median, and least to greatest of the seeds; thin where some are not there."
        )
    return " ".join(words)


def _published_words(task: Task, curves: Sequence[Series], limit: float) -> str:
    if not curves:
        return ""
    late = list(dict.fromkeys(series.method for series in curves if limit < series.steps[0]))
    words = [" Dashed and dotted: published means."]
    for series in curves:
        if limit >= series.steps[0] and (how := unlike(series, task.environment, task.options)):
            words.append(f"{series.method}* is another version: {how}.")
    words += [f"{', '.join(late)}: published only for more steps."] if late else []
    return " ".join(dict.fromkeys([*words, CAUTION]))


def _draw_series(axes: Axes, task: Task, series: Series, limit: float) -> End | None:
    steps, mean = series.until(limit)
    if not len(steps):
        return None
    tint, dash = METHODS.get(series.method, (palette.MUTED[0], palette.DASHED))
    axes.plot(steps, mean, color=tint, lw=1.1, ls=dash, zorder=2)  # type: ignore[arg-type]
    star = "*" if unlike(series, task.environment, task.options) else ""
    return float(steps[-1]), float(mean[-1]), f"{series.method}{star}", tint


def _draw_arms(
    axes: Axes, task: Task, value: Value, episodes: Band | None = None, floor: float = -np.inf
) -> list[End]:
    ends = []
    for place, arm in enumerate(task.arms):
        curve = pooled(arm.recorded, value)
        if curve is None:
            continue
        tint = ARMS[place % len(ARMS)]
        if curve.runs == 1 and episodes is not None:
            episodes(axes, arm, tint)
        ends.append(draw_curve(axes, curve, tint, arm.name, floor=floor))
    return [end for end in ends if end is not None]


def _episodes(axes: Axes, arm: Arm, tint: str) -> None:
    """The band from the least to the greatest return of each evaluation of a single run."""
    (run,) = arm.recorded
    steps, returns = [r["env_steps"] for r in run.records], [r["returns"] for r in run.records]
    low, high = [min(each) for each in returns], [max(each) for each in returns]
    if len(steps) == 1:
        axes.plot([steps[0]] * 2, [low[0], high[0]], color=tint, lw=1.2, alpha=0.5)
    axes.fill_between(steps, low, high, color=tint, alpha=0.16, lw=0)


def excess_figure(task: Task) -> Picture | None:
    """Excess cost on a linear-quadratic task; None where nothing is finite."""
    runs = [run for arm in task.arms for run in arm.recorded]
    if not any(np.isfinite(found) for r in runs for e in r.records if (found := excess(e)) is not None):
        return None

    def errors(axes: Axes, arm: Arm, tint: str) -> None:
        steps, middle, width = (
            np.array([value(record) or 0.0 for record in arm.recorded[0].records], float)
            for value in (at("env_steps"), excess, at("exact", "standard_error"))
        )
        low, high = np.maximum(middle - 2 * width, FLOOR), np.maximum(middle + 2 * width, FLOOR)
        axes.fill_between(steps, low, high, where=np.isfinite(middle).tolist(), color=tint, alpha=0.2, lw=0)

    with style():
        figure, (axes,) = new_figure(3.7, right=0.74)
        figure.subplots_adjust(left=0.17)
        end = step_axis([axes], runs)
        ends = _draw_arms(axes, task, excess, errors, FLOOR)
        axes.axhline(CLOSE, color=palette.MUTED[0], lw=0.9, ls=(0, (4, 2.5)))
        ends.append((end, CLOSE, per_cent(CLOSE), palette.MUTED[0]))
        axes.set_ylabel("excess cost above the optimum")
        log_scale(axes, per_cent)
        grid(axes)
        name_ends(axes, ends)
        svg = to_svg(figure)
    return Picture(
        "excess-cost",
        "How far from the optimum",
        "Exact excess cost J/J* − 1 of the mean policy, averaged over sampled states. "
        + _band_words(task, "two standard errors of that average either way")
        + f" Dashed: {per_cent(CLOSE)}. Where the policy has no finite cost nothing is drawn.",
        "Excess cost against real steps, logarithmic upwards.",
        svg,
    )


def floor_figure(task: Task) -> Picture | None:
    """The model's one-step error above the noise floor; None where no run has one that is positive."""
    runs = [run for arm in task.arms for run in arm.recorded]
    seen = [found for r in runs for e in r.records if (found := above_floor(e)) is not None]
    if not seen or max(seen) <= 0:
        return None
    with style():
        figure, (axes,) = new_figure(3.7, right=0.74 if len(task.arms) > 1 else 0.96)
        figure.subplots_adjust(left=0.17)
        step_axis([axes], runs)
        ends = _draw_arms(axes, task, above_floor, None, FLOOR)
        axes.set_ylabel("one-step error above the floor")
        log_scale(axes, per_cent)
        grid(axes)
        if len(ends) > 1:
            name_ends(axes, ends)
        svg = to_svg(figure)
    return Picture(
        "noise-floor",
        "How close the model is to the noise",
        "Mean squared error of the ensemble's one-step prediction on the newest real states, above the noise that no "
        "model can predict and relative to it; the noise is integrated out exactly. " + _band_words(task),
        "One-step error above the noise floor against real steps, logarithmic upwards.",
        svg,
    )
