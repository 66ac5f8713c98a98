"""Many trainings, two processes at a time, each kept as a folder; and the table of what came out."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from mbpo.lqr.needed import Needed
    from mbpo.lqr.system import LinearQuadratic
    from mbpo.lqr.train import Settings
    from mbpo.runs.record import RunRecord

PROCESSES = 2


@dataclass(frozen=True, eq=False)
class Run:
    """What to train and where to keep it; `spelt`: the system as the command line was given it."""

    folder: Path
    system: LinearQuadratic
    spelt: str
    settings: Settings

    @property
    def command(self) -> list[str]:
        """The `mbpo train` that does the same."""
        settings = self.settings
        words = ["mbpo", "train", self.spelt, "--algorithm", settings.algorithm]
        words += ["--improve", settings.improve] if settings.improve else []
        words += ["--transitions", str(settings.transitions), "--seeds", str(settings.seeds)]
        return [*words, "--seed", str(settings.seed), "--out", str(self.folder)]

    def __str__(self) -> str:
        inner = f":{self.settings.improve}" if self.settings.improve else ""
        return f"{self.settings.algorithm}{inner} on {self.system.name}"


def train_all(runs: Sequence[Run], step: Callable[[str], None]) -> list[RunRecord]:
    """Every run, two processes at a time: most of the time goes into compiling, which uses one core."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from mbpo.runs.folder import read_run

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two processes may share one accelerator
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, initializer=_prepare) as pool:
        jobs = {pool.submit(_train, run): run for run in runs}
        try:
            for job in as_completed(jobs):
                job.result()
                step(str(jobs[job]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [read_run(run.folder) for run in runs]


def _prepare() -> None:
    """Let an interrupt end this process without a traceback, and have its programs compile sooner."""
    from mbpo.core.threads import compile_sooner

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    compile_sooner()


def _train(run: Run) -> None:
    from mbpo.lqr.train import train
    from mbpo.runs.folder import write_run

    write_run(run.folder, train(run.system, run.settings), run.command, replace=True)


def run_rows(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """What came out of each run, in JSON's types."""
    from mbpo.report.measures import median_excess, transitions_to

    return [
        {
            "system": record.system.name,
            "algorithm": record.algorithm,
            "improve": record.result["improve"],
            "transitions": int(record.transitions[-1]),
            **_counts("to_10_percent", transitions_to(record, 0.1)),
            **_counts("to_1_percent", transitions_to(record, 0.01)),
            "excess_cost": float(median_excess(record)[-1]),
            "limit": record.limit,
            "unstable": record.unstable,
        }
        for record in records
    ]


def _counts(name: str, found: Needed) -> dict[str, int | bool | None]:
    ends = {name: found.middle, f"{name}_low": found.low, f"{name}_high": found.high}
    return ends | {f"{name}_at_most": found.at_most}


def print_runs(out: Console, title: str, records: Sequence[RunRecord]) -> None:
    """One line a run."""
    from rich import box
    from rich.table import Table

    from mbpo.report.measures import excess_words
    from mbpo.report.palette import label

    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold cyan", padding=(0, 1, 0, 0)
    )
    table.add_column("algorithm", no_wrap=True)
    for heading in ("data", "to 10 %", "to 1 %", "excess", "limit", "unstable"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record, row in zip(records, run_rows(records), strict=True):
        table.add_row(
            label(record.name),
            f"{row['transitions']:,}",
            *(_count(row, f"to_{level}_percent") for level in (10, 1)),
            excess_words(row["excess_cost"]),
            excess_words(row["limit"]),
            str(row["unstable"]),
        )
    out.print(table)


def _count(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return "never"
    return f"{'≤ ' if row[f'{name}_at_most'] else ''}{row[name]:,}"
