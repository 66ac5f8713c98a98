"""`mbpo study`: a question asked of many runs, with intervals over seeds."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.option_types import LARGEST_SEED, whole
from mbpo.cli.output import console, print_json, progress_bar
from mbpo.cli.parser import Verbs, add_json, add_verb
from mbpo.cli.study_task import add_task_options, run_study_task, task_of
from mbpo.runs.plain import plain
from mbpo.studies.named import STUDIES, load, named, systems_of
from mbpo.studies.result import Request

if TYPE_CHECKING:
    from rich.table import Table

    from mbpo.studies.named import StudyModule

MOST_SYSTEMS = 3  # in the name of a folder
LONGEST_NAME = 100
MOST_ROWS = 20  # on the terminal


def add_study(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs, "study", "Ask a question of many runs, with intervals over seeds, and write a page.", run_study
    )
    option = parser.add_argument
    option("name", metavar="NAME", help="of the study, one of those below")
    option(
        "systems",
        metavar="SYSTEM",
        nargs="*",
        help="names, or paths of TOML files (default: the study's own, below)",
    )
    option("--seeds", metavar="S", type=whole(2, 10_000), help="repetitions (default: the study's own)")
    option(
        "--transitions",
        metavar="N",
        type=whole(10, 100_000_000),
        help="real transitions a seed (default: the study's own)",
    )
    option("--seed", metavar="s", type=whole(0, LARGEST_SEED), default=0, help="default %(default)s")
    option("--out", metavar="DIR", help="where the study is kept (default: runs/study-NAME-SYSTEMS)")
    add_json(parser)
    add_task_options(parser)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "studies:\n" + "\n".join(
        f"  {each.name:<18} {each.summary}\n{'':<21}on {', '.join(each.defaults) or 'the whole catalogue'}"
        for each in STUDIES.values()
    )


def run_study(args: argparse.Namespace) -> None:
    """Run the study, or find it in its folder, complete; print what came out."""
    study = named(args.name)
    task = task_of(study.name, args.systems, vars(args))
    if task is not None:
        asked = Request(args.seeds, args.transitions, args.seed)
        run_study_task(study.name, task, asked, args.out, args.json)
        return
    from mbpo.core.threads import size_thread_pools, use_all_cores

    size_thread_pools()
    use_all_cores()
    from mbpo.lqr.toml_file import dump_toml
    from mbpo.runs.study_folder import existing_study

    systems, notes = systems_of(study, args.systems)
    module = load(study)
    request = Request(
        module.DEFAULT_SEEDS if args.seeds is None else args.seeds,
        module.DEFAULT_TRANSITIONS if args.transitions is None else args.transitions,
        args.seed,
    )
    out = default_folder(study.name, [each.name for each in systems]) if args.out is None else args.out
    settings = {"study": study.name, **dataclasses.asdict(request)}
    asked = {"system": [dump_toml(each) for each in systems], "settings": settings}
    result = existing_study(out, asked, also=("table.csv",))
    if result is None:
        result = _measured(module, systems, request, notes)
        keep(out, asked, systems, result, command_of(study.name, args.systems, request, out))
    else:
        print(f"{out} already holds this study, complete", file=sys.stderr)
    print_outcome(result, out, args.json)


def default_folder(name: str, systems: Sequence[str]) -> str:
    """Where a study is kept unless the user says; a long list of systems is shortened."""
    shown = list(systems) if len(systems) <= MOST_SYSTEMS else [systems[0], f"and-{len(systems) - 1}-more"]
    words = re.sub(r"[^A-Za-z0-9_-]", "-", "-".join([name, *shown]))
    return f"runs/study-{words[:LONGEST_NAME]}"


def _measured(
    module: StudyModule, systems: Sequence[Any], request: Request, notes: Sequence[str]
) -> dict[str, Any]:
    """The study's JSON object, with a caveat for each system that was left out."""
    with progress_bar("parts of the study", module.steps(systems, request)) as step:
        result = module.run(systems, request, step)
    return plain(dataclasses.replace(result, caveats=[*result.caveats, *notes]).to_json())


def keep(
    out: str,
    asked: Mapping[str, Any],
    systems: Sequence[Any],
    result: Mapping[str, Any],
    command: Sequence[str],
) -> None:
    """Write the folder: config, result, table, figures and page."""
    from mbpo.report.studies import pictures_of
    from mbpo.report.studies.page import study_files
    from mbpo.runs.folder import provenance
    from mbpo.runs.study_folder import write_study
    from mbpo.studies.result import to_csv

    about = {**provenance(command), "sources": {each.name: each.source for each in systems}}
    files = {
        name: json.dumps(each, indent=2, allow_nan=False) + "\n"
        for name, each in (("config.json", {**asked, **about}), ("result.json", result))
    }
    files["table.csv"] = to_csv(result["columns"], result["rows"])
    write_study(out, {**files, **study_files(result, about, pictures_of(result))})


def command_of(name: str, systems: Sequence[str], request: Request, out: str) -> list[str]:
    """The words that ask for the same again."""
    numbers = {"--seeds": request.seeds, "--transitions": request.transitions, "--seed": request.seed}
    words = [word for option, number in numbers.items() for word in (option, str(number))]
    return ["mbpo", "study", name, *systems, *words, "--out", out]


def print_outcome(result: Mapping[str, Any], out: str, as_json: bool) -> None:
    """The result as one JSON object with the paths of page and table, else for people."""
    if as_json:
        print_json(
            {**result, "report": str(Path(out) / "report.html"), "table": str(Path(out) / "table.csv")}
        )
    else:
        print_study(result, out)


def print_study(result: Mapping[str, Any], out: str) -> None:
    """Title, findings and caveats, the first rows of the table, and where the page is."""
    from rich.text import Text

    screen = console()
    screen.print(Text(result["title"], style="bold cyan"))
    for sentence in result["findings"]:
        screen.print(Text(f"- {sentence}"))
    for sentence in result["caveats"]:
        screen.print(Text(f"- {sentence}", style="dim"))
    table, shown = _first_rows(result, screen.width)
    screen.print(table)
    left = {"rows": len(result["rows"]) - MOST_ROWS, "columns": len(result["columns"]) - shown}
    more = [f"{count:,} more {what}" for what, count in left.items() if count > 0]
    if more:
        screen.print(Text(f"{' and '.join(more)} in {Path(out) / 'table.csv'}", style="dim"), soft_wrap=True)
    screen.print(f"The page: {Path(out) / 'report.html'}", markup=False, soft_wrap=True)


def _first_rows(result: Mapping[str, Any], width: int) -> tuple[Table, int]:
    """As many rows and columns of the table as fit, and how many columns that is; ends of intervals come last."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mbpo.report.studies.page import main_columns, words

    rows = result["rows"][:MOST_ROWS]
    table, shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)), []
    for name in main_columns(result["columns"]):
        width -= max(len(name), *(len(words(row[name])) for row in rows), 0) + 2
        if shown and width < 2:
            break
        textual = any(isinstance(row[name], str) for row in rows)
        table.add_column(Text(name), justify="left" if textual else "right", overflow="fold")
        shown.append(name)
    for row in rows:
        table.add_row(*(Text(words(row[name])) for name in shown))
    return table, len(shown)
