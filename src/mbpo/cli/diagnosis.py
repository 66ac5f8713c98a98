"""`mbpo diagnosis`: why a policy gradient did not converge, one defect at a time, and the recipe that works."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.output import console, print_json, print_rows, progress_bar
from mbpo.cli.parser import Verbs, add_json, add_verb
from mbpo.errors import InputError

if TYPE_CHECKING:
    from mbpo.studies.diagnosis.diagnose import Diagnosis, Effort

OUT = "runs/diagnosis"
PROCESSES = 2


def add_diagnosis(verbs: Verbs) -> None:
    """Declare the verb."""
    summary = "Rebuild a policy gradient that did not converge, defect by defect, and write a page."
    parser = add_verb(verbs, "diagnosis", summary, run_diagnosis)
    parser.add_argument(
        "--out", metavar="DIR", default=OUT, help="where the page goes (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", metavar="s", type=int, default=0, help="of all experiments (default: %(default)s)"
    )
    add_json(parser)


def run_diagnosis(args: argparse.Namespace) -> None:
    """Run every experiment, write the page to `args.out`, print the findings and where the page is."""
    if not 0 <= args.seed < 2**63:
        raise InputError(f"seed must be a whole number from 0 to {2**63 - 1}, got {args.seed}")
    from mbpo.core.threads import size_thread_pools

    size_thread_pools()
    from mbpo.report.diagnosis.page import sections, write_diagnosis
    from mbpo.runs.folder import check_writable
    from mbpo.studies.diagnosis.diagnose import Effort

    check_writable(Path(args.out) / "figures")
    found = _run_all(args.seed, Effort())
    command = ["mbpo", "diagnosis", "--out", args.out, "--seed", str(args.seed)]
    page = write_diagnosis(args.out, found, command)
    if args.json:
        print_json({"report": str(page), **found.to_json()})
        return
    out = console()
    rows = [(f"{i}. {each.title}", each.finding) for i, each in enumerate(sections(found), 1)]
    print_rows(out, "Why the Gaussian hack did not converge", ("defect", "finding"), rows)
    out.print(f"The page: {page}", markup=False, soft_wrap=True)


def _run_all(seed: int, effort: Effort) -> Diagnosis:
    """Every part, two processes at a time: most of the time goes into compiling, which uses one core."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from mbpo.studies.diagnosis.diagnose import collect, part_names

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two processes may share one accelerator
    names = part_names(effort)
    context = multiprocessing.get_context("spawn")
    with (
        progress_bar(f"{len(names)} experiments, two at a time", len(names)) as step,
        ProcessPoolExecutor(PROCESSES, context, initializer=_prepare) as pool,
    ):
        jobs = {pool.submit(_run_part, name, seed, effort): name for name in names}
        parts: dict[str, Any] = {}
        try:
            for job in as_completed(jobs):
                parts[jobs[job]] = job.result()
                step(jobs[job].replace(":", ", ").replace("_", " "))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return collect(seed, effort, parts)


def _prepare() -> None:
    """Let an interrupt end a worker without a traceback, and keep compiled programs for the next time."""
    from mbpo.core.threads import use_all_cores

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    use_all_cores()


def _run_part(name: str, seed: int, effort: Effort) -> Any:
    from mbpo.studies.diagnosis.diagnose import run_part

    return run_part(name, seed, effort)
