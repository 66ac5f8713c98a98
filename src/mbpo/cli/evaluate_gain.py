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
    out = console()
    excess = result["excess_cost"]
    stable = excess is not None or result["cost"] is not None
    facts = [
        ("cost J(K)", f"{result['cost']:.12g}" if stable else "infinite: K does not stabilise"),
        ("optimal cost J*", f"{result['optimal_cost']:.12g}"),
        ("excess J/J* - 1", "-" if excess is None else f"{excess:.6g}"),
        ("spectral radius of A + B K", f"{result['spectral_radius']:.12g}"),
    ]
    print_facts(out, f"{system.name}: the policy u = +K x", facts)
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
    """Cost, optimum, relative excess, gradient and radius; None where a gain that does not stabilise has none, and
    for the excess over an optimal cost of zero."""
    import numpy as np

    from mbpo.lqr import exact, optimum

    best = optimum.solve(system)
    system = exact.resolved(system)
    cost = float(exact.cost(system, gain))
    finite = bool(np.isfinite(cost))
    return {
        "system": system.name,
        "objective": system.objective,
        "stabilising": finite,
        "cost": cost if finite else None,
        "optimal_cost": best.cost,
        "excess_cost": cost / best.cost - 1 if finite and best.cost > 0 else None,
        "gradient": np.asarray(exact.gradient(system, gain)) if finite else None,
        "spectral_radius": float(exact.spectral_radius(system, gain)),
    }
