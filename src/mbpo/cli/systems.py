"""`mbpo systems`: the catalogue."""

from __future__ import annotations

import argparse
from typing import Any

from mbpo.cli.output import console, print_json, print_rows
from mbpo.cli.parser import Verbs, add_json, add_verb


def add_systems(verbs: Verbs) -> None:
    """Declare the verb."""
    add_json(add_verb(verbs, "systems", "The named systems and where they come from.", run_systems))


def run_systems(args: argparse.Namespace) -> None:
    """Print every system in the catalogue."""
    from mbpo.lqr import catalogue
    from mbpo.lqr.reference import spectral_radius

    rows = []
    for name in catalogue.names():
        system = catalogue.get(name)
        rows.append(
            {
                "name": name,
                "states": system.state_dim,
                "inputs": system.action_dim,
                "objective": system.objective,
                "open_loop_radius": spectral_radius(system.A),
                "source": system.source,
            }
        )
    if args.json:
        print_json({"systems": rows})
    else:
        _print_tables(rows)


def _print_tables(rows: list[dict[str, Any]]) -> None:
    out = console()
    headings = ("name", "states", "inputs", "objective", "open-loop radius")
    sizes = [
        (row["name"], row["states"], row["inputs"], row["objective"], f"{row['open_loop_radius']:.4f}")
        for row in rows
    ]
    print_rows(out, "Systems for `mbpo solve NAME`", headings, sizes)
    print_rows(
        out, "Where they come from", ("name", "source"), [(row["name"], row["source"]) for row in rows]
    )
