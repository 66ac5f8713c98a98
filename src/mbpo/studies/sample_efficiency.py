"""How many real transitions each learner needs, beside what no learner can beat."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numpy as np

from mbpo.errors import InputError
from mbpo.lqr.coordinates import exploration_covariance
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.lqr.intervals import finite, quantile_interval
from mbpo.lqr.limits import limit_quantiles, limit_weights, regressor_covariance, regret_constant
from mbpo.lqr.needed import LEVELS, needed
from mbpo.lqr.optimum import default_gain
from mbpo.lqr.settings import Settings
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.train import Training, learnable, planned, train
from mbpo.studies.result import Progress, Request, StudyResult, table_row
from mbpo.studies.sample_efficiency_text import findings as told

DEFAULT_SEEDS, DEFAULT_TRANSITIONS = 16, 10_000
PROCESSES = 2  # most of the time goes into compiling, which uses one core
FEW = 2  # systems on which every learner is shown
SHOWN = 12  # points of a curve
MANY_SYSTEMS = ("mbpo", "dpg", "policy-gradient", "plain-gpomdp", "certainty-equivalence")
HEADLINE = (
    "mbpo", "mbpo-simple", "certainty-equivalence", "policy-gradient", "dpg", "plain-gpomdp", "plain-reinforce",
)  # fmt: skip
COLUMNS = {
    "part": "learner: one learner at the end of its data; curve: the same along the way; limit: what no learner beats",
    "system": "name",
    "algorithm": "learner, as in mbpo train --algorithm; offline and regret are limits",
    "transitions": "real transitions used",
    "seeds": "independent runs",
    "excess": "median of J/J* - 1; for limits the mean; empty where infinite",
    "excess_low": "lower end of its 95 % interval",
    "excess_high": "upper end of its 95 % interval; empty where infinite",
    "excess_p90": "90th percentile of J/J* - 1; empty where infinite",
    "unstable": "share of runs whose gain does not stabilise",
    "limit": "mean excess that certainty equivalence tends to under the data the learner collected, median over seeds",
    "over_limit": "median excess divided by that limit",
    "law_median": "median of the limit law of data gathered offline, at as many transitions",
    "law_p90": "90th percentile of that law",
    "first": "transitions at the first record: a count of as many is an upper bound",
    **{
        f"{name}_{level}": words
        for level in LEVELS
        for name, words in {
            "to": f"median transitions until the excess stays below {level} %; empty where more than the run had",
            "to_low": "lower end of its 95 % interval",
            "to_high": "upper end of its 95 % interval; empty where more than the run had",
            "to_p90": "90th percentile of the same; empty where more than the run had",
        }.items()
    },
}
CAVEATS = (
    (
        "The limits are asymptotic: a run may lie below them at few transitions, and a median lies below a mean. They "
        "hold for learners that are told nothing about the system but its cost."
    ),
    "Offline data come from the first gain with the exploration that learners use; learners improve as they collect.",
    f"On more than {FEW} systems at once mbpo-simple and most model-free learners are left out, for their time.",
    (
        "Transitions are counted at the end of rounds, which grow with the transitions so far where a learner can use "
        "rounds of any length. A count that is the first record is an upper bound."
    ),
    (
        "policy-gradient has a fitted baseline and Gauss-Newton steps; plain-gpomdp and plain-reinforce have neither, "
        "and a constant step in units of the largest curvature, which a user would have to find."
    ),
)


def learners(systems: Sequence[LinearQuadratic]) -> tuple[str, ...]:
    """On a few systems MBPO in both forms, certainty equivalence, and every learner from real data alone that is told
    nothing about the system, each once; on more of them what a few minutes allow."""
    if len(systems) > FEW:
        return MANY_SYSTEMS
    free = [
        name
        for name, each in ESTIMATORS.items()
        if not each.needs_parameters and each.world == "none" and each.data != "twins"
    ]
    free.remove("value-baseline")  # the estimator of policy-gradient, which is there already
    return tuple(dict.fromkeys((*HEADLINE, *free)))


def steps(systems: Sequence[LinearQuadratic], request: Request) -> int:
    """How often `run` reports progress."""
    del request
    return len(_groups(systems)) * len(learners(systems))


def run(systems: Sequence[LinearQuadratic], request: Request, progress: Progress) -> StudyResult:
    """The study over the systems; raises InputError where a learner cannot run on one of them."""
    seeds = request.seeds or DEFAULT_SEEDS
    transitions = request.transitions or DEFAULT_TRANSITIONS
    every = {name: Settings(name, transitions, seeds, request.seed) for name in learners(systems)}
    for system in systems:
        learnable(system)
        for settings in every.values():
            planned(system, settings)
    found = _train_all(systems, every, progress)
    rows: list[dict[str, Any]] = []
    for number, system in enumerate(systems):
        rows += limit_rows(system, transitions)
        law = _law(system, transitions)
        for name in every:
            rows += learner_rows(name, found[number, name], law)
    names = [system.name for system in systems]
    settings = {"transitions": transitions, "seed": request.seed, "learners": list(every)}
    several = f"{len(names)} systems" if len(names) > FEW else ", ".join(names)
    title = f"How many real transitions each learner needs: {several}"
    question = (
        "How much real data does MBPO save over model-free learning, and how close is it to what is possible?"
    )
    return StudyResult(
        "sample-efficiency", title, question, names, seeds, settings, told(rows), CAVEATS, COLUMNS, rows
    )


def _groups(systems: Sequence[LinearQuadratic]) -> list[list[int]]:
    """Numbers of systems that share compiled programs: of the same shape and objective."""
    alike: dict[tuple, list[int]] = {}
    for number, system in enumerate(systems):
        kind = (system.state_dim, system.action_dim, system.objective, system.horizon, system.discount)
        alike.setdefault(kind, []).append(number)
    return list(alike.values())


def _train_all(
    systems: Sequence[LinearQuadratic], every: dict[str, Settings], progress: Progress
) -> dict[tuple[int, str], Training]:
    """Every learner on every system, two processes at a time, the costliest learners first."""
    jobs = [(group, name) for name in every for group in _groups(systems)]
    found: dict[tuple[int, str], Training] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, initializer=_prepare) as pool:
        waiting = {
            pool.submit(_several, [systems[i] for i in group], every[name]): (group, name)
            for group, name in jobs
        }
        try:
            for job in as_completed(waiting):
                group, name = waiting[job]
                for number, training in zip(group, job.result(), strict=True):
                    found[number, name] = training
                progress(f"{name} on {', '.join(systems[i].name for i in group)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _prepare() -> None:
    """Let an interrupt end a worker without a traceback, and keep compiled programs for the next time."""
    from mbpo.core.threads import compile_sooner, keep_compiled_programs, size_thread_pools

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two processes may share one accelerator
    size_thread_pools()
    compile_sooner()
    keep_compiled_programs()


def _several(systems: Sequence[LinearQuadratic], settings: Settings) -> list[Training]:
    return [train(system, settings) for system in systems]


def learner_rows(name: str, training: Training, law: tuple[float, float]) -> list[dict[str, Any]]:
    """One row for the end and a few along the way."""
    rows = [_row(name, training, -1, law)]
    count = len(training.transitions)
    wanted = np.geomspace(training.transitions[0], training.transitions[-1], SHOWN)
    shown = {int(np.argmin(abs(training.transitions - each))) for each in wanted} | {count - 1}
    share = training.transitions[-1] / training.transitions
    for at in sorted(shown):
        rows.append(_row(name, training, at, (law[0] * share[at], law[1] * share[at])) | {"part": "curve"})
    return rows


def _row(name: str, training: Training, at: int, law: tuple[float, float]) -> dict[str, Any]:
    excess = training.excess_cost[:, at]
    median, limit = quantile_interval(excess), float(training.limit_curve[at])
    values: dict[str, Any] = {
        "part": "learner", "system": training.system.name, "algorithm": name,
        "transitions": int(training.transitions[at]), "seeds": len(excess), **median.columns("excess"),
        "excess_p90": finite(float(np.quantile(excess, 0.9, method="inverted_cdf"))),
        "unstable": float(np.mean(~np.isfinite(excess))), "limit": finite(limit),
        "over_limit": finite(median.estimate / limit) if 0 < limit < math.inf else None,
        "law_median": finite(law[0]), "law_p90": finite(law[1]),
    }  # fmt: skip
    if at == -1:
        for level, share in LEVELS.items():
            found = needed(training.transitions, training.excess_cost, share)
            names = [f"{each}_{level}" for each in ("to", "to_low", "to_high", "to_p90")]
            values |= dict(zip(names, found[:4], strict=True)) | {"first": found.first}
    return table_row(COLUMNS, **values)


def _law(system: LinearQuadratic, transitions: int) -> tuple[float, float]:
    """Median and 90th percentile of the limit law of data gathered offline."""
    weights = _offline_weights(system, transitions)
    if weights is None:
        return math.inf, math.inf
    low, high = limit_quantiles(weights, [0.5, 0.9])
    return float(low), float(high)


def _offline_weights(system: LinearQuadratic, transitions: int) -> np.ndarray | None:
    """None where the first gain has no stationary state."""
    try:
        exploration = exploration_covariance(system, learnable(system))
        covariance = regressor_covariance(system, default_gain(system), exploration)
    except InputError:
        return None
    return limit_weights(system, transitions * covariance)


def limit_rows(system: LinearQuadratic, transitions: int) -> list[dict[str, Any]]:
    """c / N for data gathered offline, and 2 m sqrt(tau T) for regret, relative to the optimal cost per transition."""
    rows = []
    weights = _offline_weights(system, transitions)
    if weights is not None:
        mean, law = float(weights.sum()), _law(system, transitions)
        values = {
            "part": "limit", "system": system.name, "algorithm": "offline", "transitions": transitions,
            "excess": finite(mean), "law_median": finite(law[0]), "law_p90": finite(law[1]),
        } | {f"to_{level}": _whole(transitions * mean / share) for level, share in LEVELS.items()}  # fmt: skip
        rows.append(table_row(COLUMNS, **values))
    if system.objective == "average":
        best, tau = learnable(system).cost, regret_constant(system)
        regret = 2 * system.action_dim * math.sqrt(tau / transitions) / best
        values = {
            "part": "limit", "system": system.name, "algorithm": "regret", "transitions": transitions,
            "excess": finite(regret),
        }  # fmt: skip
        rows.append(table_row(COLUMNS, **values))
    return rows


def _whole(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else math.ceil(value)
