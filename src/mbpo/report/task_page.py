"""One self-contained HTML page about runs on control tasks, finished or not, from their folders alone."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbpo.errors import InputError
from mbpo.report import palette
from mbpo.report.arm_figures import arm_figures
from mbpo.report.diagnostics_figures import diagnostics_figures
from mbpo.report.drawing import Picture, per_cent
from mbpo.report.published import CAUTION, Series, published, unlike
from mbpo.report.task_figures import excess_figure, floor_figure, learning_figure
from mbpo.report.task_measures import Arm, Task, grouped
from mbpo.report.task_numbers import run_numbers
from mbpo.report.task_text import arm_findings, inner_findings, returns
from mbpo.report.templates import environment
from mbpo.runs.task_record import TaskRecord


@dataclass(frozen=True)
class Inside:
    """What the page shows of the inside of the runs of one request."""

    name: str
    about: str
    findings: list[str]
    pictures: list[Picture]


@dataclass(frozen=True)
class Section:
    """What the page says about one task."""

    title: str
    facts: str
    findings: list[list[str]]
    pictures: list[Picture]
    arms: list[Inside]
    exact: bool
    rows: list[dict[str, str]]
    sources: list[str]


def write_task_report(path: str | os.PathLike[str], runs: Sequence[TaskRecord]) -> Path:
    """Write the page about `runs` to `path`, whole or not at all; returns it.

    Raises `InputError` when there is no run, or `path` cannot be written.
    """
    page, target = task_page(runs), Path(path)
    hidden = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden.write_bytes(page.encode())
        os.replace(hidden, target)
    except OSError as error:
        with suppress(OSError):
            hidden.unlink()
        raise InputError(f"{target} cannot be written: {error.strerror or error}") from None
    return target


def task_page(runs: Sequence[TaskRecord]) -> str:
    """The page as HTML that loads nothing; runs of one task share a section, seeds of one request a curve."""
    if not runs:
        raise InputError("a report needs at least one run, got none")
    tasks = grouped(runs)
    page = (
        environment()
        .get_template("task.html.j2")
        .render(
            title=_title(tasks),
            lead=_lead(runs),
            sections=[_section(task) for task in tasks],
            colours=list(palette.variables().values()),
            commands=[(str(run.folder), shlex.join(run.command)) for run in runs],
            machines=_machines(runs),
            caution=CAUTION,
        )
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _title(tasks: Sequence[Task]) -> str:
    arms = [arm for task in tasks for arm in task.arms]
    if len(arms) == 1:
        return f"{arms[0].name} on {tasks[0].title}"
    return f"Runs on {tasks[0].title}" if len(tasks) == 1 else f"Runs on {len(tasks)} tasks"


def _lead(runs: Sequence[TaskRecord]) -> str:
    waiting = sum(not run.complete for run in runs)
    count = "One run" if len(runs) == 1 else f"{len(runs)} runs"
    state = (
        "complete"
        if not waiting
        else "unfinished"
        if waiting == len(runs)
        else f"{waiting} of them unfinished"
    )
    return f"{count}, {state}. Real steps count the warm-up under random actions in."


def _section(task: Task) -> Section:
    curves = published(task.arms[0].runs[0].family)
    drawn = (excess_figure(task), floor_figure(task), learning_figure(task, curves))
    return Section(
        task.title,
        _facts(task),
        [arm_findings(task, arm, curves) for arm in task.arms],
        [picture for picture in drawn if picture is not None],
        [_inside(arm) for arm in task.arms],
        task.exact,
        [_row(arm, run) for arm in task.arms for run in arm.runs],
        [_source(task, series) for series in curves],
    )


def _facts(task: Task) -> str:
    """Options and termination rule in words."""
    options = ", ".join(f"{key}={json.dumps(value)}" for key, value in task.options.items())
    words = [f"options {options}" if options else "default options"]
    words += [f"termination rule {task.termination}"] if task.termination else []
    return ", ".join(words)


def _inside(arm: Arm) -> Inside:
    seeds = ", ".join(str(run.request["seed"]) for run in arm.runs)
    about = f"preset {arm.runs[0].request['preset']}, {changes_words(arm.runs[0])}; "
    about += f"seed{'s' * (len(arm.runs) > 1)} {seeds}"
    return Inside(arm.name, about, inner_findings(arm), arm_figures(arm) + diagnostics_figures(arm))


def changes_words(run: TaskRecord) -> str:
    """What of the settings differs from the preset."""
    changes = run.changes()
    if changes is None:
        return "which this version does not know"
    words = ", ".join(f"{key}={json.dumps(value)}" for key, value in changes.items())
    return f"changed: {words}" if words else "unchanged"


def _row(arm: Arm, run: TaskRecord) -> dict[str, str]:
    """The numbers of one run in words."""
    found: dict[str, Any] = run_numbers(run)
    state = "complete" if run.complete else "unfinished"
    excess = found["excess_cost"]
    unknown = "–" if run.records == [] or "exact" not in run.records[-1] else "no finite cost"
    return {
        "name": arm.name,
        "folder": str(run.folder),
        "changes": changes_words(run),
        "seed": str(found["seed"]),
        "done": f"{run.done:,} of {found['steps']:,}",
        "state": state,
        "last": "–" if found["last_return"] is None else returns(found["last_return"]),
        "last_step": "no evaluation yet" if found["last_step"] is None else f"step {found['last_step']:,}",
        "best": "–" if found["best_return"] is None else returns(found["best_return"]),
        "best_step": "" if found["best_step"] is None else f"step {found['best_step']:,}",
        "excess": unknown if excess is None else per_cent(excess),
        "speed": "–" if found["updates_per_second"] is None else f"{found['updates_per_second']:,.0f}",
    }


def _source(task: Task, series: Series) -> str:
    how = unlike(series, task.environment, task.options)
    seeds = "1 seed" if series.seeds == 1 else f"{series.seeds} seeds"
    parts = [f"{series.method}{'*' if how else ''}: environment {series.version}", seeds, series.source]
    return "; ".join([*parts, *(each for each in (series.note, how) if each)]) + "."


def _machines(runs: Sequence[TaskRecord]) -> list[dict[str, Any]]:
    """Versions, platform and devices, each with the runs that share them, or the part of a run that went on there."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        first = {"versions": run.versions, "platform": run.platform, "devices": run.devices}
        for part in [first, *run.resumed]:
            devices = ", ".join(dict.fromkeys(part["devices"]))
            facts = {**part["versions"], "platform": part["platform"], "devices": devices}
            name = f"{run.folder} after step {part['step']:,}" if "step" in part else str(run.folder)
            found.setdefault(json.dumps(facts), {"facts": facts, "runs": []})["runs"].append(name)
    return list(found.values())
