"""How much of the past a forecast of a hidden state needs: autoregression against the Kalman filter.

Kozdoba, Marecek, Tchrakian, Mannor (AAAI 2019, arXiv 1809.05870) show that a Kalman filter forgets exponentially where
process noise is non-degenerate, so that a regression on the last s outputs comes close, and that it need not otherwise.
Here the rate and the error of the best regression are exact, and both are set beside what is learned. The last part
does the same for control: MBPO on a history of s outputs against LQG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mbpo.errors import InputError
from mbpo.lqr import autoregressive, kalman, output_feedback
from mbpo.lqr.autoregressive import (
    PUBLISHED_DIVISORS,
    PUBLISHED_RADIUS,
    gradient_descent,
    least_squares_online,
)
from mbpo.lqr.hidden import HiddenSystem, resolve_hidden, simulate
from mbpo.lqr.history import disturbing_exploration, train_on_history
from mbpo.lqr.intervals import RESAMPLES, finite, mean_interval, percentile_interval, quantile_interval
from mbpo.studies.forgetting_text import CAVEATS, COLUMNS, findings
from mbpo.studies.result import Progress, Request, StudyResult, table_row

DEFAULT_SEEDS, DEFAULT_TRANSITIONS = 100, 500  # as published
OWN = 0.5  # the paper's base case, both standard deviations; a system's own noise counts as this
PAIRS = ((0.1, 0.1), (0.1, 1.0), (1.0, 0.1), (1.0, 1.0))  # the paper's pairs of (process, observation)
NOISES = ((OWN, OWN), *PAIRS, (0.0, OWN))  # the last: no process noise
ORDERS = tuple(range(1, 11))
GRID = tuple(round(0.1 * step, 1) for step in range(1, 11))
GRID_ORDER, GRID_RUNS = 2, 20
PACE = 5  # outputs over which the factor of one output is averaged
PUBLISHED_STEPS = {
    f"gradient descent (published step{'' if c == 1 else f', c = {c:g}'})": c for c in PUBLISHED_DIVISORS
}
MOMENTS = (0.1, 0.25, 0.5, 1.0)  # shares of the transitions at which regret is read
LEAST_TRANSITIONS = 4 * ORDERS[-1]
LARGEST_GROWTH = 1e6  # of a mode over the transitions; beyond, outputs have no digits left to forecast
EXAMPLE = "pendulum"  # what is controlled where no system of the study has a cost
TRAINED, EXACT = (4, 3, 2, 1), (1, 2, 3, 4, 5, 6, 7, 8)  # orders of histories; the longest is compiled first
CONTROL_SEEDS, CONTROL_TRANSITIONS = 8, 1200


def steps(systems: Sequence[HiddenSystem], request: Request) -> int:
    """How often `run` reports progress."""
    del request
    return 3 * len(systems) + len(TRAINED) * len(_controlled(systems))


def run(systems: Sequence[HiddenSystem], request: Request, progress: Progress) -> StudyResult:
    """The study on each of the systems; raises InputError where outputs cannot be forecast for so long."""
    runs = request.seeds or DEFAULT_SEEDS
    transitions = request.transitions or DEFAULT_TRANSITIONS
    for system in systems:
        _check(system, transitions)
    rows: list[dict[str, Any]] = []
    for system in systems:
        rows += _orders(system, runs, transitions, request.seed)
        progress(f"{system.name}: error against the order")
        rows += _grid(system, min(runs, GRID_RUNS), transitions, request.seed)
        progress(f"{system.name}: noise grid")
        rows += _regret(system, runs, transitions, request.seed)
        progress(f"{system.name}: regret")
    notes: list[str] = []
    for system in _controlled(systems):
        rows += _control(system, min(runs, CONTROL_SEEDS), request.seed, progress, notes)
    names = [system.name for system in systems]
    settings = {
        "transitions": transitions, "seed": request.seed, "orders": list(ORDERS), "noise_grid": list(GRID),
        "grid_order": GRID_ORDER, "grid_runs": min(runs, GRID_RUNS), "radius": PUBLISHED_RADIUS,
        "divisors": list(PUBLISHED_DIVISORS), "ridge": 1.0, "control_transitions": CONTROL_TRANSITIONS,
        "control_seeds": min(runs, CONTROL_SEEDS),
    }  # fmt: skip
    title = f"How much of the past a forecast needs: {', '.join(names)}"
    question = (
        "How close does a regression on the last s outputs come to the Kalman filter, and how fast in s?"
    )
    return StudyResult(
        "forgetting",
        title,
        question,
        names,
        runs,
        settings,
        findings(rows),
        [*CAVEATS, *notes],
        COLUMNS,
        rows,
    )


def _check(system: HiddenSystem, transitions: int) -> None:
    if transitions < LEAST_TRANSITIONS:
        raise InputError(f"transitions: forgetting needs at least {LEAST_TRANSITIONS}, got {transitions}")
    radius = float(np.abs(np.linalg.eigvals(system.A)).max())
    if radius > 1 and transitions * math.log(radius) > math.log(LARGEST_GROWTH):
        raise InputError(
            f"{system.name}: A has spectral radius {radius:.6g}, so that without control the outputs grow more than "
            f"{LARGEST_GROWTH:,.0f}-fold over {transitions} transitions; give fewer transitions or a calmer system"
        )
    if not np.any(system.C @ system.W @ system.C.T) and not np.any(system.V):
        raise InputError(f"{system.name}: W and V leave nothing to forecast; give the outputs noise V")


def _controlled(systems: Sequence[HiddenSystem]) -> list[HiddenSystem]:
    """The systems that have a cost of what is seen; an example where none has a cost."""
    if not any(system.has_cost for system in systems):
        return [resolve_hidden(EXAMPLE)]
    return [system for system in systems if system.has_cost and system.Q is None]


def _noisy(system: HiddenSystem, noise: tuple[float, float]) -> HiddenSystem:
    return system.with_noise(noise[0] / OWN, noise[1] / OWN)


def _orders(system: HiddenSystem, runs: int, transitions: int, seed: int) -> list[dict[str, Any]]:
    """Error against the order, for every pair of noises; all pairs are learned side by side."""
    half, noisy = transitions // 2, [_noisy(system, noise) for noise in NOISES]
    outputs = [simulate(each, transitions, runs, seed) for each in noisy]
    filtered = [kalman.forecasts(each, seen) for each, seen in zip(noisy, outputs, strict=True)]
    learned = {order: least_squares_online(np.concatenate(outputs), order).forecasts for order in ORDERS}
    rows = []
    for place, (noise, each) in enumerate(zip(NOISES, noisy, strict=True)):
        window, seen, best = (half, transitions), outputs[place][:, half:], filtered[place][:, half:]
        floor, gaps, exacts = kalman.kalman_error(each, window), {}, {}
        common = {
            "runs": runs, "rate": kalman.forgetting_rate(each), "kalman": floor,
            "kalman_realised": float(_square(seen - best).mean()),
            "persistence": kalman.autoregression_error(each, kalman.persistence(each), window),
        }  # fmt: skip
        for order in ORDERS:
            exacts[order] = exact = kalman.best_autoregression(each, order, window)
            fixed = autoregressive.fixed_forecasts(outputs[place], exact.coefficients)[:, half:]
            own = learned[order][place * runs : (place + 1) * runs, half:]
            gaps[order] = _square(fixed - best).mean(axis=1)
            before = order - PACE
            rows.append(
                table_row(
                    COLUMNS,
                    part="order", system=system.name, process=noise[0], observation=noise[1], order=order, **common,
                    error=exact.error, exact_gap=exact.gap, learned=float(_square(seen - own).mean()),
                    **mean_interval(gaps[order]).columns("gap"),
                    **mean_interval(_square(own - best).mean(axis=1)).columns("learned_gap"),
                    **(_pace(exacts[order].gap, exacts[before].gap, gaps[order], gaps[before]) if before > 0 else {}),
                )
            )  # fmt: skip
    return rows


def _grid(system: HiddenSystem, runs: int, transitions: int, seed: int) -> list[dict[str, Any]]:
    """Error of AR(2) over that of the Kalman filter on the paper's grid of noises, exact and learned."""
    window, rows = (transitions // 2, transitions), []
    for process in GRID:
        noisy = [_noisy(system, (process, observation)) for observation in GRID]
        outputs = [simulate(each, transitions, runs, seed) for each in noisy]
        learned = least_squares_online(np.concatenate(outputs), GRID_ORDER).forecasts
        for place, (observation, each, seen) in enumerate(zip(GRID, noisy, outputs, strict=True)):
            exact, floor = (
                kalman.best_autoregression(each, GRID_ORDER, window),
                kalman.kalman_error(each, window),
            )
            own = learned[place * runs : (place + 1) * runs]
            errors = [
                _square(seen - made)[:, window[0] :].mean() for made in (own, kalman.forecasts(each, seen))
            ]
            rows.append(
                table_row(
                    COLUMNS,
                    part="noise", system=system.name, process=process, observation=observation, order=GRID_ORDER,
                    runs=runs, rate=kalman.forgetting_rate(each), kalman=floor, error=exact.error,
                    exact_gap=exact.gap, kalman_realised=float(errors[1]), learned=float(errors[0]),
                    ratio=_over(exact.error, floor), learned_ratio=_over(float(errors[0]), float(errors[1])),
                )
            )  # fmt: skip
    return rows


def _regret(system: HiddenSystem, runs: int, transitions: int, seed: int) -> list[dict[str, Any]]:
    """What online learners of order 2 lose to the Kalman filter, summed over time, with the system's own noise."""
    outputs = simulate(system, transitions, runs, seed)
    best = _square(outputs - kalman.forecasts(system, outputs))
    largest = np.sqrt(_square(outputs).max(axis=1))
    learners = {
        **{name: gradient_descent(outputs, GRID_ORDER, divisor=c) for name, c in PUBLISHED_STEPS.items()},
        "gradient descent (scaled step)": gradient_descent(outputs, GRID_ORDER, scaled=True),
        "least squares": least_squares_online(outputs, GRID_ORDER),
    }
    rows = []
    for name, each in learners.items():
        lost = np.cumsum(_square(outputs - each.forecasts) - best, axis=1)
        for moment in MOMENTS:
            at = max(round(moment * transitions), GRID_ORDER + 1)
            c = PUBLISHED_STEPS.get(name)
            bound = 2 * (PUBLISHED_RADIUS**2 + float(np.mean(largest**2))) * math.sqrt(at) if c == 1 else None
            rows.append(
                table_row(
                    COLUMNS,
                    part="regret", system=system.name, process=OWN, observation=OWN, order=GRID_ORDER, learner=name,
                    time=at, runs=runs, bound=bound, guarantee=None if c is None else _guarantee(each, at, c),
                    **mean_interval(lost[:, at - 1]).columns("regret"),
                )
            )  # fmt: skip
    return rows


def _guarantee(learned: autoregressive.Learned, at: int, divisor: float) -> float:
    """Zinkevich's bound (ICML 2003, theorem 1) with the gradients that were met, mean over runs:
    diameter^2 c sqrt(t) / 2 + sum |g_t|^2 / (2 c sqrt(t)), c the divisor of the steps."""
    eta = np.arange(1, at) ** -0.5 / divisor
    met = np.sum(eta * learned.slopes[:, 1:at] ** 2, axis=1) / 2
    return float(np.mean((2 * PUBLISHED_RADIUS) ** 2 * divisor * math.sqrt(at) / 2 + met))


def _control(
    system: HiddenSystem, seeds: int, seed: int, progress: Progress, notes: list[str]
) -> list[dict[str, Any]]:
    """Excess over LQG of MBPO on histories, of certainty equivalence with unlimited data, and of the best gain found;
    `notes` takes what had to be left out."""
    rows: list[dict[str, Any]] = []
    for order in EXACT:
        try:
            rows += _control_limits(system, order)
        except InputError as error:
            notes.append(f"Control from {order} output{'s' * (order > 1)} is left out: {error}.")
    able = {row["order"] for row in rows}
    for order in TRAINED:
        if order in able:
            trained = train_on_history(
                system, order, CONTROL_TRANSITIONS, seeds, seed, "mbpo", longest=max(TRAINED)
            )
            final = trained.excess[:, -1]
            row = _control_row(system, order, "MBPO", None) | quantile_interval(final).columns("excess")
            row |= {
                "runs": seeds,
                "time": CONTROL_TRANSITIONS,
                "unstable": float(np.mean(~np.isfinite(final))),
            }
            rows.append(row)
        progress(f"{system.name}: MBPO on {order} output{'s' * (order > 1)}")
    return sorted(rows, key=lambda row: (row["learner"], row["order"]))


def _control_limits(system: HiddenSystem, order: int) -> list[dict[str, Any]]:
    """The two exact rows of an order; raises InputError where there is no optimum or no way to start."""
    lqg, exploration = output_feedback.lqg_cost(system), disturbing_exploration(system)
    found = {
        "certainty equivalence, unlimited data": output_feedback.regression_limit(system, order, exploration)[
            1
        ],
        "best gain found": output_feedback.best_history_gain(system, order)[1],
    }
    return [
        _control_row(system, order, name, finite(max(cost / lqg - 1, 0.0))) for name, cost in found.items()
    ]


def _control_row(system: HiddenSystem, order: int, learner: str, excess: float | None) -> dict[str, Any]:
    return table_row(COLUMNS, part="control", system=system.name, order=order, learner=learner, excess=excess)


def _square(error: np.ndarray) -> np.ndarray:
    """|error|^2 over the outputs, `[R, T]`."""
    return np.sum(error**2, axis=2)


def _pace(exact: float, before: float, gaps: np.ndarray, earlier: np.ndarray) -> dict[str, float | None]:
    """The factor of one output, averaged over the last `PACE`: exact, and in the runs with its interval from resampled
    runs; empty where a gap is zero."""
    if not (min(exact, before) > 0 and earlier.min() > 0 and gaps.min() > 0):
        return {}
    drawn = np.random.default_rng(0).integers(0, len(gaps), (RESAMPLES, len(gaps)))
    ratios = (gaps[drawn].mean(axis=1) / earlier[drawn].mean(axis=1)) ** (1 / PACE)
    pace = percentile_interval(float((gaps.mean() / earlier.mean()) ** (1 / PACE)), ratios, len(gaps))
    return {"factor": (exact / before) ** (1 / PACE), **pace.columns("pace")}


def _over(above: float, below: float) -> float | None:
    return above / below if below > 0 else None
