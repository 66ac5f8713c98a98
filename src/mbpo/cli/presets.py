"""`mbpo presets`: the named configurations for control tasks."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Any

from mbpo.cli.output import console, print_json, print_rows
from mbpo.cli.parser import Verbs, add_json, add_verb
from mbpo.presets import GROUPS, PAPER, PRESETS, TaskSettings, preferred, preset


def add_presets(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "presets", "Configurations for control tasks, and every setting.", run_presets)
    parser.add_argument("task", metavar="TASK", nargs="?", help="show what the presets are for this task")
    add_json(parser)


def run_presets(args: argparse.Namespace) -> None:
    """Print the presets, and every setting with its value for the task (or its default)."""
    tables = _tables(args.task)
    help_of = {each.name: each.metadata["help"] for each in dataclasses.fields(TaskSettings)}
    if args.json:
        known = {"presets": PRESETS, "settings": help_of, "values": tables, "paper": PAPER, "groups": GROUPS}
        print_json(known)
        return
    out = console()
    print_rows(out, "Presets: mbpo train TASK --preset NAME", ("name", "what"), list(PRESETS.items()))
    names = list(tables)
    rows = [(key, *(_shown(tables[name][key]) for name in names), text) for key, text in help_of.items()]
    title = f"Settings for {args.task}" if args.task else "Settings, with the defaults all tasks share"
    print_rows(out, f"{title}: --set KEY=VALUE changes one", ("key", *names, "what"), rows)
    if not args.task:
        changed = [
            (task, ", ".join(f"{k}={_shown(v)}" for k, v in each.items())) for task, each in PAPER.items()
        ]
        print_rows(out, "What preset paper changes", ("task", "settings"), changed)
    groups = [(name, ", ".join(f"{k}={_shown(v)}" for k, v in each.items())) for name, each in GROUPS.items()]
    print_rows(out, "Several at once: --set NAME=true", ("name", "settings"), groups)


def _tables(task: str | None) -> dict[str, dict[str, Any]]:
    if task is None:
        return {
            "default": dataclasses.asdict(TaskSettings()),
            "fast": dataclasses.asdict(preset("fast", "")),
        }
    if not re.search(r"-v\d+$", task):
        task = "mbpo/LinearQuadratic-v0"  # as `mbpo train` takes it
    names = ["fast", preferred(task), "repaired", "sac"]
    return {name: dataclasses.asdict(preset(name, task)) for name in names}


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ",".join(str(each) for each in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
