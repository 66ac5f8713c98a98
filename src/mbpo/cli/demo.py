"""`mbpo demo`: the whole story in one command, from learning to a page to look at."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.output import console, print_json
from mbpo.cli.parser import Verbs, add_json, add_verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from mbpo.lqr.train import Settings
    from mbpo.runs.record import RunRecord

# system, algorithm, real transitions: enough for the slowest to pass 1 %
RUNS = (
    ("laplacian3", "mbpo", 3_000),
    ("laplacian3", "mbpo-simple", 3_000),
    ("laplacian3", "certainty-equivalence", 3_000),
    ("laplacian3", "dpg", 12_000),
    ("laplacian3", "policy-gradient", 48_000),
    ("double_integrator", "mbpo", 6_000),
    ("double_integrator", "certainty-equivalence", 6_000),
    ("double_integrator", "policy-gradient", 24_000),
)
TITLE = "Model-based policy optimisation where everything is known"
OUT = "runs/demo"
PROCESSES = 2


def add_demo(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "demo", "Train every kind of learner on two systems and write a page.", run_demo)
    parser.add_argument(
        "--out", metavar="DIR", default=OUT, help="where the page and the runs go (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", metavar="S", type=int, default=16, help="seeds of each run (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", metavar="s", type=int, default=0, help="the first seed (default: %(default)s)"
    )
    add_json(parser)


def run_demo(args: argparse.Namespace) -> None:
    """Train, write the runs and the page to `args.out`, print what happened and where the page is."""
    from mbpo.core.threads import size_thread_pools

    size_thread_pools()
    from mbpo.lqr.train import Settings
    from mbpo.report.page import write_report
    from mbpo.runs.folder import check_writable

    out = Path(args.out)
    plan = [(name, Settings(algorithm, N, args.seeds, args.seed)) for name, algorithm, N in RUNS]
    check_writable(out / "runs")
    with _progress(len(plan)) as step:
        records = _train_all(out, plan, step)
        command = ["mbpo", "demo", "--out", str(out), "--seeds", str(args.seeds), "--seed", str(args.seed)]
        page = write_report(out, records, TITLE, command)
    _print_result(args, records, page)


def _train_all(out: Path, plan: list[tuple[str, Settings]], step: Callable[[str], None]) -> list[RunRecord]:
    """Every run, two processes at a time: most of the time goes into compiling, which uses one core."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from mbpo.runs.folder import read_run

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two processes may share one accelerator
    context = multiprocessing.get_context("spawn")
    folders = [out / "runs" / f"{name}-{settings.algorithm}" for name, settings in plan]
    with ProcessPoolExecutor(PROCESSES, context, initializer=_die_quietly) as pool:
        jobs = {
            pool.submit(_train, folder, name, settings): f"{settings.algorithm} on {name}"
            for folder, (name, settings) in zip(folders, plan, strict=True)
        }
        try:
            for job in as_completed(jobs):
                job.result()
                step(f"done: {jobs[job]}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [read_run(folder) for folder in folders]


def _die_quietly() -> None:
    """Let an interrupt end this process without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _train(folder: Path, name: str, settings: Settings) -> None:
    from mbpo.lqr import catalogue
    from mbpo.lqr.train import train
    from mbpo.runs.folder import write_run

    command = ["mbpo", "train", name, "--algorithm", settings.algorithm]
    command += ["--transitions", str(settings.transitions), "--seeds", str(settings.seeds)]
    command += ["--seed", str(settings.seed), "--out", str(folder)]
    write_run(folder, train(catalogue.get(name), settings), command, replace=True)


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error; the function given says what is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(f"{runs} runs, two at a time", total=runs)

        def step(what: str) -> None:
            bar.update(task, advance=1, description=what)

        yield step


def _print_result(args: argparse.Namespace, records: list[RunRecord], page: Path) -> None:
    from mbpo.report.measures import finding, median_excess, transitions_to

    by_system = {record.system.name: [] for record in records}
    for record in records:
        by_system[record.system.name].append(record)
    findings = {name: finding(group) for name, group in by_system.items()}
    rows: list[dict[str, Any]] = [
        {
            "system": record.system.name,
            "algorithm": record.algorithm,
            "transitions": int(record.transitions[-1]),
            "to_10_percent": transitions_to(record, 0.1),
            "to_1_percent": transitions_to(record, 0.01),
            "excess_cost": float(median_excess(record)[-1]),
            "limit": record.limit,
            "unstable": record.unstable,
        }
        for record in records
    ]
    if args.json:
        print_json(
            {"report": str(page), "seeds": args.seeds, "seed": args.seed, "findings": findings, "runs": rows}
        )
        return
    out = console()
    out.print("data: real transitions; to 10 %, 1 %: until the median excess cost was there", style="dim")
    for name, sentence in findings.items():
        _print_table(out, name, [row for row in rows if row["system"] == name])
        out.print(sentence + "\n", markup=False)
    out.print(f"The page: {page}", markup=False, soft_wrap=True)


def _print_table(out: Console, name: str, rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    from mbpo.report.page import excess_words
    from mbpo.report.palette import label

    table = Table(
        box=box.SIMPLE_HEAD, title=name, title_justify="left", title_style="bold cyan", padding=(0, 1, 0, 0)
    )
    table.add_column("algorithm", no_wrap=True)
    for heading in ("data", "to 10 %", "to 1 %", "excess", "limit", "unstable"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            label(row["algorithm"]),
            f"{row['transitions']:,}",
            _count(row["to_10_percent"]),
            _count(row["to_1_percent"]),
            excess_words(row["excess_cost"]),
            excess_words(row["limit"]),
            str(row["unstable"]),
        )
    out.print(table)


def _count(transitions: int | None) -> str:
    return "never" if transitions is None else f"{transitions:,}"
