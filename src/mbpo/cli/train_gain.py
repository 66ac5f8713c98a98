"""Learning a gain: what `mbpo train` does on a linear-quadratic system."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbpo.cli.output import console, print_facts

if TYPE_CHECKING:
    from mbpo.lqr.system import LinearQuadratic
    from mbpo.lqr.train import Settings


def train_or_read(system: LinearQuadratic, settings: Settings, out: str | None) -> dict[str, Any]:
    """The result: of the complete run that `out` already holds, else of training now."""
    if out is None:
        return _train(system, settings).to_json()
    from mbpo.report.page import write_report
    from mbpo.runs.folder import existing_run, read_run, write_run

    found = existing_run(out, settings, system)
    if found is not None:
        print(f"{out} already holds this run, complete", file=sys.stderr)
    else:
        write_run(out, _train(system, settings), ["mbpo", *sys.argv[1:]])
    record = read_run(out)
    if not (Path(out) / "report.html").exists():
        write_report(out, [record], f"{settings.algorithm} on {system.name}")
    return record.result


def _train(system: LinearQuadratic, settings: Settings) -> Any:
    from rich.console import Console

    from mbpo.lqr.train import train

    with Console(stderr=True).status(
        f"training {settings.algorithm} on {system.name}, {settings.seeds} seeds"
    ):
        return train(system, settings)


def print_gain_result(result: dict[str, Any], out: str | None) -> None:
    """The facts of a training, for people."""

    def number(value: float | None) -> str:
        return "infinite" if value is None else f"{value:.3g}"

    curve = result["curve"]
    reached = [
        (f"transitions to {level} % excess", _needed_words(result, level))
        for level in ("10", "1")
        if "needed" in result  # not in runs of earlier versions, which the same command reads
    ]
    explored = result.get("exploration_cost")
    still = result.get("stood_still", 0)
    facts = [
        ("real transitions", str(result["transitions"])),
        ("median excess cost J/J* - 1", number(result["median_excess_cost"])),
        ("10 % to 90 % of the seeds", f"{number(curve['p10'][-1])} to {number(curve['p90'][-1])}"),
        ("limit (certainty equivalence)", number(result["limit"])),
        *reached,
        ("unstable seeds at the end", f"{result['unstable']} of {result['seeds']}"),
        *([] if explored is None else [("exploring costs", f"{explored:.3g} J* a step")]),
        ("real rollouts cut off", str(result["cuts"])),
        ("report", f"{out}/report.html" if out else "add --out DIR to keep the run and draw it"),
    ]
    print_facts(console(), f"{result['algorithm']} on {result['system']}", facts)
    if still:
        console().print(
            f"In {still} of {result['seeds']} seeds the gain never moved: every update was rejected, since no step was "
            "safe under the models that the data allow, or the data allowed no estimate. More real transitions help.",
            soft_wrap=True,
        )


def _needed_words(result: dict[str, Any], level: str) -> str:
    from mbpo.lqr.needed import Needed

    found, used = result["needed"][level], result["curve"]["transitions"]
    if found["median"] is None:
        return "not reached"
    return str(Needed(found["median"], found["low"], found["high"], None, used[0], used[-1], result["seeds"]))
