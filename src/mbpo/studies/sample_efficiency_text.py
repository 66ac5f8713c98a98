"""What the study of sample efficiency says, from its rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mbpo.studies.wording import between, per_cent

Row = Mapping[str, Any]
MANY = 3


def findings(rows: Sequence[Row]) -> list[str]:
    """How MBPO compares with model-free learning and with the limit."""
    ends = [row for row in rows if row["part"] == "learner"]
    systems = list(dict.fromkeys(row["system"] for row in ends))
    by_name = {
        system: {row["algorithm"]: row for row in ends if row["system"] == system} for system in systems
    }
    sentences = [] if len(systems) >= MANY else [_one(by_name[system]) for system in systems]
    return [*sentences, *_saved(by_name), *_limit(by_name)]


def _one(learners: Mapping[str, Row]) -> str:
    ours = learners["mbpo"]
    told = ", ".join(f"{name} {_needed(row)}" for name, row in learners.items())
    return (
        f"{ours['system']}, {ours['seeds']} seeds: median real transitions to 1 % excess cost, with their 95 % "
        f"intervals: {told}."
    )


def _needed(row: Row) -> str:
    low, middle, high = row["to_low_1"], row["to_1"], row["to_high_1"]
    if middle is None:
        return f"more than {row['transitions']:,}"
    upper = f"{high:,}" if high is not None else f"more than {row['transitions']:,}"
    return f"{middle:,} ({low:,} to {upper})"


def _saved(by_name: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """The factor by which policy gradient on real data needs more transitions, at each system's finest common level."""
    factors = []
    for learners in by_name.values():
        for level in ("0.1", "1", "10"):
            ours, theirs = (learners[name][f"to_{level}"] for name in ("mbpo", "policy-gradient"))
            if ours and theirs:
                factors.append(theirs / ours)
                break
    seeds = next(iter(by_name.values()))["mbpo"]["seeds"]
    beyond = len(by_name) - len(factors)
    tail = f"; on {beyond} it did not reach 10 % with the data it had" if beyond else ""
    if not factors:
        return [
            f"Policy gradient on real data reached 10 % on no system with the data it had ({seeds} seeds each)."
        ]
    middle = statistics.median(factors)
    sentence = (
        f"Policy gradient on real data needs {min(factors):.2g} to {max(factors):.2g} times the transitions of MBPO "
        f"(median {middle:.2g} over {len(factors)} systems, {seeds} seeds each){tail}."
    )
    return [sentence]


def _limit(by_name: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """How far above the limit MBPO ends."""
    rows = [learners["mbpo"] for learners in by_name.values() if learners["mbpo"]["over_limit"] is not None]
    if not rows:
        return []
    within = sum(row["over_limit"] <= 1.5 for row in rows)
    worst = max(rows, key=lambda row: row["over_limit"])
    sentence = (
        f"After {rows[0]['transitions']:,} transitions the median excess cost of MBPO is at most 1.5 times the limit "
        f"on {within} of {len(rows)} systems ({rows[0]['seeds']} seeds each); the farthest is {worst['system']} with "
        f"{worst['over_limit']:.2f} times: {per_cent(worst['excess'])} "
        f"({between(worst['excess_low'], worst['excess_high'])}) against {per_cent(worst['limit'])}."
    )
    return [sentence]
