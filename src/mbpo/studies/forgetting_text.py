"""What the study of forgetting says: the meaning of its columns, its findings and what to keep in mind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mbpo.studies.wording import between, per_cent

Row = Mapping[str, Any]
PARTS = ("memory", "an unbiased model", "data")  # what may separate a learner on histories from LQG
NOTHING = 1e-9  # excess below which a gain is LQG itself, to rounding

COLUMNS = {
    "part": "order: error against the order s; noise: the grid of noises; regret: online learners over time; control: "
    "MBPO on a history of s outputs",
    "system": "name",
    "process": "standard deviation of the process noise in the paper's units, in which the system's own is 0.5",
    "observation": "standard deviation of the observation noise in the same units",
    "order": "outputs s that a forecast or a policy sees",
    "learner": "who learned; empty for least squares in the parts order and noise",
    "time": "real transitions seen",
    "runs": "independent runs; empty for exact numbers",
    "rate": "spectral radius of the Kalman filter's A - LC over what is seen: its weights on the past fall like rate^k",
    "kalman": "exact mean squared error of the Kalman filter over the second half of the transitions",
    "error": "exact mean squared error of the best AR(s), same times",
    "exact_gap": "error of the best AR(s) less that of the Kalman filter, exact",
    "factor": "what one more output multiplies the exact gap by, geometric mean over the last five",
    "gap": "the same gap in the runs: mean squared difference of the two forecasts",
    "gap_low": "lower end of its 95 % interval",
    "gap_high": "upper end of its 95 % interval",
    "pace": "the same factor of the gap in the runs",
    "pace_low": "lower end of its 95 % interval",
    "pace_high": "upper end of its 95 % interval",
    "kalman_realised": "mean squared error of the Kalman filter in the runs",
    "learned": "mean squared error of AR(s) learned online by least squares",
    "learned_gap": "mean squared difference of its forecasts to those of the Kalman filter",
    "learned_gap_low": "lower end of its 95 % interval",
    "learned_gap_high": "upper end of its 95 % interval",
    "persistence": "exact mean squared error of forecasting the last output",
    "ratio": "error of the best AR(2) over that of the Kalman filter, exact",
    "learned_ratio": "error of the learned AR(2) over that of the Kalman filter, in the runs",
    "regret": "summed squared error less that of the Kalman filter, mean over runs",
    "regret_low": "lower end of its 95 % interval",
    "regret_high": "upper end of its 95 % interval",
    "bound": "2 (D^2 + B0^2) sqrt(t), the published bound for steps t^-1/2, without its constant C_S and its term "
    "eps t; B0 is the largest output of a run, D the radius",
    "guarantee": "Zinkevich's bound against the best coefficients in the ball, with the gradients that were met",
    "excess": "J/J* - 1 over LQG, median over runs; empty where infinite",
    "excess_low": "lower end of its 95 % interval",
    "excess_high": "upper end of its 95 % interval; empty where infinite",
    "unstable": "share of runs whose gain does not stabilise",
}

CAVEATS = (
    (
        "Numbers of the parts order and noise are means over the second half of the transitions, from x_0 ~ N(0, X0). "
        "The gap in the runs is the mean squared difference of two forecasts: the filter's errors do not depend on "
        "the past, so it has the same mean as the difference of the squared errors, and far less spread."
    ),
    (
        "These are not the numbers of the published figures. The authors' code (jmarecek/OnlineLDS) draws the "
        "observation noise with the process noise's standard deviation, and compares each forecast with the newest "
        "output it was made from; its AR(s) is the truncated Kalman filter, not the best regression. Gradient descent "
        "has the radius D = 1 and the steps t^-1/2 / c, c = 1 or 2500, of its curves, which are about another series."
    ),
    (
        "Other systems than the paper's get its noises relative to their own: both standard deviations of a system "
        "count as 0.5. Outputs are forecast without inputs."
    ),
    (
        "A history is not a Markov state: for small s the noise of the ARX model is neither white nor independent of "
        "the history, and its covariance is singular. The bias that this leaves does not vanish with data. The "
        "best gain is the best that was found; the problem is not convex."
    ),
)


def findings(rows: Sequence[Row]) -> list[str]:
    """Sentences about each system's gap, about its learners, and about MBPO on histories."""
    found = []
    for system in dict.fromkeys(row["system"] for row in rows if row["part"] == "order"):
        own = [row for row in rows if row["system"] == system]
        orders = [row for row in own if row["part"] == "order"]
        found += [_falls(orders), _learned(orders, [row for row in own if row["part"] == "regret"])]
    for system in dict.fromkeys(row["system"] for row in rows if row["learner"] == "MBPO"):
        found.append(_control([row for row in rows if row["system"] == system and row["part"] == "control"]))
    return found


def _ends(row: Row, name: str) -> str:
    return (
        f"{row[name]:.3g} ({between(row[name + '_low'], row[name + '_high'], row['runs'], '{:.3g}'.format)})"
    )


def _falls(rows: Sequence[Row]) -> str:
    """How the gap falls with the system's own noise, with the paper's, and without process noise."""
    own = [row for row in rows if row["process"] == row["observation"] == 0.5]
    without = [row for row in rows if row["process"] == 0.0]
    pairs = {(row["process"], row["observation"]): row for row in rows if row["process"] not in (0.0, 0.5)}
    first, last = own[0], own[-1]
    words = (
        f"{first['system']}, {first['runs']} runs: the gap between the best AR(s) and the Kalman filter falls from "
        f"{_ends(first, 'gap')} at s = 1 to {_ends(last, 'gap')} at s = {last['order']}"
    )
    if last["pace"] is not None:
        words += (
            f"; at the end one more output multiplies it by {_ends(last, 'pace')}, exactly by {last['factor']:.3g}, "
            f"and the filter's forgetting rate predicts {last['rate'] ** 2:.3g}"
        )
    told = [(row["factor"], row["rate"] ** 2) for row in pairs.values() if row["factor"] is not None]
    if told:
        words += f" ({_pairs(told)})"
    if without[-1]["pace"] is not None:
        words += f"; without process noise the factor is {_ends(without[-1], 'pace')}"
    return words + "."


def _pairs(told: Sequence[tuple[float, float]]) -> str:
    ends = [f"{factor:.3g} against {predicted:.3g}" for factor, predicted in told]
    return f"with the paper's noises {', '.join(ends)}"


def _learned(rows: Sequence[Row], regrets: Sequence[Row]) -> str:
    """What learning online costs: least squares at its best order, and gradient descent at the last moment."""
    own = [row for row in rows if row["process"] == row["observation"] == 0.5]
    best = min(own, key=lambda row: row["learned_gap"])
    last = {row["learner"]: row for row in sorted(regrets, key=lambda row: row["time"])}
    summed = ", ".join(f"{_ends(row, 'regret')} by {name}" for name, row in last.items())
    time = max(row["time"] for row in regrets)
    why = ", since more coefficients cost more to estimate" if best is not own[-1] else ""
    return (
        f"{best['system']}, {best['runs']} runs: learned online by least squares, AR(s) comes closest at s = "
        f"{best['order']}, with a gap of {_ends(best, 'learned_gap')}{why}; over {time:,} transitions "
        f"AR({regrets[0]['order']}) loses to the filter, in summed squared error, {summed}."
    )


def _control(rows: Sequence[Row]) -> str:
    """MBPO on histories, beside certainty equivalence with unlimited data."""
    learned = sorted((row for row in rows if row["learner"] == "MBPO"), key=lambda row: row["order"])
    limit = {row["order"]: row["excess"] for row in rows if row["learner"].startswith("certainty")}
    told = [
        f"s = {row['order']}: {_excess(row['excess'])} "
        f"({between(row['excess_low'], row['excess_high'], row['runs'])}; unlimited data "
        f"{_excess(limit[row['order']])})"
        for row in learned
    ]
    best = {row["order"]: row["excess"] for row in rows if row["learner"] == "best gain found"}
    return (
        f"{learned[0]['system']}, {learned[0]['runs']} seeds, {learned[0]['time']:,} real transitions: MBPO on the "
        f"last s outputs costs more than LQG by a median of {', '.join(told)}."
        + _missing(
            [(row["order"], row["excess"], limit[row["order"]], best.get(row["order"])) for row in learned]
        )
    )


def _missing(found: Sequence[tuple[int, float | None, float | None, float | None]]) -> str:
    """What separates MBPO from LQG most, from rows of order and excess of MBPO, of its model with unlimited data, and
    of the best gain.

    memory: the excess of the best gain on the history; an unbiased model: what the fitted model adds to that with
    unlimited data; data: what is left. None among the excesses is infinite.
    """
    names: dict[str, list[int]] = {}
    floors = []
    for order, learned, unlimited, best in found:
        if best is None:
            continue
        ends = [0.0, best, *(math.inf if each is None else each for each in (unlimited, learned))]
        parts = [above - below if math.isfinite(below) else 0.0 for below, above in pairwise(ends)]
        names.setdefault(PARTS[parts.index(max(parts))], []).append(order)
        floors.append(f"{per_cent(best) if best > NOTHING else '0 %'} at s = {order}")
    if not floors:
        return ""
    most = " and ".join(f"{name} at s = {', '.join(map(str, orders))}" for name, orders in names.items())
    return f" The best gain found on s outputs is above LQG by {', '.join(floors)}: what is missing most is {most}."


def _excess(value: float | None) -> str:
    return "no finite value" if value is None else per_cent(value)
