"""`mbpo demo`: the whole story in one command, from learning to a page to look at."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.output import console, print_json, print_rows
from mbpo.cli.parser import Verbs, add_json, add_verb

if TYPE_CHECKING:
    from collections.abc import Callable

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
        records = [_train(out, name, settings, step) for name, settings in plan]
        step("the page")
        command = ["mbpo", "demo", "--out", str(out), "--seeds", str(args.seeds), "--seed", str(args.seed)]
        page = write_report(out, records, TITLE, command)
    _print_result(args, records, page)


def _train(out: Path, name: str, settings: Settings, step: Callable[[str], None]) -> RunRecord:
    from mbpo.lqr import catalogue
    from mbpo.lqr.train import train
    from mbpo.runs.folder import write_run

    step(f"{settings.algorithm} on {name}")
    folder = out / "runs" / f"{name}-{settings.algorithm}"
    command = ["mbpo", "train", name, "--algorithm", settings.algorithm]
    command += ["--transitions", str(settings.transitions), "--seeds", str(settings.seeds)]
    command += ["--seed", str(settings.seed), "--out", str(folder)]
    return write_run(folder, train(catalogue.get(name), settings), command, replace=True)


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error; the function given names what comes next."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=runs + 1, completed=-1)

        def step(what: str) -> None:
            bar.advance(task)
            bar.update(task, description=what)

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
    for name, sentence in findings.items():
        _print_table(name, [row for row in rows if row["system"] == name])
        out.print(sentence, markup=False)
    out.print(f"\nThe page: {page}", markup=False, soft_wrap=True)


def _print_table(name: str, rows: list[dict[str, Any]]) -> None:
    from mbpo.report.page import excess_words
    from mbpo.report.palette import label

    headings = (
        "algorithm",
        "real transitions",
        "to 10 %",
        "to 1 %",
        "median excess",
        "limit",
        "unstable seeds",
    )
    cells = [
        (
            label(row["algorithm"]),
            f"{row['transitions']:,}",
            _count(row["to_10_percent"]),
            _count(row["to_1_percent"]),
            excess_words(row["excess_cost"]),
            excess_words(row["limit"]),
            row["unstable"],
        )
        for row in rows
    ]
    print_rows(console(), name, headings, cells)


def _count(transitions: int | None) -> str:
    return "not reached" if transitions is None else f"{transitions:,}"
