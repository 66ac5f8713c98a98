"""What the ratio of real to imagined data does, with everything else held equal, exploration in the model included."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from mbpo.core.quantiles import median
from mbpo.core.schedule import Linear
from mbpo.errors import InputError
from mbpo.lqr import exact
from mbpo.lqr.algorithms import IMAGINED_EXPLORATION, prepare
from mbpo.lqr.intervals import RESAMPLES, finite, quantile_interval
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.train import learnable
from mbpo.studies import sweep
from mbpo.studies.gradient_error import estimates, measuring_gain, summary
from mbpo.studies.real_ratio_text import findings as told
from mbpo.studies.result import Progress, Request, StudyResult, table_row
from mbpo.studies.sweep import Effort, Knobs, Outcome

DEFAULT_SEEDS, DEFAULT_TRANSITIONS = 32, 3000
RATIOS = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
SCHEDULES = {"rising": (0.0, 1.0), "falling": (1.0, 0.0)}  # linear in the real steps taken
LENGTHS = (1, 5, 20)
UPDATES = (1, 4)
EQUAL, WIDER = (
    1.0,
    IMAGINED_EXPLORATION,
)  # deviations of exploration inside the model, relative to the world's
PLANTED = (0.03, 0.1, 0.3)  # errors of the model that data do not remove, relative to the norm of [A B]
USUAL_LENGTH, USUAL_UPDATES = 5, 4
ROUNDS = 12
AMOUNTS = (0.1, 0.3, 1.0)  # shares of the transitions at which runs are judged
COLUMNS = {
    "part": "training: excess cost after training; gradient: the error of one batch's natural gradient at a fixed "
    "gain; best: the ratio with the least median excess",
    "system": "name",
    "ratio": "expected share of real transitions in a batch, or how it changes over training",
    "rollout_length": "imagined steps of a branch",
    "exploration": "standard deviation of exploration inside the model, relative to the world's",
    "imagined": "imagined transitions after a fit, of which batches are drawn",
    "updates": "updates a round",
    "transitions": "real transitions used",
    "planted_error": "error added to every fitted [A B], relative to the norm of [A B]",
    "seeds": "independent runs, or sets of data",
    "model_error": "median relative error of the fitted [A B]",
    "excess": "median of J/J* - 1 (part best: of the best ratio); empty where infinite",
    "excess_low": "lower end of its 95 % interval",
    "excess_high": "upper end of its 95 % interval; empty where infinite",
    "excess_p90": "90th percentile of J/J* - 1; empty where infinite",
    "unstable": "share of runs whose gain does not stabilise",
    "best_low": "least ratio that is the best one in 95 % of bootstrap samples over seeds",
    "best_high": "greatest such ratio",
    "bias": "norm of the mean error over sets of data, relative to the exact natural gradient",
    "bias_low": "lower end of its 95 % interval",
    "bias_high": "upper end of its 95 % interval",
    "persistent": "standard deviation between sets of data: what more batches do not remove",
    "noise": "standard deviation between batches of one set of data",
    "error": "root mean square error",
}
CAVEATS = (
    (
        "After a fit equally many transitions are imagined at every rollout length, where no other number is given: a "
        "branch that ends begins anew at another real state. A batch has 512 rows whatever its composition."
    ),
    (
        "Batches are smaller and rounds fewer than those of mbpo train, so that thousands of runs fit in minutes: "
        "excess costs lie above those of mbpo train with the same data."
    ),
    (
        "The model is explored as widely as the world, where nothing else is said; mbpo train explores it "
        f"{WIDER:g} times as widely, which the study measures by itself."
    ),
    (
        "The model's class contains the truth, which favours imagined data; the planted errors show what happens when "
        "it does not."
    ),
)


@dataclass(frozen=True)
class Arm:
    """One setting of the knobs: a ratio or a schedule by name, a rollout length, the size of a planted error, how
    widely the model is explored, and whether every length gives equally many imagined rows."""

    ratio: float | str
    length: int
    planted: float = 0.0
    exploration: float = EQUAL
    equal_rows: bool = True

    def imagined(self, sizes: Effort) -> int:
        """Imagined rows after a fit: of branches that begin anew when they end, or of one each."""
        return sizes.branches * (sizes.longest if self.equal_rows else self.length)

    @property
    def ends(self) -> tuple[float, float]:
        """The ratio before the first and after the last real step."""
        return SCHEDULES[self.ratio] if isinstance(self.ratio, str) else (self.ratio, self.ratio)


TRAINED = [Arm(ratio, length) for length in LENGTHS for ratio in (*RATIOS, *SCHEDULES)]
OTHERS = [Arm(ratio, USUAL_LENGTH, exploration=WIDER) for ratio in RATIOS]
OTHERS += [Arm(ratio, USUAL_LENGTH, equal_rows=False) for ratio in RATIOS]
TRAINED += OTHERS
MISTAKEN = [Arm(ratio, USUAL_LENGTH, planted) for planted in PLANTED for ratio in RATIOS]
MEASURED = [Arm(ratio, length) for length in LENGTHS for ratio in RATIOS]
MEASURED += [Arm(ratio, USUAL_LENGTH, PLANTED[1]) for ratio in RATIOS]
MEASURED += OTHERS


def arms(updates: int) -> list[Arm]:
    """What is trained at so many updates a round."""
    return TRAINED + (MISTAKEN if updates == USUAL_UPDATES else [])


def steps(systems: Sequence[LinearQuadratic], request: Request) -> int:
    """How often `run` reports progress."""
    seeds = request.seeds or DEFAULT_SEEDS
    return len(systems) * (1 + sum(sweep.chunks(seeds * len(arms(updates))) for updates in UPDATES))


def run(systems: Sequence[LinearQuadratic], request: Request, progress: Progress) -> StudyResult:
    """The study on each of the systems; raises InputError where one cannot be learned."""
    seeds = request.seeds or DEFAULT_SEEDS
    transitions = request.transitions or DEFAULT_TRANSITIONS
    for system in systems:
        check(system, transitions, seeds)
    rows: list[dict[str, Any]] = []
    for system in systems:
        trained = _trained(system, transitions, seeds, request.seed, progress)
        measured = _measured(system, transitions, seeds, request.seed)
        progress(f"{system.name}: gradients")
        rows += trained + measured
    settings = {
        "transitions": transitions, "seed": request.seed, "rounds": ROUNDS, "batch": Effort(1, 1, 1, 1).batch,
        "branches": Effort(1, 1, 1, 1).branches, "ratios": list(RATIOS), "schedules": list(SCHEDULES),
        "rollout_lengths": list(LENGTHS), "updates": list(UPDATES), "planted_errors": list(PLANTED),
        "exploration": [EQUAL, WIDER],
    }  # fmt: skip
    title = f"What the real ratio does: {', '.join(each.name for each in systems)}"
    question = (
        "Batches of MBPO mix real with imagined transitions. How does their ratio change what is learned, when it "
        "changes nothing else?"
    )
    names = [system.name for system in systems]
    findings = told(rows, USUAL_LENGTH, USUAL_UPDATES)
    return StudyResult(
        "real-ratio", title, question, names, seeds, settings, findings, CAVEATS, COLUMNS, rows
    )


def check(system: LinearQuadratic, transitions: int, seeds: int) -> None:
    """Raise InputError where the study has no meaning, or too few transitions or seeds."""
    if seeds < 2:
        raise InputError(f"seeds: what differs between sets of data needs at least 2 of them, got {seeds}")
    learnable(system)
    if system.horizon is not None:
        raise InputError(
            f"{system.name}: the study needs an objective without a horizon, since branches begin at no stage of one"
        )
    least = (ROUNDS + 1) * 2 * (system.state_dim + system.action_dim)
    if transitions < least:
        raise InputError(f"transitions: {system.name} needs at least {least} of them, got {transitions}")


def knobs_of(system: LinearQuadratic, every: Sequence[Arm], transitions: int, seeds: int, seed: int) -> Knobs:
    """The knobs of every arm for every seed, arms outside; the direction of a planted error is drawn for each seed."""
    shape = (system.state_dim, system.state_dim + system.action_dim)
    directions = np.random.default_rng([seed, 1]).standard_normal((seeds, *shape))
    directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True)
    size = float(np.linalg.norm(np.concatenate([system.A, system.B], axis=1)))
    first, last = (np.repeat([arm.ends[i] for arm in every], seeds) for i in (0, 1))
    zero, end = np.zeros(len(first)), np.full(len(first), float(transitions))
    errors = [arm.planted * size * directions for arm in every]
    lengths = np.repeat([float(arm.length) for arm in every], seeds)
    widths = np.repeat([arm.exploration for arm in every], seeds)
    rows = np.repeat([arm.equal_rows for arm in every], seeds)
    schedule = Linear(first, last, zero, end)  # pyright: ignore[reportArgumentType]
    return Knobs(schedule, lengths, widths, rows, np.concatenate(errors))  # pyright: ignore[reportArgumentType]


def _trained(
    system: LinearQuadratic, transitions: int, seeds: int, seed: int, progress: Progress
) -> list[dict[str, Any]]:
    """Rows of parts training and best."""
    optimum = learnable(system)
    setup = prepare(system, optimum)
    keys = jax.random.split(jax.random.key(seed), seeds)
    rows: list[dict[str, Any]] = []
    for updates in UPDATES:
        every, effort = arms(updates), Effort.of(transitions, ROUNDS, updates)
        knobs = knobs_of(setup.system, every, transitions, seeds, seed)
        shared = sweep.base(setup, effort)
        own = keys[np.tile(np.arange(seeds), len(every))]
        outcome = sweep.sweep(setup, shared, knobs, own, optimum.cost, progress)
        rows += training_rows(system.name, every, updates, effort, seeds, outcome)
        rows += best_rows(system.name, every, updates, effort, seeds, outcome, seed)
    return rows


def _amounts(effort: Effort) -> list[int]:
    """The rounds after which runs are judged."""
    wanted = [share * effort.transitions[-1] for share in AMOUNTS]
    return [int(np.argmin(abs(effort.transitions - each))) for each in wanted]


def training_rows(
    system: str, every: Sequence[Arm], updates: int, effort: Effort, seeds: int, outcome: Outcome
) -> list[dict[str, Any]]:
    """One row for each arm and amount of real data."""
    rows = []
    for (number, arm), at in itertools.product(enumerate(every), _amounts(effort)):
        own = slice(number * seeds, (number + 1) * seeds)
        excess = outcome.excess_cost[own, at]
        middle = quantile_interval(excess)
        rows.append(
            table_row(
                COLUMNS,
                part="training", system=system, ratio=_words(arm), rollout_length=arm.length, updates=updates,
                exploration=arm.exploration, imagined=arm.imagined(effort),
                transitions=int(effort.transitions[at]), planted_error=arm.planted, seeds=seeds,
                model_error=float(median(outcome.model_error[own, at])), **middle.columns("excess"),
                excess_p90=finite(float(np.quantile(excess, 0.9, method="inverted_cdf"))),
                unstable=float(np.mean(~np.isfinite(excess))),
            )
        )  # fmt: skip
    return rows


def best_rows(
    system: str, every: Sequence[Arm], updates: int, effort: Effort, seeds: int, outcome: Outcome, seed: int
) -> list[dict[str, Any]]:
    """The best constant ratio for each rollout length, planted error and amount of real data."""
    rows = []
    for (length, planted, width, equal_rows), at in itertools.product(
        sorted({_beside(arm) for arm in every}), _amounts(effort)
    ):
        alike = [
            number
            for number, arm in enumerate(every)
            if _beside(arm) == (length, planted, width, equal_rows) and not isinstance(arm.ratio, str)
        ]
        excess = np.stack([outcome.excess_cost[i * seeds : (i + 1) * seeds, at] for i in alike])
        best, low, high = best_ratio(excess, np.array(RATIOS), seed)
        middle, first = quantile_interval(excess[best]), alike[best] * seeds
        rows.append(
            table_row(
                COLUMNS,
                part="best", system=system, ratio=_words(every[alike[best]]), rollout_length=length, updates=updates,
                exploration=width, imagined=every[alike[best]].imagined(effort),
                transitions=int(effort.transitions[at]), planted_error=planted, seeds=seeds,
                model_error=float(median(outcome.model_error[first : first + seeds, at])),
                **middle.columns("excess"), best_low=low, best_high=high,
            )
        )  # fmt: skip
    return rows


def _beside(arm: Arm) -> tuple[int, float, float, bool]:
    """What arms that are compared with each other have in common."""
    return arm.length, arm.planted, arm.exploration, arm.equal_rows


def best_ratio(excess: np.ndarray, ratios: np.ndarray, seed: int) -> tuple[int, float, float]:
    """Which row of `excess` [ratios, seeds] has the least median, and between which ratios the best one of 95 % of
    bootstrap samples over seeds lies; the seeds are the same in every row and are drawn together."""
    count = excess.shape[1]
    draws = np.random.default_rng([seed, 2]).integers(count, size=(RESAMPLES, count))
    medians = np.stack([median(row[draws], axis=-1) for row in excess])
    chosen = ratios[np.argmin(medians, axis=0)]
    low, high = np.quantile(chosen, [0.025, 0.975], method="nearest")
    return int(np.argmin(median(excess, axis=-1))), float(low), float(high)


def _measured(system: LinearQuadratic, transitions: int, seeds: int, seed: int) -> list[dict[str, Any]]:
    """Rows of part gradient."""
    optimum = learnable(system)
    setup = prepare(system, optimum)
    gain = measuring_gain(setup, optimum)
    truth = np.asarray(exact.natural_gradient(setup.system, gain)) / 2
    effort = Effort.of(transitions, ROUNDS, 1)
    shared = sweep.base(setup, effort)
    amounts = [int(effort.transitions[at]) for at in _amounts(effort)]
    cases = list(itertools.product(amounts, MEASURED))
    knobs = knobs_of(setup.system, [arm for _, arm in cases], transitions, seeds, seed)
    counts = np.repeat([amount for amount, _ in cases], seeds)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), seeds)
    own = keys[np.tile(np.arange(seeds), len(cases))]
    found = estimates(shared, knobs, counts, gain, own).reshape(len(cases), seeds, -1, *gain.shape)
    rows = []
    for (amount, arm), each in zip(cases, found, strict=True):
        error = summary(each, truth, seed)
        rows.append(
            table_row(
                COLUMNS,
                part="gradient", system=system.name, ratio=_words(arm), rollout_length=arm.length, transitions=amount,
                exploration=arm.exploration, imagined=arm.imagined(effort), planted_error=arm.planted, seeds=seeds,
                **error.bias.columns("bias"), persistent=error.persistent, noise=error.noise, error=error.total,
            )
        )  # fmt: skip
    return rows


def _words(arm: Arm) -> str:
    return arm.ratio if isinstance(arm.ratio, str) else f"{arm.ratio:g}"
