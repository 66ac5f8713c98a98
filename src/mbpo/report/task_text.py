"""What is seen in runs on control tasks, in sentences made of their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbpo.report.arm_figures import MEANING, mean_times
from mbpo.report.diagnostics_figures import errors_by_depth, moments
from mbpo.report.drawing import per_cent
from mbpo.report.published import Series, unlike
from mbpo.report.step_curves import number
from mbpo.report.task_measures import (
    CLOSE,
    Arm,
    Pooled,
    Task,
    Value,
    above_floor,
    at,
    excess,
    holdout,
    pooled,
    solved,
)


def last_whole(curve: Pooled) -> int:
    """The place of the last point that every run has; the last of all where there is none."""
    return max(curve.whole, 1) - 1 if curve.whole else len(curve.steps) - 1


def arm_findings(task: Task, arm: Arm, curves: Sequence[Series]) -> list[str]:
    """How well the runs of one request did: the return, the optimum, the published means, and what is unfinished."""
    if not arm.recorded:
        return [f"Preset {arm.name}: no evaluation yet, {_progress(arm)}."]
    curve = pooled(arm.recorded, at("mean_return"))
    assert curve is not None
    place = last_whole(curve)
    step = int(curve.steps[place])
    ahead = _close(arm) if task.exact else ""
    where = f"{_spread(curve, place, returns)} at step {step:,}{_over(arm)}"
    sentences = [
        f"Preset {arm.name}: {ahead}mean return {where}; {_best(curve)}.",
        _published(task, step, curves),
        "" if all(run.complete for run in arm.runs) else f"Unfinished: {_progress(arm)}.",
    ]
    return [sentence for sentence in sentences if sentence]


def returns(value: float) -> str:
    """A return with as many digits as are worth reading."""
    words = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return words.replace("-", "\N{MINUS SIGN}")


def _spread(curve: Pooled, place: int, words=number) -> str:
    """A number, and over several runs the least and the greatest."""
    middle, low, high = (words(float(each[place])) for each in (curve.middle, curve.low, curve.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def _over(arm: Arm) -> str:
    count = len(arm.recorded)
    if count > 1:
        return f", median of {count} seeds"
    episodes = len(arm.recorded[0].records[-1]["returns"])
    return f", one seed, {episodes} episodes" if episodes > 1 else ", one seed, one episode"


def _best(curve: Pooled) -> str:
    """The highest point of the part that every run has."""
    last = last_whole(curve)
    place = int(np.argmax(curve.middle[: last + 1]))
    if place == last:
        return "no evaluation was better" if place else "the only evaluation"
    return f"the best was {returns(float(curve.middle[place]))} at step {int(curve.steps[place]):,}"


def _close(arm: Arm) -> str:
    """How far from the optimum, as the beginning of a sentence."""
    curve = pooled(arm.recorded, excess)
    if curve is None:
        return ""
    place = last_whole(curve)
    last, close = float(curve.middle[place]), solved(curve)
    if not np.isfinite(last):
        return "no finite cost at the end, "
    width = pooled(arm.recorded, at("exact", "standard_error")) if curve.runs == 1 else None
    error = "" if width is None else f" ± {per_cent(2 * float(width.middle[-1]))} (two standard errors)"
    level = per_cent(CLOSE)
    when = f"not at or below {level}" if close is None else f"at or below {level} since step {close:,}"
    return f"excess cost {per_cent(last)}{error}, {when}; "


def _published(task: Task, step: int, curves: Sequence[Series]) -> str:
    """The published means at a real step."""
    words = []
    for series in curves:
        mean = series.at(step)
        if mean is not None:
            star = "*" if unlike(series, task.environment, task.options) else ""
            words.append(f"{series.method}{star} {returns(mean)}")
    other = " (* another version of the task)" if any("*" in each for each in words) else ""
    return f"Published means at that step: {', '.join(words)}{other}." if words else ""


def _progress(arm: Arm) -> str:
    """How far each unfinished run is."""
    waiting = [run for run in arm.runs if not run.complete]
    each = (f"seed {r.request['seed']} at step {r.done:,} of {r.request['steps']:,}" for r in waiting)
    return ", ".join(each)


def inner_findings(arm: Arm) -> list[str]:
    """What the inside of the runs shows at the last evaluation that all of them have."""
    if not arm.recorded:
        return []
    found = (_model(arm), _depth(arm), _coverage(arm), _gap(arm), _critics(arm), _agent(arm), _time(arm))
    return [sentence for sentence in found if sentence]


def _last(arm: Arm, value: Value) -> str:
    """The number at the last evaluation that all have, "" where it is not known."""
    curve = pooled(arm.recorded, value)
    return "" if curve is None else _spread(curve, last_whole(curve))


def fit_unit(arm: Arm) -> str:
    """What the length of a fit is counted in."""
    return "epochs" if arm.settings.get("model_steps") is None else "gradient steps"


def _model(arm: Arm) -> str:
    curve, epochs = pooled(arm.recorded, holdout), _last(arm, at("model", "epochs"))
    if curve is None:
        return ""
    place, first = last_whole(curve), number(float(curve.middle[0]))
    since = f", at the first evaluation {first}" if place else ""
    floor = pooled(arm.recorded, above_floor)
    above = "" if floor is None else per_cent(float(floor.middle[last_whole(floor)]))
    over = above and f" Its one-step error is {above} above the noise floor."
    return f"Model: hold-out error {_spread(curve, place)}{since}; the last fit took {epochs} {fit_unit(arm)}.{over}"


def _depth(arm: Arm) -> str:
    key = next((each for each in ("mean", "sampled") if moments(arm, each)), None)
    if key is None:
        return ""
    errors = errors_by_depth(arm, moments(arm, key)[-1], key)
    if errors is None or not np.isfinite(errors).any():
        return ""
    deep = int(np.flatnonzero(np.isfinite(errors))[-1])
    near, far = number(float(errors[0])), number(float(errors[deep]))
    return (
        f"Along real actions it is off by {near} standard deviations after 1 step, by {far} after {deep + 1}."
    )


def _coverage(arm: Arm) -> str:
    parts = []
    for level in (50, 90):
        curve = pooled(arm.recorded, at("diagnostics", "calibration", f"coverage_{level}"))
        if curve is not None:
            share = _spread(curve, last_whole(curve), lambda value: f"{100 * value:.0f} %")
            parts.append(f"its {level} % intervals held {share}")
    return f"Of the real outcomes {' and '.join(parts)}." if parts else ""


def _gap(arm: Arm) -> str:
    words = _against_zero(arm, "exploitation", "gap")
    return f"Imagined minus real return: {words}." if words else ""


def _critics(arm: Arm) -> str:
    named = (("real", "critic_real"), ("imagined", "critic_imagined"))
    parts = [f"{name} {words}" for name, key in named if (words := _against_zero(arm, key, "bias"))]
    return f"Critics minus soft return: {'; '.join(parts)}." if parts else ""


def _against_zero(arm: Arm, part: str, key: str) -> str:
    """A number with two standard errors, and whether zero is within them; over several seeds with its range."""
    curve = pooled(arm.recorded, at("diagnostics", part, key))
    if curve is None:
        return ""
    place = last_whole(curve)
    errors = pooled(arm.recorded, at("diagnostics", part, "standard_error")) if curve.runs == 1 else None
    same = [] if errors is None else np.flatnonzero(errors.steps == curve.steps[place]).tolist()
    if errors is None or not same:
        return _spread(curve, place)
    value, width = float(curve.middle[place]), 2 * float(errors.middle[same[0]])
    side = (
        "zero is within two standard errors"
        if abs(value) <= width
        else "above zero"
        if value > 0
        else "below zero"
    )
    return f"{number(value)} ± {number(width)} ({side})"


def _agent(arm: Arm) -> str:
    """What the agent says of itself: of entropy and temperature where it has them, else the first it logs."""
    target = arm.recorded[0].target_entropy
    aim = "" if target is None else f", target {number(target)}"
    entropy, temperature = (_last(arm, at("agent", name)) for name in ("entropy", "temperature"))
    if entropy and temperature:
        return f"Agent: entropy {entropy}{aim}; temperature {temperature}."
    names = list(arm.recorded[0].records[-1]["agent"])[:4]
    said = [f"{name.replace('_', ' ')} {_last(arm, at('agent', name))}" for name in names]
    return f"Agent: {'; '.join(said)}." if said else ""


def _time(arm: Arm) -> str:
    found = mean_times(arm)
    if found is None or found.total <= 0:
        return ""
    shares = sorted(
        ((float(s.sum()) / found.total, stage) for stage, s in found.seconds.items()), reverse=True
    )
    words = ", ".join(f"{MEANING.get(stage, stage)} {100 * share:.0f} %" for share, stage in shares[:3])
    each = " a seed" if len(arm.recorded) > 1 else ""
    speed = f"{found.updates.sum() / found.total:,.0f} updates a second in all"
    return f"Time{each}: {duration(found.total)}, of it {words}; {speed}."


def duration(seconds: float) -> str:
    """4000 as "1.1 h", 90 as "1.5 min", 7 as "7 s"."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
