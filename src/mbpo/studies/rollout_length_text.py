"""What the study of the rollout length says, from its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mbpo.core.quantiles import median
from mbpo.studies.wording import between, per_cent

Row = Mapping[str, Any]
MANY = 3  # systems from which on one sentence speaks of all of them


def findings(rows: Sequence[Row]) -> list[str]:
    """Sentences about the best length on each system itself, on the scaled ones, and about the theorem's choice."""
    most = max(row["transitions"] for row in rows)
    best = [row for row in rows if row["part"] == "best"]
    own = [row for row in best if row["own_radius"] and row["transitions"] == most]
    systems = {row["system"] for row in own}
    told = _everywhere(own, rows) if len(systems) >= MANY else [_own(row, rows) for row in own]
    return [*told, *_theorem(best)]


def _everywhere(best: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """On how many systems length 1 is worse than the best length, with equally many rows and equally many branches."""
    told = []
    for planted, equal in dict.fromkeys((row["planted_error"], row["equal"]) for row in best):
        every = [row for row in best if (row["planted_error"], row["equal"]) == (planted, equal)]
        alike = [row for row in every if row["excess"]]
        if not alike:
            continue
        worse = sum(row["best_low"] > 1 for row in alike)
        at_one = [(_at_one(row, rows)["excess"], row["excess"]) for row in alike]
        times = float(median([math.inf if one is None else one / least for one, least in at_one]))
        ratio = (
            f"{times:.2g} times (median) that at the best length"
            if math.isfinite(times)
            else "infinite on most"
        )
        left = [row["system"] for row in every if not row["excess"]]
        lost = f"; on {', '.join(left)} it is infinite at every length" if left else ""
        told.append(
            f"{_model(planted)}, equally many {equal}, {alike[0]['transitions']:,} real transitions, "
            f"{alike[0]['seeds']} seeds on each of {len(alike)} systems: the best length lies above 1 in 95 % of "
            f"bootstrap samples on {worse}; at length 1 the median excess cost is {ratio}{lost}."
        )
    return told


def _model(planted: float) -> str:
    return f"With a model that stays {per_cent(planted)} wrong" if planted else "With the fitted model"


def _at_one(best: Row, rows: Sequence[Row]) -> Row:
    """The row of length 1 beside a row of the best."""
    names = ("system", "radius", "planted_error", "transitions", "equal")
    return next(
        row
        for row in rows
        if row["part"] == "length"
        and row["rollout_length"] == 1
        and all(row[name] == best[name] for name in names)
    )


def _own(best: Row, rows: Sequence[Row]) -> str:
    one, planted = _at_one(best, rows), best["planted_error"]
    model = f"a model that stays {per_cent(planted)} wrong" if planted else "a fitted model"
    about = f"{best['system']}, {best['transitions']:,} real transitions, {best['seeds']} seeds, {model}, equally many "
    about += best["equal"]
    if best["excess"] is None:
        return f"{about}: the median excess cost is infinite at every length, as most gains do not stabilise."
    return (
        f"{about}: the best length is {best['rollout_length']} ({best['best_low']} to {best['best_high']} in 95 % of "
        f"bootstrap samples) with a median excess cost of {_excess(best)}, against {_excess(one)} at length 1."
    )


def _excess(row: Row) -> str:
    if row["excess"] is None:
        return "no finite value"
    return f"{per_cent(row['excess'])} ({between(row['excess_low'], row['excess_high'], row['seeds'])})"


def _theorem(best: Sequence[Row]) -> list[str]:
    judged = [row for row in best if row["theorem_low"] is not None and row["excess"] is not None]
    if not judged:  # nothing to judge, or too few seeds for an interval
        return []
    short = sum(row["theorem_high"] < row["best_low"] for row in judged)
    long = sum(row["theorem_low"] > row["best_high"] for row in judged)
    sentence = (
        f"Over {len(judged)} settings of system, spectral radius, planted error, data and what is equal, with "
        f"{judged[0]['seeds']} seeds each, the 95 % interval of the length that theorem 4.3 recommends meets the "
        f"lengths that are best in 95 % of bootstrap samples in {len(judged) - short - long}, lies below them in "
        f"{short} and above them in {long}."
    )
    return [sentence]
