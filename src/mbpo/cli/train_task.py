"""Learning a policy on a control task: what `mbpo train` does with a Gymnasium id."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.output import console, print_facts
from mbpo.errors import InputError
from mbpo.runs.plain import plain

if TYPE_CHECKING:
    from mbpo.runs.task_request import TaskRequest
    from mbpo.runs.task_run import Progress


LAST_RETURNS = 4  # evaluations the bar shows
WINDOW = 120  # looks at a run, at least a second apart, over which its pace is taken


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
    if request.settings.steps_per_round > 1:  # long programs of many products (`benchmarks/speed.py`)
        products_in_parallel()
    _say_which_task(request)
    from mbpo.runs.task_run import train_task

    keep_compiled_programs()
    with _Display(request.environment) as display:
        result = train_task(request, Path(folder), display.show, command)
    _write_page(Path(folder))
    return result


def _write_page(folder: Path) -> None:
    """The page about the complete run, in its folder."""
    from mbpo.report.task_page import write_task_report
    from mbpo.runs.task_record import read_task_run

    page = folder / "report.html"
    if not page.exists():
        write_task_report(page, [read_task_run(folder)])


def _say_which_task(request: TaskRequest) -> None:
    """Where the paper's task is a variant that was not asked for, say so."""
    from mbpo.environments.variants import VARIANTS

    variants = VARIANTS.get(request.environment, {})
    if request.preset == "paper" and variants and not request.options:
        name = next(iter(variants))
        print(f"published returns of {request.environment} belong to --variant {name}", file=sys.stderr)


class _Display:
    """A bar with what the run is doing, steps, the time left and the last evaluations; where standard error is no
    terminal, a line for each evaluation and one when it begins to compile."""

    def __init__(self, task: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}"),
        )
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._line = self._bar.add_task(task, total=None, facts="")
        self._task, self._told = task, False
        self._returns: list[float] = []
        self._pace = _Pace()
        self._counted: tuple[float, float] | None = None  # time and updates at the evaluation before

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Move the bar; at an evaluation also print a line."""
        left = self._pace.left(progress)
        if progress.record is not None:
            facts = self._facts(progress.record) + (f", {left} left" if left else "")
            self._console.print(f"{self._task} step {progress.done}: {facts}", soft_wrap=True)
            self._returns = [*self._returns, progress.record["mean_return"]][-LAST_RETURNS:]
        elif progress.doing == "compiling" and not self._console.is_terminal and not self._told:
            self._console.print(f"{self._task} step {progress.done}: compiling", soft_wrap=True)
            self._told = True
        words = [f"{progress.done:,}/{progress.total:,} steps", f"{left} left" if left else ""]
        words.append("returns " + ", ".join(f"{each:.0f}" for each in self._returns) if self._returns else "")
        self._bar.update(
            self._line,
            completed=progress.done + progress.updates,
            total=progress.total + progress.all_updates,
            description=f"{self._task} {progress.doing}",
            facts="  ".join(each for each in words if each),
        )

    def _facts(self, record: dict[str, Any]) -> str:
        facts = [f"return {record['mean_return']:.1f}"]
        if "exact" in record:
            facts.append(f"excess cost {excess_text(record['exact'])}")
        if "model" in record:
            facts.append(f"model error {min(record['model']['holdout_error']):.3g}")
        gap = (record.get("diagnostics") or {}).get("exploitation") or {}
        if gap.get("gap") is not None:
            facts.append(
                f"{gap['horizon']:.0f} steps in the model {gap['imagined']:.1f}, real {gap['real']:.1f}"
            )
        now, updates = time.monotonic(), record["updates"]
        if self._counted is not None:  # the first evaluation comes after what an earlier process did
            since, before = self._counted
            facts.append(f"{(updates - before) / max(now - since, 1e-9):.0f} updates/s")
        self._counted = now, updates
        return ", ".join(facts)


class _Pace:
    """The time left, from the pace of the agent's updates over the last minutes, all stages included."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def left(self, progress: Progress) -> str:
        """Such as "12 min"; "" until a pace is known."""
        now = time.monotonic()
        before = self._seen[-1] if self._seen else (-math.inf, 0)
        if progress.updates > before[1] and now - before[0] > 1.0:
            self._seen.append((now, progress.updates))
        if len(self._seen) < 2:
            return ""
        (since, first), (until, last) = self._seen[0], self._seen[-1]
        seconds = (progress.all_updates - last) * (until - since) / (last - first) - (now - until)
        if seconds >= 5400:
            return f"{seconds / 3600:.1f} h"
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(seconds, 0):.0f} s"


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
    facts += [("kept in", folder), ("page", str(Path(folder) / "report.html"))]
    print_facts(console(), f"{result['preset']} on {result['environment']}", facts)
    print(f"next: mbpo evaluate {folder}, mbpo video {folder}", file=sys.stderr)


def excess_text(exact: dict[str, Any]) -> str:
    """An excess cost with its standard error, in words where it is infinite."""
    value, error = exact["excess_cost"], exact["standard_error"]
    finite = value is not None and math.isfinite(value)
    return f"{value:.3g} +- {error:.1g}" if finite else "infinite (does not stabilise)"
