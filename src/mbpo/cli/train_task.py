"""Learning a policy on a control task: what `mbpo train` does with a Gymnasium id."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.output import console, print_facts
from mbpo.errors import InputError
from mbpo.runs.plain import plain

if TYPE_CHECKING:
    from mbpo.runs.task_request import TaskRequest
    from mbpo.runs.task_run import Progress


def environment_options(environment: str, variant: str | None, words: Sequence[str]) -> dict[str, Any]:
    """Constructor arguments: those of the variant, then each `key=value`, values as JSON where they are."""
    from mbpo.environments.variants import variant_options

    options = {} if variant is None else variant_options(environment, variant)
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise InputError(f"--env-option {word}: expected key=value")
        try:
            options[key] = json.loads(text)
        except (ValueError, RecursionError):
            options[key] = text
        if plain(options[key]) != options[key]:
            raise InputError(
                f"--env-option {word}: expected finite numbers, which can be written down and read back"
            )
    return options


def folder_for(request: TaskRequest) -> str:
    """`runs/Hopper-v5-paper-seed0`."""
    task = request.options.get("system", request.environment)
    name = re.sub(r"[^\w.-]+", "-", Path(str(task)).stem if "system" in request.options else str(task))
    return str(Path("runs") / f"{name}-{request.preset}-seed{request.seed}")


def train_with_display(request: TaskRequest, folder: str, command: list[str]) -> dict[str, Any]:
    """Train with a live display on standard error; returns the result."""
    from mbpo.core.threads import (
        keep_compiled_programs,
        prefer_threads,
        products_in_parallel,
        usable_cores,
    )
    from mbpo.runs.task_folder import kept_threads

    prefer_threads(kept_threads(Path(folder)) or str(usable_cores()))  # a thread a core is fastest
    if request.settings.steps_per_round > 1:  # long programs of many products
        products_in_parallel()
    _say_which_task(request)
    from mbpo.runs.task_run import train_task

    keep_compiled_programs()
    with _Display(request.environment) as display:
        return train_task(request, Path(folder), display.show, command)


def _say_which_task(request: TaskRequest) -> None:
    """Where the paper's task is a variant that was not asked for, say so."""
    from mbpo.environments.variants import VARIANTS

    variants = VARIANTS.get(request.environment, {})
    if request.preset == "paper" and variants and not request.options:
        name = next(iter(variants))
        print(f"published returns of {request.environment} belong to --variant {name}", file=sys.stderr)


class _Display:
    """A bar with steps, return, model error, updates a second and the time left."""

    def __init__(self, task: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"),
        )
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._line = self._bar.add_task(task, total=None, facts="")
        self._task, self._returned = task, ""
        self._counted: tuple[float, float] | None = None  # time and updates at the evaluation before

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Move the bar; at an evaluation also print a line."""
        record = progress.record
        if record is not None:
            self._returned = self._facts(record)
            self._console.print(f"{self._task} step {progress.done}: {self._returned}")
        self._bar.update(
            self._line,
            completed=progress.done,
            total=progress.total,
            description=f"{self._task} {progress.doing}",
            facts=self._returned,
        )

    def _facts(self, record: dict[str, Any]) -> str:
        facts = [f"return {record['mean_return']:.1f}"]
        if "exact" in record:
            facts.append(f"excess cost {excess_text(record['exact'])}")
        if "model" in record:
            facts.append(f"model error {min(record['model']['holdout_error']):.3g}")
        now, updates = time.monotonic(), record["updates"]
        if self._counted is not None:  # the first evaluation comes after what an earlier process did
            since, before = self._counted
            facts.append(f"{(updates - before) / max(now - since, 1e-9):.0f} updates/s")
        self._counted = now, updates
        return ", ".join(facts)


def print_task_result(result: dict[str, Any], folder: str) -> None:
    """The facts of a training, for people."""
    facts = [
        ("real steps", str(result["steps"])),
        ("agent updates", str(result["updates"])),
        ("mean return", f"{result['mean_return']:.1f} over {len(result['returns'])} episodes"),
        ("best mean return", f"{max(result['curve']['mean_return']):.1f}"),
    ]
    if "exact" in result:
        exact = result["exact"]
        facts.append(("excess cost J/J* - 1", excess_text(exact)))
        if exact.get("one_step_error") is not None:
            facts.append(("model error over noise floor", f"{exact['one_step_error']:.3f}"))
        if exact.get("critic_error") is not None:
            facts.append(("critic against the exact Q: 1 - R^2", f"{exact['critic_error']:.3f}"))
    facts.append(("kept in", folder))
    print_facts(console(), f"{result['preset']} on {result['environment']}", facts)
    print(f"next: mbpo evaluate {folder}, mbpo report {folder}", file=sys.stderr)


def excess_text(exact: dict[str, Any]) -> str:
    """An excess cost with its standard error, in words where it is infinite."""
    value, error = exact["excess_cost"], exact["standard_error"]
    finite = value is not None and math.isfinite(value)
    return f"{value:.3g} +- {error:.1g}" if finite else "infinite (does not stabilise)"
