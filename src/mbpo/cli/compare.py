"""`mbpo compare`: many algorithms on one system, side by side on one page."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mbpo.cli.many_runs import Run, print_runs, run_rows, train_all
from mbpo.cli.output import console, print_json, progress_bar
from mbpo.cli.parser import Verbs, add_json, add_system, add_verb
from mbpo.errors import InputError

if TYPE_CHECKING:
    from mbpo.lqr.system import LinearQuadratic
    from mbpo.lqr.train import Settings
    from mbpo.runs.record import RunRecord

WITH_MODEL = ("mbpo", "certainty-equivalence")


def add_compare(verbs: Verbs) -> None:
    """Declare the verb."""
    summary = "Train many algorithms on one system and draw them on one page."
    parser = add_verb(verbs, "compare", summary, run_compare)
    add_system(parser)
    parser.add_argument(
        "--transitions",
        metavar="N",
        type=int,
        required=True,
        help="real transitions a seed, the same for all",
    )
    parser.add_argument(
        "--algorithms", metavar="a,b,c",
        help="names, comma-separated; name:estimator steps along another gradient, as mbpo:mis "
        "(default: every gradient estimator on real data alone, mbpo and certainty-equivalence)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", metavar="S", type=int, default=8, help="seeds of each run (default: %(default)s)"
    )
    parser.add_argument(
        "--seed",
        metavar="s",
        type=int,
        default=0,
        help="the seed they all derive from (default: %(default)s)",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="where the page and the runs go (default: runs/compare-SYSTEM)"
    )
    add_json(parser)


def run_compare(args: argparse.Namespace) -> None:
    """Train what is not there yet, write the page, print what came out."""
    from mbpo.core.threads import size_thread_pools
    from mbpo.lqr import catalogue

    size_thread_pools()
    from mbpo.report.page import write_report
    from mbpo.runs.folder import check_writable, existing_run, read_run

    system = catalogue.resolve(args.system)
    every = [
        _settings(name, args.transitions, args.seeds, args.seed) for name in named_algorithms(args.algorithms)
    ]
    check_trainable(system, every)
    out = Path(args.out or f"runs/compare-{re.sub(r'[^A-Za-z0-9_-]', '-', system.name)}")
    runs = [Run(out / "runs" / _folder_name(each), system, args.system, each) for each in every]
    check_writable(out / "figures")
    missing = [run for run in runs if existing_run(run.folder, run.settings, system) is None]
    if len(missing) < len(runs):
        print(
            f"{out} already holds {len(runs) - len(missing)} of {len(runs)} runs, complete", file=sys.stderr
        )
    if missing:
        with progress_bar(f"{len(missing)} runs, two at a time", len(missing)) as step:
            train_all(missing, step)
    records = [read_run(run.folder) for run in runs]
    page = write_report(out, records, f"Learning compared: {system.name}", _command(args, out))
    _print_result(args, records, page)


def named_algorithms(text: str | None) -> list[str]:
    """The names in `text`, or every estimator and what has a model; raises InputError for none, or one twice."""
    from mbpo.lqr.gradients import ESTIMATORS

    if text is None:
        return [*WITH_MODEL, *ESTIMATORS]
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"algorithms must be names separated by commas, got {text!r}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"algorithms names {twice[0]!r} more than once")
    return names


def _settings(name: str, transitions: int, seeds: int, seed: int) -> Settings:
    from mbpo.lqr.train import Settings

    algorithm, colon, improve = name.partition(":")
    if colon and not improve:
        raise InputError(f"algorithms: {name!r} names no estimator after the colon")
    return Settings(algorithm, transitions, seeds, seed, improve=improve or None)


def check_trainable(system: LinearQuadratic, every: Sequence[Settings]) -> None:
    """Raise `InputError` for the first that could not be trained on `system`, before anything is."""
    from mbpo.lqr.train import learnable, planned

    learnable(system)
    for settings in every:
        planned(system, settings)


def _words(settings: Settings) -> str:
    return f"{settings.algorithm}:{settings.improve}" if settings.improve else settings.algorithm


def _folder_name(settings: Settings) -> str:
    return _words(settings).replace(":", "-")


def _command(args: argparse.Namespace, out: Path) -> list[str]:
    words = ["mbpo", "compare", args.system, "--transitions", str(args.transitions)]
    words += ["--algorithms", args.algorithms] if args.algorithms else []
    return [*words, "--seeds", str(args.seeds), "--seed", str(args.seed), "--out", str(out)]


def _print_result(args: argparse.Namespace, records: list[RunRecord], page: Path) -> None:
    from mbpo.report.measures import finding

    sentence, name = finding(records), records[0].system.name
    if args.json:
        print_json(
            {
                "report": str(page),
                "system": name,
                "transitions": args.transitions,
                "seeds": args.seeds,
                "seed": args.seed,
                "finding": sentence,
                "runs": run_rows(records),
            }
        )
        return
    out = console()
    out.print("data: real transitions; to 10 %, 1 %: until the median excess cost was there", style="dim")
    print_runs(out, name, records)
    out.print(sentence, markup=False)
    out.print(f"The page: {page}", markup=False, soft_wrap=True)
