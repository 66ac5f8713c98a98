"""The figures of the diagnostics of a run: model error by depth, calibration, exploitation, bias of the critics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mbpo.report import palette
from mbpo.report.arm_figures import pooling_words
from mbpo.report.drawing import Picture, end_labels, new_figure, style, to_svg
from mbpo.report.step_curves import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VIOLET,
    Line,
    Panel,
    grid,
    log_scale,
    panels_figure,
)
from mbpo.report.task_measures import Arm, at

MOMENTS = 5  # evaluations of which the model error is drawn
FAINTEST = 0.3
ZERO = ((0.0, "", palette.MUTED[0]),)


def diagnostics_figures(arm: Arm) -> list[Picture]:
    """Those of which something is known."""
    drawn = (depth_figure(arm), coverage_figure(arm), exploitation_figure(arm), critic_figure(arm))
    return [picture for picture in drawn if picture is not None]


def errors_by_depth(arm: Arm, step: int, key: str) -> np.ndarray | None:
    """The median over runs of `key` in the model error at real step `step`, by depth; None where no run has it."""
    found = []
    for run in arm.recorded:
        for record in run.records:
            errors = ((record.get("diagnostics") or {}).get("model_error") or {}).get(key)
            if record["env_steps"] == step and errors is not None:
                found.append([np.nan if each is None else each for each in errors])
    if not found:
        return None
    depth = min(map(len, found))
    curves = np.array([each[:depth] for each in found], float)
    return np.where(np.isnan(curves).any(axis=0), np.nan, np.median(curves, axis=0))


def moments(arm: Arm, key: str) -> list[int]:
    """Up to `MOMENTS` real steps at which `key` is known, evenly spread, the first and the last among them."""
    steps = sorted({record["env_steps"] for run in arm.recorded for record in run.records})
    known = [step for step in steps if errors_by_depth(arm, step, key) is not None]
    places = np.unique(np.linspace(0, len(known) - 1, MOMENTS).round().astype(int)) if known else []
    return [known[place] for place in places]


def depth_figure(arm: Arm) -> Picture | None:
    """Open-loop error by depth, of the observation and of the reward, at several times; None where not known."""
    key = next((each for each in ("mean", "sampled") if moments(arm, each)), None)
    if key is None:
        return None
    steps = moments(arm, key)
    with style():
        figure, rows = new_figure(4.4, 2, right=0.76)
        figure.subplots_adjust(left=0.17)
        for axes, name, words in zip(rows, (key, f"reward_{key}"), ("observation", "reward"), strict=True):
            _draw_depths(axes, arm, steps, name)
            axes.set_ylabel(f"{words} error")
        rows[-1].set_xlabel("depth of the imagined rollout, steps")
        rows[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.align_ylabels(rows)
        svg = to_svg(figure)
    how = "the elites' mean prediction fed back" if key == "mean" else "each imagined step fed back"
    seeds = " Median over seeds." if len(arm.recorded) > 1 else ""
    return Picture(
        "error-by-depth",
        "Where the model drifts off",
        f"Open loop, {how}: error of the model that replays the actions of fresh real episodes, root mean square in "
        f"standard deviations; 1 is as bad as a constant guess. Lines: real steps of the evaluation, the latest "
        f"darkest.{seeds}",
        "Error of the model by depth of the rollout at several evaluations, logarithmic upwards.",
        svg,
    )


def _draw_depths(axes: Axes, arm: Arm, steps: Sequence[int], key: str) -> None:
    """One line for each of `steps`, the later the darker, with its name."""
    ends = []
    for place, step in enumerate(steps):
        errors = errors_by_depth(arm, step, key)
        if errors is None or not (np.nan_to_num(errors) > 0).any():
            continue
        depth, shade = np.arange(1, len(errors) + 1), FAINTEST + (1 - FAINTEST) * (place + 1) / len(steps)
        axes.plot(depth, np.where(errors > 0, errors, np.nan), color=BLUE, lw=1.7, alpha=shade)
        last = int(np.flatnonzero(np.nan_to_num(errors) > 0)[-1])
        ends.append((float(depth[last]), float(errors[last]), f"{step:,}", BLUE))
    if ends:
        log_scale(axes)
    axes.margins(x=0.02)
    grid(axes)
    end_labels(axes, ends, 8.0)


def coverage_figure(arm: Arm) -> Picture | None:
    """The coverage of the model's 50 % and 90 % intervals; None where not known."""
    lines = tuple(
        Line(text, tint, at("diagnostics", "calibration", key))
        for text, tint, key in (("of 50 %", ORANGE, "coverage_50"), ("of 90 %", BLUE, "coverage_90"))
    )
    panel = Panel("real outcomes inside", lines, ((0.5, "", ORANGE), (0.9, "", BLUE)), share=True)
    return _picture(
        arm,
        [panel],
        "coverage",
        "Whether the model knows its own error",
        "Share of fresh real transitions inside the central 50 % and 90 % intervals of the ensemble's one-step "
        "predictions, over all targets. Dashed: what it should be; below, the model is too sure.",
        "Coverage of the model's intervals against real steps, with the nominal 50 % and 90 %.",
    )


def exploitation_figure(arm: Arm) -> Picture | None:
    """What the policy is promised by the model beyond the world; None where not known."""
    part = ("diagnostics", "exploitation")
    gap = Line("", VIOLET, at(*part, "gap"), at(*part, "standard_error"))
    return _picture(
        arm,
        [Panel("imagined − real return", (gap,), ZERO)],
        "exploitation",
        "What the policy gains from the model's errors",
        "Return of the mean policy from the same states, imagined minus real, undiscounted. Above zero the model "
        "promises more than the world gives." + _errors_words(arm),
        "Exploitation gap against real steps around zero.",
    )


def critic_figure(arm: Arm) -> Picture | None:
    """How much more the critics promise than is earned, in the world and in the model; None where not known."""
    lines = tuple(
        Line(text, tint, at("diagnostics", key, "bias"), at("diagnostics", key, "standard_error"))
        for text, tint, key in (("real", GREEN, "critic_real"), ("imagined", GREY, "critic_imagined"))
    )
    return _picture(
        arm,
        [Panel("critic − soft return", lines, ZERO)],
        "critic-bias",
        "What the critics promise too much",
        "The lower critic minus the discounted soft return that follows, on real episodes and on imagined transitions, "
        "in scaled rewards. Above zero the critics promise more than is earned." + _errors_words(arm),
        "Bias of the critics against real steps around zero, on real and on imagined transitions.",
    )


def _errors_words(arm: Arm) -> str:
    return " Bands: two standard errors either way." if len(arm.recorded) == 1 else ""


def _picture(
    arm: Arm, panels: Sequence[Panel], name: str, title: str, caption: str, description: str
) -> Picture | None:
    with style():
        figure = panels_figure(arm.recorded, panels) if arm.recorded else None
        if figure is None:
            return None
        svg = to_svg(figure)
    return Picture(name, title, f"{caption}{pooling_words(arm)}", description, svg)
