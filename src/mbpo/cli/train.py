"""`mbpo train`: learn a gain from real transitions, many seeds at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.output import console, print_facts, print_json
from mbpo.cli.parser import Verbs, add_json, add_system, add_verb

if TYPE_CHECKING:
    from mbpo.lqr.system import LinearQuadratic
    from mbpo.lqr.train import Settings


def add_train(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "train", "Learn a gain from real transitions, many seeds at once.", run_train)
    add_system(parser)
    parser.add_argument(
        "--algorithm",
        default="mbpo",
        help="mbpo (default), mbpo-simple, dyna, policy-gradient, certainty-equivalence, or a gradient estimator on "
        "real data alone, such as dpg or mis",
    )
    parser.add_argument(
        "--transitions", type=int, required=True, help="real transitions a seed, warm-up included"
    )
    parser.add_argument("--seeds", type=int, default=16, help="independent repetitions (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="the seed they all derive from (default 0)")
    parser.add_argument("--real-ratio", type=float, help="expected share of real rows in a batch, 0 to 1")
    parser.add_argument("--rollout-length", type=int, help="steps of an imagined branch")
    parser.add_argument(
        "--improve",
        help="gradient estimator to step along, such as dpg (default of mbpo), value-baseline or mis",
    )
    parser.add_argument(
        "--learn-cost", action="store_true", help="the model learns Q and R too, from rewards"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="keep the run: settings, metrics, gains, figures, report.html"
    )
    add_json(parser)


def run_train(args: argparse.Namespace) -> None:
    """Train, print the result and, with --out, keep the run in a folder."""
    from mbpo.core.threads import use_all_cores
    from mbpo.lqr import catalogue

    use_all_cores()
    from mbpo.lqr.train import Settings

    settings = Settings(
        algorithm=args.algorithm,
        transitions=args.transitions,
        seeds=args.seeds,
        seed=args.seed,
        real_ratio=args.real_ratio,
        rollout_length=args.rollout_length,
        improve=args.improve,
        learn_cost=args.learn_cost,
    )
    system = catalogue.resolve(args.system)
    result = _train_or_resume(system, settings, args)
    if args.json:
        print_json(result)
    else:
        _print_table(result, args.out)


def _train_or_resume(system: LinearQuadratic, settings: Settings, args: argparse.Namespace) -> dict[str, Any]:
    """The result: of the complete run that `--out` already holds, else of training now."""
    if args.out is None:
        return _train(system, settings).to_json()
    from mbpo.report.page import write_report
    from mbpo.runs.folder import existing_run, read_run, write_run

    found = existing_run(args.out, settings, system)
    if found is not None:
        print(f"{args.out} already holds this run, complete", file=sys.stderr)
    else:
        write_run(args.out, _train(system, settings), ["mbpo", *sys.argv[1:]])
    record = read_run(args.out)
    if not (Path(args.out) / "report.html").exists():
        write_report(args.out, [record], f"{settings.algorithm} on {system.name}")
    return record.result


def _train(system: LinearQuadratic, settings: Settings) -> Any:
    from rich.console import Console

    from mbpo.lqr.train import train

    with Console(stderr=True).status(
        f"training {settings.algorithm} on {system.name}, {settings.seeds} seeds"
    ):
        return train(system, settings)


def _print_table(result: dict[str, Any], out: str | None) -> None:
    def number(value: float | None) -> str:
        return "infinite" if value is None else f"{value:.3g}"

    curve = result["curve"]
    reached = [
        (f"transitions to {level:.0%} excess", _first_below(curve, level) or "not reached")
        for level in (0.1, 0.01)
    ]
    facts = [
        ("real transitions", str(result["transitions"])),
        ("median excess cost J/J* - 1", number(result["median_excess_cost"])),
        ("10 % to 90 % of the seeds", f"{number(curve['p10'][-1])} to {number(curve['p90'][-1])}"),
        ("limit (certainty equivalence)", number(result["limit"])),
        *reached,
        ("unstable seeds at the end", f"{result['unstable']} of {result['seeds']}"),
        ("real rollouts cut off", str(result["cuts"])),
        ("report", f"{out}/report.html" if out else "add --out DIR to keep the run and draw it"),
    ]
    print_facts(console(), f"{result['algorithm']} on {result['system']}", facts)


def _first_below(curve: dict[str, Any], level: float) -> str | None:
    """The transitions from which the median stays at or below `level`."""
    below = [value is not None and value <= level for value in curve["median"]]
    if not below[-1]:
        return None
    start = len(below) - next((i for i, each in enumerate(reversed(below)) if not each), len(below))
    return str(curve["transitions"][start])
