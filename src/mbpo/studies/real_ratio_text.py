"""What the study of the real ratio says, from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mbpo.core.quantiles import median
from mbpo.studies.wording import between, per_cent

Row = Mapping[str, Any]
Variant = tuple[float, int]  # exploration inside the model relative to the world's, and imagined rows
MANY = 3  # systems from which on one sentence speaks of all of them
PARTS = ("bias", "persistent", "noise")


def findings(rows: Sequence[Row], length: int, updates: int) -> list[str]:
    """Sentences at one rollout length and number of updates and at all of the data: about each system, or about how
    many of them show what."""
    most = max(row["transitions"] for row in rows)
    usual = [
        row
        for row in rows
        if (row["rollout_length"], row["transitions"]) == (length, most) and row["updates"] in (updates, None)
    ]
    by_system = {name: _of(usual, system=name) for name in dict.fromkeys(row["system"] for row in usual)}
    if len(by_system) >= MANY:
        return [*_everywhere(by_system), *_planted_everywhere(by_system)]
    told = []
    for system, own in by_system.items():
        told += [_best(system, own), _wider(own), _planted(own), _gradient(own)]
    return [sentence for sentence in told if sentence]


def _of(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def _one(rows: Sequence[Row], part: str, variant: Variant, ratio: str | None = None) -> Row:
    """The row of a variant without a planted error, of one ratio where several were tried."""
    found = _of(rows, part=part, planted_error=0.0, exploration=variant[0], imagined=variant[1])
    return found[0] if ratio is None else _of(found, ratio=ratio)[0]


def _plain(rows: Sequence[Row]) -> Variant:
    """Equal exploration in model and world, and the most imagined rows."""
    return 1.0, max(row["imagined"] for row in rows)


def _others(rows: Sequence[Row]) -> dict[Variant, str]:
    """What else was tried, in words."""
    plain = _plain(rows)
    found = {}
    for width, imagined in sorted({(row["exploration"], row["imagined"]) for row in rows} - {plain}):
        words = [f"exploring {width:g} times as widely inside the model"] if width != plain[0] else []
        words += [f"imagining {imagined:,} rows instead of {plain[1]:,}"] if imagined != plain[1] else []
        found[width, imagined] = " and ".join(words)
    return found


def _best(system: str, rows: Sequence[Row]) -> str:
    plain = _plain(rows)
    best = _one(rows, "best", plain)
    real, imagined = (_one(rows, "training", plain, ratio) for ratio in ("1", "0"))
    about = f"{system}, {best['transitions']:,} real transitions, {best['seeds']} seeds, equal exploration"
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


def _wider(rows: Sequence[Row]) -> str:
    told = []
    for variant, words in _others(rows).items():
        best = _one(rows, "best", variant)
        if best["excess"] is not None:
            told.append(
                f"{words[:1].upper()}{words[1:]}, the least median is {_excess(best)}, at a ratio of {best['ratio']} "
                f"({best['best_low']:g} to {best['best_high']:g})."
            )
    return " ".join(told)


def _planted(rows: Sequence[Row]) -> str:
    found = sorted(_of(rows, part="best", exploration=1.0), key=lambda row: row["planted_error"])
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
        row = _one(rows, "gradient", _plain(rows), ratio)
        told.append(
            f"with {words} by {per_cent(row['error'])} (bias {per_cent(row['bias'])}, "
            f"{between(row['bias_low'], row['bias_high'], row['seeds'])}; {per_cent(row['persistent'])} shared by all "
            f"batches of one set of data; {per_cent(row['noise'])} noise of a batch)"
        )
    seeds = _of(rows, part="gradient")[0]["seeds"]
    return f"At one gain, over {seeds} sets of data, the gradient of a batch errs {' and '.join(told)}."


def _everywhere(by_system: Mapping[str, Sequence[Row]]) -> list[str]:
    """On how many systems what holds that a reader would ask, and on which it does not."""
    first = next(iter(by_system.values()))
    plain = _plain(first)
    finite = {
        name: rows for name, rows in by_system.items() if _one(rows, "best", plain)["excess"] is not None
    }
    about = f"{len(by_system)} systems, {first[0]['transitions']:,} real transitions, {first[0]['seeds']} seeds each"
    if not finite:
        return [f"{about}: the median excess cost is infinite at every ratio."]
    left = [name for name in by_system if name not in finite]
    about += f" (on {', '.join(left)} every median is infinite)" if left else ""
    best = {name: _one(rows, "best", plain) for name, rows in finite.items()}
    ends = {
        name: tuple(_one(rows, "training", plain, ratio) for ratio in ("0", "1"))
        for name, rows in finite.items()
    }
    inside = [name for name, row in best.items() if 0.0 < float(row["ratio"]) < 1.0]
    surely = [name for name, row in best.items() if row["best_low"] > 0.0 and row["best_high"] < 1.0]
    real = [name for name, (zero, one) in ends.items() if _below(one, zero)]
    imagined = [name for name, (zero, one) in ends.items() if _below(zero, one)]
    sentence = (
        f"{about}, equal exploration: a mixture has the least median excess cost on {_count(inside, finite)}, and in "
        f"95 % of bootstrap samples on {_count(surely, finite)}. Between the two ends, real data alone end below "
        f"imagined data alone on {_count(real, finite)} and above on {_count(imagined, finite)}, counting those "
        "whose 95 % intervals do not meet."
    )
    return [sentence, *_wider_everywhere(finite), *_gradient_everywhere(finite)]


def _below(one: Row, other: Row) -> bool:
    """Whether the interval of one median lies below that of the other, which may be unbounded."""
    high, low = one["excess_high"], other["excess_low"]
    if other["excess"] is None:
        return one["excess"] is not None and high is not None
    return high is not None and low is not None and high < low


def _count(some: Sequence[str], every: Mapping[str, Any]) -> str:
    """How many of all, and which where these are the fewer."""
    if len(some) in (0, len(every)):
        return f"{len(some)} of {len(every)}"
    left = [name for name in every if name not in some]
    shown = f"({', '.join(some)})" if len(some) <= len(left) else f"(not on {', '.join(left)})"
    return f"{len(some)} of {len(every)} {shown}"


def _wider_everywhere(by_system: Mapping[str, Sequence[Row]]) -> list[str]:
    told = []
    first = next(iter(by_system.values()))
    for variant, words in _others(first).items():
        factors, lower, higher, zero = {}, [], [], []
        for name, rows in by_system.items():
            plain, other = _one(rows, "best", _plain(rows)), _one(rows, "best", variant)
            if other["excess"] is None or not other["excess"] > 0:
                continue
            factors[name] = plain["excess"] / other["excess"]
            if _below(other, plain):
                lower.append(name)
            if _below(plain, other):
                higher.append(name)
            if float(other["ratio"]) <= 0.25:
                zero.append(name)
        if factors:
            values = sorted(factors.values())
            told.append(
                f"{words[:1].upper()}{words[1:]} divides the least median excess cost by {values[0]:.2g} to "
                f"{values[-1]:.2g} (median {float(median(values)):.2g}): beyond both intervals it is lower on "
                f"{_count(lower, factors)} and higher on {_count(higher, factors)}; the best ratio is then 0.25 or "
                f"less on {_count(zero, factors)}."
            )
    return told


def _gradient_everywhere(by_system: Mapping[str, Sequence[Row]]) -> list[str]:
    """The three parts of the gradient's error at the two ends of the ratio, at equal exploration."""
    told = []
    for part in PARTS:
        pairs = {
            name: tuple(_one(rows, "gradient", _plain(rows), ratio)[part] for ratio in ("0", "1"))
            for name, rows in by_system.items()
        }
        more = [name for name, (zero, one) in pairs.items() if zero > one]
        zero, one = (float(median([pair[i] for pair in pairs.values()])) for i in (0, 1))
        told.append(
            f"{part} {per_cent(zero)} against {per_cent(one)}, larger with imagined data on {_count(more, pairs)}"
        )
    return [
        (
            "Why: at one gain and equal exploration, the parts of a batch's gradient error with imagined data alone "
            f"against real data alone, medians over systems: {'; '.join(told)}."
        )
    ]


def _planted_everywhere(by_system: Mapping[str, Sequence[Row]]) -> list[str]:
    told = []
    every = [row for rows in by_system.values() for row in _of(rows, part="best", exploration=1.0)]
    for size in sorted({row["planted_error"] for row in every} - {0.0}):
        rows = [row for row in _of(every, planted_error=size) if row["excess"] is not None]
        real = [row["system"] for row in rows if float(row["ratio"]) >= 0.75]
        if rows:
            told.append(f"{per_cent(size)}: on {_count(real, {row['system']: row for row in rows})}")
    if not told:
        return []
    return [
        (
            "With a model whose [A B] stays wrong however much data it sees, the best ratio is 0.75 or 1, by the size "
            f"of the error: {'; '.join(told)}."
        )
    ]
