"""What a page says in numbers: quantiles over seeds, transitions to a level, the finding in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbpo.core.quantiles import median
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.lqr.needed import Needed, bound_words, needed
from mbpo.report.drawing import FEW, per_cent
from mbpo.report.palette import label
from mbpo.runs.record import RunRecord

LEVELS = (0.1, 0.01, 0.001)


def median_excess(record: RunRecord) -> np.ndarray:
    """The median over seeds of the relative excess cost after each recorded round, [r]; infinite where a middle
    one is."""
    return median(record.excess_cost)


def transitions_to(record: RunRecord, level: float) -> Needed:
    """The real transitions from which on the excess cost of a seed stays at or below `level`, over the seeds."""
    return needed(record.transitions, record.excess_cost, level)


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
    if used.middle is None:
        level, used = 0.1, transitions_to(reference, 0.1)
    if used.middle is None:
        last = float(median_excess(reference)[-1])
        end = "unstable" if np.isinf(last) else f"{per_cent(last)} above the optimal cost"
        spent = f"{int(reference.transitions[-1]):,} real transitions"
        return f"{name} ended {end} after {spent} ({_median(reference)})."
    begin = (
        f"{name} came within {per_cent(level)} of the optimal cost after {used} real transitions "
        f"({_median(reference)})"
    )
    return "; ".join([begin, *_comparisons(records, reference, level, used)]) + "."


def _comparisons(records: Sequence[RunRecord], reference: RunRecord, level: float, used: Needed) -> list[str]:
    """One clause for each learner that got there with less data, and for each without a model, the slowest first; of
    many, the fastest and how many failed."""
    others = [
        each
        for each in records
        if each is not reference and (each.model_error is None or _fewer(transitions_to(each, level), used))
    ]
    if len(others) > FEW:
        return _summary(others, level, used)
    clauses = []
    for other in others:
        theirs, name = transitions_to(other, level), label(other.name)
        if theirs.middle is None:
            clauses.append((np.inf, f"{name} did not get there in {theirs.most:,}"))
        else:
            clauses.append((theirs.middle, f"{name} needed {theirs}: {_times(theirs, used)} times as many"))
    return [clause for _, clause in sorted(clauses, reverse=True)]


def _fewer(theirs: Needed, ours: Needed) -> bool:
    return theirs.middle is not None and ours.middle is not None and theirs.middle < ours.middle


def _times(theirs: Needed, ours: Needed) -> str:
    assert theirs.middle is not None
    assert ours.middle is not None
    ratio = theirs.middle / ours.middle
    words = ratio_words(ratio)[:-1] if ratio >= 1 else f"{ratio:.2g}"
    return bound_words(theirs, ours, words)


def _summary(others: Sequence[RunRecord], level: float, used: Needed) -> list[str]:
    """The fastest of many learners that are told nothing, and how many of them did not get there."""
    others = [each for each in others if not told(each)]
    counts = [(transitions_to(each, level), label(each.name)) for each in others]
    reached = [(each.middle, name, each) for each, name in counts if each.middle is not None]
    if not reached:
        return [f"none of {len(others)} learners without a model got there"]
    count, name, fastest = min(reached, key=lambda each: each[:2])
    words = (
        f"of {len(others)} learners without a model and told nothing, {name} was the fastest with {fastest}, "
    )
    words += "as many" if count == used.middle else f"{_times(fastest, used)} times as many"
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
