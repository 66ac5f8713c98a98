"""`mbpo evaluate-gain`: the exact cost and gradient of a gain."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from mbpo.cli.output import console, print_facts, print_json, print_matrix
from mbpo.cli.parser import Verbs, add_json, add_system, add_verb
from mbpo.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from mbpo.lqr.system import LinearQuadratic


def add_evaluate_gain(verbs: Verbs) -> None:
    """Declare the verb."""
    summary = "The exact cost, excess cost and gradient of a gain K of the policy u = +K x."
    parser = add_verb(verbs, "evaluate-gain", summary, run_evaluate_gain)
    add_system(parser)
    parser.add_argument(
        "--gain", required=True, metavar="MATRIX", help="K as JSON rows, e.g. '[[-0.9, -1.7]]'"
    )
    add_json(parser)


def run_evaluate_gain(args: argparse.Namespace) -> None:
    """Print what is known exactly about `args.gain`."""
    from mbpo.lqr import catalogue

    system = catalogue.resolve(args.system)
    gain = parse_gain(args.gain, system)
    result = evaluate(system, gain)
    if args.json:
        print_json(result)
        return
    _print_tables(system, result)


def _print_tables(system: LinearQuadratic, result: dict[str, Any]) -> None:
    from mbpo.lqr.radius import Radius

    stable, optimal, excess = result["cost"] is not None, result["optimal_cost"], result["excess_cost"]
    facts = [
        ("cost J(K)", f"{result['cost']:.12g}" if stable else "infinite: K does not stabilise"),
        ("optimal cost J*", "none" if optimal is None else f"{optimal:.12g}"),
        ("excess J/J* - 1", "-" if excess is None else f"{excess:.6g}"),
        (
            "spectral radius of A + B K",
            str(Radius(result["spectral_radius"], result["spectral_radius_error"])),
        ),
    ]
    out = console()
    print_facts(out, f"{system.name}: the policy u = +K x", facts)
    notes = [("no optimum", result["no_optimum"]), ("hint", result["hint"])]
    if any(text is not None for _, text in notes):
        print_facts(out, "Notes", [(name, text) for name, text in notes if text is not None])
    if stable:
        print_matrix(out, "Gradient dJ/dK", result["gradient"], "u", "x")


def parse_gain(text: str, system: LinearQuadratic, name: str = "gain") -> np.ndarray:
    """The matrix in `text`, checked against the system's shape; raises InputError about `name`."""
    from mbpo.lqr.validation import matrix

    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name} must be JSON rows like '[[-0.9, -1.7]]', got {text!r} ({error.msg})"
        ) from None
    return matrix(name, rows, system.action_dim, system.state_dim)


def evaluate(system: LinearQuadratic, gain: np.ndarray) -> dict[str, Any]:
    """Cost, gradient and radius of `gain` `[m, n]`, and the optimum with the relative excess where one is certified.

    `None` stands for what does not exist: cost and gradient of a gain that does not stabilise, the excess over an
    optimal cost of zero, and all that needs an optimum where `no_optimum` says why there is none. `hint` is a sentence
    where -K stabilises and K does not. Raises `InputError` for a horizon whose terminal cost is not known.
    """
    import numpy as np

    from mbpo.lqr import exact, optimum
    from mbpo.lqr.radius import closed_loop_radius

    best, no_optimum = None, None
    try:
        best = optimum.solve(system).cost
    except InputError as error:
        no_optimum = str(error)
    hint, radius = optimum.sign_hint(system, gain), closed_loop_radius(system.A, system.B, gain)
    system = exact.resolved(system)
    cost = float(exact.cost(system, gain))
    finite = bool(np.isfinite(cost))
    return {
        "system": system.name,
        "objective": system.objective,
        "stabilising": finite,
        "cost": cost if finite else None,
        "optimal_cost": best,
        "excess_cost": cost / best - 1 if finite and best is not None and best > 0 else None,
        "gradient": np.asarray(exact.gradient(system, gain)) if finite else None,
        "spectral_radius": radius.value,
        "spectral_radius_error": radius.error,
        "no_optimum": no_optimum,
        "hint": hint,
    }
