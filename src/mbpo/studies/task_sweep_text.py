"""What a study on a control task says, from its rows and the last return of every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import trim_mean

from mbpo.lqr.intervals import LEAST_SEEDS, QUARTER, RESAMPLES, interquartile_mean_interval
from mbpo.studies.wording import TOO_FEW, between, per_cent

if TYPE_CHECKING:
    from mbpo.studies.task_sweep import Sweep

Row = Mapping[str, Any]
Last = Mapping[str | int, Sequence[float]]


def findings(sweep: Sweep, task: str, rows: Sequence[Row], last: Last, seed: int) -> list[str]:
    """Which value is best at the end, how the others compare on the same seeds, and how wrong the model is."""
    end = max(row["env_steps"] for row in rows)
    final = [row for row in rows if row["env_steps"] == end]
    told = [_best(sweep, task, final, last, seed), _compared(sweep, last), _errors(sweep, final)]
    return [sentence for sentence in told if sentence]


def caveats(sweep: Sweep, settings: Mapping[str, Any], last: Last) -> list[str]:
    """What the reader must know before believing it."""
    seeds = len(next(iter(last.values())))
    found = [
        "Intervals are Student's, of a mean without its extremes."
        if seeds >= LEAST_SEEDS
        else (
            f"{seeds} seeds are too few for an interval: from the least to the greatest run the middle of a law is "
            f"covered in {per_cent(1 - 2 * 0.5**seeds)} of studies. From {LEAST_SEEDS} seeds on there are intervals."
        ),
        (
            "The interquartile mean leaves out a quarter of the seeds, rounded down, at each end: of two or three "
            "seeds nothing, so that it is the mean."
        ),
        (
            f"Runs are short: {settings['transitions']:,} real steps, of which {settings['warmup_steps']:,} are "
            "warm-up. More steps may rank the values in another order."
        ),
        (
            "A return is the mean of a few episodes of the mean policy at one moment, and so varies from one "
            "evaluation to the next; runs of one seed share their warm-up."
        ),
        "The model's error is measured on transitions that the run's own policy met, which differ from run to run.",
    ]
    if sweep.column == "rollout_length":
        found.append(
            "Imagined branches are the same number at every length, so that longer ones hold more transitions."
        )
    if "no model" in last:
        same = sum(real == without for real, without in zip(last["1"], last["no model"], strict=True))
        found.append(
            "A ratio of 1 fits its model and imagines as the others do, but learns from real transitions alone, from "
            "the batches that no model draws, so that the two differ by rounding at most: their last returns are the "
            f"same on {same} of {seeds} seeds."
        )
    return found


def _best(sweep: Sweep, task: str, final: Sequence[Row], last: Last, seed: int) -> str:
    arms = [arm for arm in sweep.arms if arm.value != "no model"]
    returns = np.array([last[arm.value] for arm in arms])
    middles = trim_mean(returns, QUARTER, axis=1)
    best = [place for place, middle in enumerate(middles) if middle == middles.max()]
    row = next(row for row in final if row[sweep.column] == arms[best[0]].value)
    which = "which is the best" if len(best) == 1 else "one of which is the best"
    return (
        f"{task}, {row['env_steps']:,} real steps, {row['seeds']} seeds: the greatest interquartile-mean return is "
        f"{_with_interval(row, 'return')}, at {_listed([arms[place].words for place in best])}, {which} of "
        f"{len(arms)}, ties included, in {per_cent(_often_best(returns, best, seed))} of bootstrap samples over the "
        "seeds."
    )


def _often_best(returns: np.ndarray, best: Sequence[int], seed: int) -> float:
    """In which share of bootstrap samples over seeds, drawn together, no row of `[arms, seeds]` beats the best ones."""
    count = returns.shape[1]
    draws = np.random.default_rng([seed, 2]).integers(count, size=(RESAMPLES, count))
    middles = trim_mean(returns[:, draws], QUARTER, axis=2)
    return float(np.mean(middles[best].max(axis=0) >= middles.max(axis=0)))


def _compared(sweep: Sweep, last: Last) -> str:
    words = {arm.value: arm.words for arm in sweep.arms}
    seeds, told, clear = len(last[sweep.reference]), [], 0
    for other in sweep.against:
        difference = np.array(last[sweep.reference]) - np.array(last[other])
        middle, low, high = interquartile_mean_interval(difference)
        more = "more" if middle >= 0 else "less"
        ends = f" (the difference, {between(low, high, seeds, number)})" if low is not None else ""
        told.append(f"{number(abs(middle))} {more} than {words[other]}{ends}")
        clear += low is not None and high is not None and (low > 0 or high < 0)
    judged = f"{clear} of these {len(told)} intervals leave{'s' if clear == 1 else ''} out 0"
    return (
        f"On the same {seeds} seeds {words[sweep.reference]} returns {_listed(told)}; "
        f"{TOO_FEW if seeds < LEAST_SEEDS else judged}."
    )


def _errors(sweep: Sweep, final: Sequence[Row]) -> str:
    words = {arm.value: arm.words for arm in sweep.arms}
    known = sorted(
        (row for row in final if row["model_error"] is not None), key=lambda row: row["model_error"]
    )
    if not known:
        return ""
    least, most = (
        f"{_with_interval(row, 'model_error')} with {words[row[sweep.column]]}"
        for row in (known[0], known[-1])
    )
    return (
        f"The model's error on held-out real transitions ends between {least} and {most} (medians over "
        f"{known[0]['seeds']} seeds)."
    )


def _with_interval(row: Row, name: str) -> str:
    return f"{number(row[name])} ({between(row[f'{name}_low'], row[f'{name}_high'], row['seeds'], number)})"


def number(value: float) -> str:
    """1234.5 as "1,234", 0.012345 as "0.0123"."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
