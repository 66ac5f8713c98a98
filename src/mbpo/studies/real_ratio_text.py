"""What the study of the real ratio says, from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mbpo.studies.wording import between, per_cent

Row = Mapping[str, Any]


def findings(system: str, rows: Sequence[Row], length: int, updates: int) -> list[str]:
    """Three sentences about one system, at one rollout length and number of updates and at all of the data."""
    most = max(row["transitions"] for row in rows)
    usual = [
        row
        for row in rows
        if (row["rollout_length"], row["transitions"]) == (length, most) and row["updates"] in (updates, None)
    ]
    told = [_best(system, usual), _planted(usual), _gradient(usual)]
    return [sentence for sentence in told if sentence]


def _of(rows: Sequence[Row], part: str, **wanted: Any) -> list[Row]:
    return [
        row
        for row in rows
        if row["part"] == part and all(row[name] == value for name, value in wanted.items())
    ]


def _best(system: str, rows: Sequence[Row]) -> str:
    best = _of(rows, "best", planted_error=0.0)[0]
    real = _of(rows, "training", planted_error=0.0, ratio="1")[0]
    imagined = _of(rows, "training", planted_error=0.0, ratio="0")[0]
    about = f"{system}, {best['transitions']:,} real transitions, {best['seeds']} seeds"
    if best["excess"] is None:
        return f"{about}: the median excess cost is infinite at every ratio, as most gains do not stabilise."
    return (
        f"{about}: the least median excess cost is {_excess(best)}, at a ratio of {best['ratio']} (the best "
        f"ratio lies between {best['best_low']:g} and {best['best_high']:g} in 95 % of bootstrap samples); "
        f"imagined data alone reach {_excess(imagined)}, real data alone {_excess(real)}."
    )


def _excess(row: Row) -> str:
    if row["excess"] is None:
        return "no finite excess (most gains do not stabilise)"
    return f"{per_cent(row['excess'])} ({between(row['excess_low'], row['excess_high'], row['seeds'])})"


def _planted(rows: Sequence[Row]) -> str:
    found = sorted(_of(rows, "best"), key=lambda row: row["planted_error"])
    moved = [f"{per_cent(row['planted_error'])}: {_range(row)}" for row in found if row["planted_error"] > 0]
    if not moved:
        return ""
    return (
        "With a model whose [A B] stays wrong however much data it sees, the best ratio (and what is best in 95 % of "
        f"bootstrap samples over {found[0]['seeds']} seeds) is, by the size of the error: {'; '.join(moved)}."
    )


def _range(row: Row) -> str:
    if row["excess"] is None:
        return "none, as every median is infinite"
    return f"{row['ratio']} ({row['best_low']:g} to {row['best_high']:g})"


def _gradient(rows: Sequence[Row]) -> str:
    told = []
    for ratio, words in (("0", "imagined data alone"), ("1", "real data alone")):
        row = _of(rows, "gradient", planted_error=0.0, ratio=ratio)[0]
        told.append(
            f"with {words} by {per_cent(row['error'])} (bias {per_cent(row['bias'])}, "
            f"{between(row['bias_low'], row['bias_high'], row['seeds'])}; {per_cent(row['persistent'])} shared by all "
            f"batches of one set of data; {per_cent(row['noise'])} noise of a batch)"
        )
    seeds = _of(rows, "gradient")[0]["seeds"]
    return f"At one gain, over {seeds} sets of data, the gradient of a batch errs {' and '.join(told)}."
