"""`mbpo demo`: the whole story in one command, from learning to a page to look at."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mbpo.cli.many_runs import Run, print_runs, run_rows, train_all
from mbpo.cli.output import console, print_json, progress_bar
from mbpo.cli.parser import Verbs, add_json, add_verb

if TYPE_CHECKING:
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
    from mbpo.lqr import catalogue
    from mbpo.lqr.train import Settings
    from mbpo.report.page import write_report
    from mbpo.runs.folder import check_writable

    out = Path(args.out)
    plan = [
        Run(
            out / "runs" / f"{name}-{algorithm}",
            catalogue.get(name),
            name,
            Settings(algorithm, transitions, args.seeds, args.seed),
        )
        for name, algorithm, transitions in RUNS
    ]
    check_writable(out / "runs")
    with progress_bar(f"{len(plan)} runs, two at a time", len(plan)) as step:
        records = train_all(plan, step)
        command = ["mbpo", "demo", "--out", str(out), "--seeds", str(args.seeds), "--seed", str(args.seed)]
        page = write_report(out, records, TITLE, command)
    _print_result(args, records, page)


def _print_result(args: argparse.Namespace, records: list[RunRecord], page: Path) -> None:
    from mbpo.report.measures import finding

    by_system: dict[str, list[RunRecord]] = {}
    for record in records:
        by_system.setdefault(record.system.name, []).append(record)
    findings = {name: finding(group) for name, group in by_system.items()}
    if args.json:
        rows = run_rows(records)
        print_json(
            {"report": str(page), "seeds": args.seeds, "seed": args.seed, "findings": findings, "runs": rows}
        )
        return
    out = console()
    out.print(
        "data: real transitions; to 10 %, 1 %: until the excess cost of a seed stays there, median over seeds",
        style="dim",
    )
    for name, sentence in findings.items():
        print_runs(out, name, by_system[name])
        out.print(sentence + "\n", markup=False)
    out.print(f"The page: {page}", markup=False, soft_wrap=True)
