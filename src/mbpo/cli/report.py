"""`mbpo report`: a page about runs, finished or not."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mbpo.cli.output import console, print_json
from mbpo.cli.parser import Verbs, add_json, add_verb
from mbpo.errors import InputError

PAGE = "report.html"


def add_report(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "report", "A page about runs, finished or not.", run_report)
    parser.add_argument("folders", metavar="RUN", nargs="+", help="the folders of runs of one kind")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help=f"where the page goes (default: {PAGE} in the run, of several runs here)",
    )
    add_json(parser)


def run_report(args: argparse.Namespace) -> None:
    """Write the page about `args.folders`, print what it says."""
    from mbpo.runs.task_record import is_task_run

    folders = distinct(args.folders)
    out = Path(args.out) if args.out else Path(PAGE) if len(folders) > 1 else folders[0] / PAGE
    if out.is_dir():
        raise InputError(f"--out {out} is a directory, expected a file")
    kinds = {is_task_run(folder) for folder in folders}
    if len(kinds) > 1:
        raise InputError(
            "the runs are of two kinds, on control tasks and of gains: expected one kind for a page"
        )
    result, sentences = (_tasks if kinds.pop() else _gains)(folders, out)
    if args.json:
        print_json({"report": str(out), **result})
        return
    to = console()
    for sentence in sentences:
        to.print(sentence, markup=False, soft_wrap=True)
    to.print(f"The page: {out}", markup=False, soft_wrap=True)


def distinct(words: Sequence[str]) -> list[Path]:
    """The folders; raises InputError for one that is given twice."""
    folders = [Path(word) for word in words]
    resolved = [folder.resolve() for folder in folders]
    for folder, where in zip(folders, resolved, strict=True):
        if resolved.count(where) > 1:
            raise InputError(f"{folder} is given more than once")
    return folders


def _tasks(folders: Sequence[Path], out: Path) -> tuple[dict[str, Any], list[str]]:
    """The page about runs on control tasks: its numbers and its sentences."""
    from mbpo.report.task_numbers import report_numbers
    from mbpo.report.task_page import write_task_report
    from mbpo.runs.task_record import read_task_run

    runs = [read_task_run(folder) for folder in folders]
    write_task_report(out, runs)
    numbers = report_numbers(runs)
    sentences = []
    for task in numbers["tasks"]:
        sentences.append(task["title"])
        sentences += [sentence for arm in task["arms"] for sentence in arm["findings"]]
    return numbers, sentences


def _gains(folders: Sequence[Path], out: Path) -> tuple[dict[str, Any], list[str]]:
    """The page about trainings of gains on linear-quadratic systems."""
    from mbpo.core.threads import size_thread_pools

    size_thread_pools()
    from mbpo.cli.many_runs import run_rows
    from mbpo.report.measures import finding
    from mbpo.report.page import write_report
    from mbpo.report.palette import label
    from mbpo.runs.folder import read_run
    from mbpo.runs.record import RunRecord

    records = [read_run(folder) for folder in folders]
    by_system: dict[str, list[RunRecord]] = {}
    for record in records:
        by_system.setdefault(record.system.name, []).append(record)
    title = f"Learning compared: {', '.join(by_system)}"
    if len(records) == 1:
        title = f"{label(records[0].name)} on {records[0].system.name}"
    if len(folders) == 1 and out == folders[0] / PAGE:
        write_report(folders[0], records, title)
    else:
        _write_page_alone(out, lambda directory: write_report(directory, records, title))
    sentences = [f"{system}: {finding(group)}" for system, group in by_system.items()]
    return {"runs": run_rows(records), "findings": sentences}, sentences


def _write_page_alone(out: Path, write: Any) -> None:
    """The page that `write` makes in a directory, without the figures beside it, as `out`."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as directory:
            os.replace(write(directory), out)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None
