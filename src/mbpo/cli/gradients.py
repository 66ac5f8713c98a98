"""`mbpo gradients`: every gradient estimator held against the exact gradient."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mbpo.cli.evaluate_gain import parse_gain
from mbpo.cli.option_types import whole
from mbpo.cli.output import console, print_facts, print_json, progress_bar
from mbpo.cli.parser import Verbs, add_json, add_system, add_verb
from mbpo.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from mbpo.lqr.system import LinearQuadratic
    from mbpo.studies.gradients import Bench, BenchSetting

LARGEST_SEED = 2**63 - 1


def add_gradients(verbs: Verbs) -> None:
    """Declare the verb."""
    summary = "Every policy-gradient estimator against the exact gradient: bias, variance and cost."
    parser = add_verb(verbs, "gradients", summary, run_gradients)
    add_system(parser)
    parser.add_argument(
        "--gain",
        metavar="MATRIX",
        help="the gain K whose gradient is estimated (default: where learning starts)",
    )
    parser.add_argument(
        "--behaviour-gain", metavar="MATRIX",
        help="the gain that gathered the off-policy data (default: where E w^2 of a trajectory's ratio is 1.5)",
    )  # fmt: skip
    parser.add_argument(
        "--exploration", metavar="S",
        help="standard deviation of every input, or a covariance as JSON rows (default: as disturbing as the noise)",
    )  # fmt: skip
    parser.add_argument(
        "--horizon", metavar="T", type=whole(1, 1000),
        help="steps of a trajectory (default 20); it takes the place of a finite horizon, another objective stays",
    )  # fmt: skip
    parser.add_argument(
        "--episodes", metavar="N", type=whole(40, 20_000_000), default=20_000,
        help="trajectories for each estimator, a multiple of 20 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed",
        metavar="s",
        type=whole(0, LARGEST_SEED),
        default=0,
        help="random seed (default: %(default)s)",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="keep the result, with figures of how each estimator degrades, as a page"
    )
    add_json(parser)


def run_gradients(args: argparse.Namespace) -> None:
    """Measure, print, and with --out keep the result and draw it."""
    from mbpo.core.threads import size_thread_pools
    from mbpo.lqr import catalogue

    size_thread_pools()
    from mbpo.studies.gradients import bench_setting, check_episodes

    system = catalogue.resolve(args.system)
    if args.episodes % 20:
        raise InputError(f"episodes must be a multiple of 20, got {args.episodes}")
    gain = None if args.gain is None else parse_gain(args.gain, system, "gain")
    behaviour = (
        None if args.behaviour_gain is None else parse_gain(args.behaviour_gain, system, "behaviour-gain")
    )
    exploration = None if args.exploration is None else parse_exploration(args.exploration, system)
    setting = bench_setting(system, gain, behaviour, exploration, args.horizon)
    check_episodes(setting, args.episodes)
    result = _kept(args, system, setting) if args.out else _bench(setting, args).to_json()
    if args.json:
        print_json(result)
    else:
        print_bench(result, args.out)


def parse_exploration(text: str, system: LinearQuadratic) -> np.ndarray:
    """S [m, m] from a standard deviation or JSON rows; raises InputError."""
    import numpy as np

    from mbpo.lqr.validation import matrix, positive_definite, symmetric

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"exploration must be a positive number or JSON rows like '[[0.1, 0], [0, 0.1]]', got {text!r} "
            f"({error.msg})"
        ) from None
    m = system.action_dim
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < float("inf") or not 0 < value * value < float("inf"):
            raise InputError(f"exploration must be a positive finite number, got {text}")
        return float(value) ** 2 * np.eye(m)
    return positive_definite("exploration", symmetric("exploration", matrix("exploration", value, m, m)))


def _bench(setting: BenchSetting, args: argparse.Namespace) -> Bench:
    from mbpo.lqr.gradients import ESTIMATORS
    from mbpo.studies.gradients import bench

    with progress_bar("estimators", len(ESTIMATORS)) as step:
        return bench(setting, args.episodes, args.seed, progress=step)


def _kept(args: argparse.Namespace, system: LinearQuadratic, setting: BenchSetting) -> dict[str, Any]:
    """The result of the study that --out holds already, else measured now, drawn and kept."""
    from mbpo.report.gradients import gradients_files
    from mbpo.runs.folder import provenance
    from mbpo.runs.plain import plain
    from mbpo.runs.study_folder import existing_study, write_study
    from mbpo.studies.gradients import degradation, points, ratio_path

    settings = {
        "gain": setting.gain, "behaviour_gain": setting.behaviour_gain, "exploration": setting.exploration,
        "steps": setting.steps, "episodes": args.episodes, "seed": args.seed,
    }  # fmt: skip
    asked = plain({"system": system.to_toml(), "settings": settings})
    found = existing_study(args.out, asked)
    if found is not None:
        print(f"{args.out} already holds this study, complete", file=sys.stderr)
        return found
    result = _bench(setting, args).to_json()
    with progress_bar("points of the sweeps", points()) as step:
        sweeps = degradation(setting, args.seed, step)
    ratios = ratio_path(setting)
    result["degradation"] = {sweep.axis: sweep.to_json() for sweep in sweeps}
    result["ratio_path"] = None if ratios is None else vars(ratios)
    result = plain(result)
    about = {**provenance(["mbpo", *sys.argv[1:]]), "source": system.source}
    files = {
        name: json.dumps(each, indent=2, allow_nan=False) + "\n"
        for name, each in (("config.json", {**asked, **about}), ("result.json", result))
    }
    write_study(args.out, {**files, **gradients_files(result, about)})
    return result


def print_bench(result: dict[str, Any], out: str | None) -> None:
    """One line an estimator, below the setting."""
    from rich import box
    from rich.table import Table

    objective = {"average": "average cost per step", "discount": f"discount {result['discount']}"}
    moment = result["weight_second_moment"]
    facts = [
        ("objective", objective.get(result["objective"], f"total cost over {result['horizon']} steps")),
        ("trajectories", f"{result['episodes']:,} of {result['steps']} steps for each estimator"),
        ("E w^2 of a trajectory's ratio", _number(moment) if moment is not None else "infinite"),
        ("|z| to stay below", f"{result['z_threshold']:.3g} (all together, with probability 0.999)"),
    ]
    terminal = console()
    print_facts(terminal, f"{result['system']}: gradient estimators against the exact gradient", facts)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("estimator", no_wrap=True)
    for heading in ("unbiased", "max |z|", "bias", "std", "ESS", "to 10 %"):
        table.add_column(heading, justify="right")
    for row in result["estimators"]:
        shown = {True: "yes", False: "no", None: "untestable"}[row["unbiased"]]
        z = row["max_z"] if row["max_z_closed_form"] is None else row["max_z_closed_form"]
        own = " *" if row["max_z_closed_form"] is not None else ""
        table.add_row(
            row["name"], shown, f"{_number(z)}{own}", _number(row["relative_bias"]),
            _number(row["relative_std"]), _number(row["effective_sample_fraction"]),
            _count(row["transitions_to_10_percent"]),
        )  # fmt: skip
    terminal.print(table)
    terminal.print(
        "bias, std: relative to the gradient, std of one trajectory; to 10 %: real transitions until the noise is a "
        "tenth of it;\n*: |z| of a biased estimator against its own closed form",
        style="dim",
    )
    if out:
        terminal.print(f"The page: {out}/report.html", markup=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value < 1e6 else f"{value:.2g}"
