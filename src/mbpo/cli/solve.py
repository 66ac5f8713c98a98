"""`mbpo solve`: the certified optimum of one system."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mbpo.cli.output import console, print_facts, print_json, print_matrix
from mbpo.cli.parser import Verbs, add_json, add_system, add_verb

if TYPE_CHECKING:
    from mbpo.lqr.optimum import Optimum
    from mbpo.lqr.system import LinearQuadratic


def add_solve(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "solve", "The certified optimum of a system: gain, value and cost.", run_solve)
    add_system(parser)
    add_json(parser)


def run_solve(args: argparse.Namespace) -> None:
    """Print the optimum of `args.system`; raises `InputError` naming the condition that fails."""
    from mbpo.lqr import catalogue, optimum

    system = catalogue.resolve(args.system)
    best = optimum.solve(system)
    if args.json:
        print_json(solve_json(system, best))
    else:
        _print_tables(system, best)


def solve_json(system: LinearQuadratic, best: Optimum) -> dict[str, object]:
    """The optimum as a JSON object; `gains`, one for each stage, only at a finite horizon."""
    result: dict[str, object] = {
        "system": system.name,
        "objective": best.objective,
        "gain": best.gain,
        "value": best.value,
        "cost": best.cost,
        "spectral_radius": best.spectral_radius,
        "residual": best.residual,
        "spectral_radius_error": best.spectral_radius_error,
    }
    return result if best.gains is None else {**result, "gains": best.gains}


def _print_tables(system: LinearQuadratic, best: Optimum) -> None:
    from mbpo.lqr.radius import Radius

    stage = "" if best.gains is None else " at stage 0"
    facts = [
        ("objective", describe_objective(system)),
        ("states, inputs", f"{system.state_dim}, {system.action_dim}"),
        ("optimal cost J*", f"{best.cost:.12g}"),
        (f"spectral radius of A + B K{stage}", str(Radius(best.spectral_radius, best.spectral_radius_error))),
        ("relative Riccati residual", f"{best.residual:.2g}"),
    ]
    out = console()
    print_facts(out, f"{system.name}: certified optimum", facts)
    print_matrix(out, f"Gain K of the policy u = +K x{stage}", best.gain, "u", "x")
    print_matrix(out, f"Value matrix P, cost to go x'P x{stage}", best.value, "x", "x")


def describe_objective(system: LinearQuadratic) -> str:
    """The objective in a few words."""
    if system.discount is not None:
        return f"discounted cost, discount {system.discount:g}"
    if system.horizon is not None:
        return f"total cost over {system.horizon} steps"
    return "average cost per step"
