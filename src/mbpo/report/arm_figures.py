"""The figures that look inside the runs of one request: the model, the agent, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mbpo.report import palette
from mbpo.report.drawing import Picture, new_figure, style, to_svg
from mbpo.report.step_curves import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VIOLET,
    Line,
    Panel,
    grid,
    name_ends,
    number,
    panels_figure,
    step_axis,
)
from mbpo.report.task_measures import STAGES, Arm, Times, at, holdout, times

STAGE_TINTS: dict[str, str] = dict(zip(STAGES, (GREY, BLUE, GREEN, ORANGE, AMBER, VIOLET), strict=True))
MEANING = {
    "act": "acting",
    "fit": "fitting the model",
    "imagine": "imagining",
    "improve": "improving the agent",
    "evaluate": "evaluating",
    "diagnose": "diagnosing",
}


def pooling_words(arm: Arm) -> str:
    """What lines and bands over several seeds are; nothing for a single run."""
    if len(arm.recorded) < 2:
        return ""
    return " Lines: median over seeds; bands: least to greatest; thin where some seeds are not there."


DRAWN = (
    "temperature",
    "entropy",
    "critic_loss",
    "mean_value",
    "value_low",
    "value_high",
)  # have places of their own


def model_figure(arm: Arm) -> Picture | None:
    """Hold-out error and length of the fits, and the rollout length where it changes; None without a fitted model."""
    stopped = arm.settings.get("model_steps") is None
    lengths = {record.get("rollout_length") for run in arm.recorded for record in run.records}
    panels = [
        Panel("hold-out error", (Line("", BLUE, holdout),), log=True),
        Panel("epochs" if stopped else "steps", (Line("", BLUE, at("model", "epochs")),), whole=True),
        Panel("rollout length", (Line("", GREEN, at("rollout_length")),), whole=True),
    ]
    fitted = any("model" in record for run in arm.recorded for record in run.records)
    with style():
        figure = panels_figure(arm.recorded, panels[: 3 if len(lengths) > 1 else 2]) if fitted else None
        if figure is None:
            return None
        svg = to_svg(figure)
    scaled = (
        "standardised targets" if arm.settings.get("normalise_targets") else "the targets' own units squared"
    )
    return Picture(
        "model",
        "Fitting the model",
        f"The last fit before each evaluation. Hold-out error: mean squared error of the elites, in {scaled}; "
        f"{'epochs until it stopped falling' if stopped else 'gradient steps of a fit'}.{pooling_words(arm)}",
        "Hold-out error of the model and length of its fits against real steps.",
        svg,
    )


def agent_figure(arm: Arm) -> Picture | None:
    """Temperature, entropy, critic loss and mean value; None before the first evaluation."""
    target = arm.recorded[0].target_entropy if arm.recorded else None
    aim = () if target is None else ((target, f"target {number(target)}", palette.MUTED[0]),)
    low, high = at("agent", "value_low"), at("agent", "value_high")
    panels = [
        Panel("temperature", (Line("", BLUE, at("agent", "temperature")),), log=True),
        Panel("entropy", (Line("entropy", BLUE, at("agent", "entropy")),), aim),
        Panel("critic loss", (Line("", ORANGE, at("agent", "critic_loss")),), log=True),
        Panel(
            "mean value",
            (
                Line("mean", GREEN, at("agent", "mean_value")),
                Line("low", GREY, low),
                Line("high", GREY, high),
            ),
        ),
        *(Panel(name.replace("_", " "), (Line("", BLUE, at("agent", name)),)) for name in _others(arm)),
    ]
    with style():
        figure = panels_figure(arm.recorded, panels) if arm.recorded else None
        if figure is None:
            return None
        svg = to_svg(figure)
    return Picture(
        "agent",
        "Improving the agent",
        "In the last update before each evaluation, as the agent logs it. Entropy in nats, which a temperature steers "
        f"to its target; critic loss and mean value in the agent's own units.{pooling_words(arm)}",
        "What the agent logs of its updates against real steps.",
        svg,
    )


def _others(arm: Arm) -> list[str]:
    """What else the agent logs."""
    names = arm.recorded[0].records[-1]["agent"] if arm.recorded else {}
    return [name for name in names if name not in DRAWN]


def time_figure(arm: Arm) -> Picture | None:
    """Seconds of each stage per 1,000 real steps, stacked, and agent updates a second; None without timings."""
    found = mean_times(arm)
    if found is None:
        return None
    with style():
        figure, (upper, lower) = new_figure(4.0, 2, right=0.76)
        figure.subplots_adjust(left=0.17, top=0.9)
        step_axis((upper, lower), arm.recorded)
        stages = _stack(upper, found)
        ends = _speeds(lower, found)
        handles = [Patch(facecolor=STAGE_TINTS.get(each, GREY), label=each) for each in stages]
        upper.legend(
            handles=handles, frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(-0.2, 1.0), ncols=6,
            handlelength=0.8, handletextpad=0.4, columnspacing=0.9,
        )  # fmt: skip
        name_ends(lower, ends)
        figure.align_ylabels((upper, lower))
        svg = to_svg(figure)
    shares = ", ".join(f"{MEANING.get(each, each)} {found.seconds[each].sum():,.0f} s" for each in stages)
    mean = f" Mean over {len(arm.recorded)} seeds." if len(arm.recorded) > 1 else ""
    return Picture(
        "time",
        "Where the time went",
        f"Above: seconds for 1,000 real steps, stacked by stage; compiling is part of the first. Below: agent updates "
        f"a second, of improving alone and of all stages together.{mean}",
        f"Seconds by stage against real steps; in all: {shares}.",
        svg,
    )


def mean_times(arm: Arm) -> Times | None:
    """The mean over the runs, from their first evaluation to the last that all have; None where none has timings."""
    every = [each for run in arm.recorded if (each := times(run)) is not None]
    if not every:
        return None
    count = min(len(each.updates) for each in every)
    same = [each for each in every if np.array_equal(each.edges[: count + 1], every[0].edges[: count + 1])]
    stages = dict.fromkeys(stage for each in same for stage in each.seconds)
    nothing = np.zeros(count)
    return Times(
        same[0].edges[: count + 1],
        {s: np.mean([each.seconds.get(s, nothing)[:count] for each in same], axis=0) for s in stages},
        np.mean([each.updates[:count] for each in same], axis=0),
    )


def _stack(axes: Axes, found: Times) -> list[str]:
    """The stages on top of each other; those that took any time."""
    stages = [stage for stage, seconds in found.seconds.items() if seconds.sum() > 0]
    edges, below = np.repeat(found.edges, 2)[1:-1], np.zeros(2 * len(found.updates))
    for stage in stages:
        height = np.repeat(1000 * found.seconds[stage] / np.diff(found.edges), 2)
        axes.fill_between(edges, below, below + height, color=STAGE_TINTS.get(stage, GREY), alpha=0.85, lw=0)
        below = below + height
    axes.set_ylim(0, 1.06 * float(below.max()))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_ylabel("s per 1,000 steps")
    grid(axes)
    return stages


def _speeds(axes: Axes, found: Times) -> list[tuple[float, float, str, str]]:
    """Updates a second, of improving and of everything, as steps."""
    ends, highest = [], 0.0
    improving = found.seconds.get("improve", np.zeros(len(found.updates)))
    everything = np.sum(list(found.seconds.values()), axis=0)
    for text, tint, seconds in (("improving", ORANGE, improving), ("everything", palette.INK[0], everything)):
        if seconds.min() > 0:
            speed = found.updates / seconds
            highest = max(highest, float(speed.max()))
            axes.plot(np.repeat(found.edges, 2)[1:-1], np.repeat(speed, 2), color=tint, lw=1.5)
            ends.append((float(found.edges[-1]), float(speed[-1]), text, tint))
    axes.set_ylim(0, 1.12 * highest or 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_ylabel("updates/s")
    grid(axes)
    return ends


def arm_figures(arm: Arm) -> list[Picture]:
    """The three, those of which something is known."""
    drawn: Sequence[Picture | None] = (model_figure(arm), agent_figure(arm), time_figure(arm))
    return [picture for picture in drawn if picture is not None]
