"""When to trust the model: what the length of imagined branches does, with everything else held equal."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mbpo.core.quantiles import median
from mbpo.errors import InputError
from mbpo.lqr import bounds, exact
from mbpo.lqr.algorithms import Setup, prepare
from mbpo.lqr.intervals import quantile_interval
from mbpo.lqr.optimum import Optimum, default_gain
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.train import learnable
from mbpo.studies import sweep
from mbpo.studies.gradient_error import estimates, measuring_gain, summary
from mbpo.studies.real_ratio import Arm, best_ratio, check, knobs_of
from mbpo.studies.result import Progress, Request, StudyResult, table_row
from mbpo.studies.rollout_length_text import findings as told
from mbpo.studies.sweep import Effort, Outcome

DEFAULT_SEEDS, DEFAULT_TRANSITIONS = 32, 3000
LENGTHS = (1, 2, 5, 10, 20, 40)
PLANTED = (0.0, 0.1)
RADII = (0.5, 0.9, 1.05)  # spectral radii of A besides the system's own
RATIO = 0.05
ROUNDS, UPDATES = 12, 4
AMOUNTS = (0.1, 1.0)  # shares of the transitions at which runs are judged
JUDGED = 8  # seeds for which the theorem's terms are evaluated
DISCOUNT = 0.95  # of the theorem where the objective has none
COLUMNS = {
    "part": "length: one rollout length; best: the length with the least median excess beside the theorem's",
    "system": "name",
    "radius": "spectral radius of A; A is scaled to it",
    "own_radius": "whether that is the system's own",
    "planted_error": "error added to every fitted [A B], relative to the norm of [A B]",
    "transitions": "real transitions used",
    "rollout_length": "imagined steps of a branch",
    "equal": "what every length has equally many of: branches, so that longer ones give more rows, or imagined rows",
    "seeds": "independent runs, or sets of data",
    "model_error": "median relative error of the fitted [A B]",
    "excess": "median of J/J* - 1; empty where infinite",
    "excess_low": "lower end of its 95 % interval",
    "excess_high": "upper end of its 95 % interval; empty where infinite",
    "unstable": "share of runs whose gain does not stabilise",
    "bias": "norm of the mean error of the gradient over sets of data, relative to the exact natural gradient",
    "bias_low": "lower end of its 95 % interval",
    "bias_high": "upper end of its 95 % interval",
    "persistent": "standard deviation of the gradient between sets of data",
    "noise": "standard deviation of the gradient between batches of one set",
    "error": "root mean square error of the gradient",
    "best_low": "least length that is the best one in 95 % of bootstrap samples over seeds",
    "best_high": "greatest such length",
    "theorem": "length that theorem 4.3 of Janner et al. (2019) recommends, lower median over the first "
    f"{JUDGED} seeds; empty where undefined",
    "theorem_low": "lower end of its 95 % interval",
    "theorem_high": "upper end of its 95 % interval",
}
EQUAL = ("rows", "branches")
CAVEATS = (
    (
        "With equally many branches a short length leaves a batch of 512 rows few imagined ones to draw from; with "
        "equally many rows, a branch that ends begins anew. Of a batch 5 % are real, and the model is explored as "
        "widely as the world."
    ),
    (
        "Scaling A to another spectral radius makes another system with another optimum; each is judged by its own."
    ),
    (
        "The theorem is about a bounded reward and the return of branches, and is evaluated with a saturating reward, "
        "for the gain after a round's updates and the gain that gathered the round's data; the study bound tells more."
    ),
)


def steps(systems: Sequence[LinearQuadratic], request: Request) -> int:
    """How often `run` reports progress."""
    runs = (request.seeds or DEFAULT_SEEDS) * len(_arms())
    return sum(len(_variants(system)) * (1 + sweep.chunks(runs)) for system in systems)


def run(systems: Sequence[LinearQuadratic], request: Request, progress: Progress) -> StudyResult:
    """The study on each of the systems; raises InputError where one cannot be learned."""
    seeds = request.seeds or DEFAULT_SEEDS
    transitions = request.transitions or DEFAULT_TRANSITIONS
    for system in systems:
        check(system, transitions, seeds)
    rows: list[dict[str, Any]] = []
    for system in systems:
        for radius, variant in _variants(system).items():
            about = {"system": system.name, "radius": radius, "own_radius": variant is system}
            rows += _trained(variant, about, transitions, seeds, request.seed, progress)
            progress(f"{system.name}, radius {radius:.3g}: gradients")
    names = [system.name for system in systems]
    effort = Effort(1, 1, 1, 1)
    settings = {
        "transitions": transitions, "seed": request.seed, "rounds": ROUNDS, "updates": UPDATES, "batch": effort.batch,
        "branches": effort.branches, "real_ratio": RATIO, "rollout_lengths": list(LENGTHS), "radii": list(RADII),
        "planted_errors": list(PLANTED),
    }  # fmt: skip
    title = f"When to trust the model: {', '.join(names)}"
    question = "How long should imagined branches be, and would theorem 4.3 have chosen that length?"
    return StudyResult(
        "rollout-length", title, question, names, seeds, settings, told(rows), CAVEATS, COLUMNS, rows
    )


def _arms() -> list[Arm]:
    return [
        Arm(RATIO, length, planted, equal_rows=equal == "rows")
        for planted, equal in itertools.product(PLANTED, EQUAL)
        for length in LENGTHS
    ]


def _variants(system: LinearQuadratic) -> dict[float, LinearQuadratic]:
    """The system itself, and with A scaled to the other radii where that leaves a problem that can be learned."""
    own = float(np.max(np.abs(np.linalg.eigvals(system.A))))
    found = {own: system}
    for radius in RADII:
        if own == 0.0 or abs(radius - own) < 0.01:
            continue
        scaled = dataclasses.replace(system, A=system.A * (radius / own), initial_gain=None)
        try:
            learnable(scaled)
            default_gain(scaled)
        except InputError:
            continue
        found[radius] = scaled
    return dict(sorted(found.items()))


def _trained(
    system: LinearQuadratic,
    about: dict[str, Any],
    transitions: int,
    seeds: int,
    seed: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Every row about one system."""
    optimum = learnable(system)
    setup = prepare(system, optimum)
    every, effort = _arms(), Effort.of(transitions, ROUNDS, UPDATES, longest=LENGTHS[-1])
    knobs = knobs_of(setup.system, every, transitions, seeds, seed)
    shared = sweep.base(setup, effort)
    keys = jax.random.split(jax.random.key(seed), seeds)
    own = keys[np.tile(np.arange(seeds), len(every))]
    outcome = sweep.sweep(setup, shared, knobs, own, optimum.cost, progress)
    rounds = [int(np.argmin(abs(effort.transitions - share * transitions))) for share in AMOUNTS]
    gain = measuring_gain(setup, optimum)
    truth = np.asarray(exact.natural_gradient(setup.system, gain)) / 2
    rows = []
    for at in rounds:
        counts = np.full(len(own), effort.transitions[at])
        found = estimates(shared, knobs, counts, gain, own).reshape(len(every), seeds, -1, *gain.shape)
        same = about | {"transitions": int(effort.transitions[at]), "seeds": seeds}
        for number, arm in enumerate(every):
            rows.append(_length_row(same, arm, outcome, number, at, summary(found[number], truth, seed)))
        for number, (planted, equal) in enumerate(itertools.product(PLANTED, EQUAL)):
            named = same | {"planted_error": planted, "equal": equal}
            rows.append(_best_row(setup, optimum, named, outcome, number * len(LENGTHS), at, seed))
    return rows


def _length_row(
    same: dict[str, Any], arm: Arm, outcome: Outcome, number: int, at: int, error: Any
) -> dict[str, Any]:
    own = slice(number * same["seeds"], (number + 1) * same["seeds"])
    excess = outcome.excess_cost[own, at]
    middle = quantile_interval(excess)
    return table_row(
        COLUMNS,
        **same, part="length", planted_error=arm.planted, rollout_length=arm.length,
        equal=EQUAL[not arm.equal_rows],
        model_error=float(median(outcome.model_error[own, at])), **middle.columns("excess"),
        unstable=float(np.mean(~np.isfinite(excess))), **error.bias.columns("bias"), persistent=error.persistent,
        noise=error.noise, error=error.total,
    )  # fmt: skip


def _best_row(
    setup: Setup,
    optimum: Optimum,
    same: dict[str, Any],
    outcome: Outcome,
    first: int,
    at: int,
    seed: int,
) -> dict[str, Any]:
    """The best length of the arms from `first` on, and what the theorem recommends from runs at the usual length."""
    seeds = same["seeds"]
    excess = np.stack(
        [outcome.excess_cost[i * seeds : (i + 1) * seeds, at] for i in range(first, first + len(LENGTHS))]
    )
    best, low, high = _best_length(excess, seed)
    middle = quantile_interval(excess[best])
    start = (first + 2) * seeds
    return table_row(
        COLUMNS,
        **same, part="best", rollout_length=LENGTHS[best], **middle.columns("excess"),
        best_low=low, best_high=high,
        **_recommended(setup, optimum, outcome, range(start, start + min(seeds, JUDGED)), at),
        model_error=float(median(outcome.model_error[start : start + seeds, at])),
    )  # fmt: skip


def _best_length(excess: np.ndarray, seed: int) -> tuple[int, int, int]:
    """Which row of `excess` [lengths, seeds] has the least median, and the best lengths of bootstrap samples."""
    best, low, high = best_ratio(excess, np.array(LENGTHS), seed)
    return best, int(low), int(high)


def _recommended(
    setup: Setup, optimum: Optimum, outcome: Outcome, runs: Sequence[int], at: int
) -> dict[str, int | None]:
    """The lower median over runs of the length that theorem 4.3 recommends and its interval; empty where undefined."""
    system, S = setup.system, setup.exploration
    discount = DISCOUNT if system.discount is None else system.discount
    n, scale = system.state_dim, max(optimum.cost, 1e-12)
    lengths = []
    for i in runs:
        A, B = outcome.models[i, at, :, :n], outcome.models[i, at, :, n:]
        before, gain = outcome.gains[i, at - 1] if at else setup.gain, outcome.gains[i, at]
        try:
            found = bounds.evaluate(system, A, B, before, gain, S, scale, discount, LENGTHS[-1])
        except InputError:
            continue
        current = float(found.eps_m_current)
        lengths.append(bounds.best_length_43(current, found.eps_pi, discount, LENGTHS[-1]))
    if not lengths:
        return {}
    middle, ends = np.quantile(lengths, 0.5, method="inverted_cdf"), quantile_interval(lengths)
    low, high = (None if end is None else int(end) for end in ends[1:])
    return {"theorem": int(middle), "theorem_low": low, "theorem_high": high}
