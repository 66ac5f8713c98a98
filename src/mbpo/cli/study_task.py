"""`mbpo study` on a control task: which words ask for it, and the runs beside the study's folder."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.parser import add_environment_options
from mbpo.errors import InputError

if TYPE_CHECKING:
    from mbpo.runs.task_request import TaskRequest
    from mbpo.runs.task_run import Progress
    from mbpo.studies.result import Request
    from mbpo.studies.task_sweep import Run

ON_TASKS = ("real-ratio", "rollout-length")
DEFAULT_PRESET = "default"
ONLY_TASKS = ("preset", "set", "env_option", "variant", "termination")


@dataclass(frozen=True)
class StudyTask:
    """A control task as a study is told of it: id, preset, changes to the preset as `key=value`, constructor options in
    the same form, the name of a set of those, and the rule by which the model ends episodes."""

    name: str
    preset: str = DEFAULT_PRESET
    changes: tuple[str, ...] = ()
    env_options: tuple[str, ...] = ()
    variant: str | None = None
    termination: str | None = None
    source: str = ""

    def words(self) -> list[str]:
        """What asks for it on the command line."""
        found = [self.name, "--preset", self.preset]
        found += [word for change in self.changes for word in ("--set", change)]
        found += [word for option in self.env_options for word in ("--env-option", option)]
        found += [] if self.variant is None else ["--variant", self.variant]
        return found + ([] if self.termination is None else ["--termination", self.termination])


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """What applies only where the SYSTEM is the id of a Gymnasium task."""
    tasks = parser.add_argument_group(
        f"a control task, such as InvertedPendulum-v5, in the place of systems ({' and '.join(ON_TASKS)})"
    )
    tasks.add_argument("--preset", metavar="NAME", help=f"see `mbpo presets` (default: {DEFAULT_PRESET})")
    tasks.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        help="change one setting of the preset; may be repeated",
    )
    add_environment_options(tasks)


def task_of(study: str, systems: Sequence[str], given: Mapping[str, Any]) -> StudyTask | None:
    """The control task that is meant, with what is `given` for it; None where linear-quadratic systems are.

    Raises InputError for a mixture.
    """
    tasks = [word for word in systems if re.search(r"-v\d+$", word)]
    told = [name for name in ONLY_TASKS if given.get(name) is not None]
    if not tasks:
        if told:
            option = told[0].replace("_", "-")
            raise InputError(f"--{option} belongs to a control task such as InvertedPendulum-v5, got none")
        return None
    if study not in ON_TASKS:
        raise InputError(
            f"the study {study} is not made on control tasks such as {tasks[0]}, only {' and '.join(ON_TASKS)} are"
        )
    if len(systems) > 1:
        other = next((word for word in systems if word not in tasks), tasks[-1])
        raise InputError(f"a study on a control task takes that one alone, got {tasks[0]} and {other}")
    return StudyTask(
        tasks[0],
        DEFAULT_PRESET if given.get("preset") is None else given["preset"],
        tuple(given.get("set") or ()),
        tuple(given.get("env_option") or ()),
        given.get("variant"),
        given.get("termination"),
    )


def runs_folder(out: str) -> Path:
    """Where the runs of the study in `out` are kept: beside it, since it is written whole or not at all."""
    target = Path(out) if Path(out).name not in ("", "..") else Path(out).resolve()
    return target.with_name(f"{target.name}-runs")


def run_study_task(study: str, task: StudyTask, asked: Request, out: str | None, as_json: bool) -> None:
    """Run the study, or go on with it, or find it complete; print what came out."""
    from mbpo.cli.study import command_of, default_folder, keep, print_outcome
    from mbpo.runs.plain import plain
    from mbpo.runs.study_folder import existing_study

    out = default_folder(study, [task.name, task.preset]) if out is None else out
    _settle_threads(runs_folder(out))
    request, each = _requests(study, task, asked)
    settings = {"study": study, **dataclasses.asdict(request), **plain(dataclasses.asdict(each.settings))}
    names = ("options", "termination", "preset")
    about = {"system": [task.name], "settings": settings | {name: getattr(each, name) for name in names}}
    result = existing_study(out, about, also=("table.csv",))
    if result is None:
        command = command_of(study, task.words(), request, out)
        result = _measured(study, each, request, runs_folder(out), command)
        keep(out, about, [task], result, command)
    else:
        print(f"{out} already holds this study, complete", file=sys.stderr)
    print_outcome(result, out, as_json)


def _settle_threads(runs: Path) -> None:
    """A thread a core, or as many as the runs that are there began with, on which the last bits depend."""
    from mbpo.core.threads import keep_compiled_programs, prefer_threads, usable_cores
    from mbpo.runs.task_folder import kept_threads

    there = (kept_threads(each.parent) for each in sorted(runs.glob("*/config.json")))
    prefer_threads(next(filter(None, there), str(usable_cores())))
    keep_compiled_programs()


def _requests(study: str, task: StudyTask, asked: Request) -> tuple[Request, TaskRequest]:
    """What is asked of the study with its defaults, and of each run; raises InputError for what cannot be."""
    from mbpo.cli.train_task import environment_options
    from mbpo.presets import override, preset
    from mbpo.runs.task_request import TaskRequest
    from mbpo.studies.task_sweep import DEFAULT_TASK_SEEDS, DEFAULT_TASK_TRANSITIONS, SWEEPS, shortened

    seeds = DEFAULT_TASK_SEEDS if asked.seeds is None else asked.seeds
    steps = DEFAULT_TASK_TRANSITIONS if asked.transitions is None else asked.transitions
    for change in task.changes:
        if (key := change.partition("=")[0].strip()) in SWEEPS[study].decided:
            raise InputError(
                f"--set {key}: the study {study} tries several values of it, expected another setting"
            )
    usual = preset(task.preset, task.name)
    short = shortened(usual.warmup_steps, usual.evaluate_every, steps)
    settings = override(usual, [*short, *task.changes])
    options = environment_options(task.name, task.variant, task.env_options)
    each = TaskRequest(task.name, options, task.termination, task.preset, settings, steps, asked.seed)
    return dataclasses.replace(asked, seeds=seeds, transitions=steps), each


def _measured(
    study: str, each: TaskRequest, request: Request, runs: Path, command: Sequence[str]
) -> dict[str, Any]:
    """The study's JSON object; every arm is tried on the task before any is trained."""
    from mbpo.environments import make
    from mbpo.runs.plain import plain
    from mbpo.runs.task_parts import assemble
    from mbpo.studies.task_sweep import planned, run_task, steps_task

    plan = planned(study, each, request, runs)
    environment = make(each.environment, each.options, each.termination)
    for settings in dict.fromkeys(run.request.settings for run in plan):
        assemble(settings, environment, each.steps)
    environment.close()
    with _bar(steps_task(study, request)) as (step, watch):
        return plain(run_task(study, each, request, runs, command, step, watch).to_json())


@contextmanager
def _bar(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[Run, Progress], None]]]:
    """A bar of `total` runs on standard error, and a line for each that is finished."""
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeElapsedColumn(),
        rich.TextColumn("{task.description}"),
    )  # fmt: skip
    screen, done = Console(stderr=True, highlight=False), 0
    with rich.Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        line = bar.add_task("", total=total)

        def step(words: str) -> None:
            nonlocal done
            done += 1
            bar.console.print(f"{done} of {total} runs: {words}", markup=False, soft_wrap=True)
            bar.update(line, completed=done)

        def watch(run: Run, progress: Progress) -> None:
            now = f"{run.words}: step {progress.done:,} of {progress.total:,}"
            bar.update(line, completed=done + progress.done / progress.total, description=now)

        yield step, watch
