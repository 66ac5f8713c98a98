"""`mbpo finite-horizon`: gradient descent with one gain a stage, with known and with unknown parameters."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mbpo.cli.option_types import positive, positive_or_auto, whole
from mbpo.cli.output import console, print_facts, print_json
from mbpo.cli.parser import Verbs, add_json, add_system, add_verb
from mbpo.errors import InputError

if TYPE_CHECKING:
    from mbpo.lqr.finite_horizon import Projection, Study
    from mbpo.lqr.system import LinearQuadratic

METHODS = {"exact": ("exact",), "zeroth-order": ("zeroth-order",), "both": ("exact", "zeroth-order")}
QUIET_SECONDS = 2.0


def add_finite_horizon(verbs: Verbs) -> None:
    """Declare the verb."""
    summary = "Gradient descent over a finite horizon, one gain a stage: exact, and from rollouts only."
    parser = add_verb(verbs, "finite-horizon", summary, run_finite_horizon)
    add_system(parser)
    option = parser.add_argument
    option("--stock", help="AAPL (default), FB, IBM, JPM or AAL; for the system liquidation")
    option("--price", type=positive, metavar="S0", help="the first price (default 100); for liquidation")
    option("--method", choices=tuple(METHODS), default="both", help="default both")
    option("--iterations", type=whole(1, 100_000), metavar="N", default=50, help="default %(default)s")
    option(
        "--step-size",
        type=positive_or_auto,
        metavar="STEP",
        help="of every method, or auto: from the curvature and the noise (default: auto, and for liquidation "
        "the paper's 0.1 exact and 0.05 zeroth-order)",
    )
    option(
        "--trajectories", type=whole(1, 1_000_000), metavar="M", help="rollouts for each stage (default 200)"
    )
    option(
        "--radius",
        type=positive,
        metavar="r",
        help="size of the perturbations (default: from the curvature, and for liquidation the paper's 0.6)",
    )
    option("--scenarios", type=whole(1, 10_000), metavar="S", help="independent repetitions (default 50)")
    option("--seed", type=whole(0, 2**63 - 1), metavar="s", default=0, help="default %(default)s")
    option("--out", metavar="DIR", help="write result.json, the figure and report.html to DIR")
    add_json(parser)


def run_finite_horizon(args: argparse.Namespace) -> None:
    """Run the study, print it and, with --out, keep it in a folder."""
    from mbpo.core.threads import use_all_cores

    use_all_cores()
    system = _system(args)
    settings = _settings(args)
    result = _study(system, settings) if args.out is None else _kept(system, settings, args.out)
    if args.json:
        print_json(result)
    else:
        _print_table(result, args.out)


def _system(args: argparse.Namespace) -> LinearQuadratic:
    """The system that `args` means; raises InputError for options that do not belong to it."""
    from mbpo.lqr import catalogue
    from mbpo.lqr.liquidation import PRICE, liquidation

    if args.system == "liquidation":
        return liquidation(args.stock or "AAPL", PRICE if args.price is None else args.price)
    for name in ("stock", "price"):
        if vars(args)[name] is not None:
            raise InputError(f"--{name} belongs to the system liquidation, got the system {args.system!r}")
    system = catalogue.resolve(args.system)
    if system.horizon is None:
        raise InputError(
            f"{system.name} has no horizon: one gain a stage needs a finite one, expected `horizon` in the system"
        )
    return system


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What is asked of the system, with the paper's numbers where the system is the paper's."""
    from mbpo.lqr.liquidation import PRICE, RADIUS, STEP_SIZES

    paper = args.system == "liquidation"
    methods = METHODS[args.method]
    for name in ("trajectories", "radius", "scenarios"):
        if vars(args)[name] is not None and "zeroth-order" not in methods:
            raise InputError(f"--{name} has no meaning with --method exact, which draws no rollouts")
    given = None if args.step_size == "auto" else args.step_size
    own = paper and args.step_size is None
    radius = RADIUS if paper and args.radius is None else args.radius
    return {
        "stock": (args.stock or "AAPL") if paper else None,
        "price": (PRICE if args.price is None else args.price) if paper else None,
        "methods": list(methods),
        "step_sizes": {method: STEP_SIZES[method] if own else given for method in methods},
        "iterations": args.iterations,
        "trajectories": args.trajectories or 200,
        "radius": radius,
        "scenarios": args.scenarios or 50,
        "seed": args.seed,
    }


def _study(system: LinearQuadratic, settings: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of the study, computed now."""
    from mbpo.lqr.liquidation import project
    from mbpo.runs.plain import plain

    projection = None if settings["stock"] is None else project
    with _status(f"gradient descent on {system.name}, {settings['iterations']} iterations"):
        studies = [_descend(each, system, settings, projection) for each in settings["methods"]]
    first = studies[0]
    return plain(
        {
            "system": system.name,
            "stock": settings["stock"],
            "price": settings["price"],
            "horizon": system.horizon,
            "iterations": settings["iterations"],
            "scenarios": settings["scenarios"],
            "seed": settings["seed"],
            "projected": projection is not None,
            "optimal_cost": first.optimum.cost,
            "first_cost": first.optimum.cost * (1 + float(first.normalised_error[0, 0])),
            "methods": [study.to_json() for study in studies],
        }
    )


def _descend(
    method: str, system: LinearQuadratic, settings: dict[str, Any], projection: Projection | None
) -> Study:
    from mbpo.lqr.finite_horizon import Sampling, descend, descend_on_rollouts
    from mbpo.lqr.liquidation import start_mean

    step, iterations = settings["step_sizes"][method], settings["iterations"]
    if method == "exact":
        return descend(system, iterations, step, projection=projection)
    mean = None if settings["stock"] is None else start_mean(settings["price"])
    sampling = Sampling(
        settings["trajectories"], settings["radius"], settings["scenarios"], settings["seed"], mean
    )
    return descend_on_rollouts(system, sampling, iterations, step, projection=projection)


def _kept(system: LinearQuadratic, settings: dict[str, Any], out: str) -> dict[str, Any]:
    """The result of the study in `out`, which is run and written unless it is there already."""
    import json

    from mbpo.report.finite_horizon import study_files
    from mbpo.runs.folder import provenance
    from mbpo.runs.study_folder import existing_study, write_study

    asked = {"system": system.to_toml(), "settings": settings}
    found = existing_study(out, asked)
    if found is not None:
        print(f"{out} already holds this study, complete", file=sys.stderr)
        return found
    result = _study(system, settings)
    about = {**provenance(["mbpo", *sys.argv[1:]]), "source": system.source}
    files = {
        name: json.dumps(each, indent=2, allow_nan=False) + "\n"
        for name, each in (("config.json", {**asked, **about}), ("result.json", result))
    }
    write_study(out, {**files, **study_files(result, about)})
    return result


@contextmanager
def _status(words: str) -> Iterator[None]:
    """A line on standard error while the work lasts, from two seconds on, where somebody can see it."""
    from rich.console import Console

    status = Console(stderr=True).status(words)
    timer = threading.Timer(QUIET_SECONDS, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def _print_table(result: dict[str, Any], out: str | None) -> None:
    from mbpo.report.finite_horizon import finding, method_row

    stock = "" if result["stock"] is None else f", {result['stock']} at {result['price']:g}"
    screen = console()
    for row in map(method_row, result["methods"]):
        facts = [
            ("step size", row["step"]),
            ("perturbed rollouts", row["sampling"]),
            ("rollouts in one scenario", row["rollouts"]),
            ("iterations to 1 % (median)", row["first"]),
            ("scenarios that were within 1 %", row["within"]),
            (f"within 1 % after {result['iterations']}", row["at_end"]),
            ("error at the end (median)", row["final"]),
            *([("10 % to 90 % of the scenarios", row["spread"])] if row["spread"] else []),
        ]
        print_facts(screen, f"{result['system']}{stock}: {row['label']}", facts)
    screen.print(finding(result), markup=False)
    if out is not None:
        screen.print(f"The page: {out}/report.html", markup=False, soft_wrap=True)
