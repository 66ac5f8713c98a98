"""What the study of sample efficiency says, from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mbpo.lqr.intervals import LEAST_SEEDS
from mbpo.studies.wording import TOO_FEW, between, per_cent

Row = Mapping[str, Any]
MANY = 3
TOLD = (
    "mbpo",
    "mbpo-simple",
    "certainty-equivalence",
    "policy-gradient",
    "plain-gpomdp",
    "dpg",
)  # of all learners, in a sentence
LEVELS = ("0.1", "1", "10")  # per cent, the finest first
LIKELIHOOD = {"policy-gradient": "policy gradient", "plain-gpomdp": "plain GPOMDP"}  # by algorithm


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
    told = ", ".join(f"{name} {_needed(learners[name])}" for name in TOLD if name in learners)
    return (
        f"{ours['system']}, {ours['seeds']} seeds: median real transitions to 1 % excess cost, with their 95 % "
        f"intervals: {told}."
    )


def _needed(row: Row) -> str:
    low, middle, high = row["to_low_1"], row["to_1"], row["to_high_1"]
    if middle is None:
        return f"more than {row['transitions']:,}"
    if row["seeds"] < LEAST_SEEDS:
        return f"{_bounded(row, '1')}{middle:,} ({TOO_FEW})"
    upper = f"{high:,}" if high is not None else f"more than {row['transitions']:,}"
    return f"{_bounded(row, '1')}{middle:,} ({low:,} to {upper})"


def _bounded(row: Row, level: str) -> str:
    """Whether a count is the first record, and so an upper bound."""
    return "at most " if row[f"to_{level}"] == row["first"] else ""


def _saved(by_name: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """The factors by which policy gradients on real data need more transitions."""
    theirs = [name for name in LIKELIHOOD if any(name in learners for learners in by_name.values())]
    return [sentence for name in theirs for sentence in _saved_over(by_name, name)]


def _saved_over(by_name: Mapping[str, Mapping[str, Row]], other: str) -> list[str]:
    """The factor by which another learner needs more transitions, at each system's finest common level."""
    name = LIKELIHOOD[other]
    factors, bounds, lost = [], [], {name: 0, "MBPO": 0}
    for learners in by_name.values():
        ours, theirs = learners["mbpo"], learners[other]
        for who, row in zip(lost, (theirs, ours), strict=True):
            lost[who] += row["to_10"] is None
        both = [level for level in LEVELS if ours[f"to_{level}"] and theirs[f"to_{level}"]]
        factors += [_factor(ours, theirs, level) for level in both[:1]]
        bounds += [ours["system"] for level in both[:1] if _bounded(ours, level)]
    seeds = next(iter(by_name.values()))["mbpo"]["seeds"]
    tail = "".join(f"; on {n} {who} did not reach 10 % with the data it had" for who, n in lost.items() if n)
    if not factors:
        return [f"On no system did {name} on real data and MBPO both reach 10 % ({seeds} seeds each){tail}."]
    middle = sorted(factors)[len(factors) // 2]
    ends = TOO_FEW if seeds < LEAST_SEEDS else f"90 %: {_two(middle[1])} to {middle[2]}"
    needs, many = f"{_two(middle[0])} ({ends})", ""
    if len(factors) > 1:
        needs = f"{_two(min(factors)[0])} to {_two(max(factors)[0])}"
        many = f"the middle one of {len(factors)} systems {_two(middle[0])}, {ends}; "
    sentence = (
        f"{name[:1].upper()}{name[1:]} on real data needs {needs} times the transitions of MBPO to the finest of "
        f"10 %, 1 % and 0.1 % that both reach ({many}{seeds} seeds each){tail}"
    )
    if bounds:
        sentence += f"; at least that on {', '.join(bounds)}, where MBPO was there at its first record"
    return [f"{sentence}."]


def _two(ratio: float) -> str:
    """Two digits, without a power of ten."""
    return f"{ratio:.2g}" if ratio < 10 else f"{float(f'{ratio:.2g}'):,.0f}"


def _factor(ours: Row, theirs: Row, level: str) -> tuple[float, float, str]:
    """The ratio of medians, and an interval that holds it when those of both medians hold theirs, in 90 % of cases; of
    few seeds it means nothing."""
    if ours["seeds"] < LEAST_SEEDS:
        return theirs[f"to_{level}"] / ours[f"to_{level}"], 0.0, "unbounded"
    ends = [row[f"to_{end}_{level}"] for row in (ours, theirs) for end in ("low", "high")]
    low = 0.0 if ends[1] is None else ends[2] / ends[1]
    high = "unbounded" if ends[3] is None else _two(ends[3] / ends[0])
    return theirs[f"to_{level}"] / ours[f"to_{level}"], low, high


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
        f"({between(worst['excess_low'], worst['excess_high'], worst['seeds'])}) against {per_cent(worst['limit'])}."
    )
    return [sentence]
