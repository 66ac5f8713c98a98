"""What a page says in numbers: quantiles over seeds, transitions to a level, the finding in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbpo.core.quantiles import median
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.report.drawing import FEW, per_cent
from mbpo.report.palette import label
from mbpo.runs.record import RunRecord

LEVELS = (0.1, 0.01, 0.001)


def median_excess(record: RunRecord) -> np.ndarray:
    """The median over seeds of the relative excess cost after each recorded round, [r]; infinite where a middle
    one is."""
    return median(record.excess_cost)


def transitions_to(record: RunRecord, level: float) -> int | None:
    """The real transitions after which the median over seeds is first at `level` or below; `None`: never."""
    reached = np.flatnonzero(median_excess(record) <= level)
    return int(record.transitions[reached[0]]) if len(reached) else None


def reference_of(records: Sequence[RunRecord]) -> RunRecord:
    """The run that the others are compared with: MBPO, else the first."""
    plain = [each for each in records if each.name == "mbpo"]
    return next((each for each in (*plain, *records) if each.algorithm == "mbpo"), records[0])


def told(record: RunRecord) -> bool:
    """Whether the run needs no model because its estimator is told parameters of the system."""
    estimator = ESTIMATORS.get(record.algorithm)
    return estimator is not None and estimator.needs_parameters


def finding(records: Sequence[RunRecord]) -> str:
    """The finding of several runs on one system, computed from them."""
    reference = reference_of(records)
    name = sentence_start(label(reference.name))
    level, used = 0.01, transitions_to(reference, 0.01)
    if used is None:
        level, used = 0.1, transitions_to(reference, 0.1)
    if used is None:
        last = float(median_excess(reference)[-1])
        end = "unstable" if np.isinf(last) else f"{per_cent(last)} above the optimal cost"
        spent = f"{int(reference.transitions[-1]):,} real transitions"
        return f"{name} ended {end} after {spent} ({_median(reference)})."
    begin = (
        f"{name} came within {per_cent(level)} of the optimal cost after {used:,} real transitions "
        f"({_median(reference)})"
    )
    return "; ".join([begin, *_comparisons(records, reference, level, used)]) + "."


def _comparisons(records: Sequence[RunRecord], reference: RunRecord, level: float, used: int) -> list[str]:
    """One clause for each learner without a model, the slowest first; of many, the fastest and how many failed."""
    others = [each for each in records if each is not reference and each.model_error is None]
    if len(others) > FEW:
        return _summary(others, level, used)
    clauses = []
    for other in others:
        theirs, name = transitions_to(other, level), label(other.name)
        if theirs is None:
            clauses.append((np.inf, f"{name} did not get there in {int(other.transitions[-1]):,}"))
        else:
            clauses.append(
                (theirs, f"{name} needed {theirs:,}: {ratio_words(theirs / used)[:-1]} times as many")
            )
    return [clause for _, clause in sorted(clauses, reverse=True)]


def _summary(others: Sequence[RunRecord], level: float, used: int) -> list[str]:
    """The fastest of many learners that are told nothing, and how many of them did not get there."""
    others = [each for each in others if not told(each)]
    reached = [
        (needed, label(each.name)) for each in others if (needed := transitions_to(each, level)) is not None
    ]
    if not reached:
        return [f"none of {len(others)} learners without a model got there"]
    needed, name = min(reached)
    ratio = needed / used
    times = ratio_words(ratio)[:-1] if ratio >= 1 else f"{ratio:.2g}"
    words = f"of {len(others)} learners without a model and told nothing, {name} was the fastest with {needed:,}, "
    words += "as many" if needed == used else f"{times} times as many"
    failed = len(others) - len(reached)
    return [words, f"{failed} of them did not get there"] if failed else [words]


def excess_words(excess: float) -> str:
    """A relative excess in per cent, or "unstable" where it is infinite."""
    return per_cent(excess) if np.isfinite(excess) else "unstable"


def ratio_words(ratio: float) -> str:
    """143.2 as "143×", 2.46 as "2.5×"."""
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def sentence_start(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def _median(record: RunRecord) -> str:
    return "one seed" if record.seeds == 1 else f"median of {record.seeds} seeds"
