"""How loose the bounds of model-based policy optimisation are, and whether they choose a good rollout length.

Data come from the first gain with exploration; models are fitted by least squares to more and more of them, and the
policy moves from the first gain to the optimal one. Every term of the theorems is exact for every model, so that only
the draw of the data is left to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbpo.errors import InputError
from mbpo.lqr import bounds
from mbpo.lqr.coordinates import exploration_covariance
from mbpo.lqr.intervals import RESAMPLES, Interval, mean_interval, percentile_interval
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.reference import lyapunov, spectral_radius
from mbpo.lqr.system import LinearQuadratic
from mbpo.studies.result import Progress, Request, StudyResult
from mbpo.studies.wording import TOO_FEW

DEFAULT_SEEDS = 64
DEFAULT_TRANSITIONS = 20_000
DISCOUNT = 0.95  # where the system's own objective has none
SHARES = (0.02, 0.2, 1.0)  # of the way from the first gain to the optimal one
LENGTHS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200)
NEARLY, EQUAL = 1.1, 1 + 1e-6  # a gap within this factor of the least is nearly as good, or the same

Row = Mapping[str, Any]

MEANINGS = {
    "system": "name of the system",
    "transitions": "N, real transitions behind each fitted model",
    "share": "how far the policy is on the way from the first gain, 0, to the optimal one, 1",
    "k": "length of the branched rollouts, in steps",
    "eps_pi": "greatest expected total variation of a step between the policy and the data's, on the data's states",
    "eps_m": "the same between next states of the real system and the model under the data's policy, mean over models",
    "eps_m_current": "eps_m', the same under the present policy",
    "slope": "(eps_m' - eps_m) / eps_pi: how the model's error grows as the policy moves; none if eps_pi is 0",
    "eta": "discounted return of the policy in the real system",
    "gap_model": "|eta - eta_model|, the true error of the return in the model alone, mean over models",
    "bound_41": "theorem 4.1's bound on it, mean over models",
    "looseness_41": "mean bound over mean gap; none if the gap is 0",
    "gap": "|eta - eta_branch(k)|, the true error of the return over branches of k steps, mean over models",
    "bound_42": "theorem 4.2's bound on it, mean over models",
    "looseness_42": "mean bound over mean gap; none if the gap is 0",
    "bound_43": "theorem 4.3's bound on it, mean over models",
    "looseness_43": "mean bound over mean gap; none if the gap is 0",
    "trivial": "2 r_max / (1 - discount): a bound above it says nothing",
    "best_k_42": "the k at which theorem 4.2's mean bound is least",
    "best_k_43": "the k at which theorem 4.3's mean bound is least",
    "best_k": "the shortest k at which the mean gap is least, to six digits",
    "enough_k": "the shortest k whose mean gap is at most a tenth above the least",
    "unstable": "models in which the policy is unstable",
    "violations": "comparisons of these models with the bounds, over every k, in which a gap exceeds its bound",
}
ESTIMATED = (
    "eps_m", "eps_m_current", "gap_model", "bound_41", "looseness_41", "gap", "bound_42", "looseness_42", "bound_43",
    "looseness_43", "best_k_43", "best_k",
)  # fmt: skip
ENDS = {"": "", "_low": "lower end of the 95 % interval of ", "_high": "upper end of the 95 % interval of "}
COLUMNS = {
    name + end: words + name if end else meaning
    for name, meaning in MEANINGS.items()
    for end, words in (ENDS if name in ESTIMATED else {"": ""}).items()
}
CAVEATS = (
    ("As printed, the theorems take the largest total variation between the policies over all states, which is 1 for "
     "linear policies, and say nothing. Their proofs only need the largest expectation over the steps of one chain: "
     "the data's policy in the real system, and for eps_m' the present one. That is what is used."),
    ("The quadratic cost has no bound. The reward here is exp(-cost / (2 l)) - 1/2, with r_max = 1/2 and l the mean "
     "cost of a step of the data's policy; the gain that is optimal for the cost is not optimal for this reward."),
    ("Models keep the true covariance of the noise and differ from the system in A and B only; a fitted covariance "
     "would add to eps_m."),
    "A bound above 2 r_max / (1 - discount) says nothing: no two returns are further apart.",
    ("The gap stops changing once branches are so long that they hardly depend on the states of the data. Which length "
     "is best is then a matter of the last digits; the shortest that is nearly as good stands beside it."),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Setting:
    """What is the same for every model and policy on one system; `scale` is l of the reward."""

    system: LinearQuadratic
    first: np.ndarray
    optimal: np.ndarray
    exploration: np.ndarray
    discount: float
    scale: float
    longest: int
    episode: int
    sizes: Sequence[int]

    def told(self) -> dict[str, Any]:
        exploration = [float(each) for each in np.diag(self.exploration)]
        names = ("discount", "scale", "longest", "episode", "sizes")
        return {"exploration": exploration} | {name: getattr(self, name) for name in names}


def steps(systems: Sequence[LinearQuadratic], request: Request) -> int:
    """How often `run` calls `progress`: for each system its models, and each number of transitions and policy."""
    return sum(1 + len(SHARES) * len(_sizes(system, request)) for system in systems)


def run(systems: Sequence[LinearQuadratic], request: Request, progress: Progress) -> StudyResult:
    """The study; raises `InputError` for a system on which the bounds are not defined, or too little of anything."""
    seeds = DEFAULT_SEEDS if request.seeds is None else request.seeds
    if seeds < 1:
        raise InputError(f"the bounds need at least 1 seed, got {seeds}")
    settings = [_setting(system, request) for system in systems]
    rows: list[Row] = []
    for setting in settings:
        fitted = _fitted_models(setting, seeds, np.random.default_rng(request.seed))
        progress(f"{setting.system.name}: {seeds} models fitted")
        for transitions, models in zip(setting.sizes, fitted, strict=True):
            for share in SHARES:
                rows += _cell(setting, transitions, share, models, request.seed)
                progress(f"{setting.system.name}: {transitions:,} transitions, {100 * share:g} % of the way")
    told = {one.system.name: one.told() for one in settings}
    return StudyResult(
        study="bound",
        title="How loose the published bounds are",
        question="How far above the true error of imagined returns do theorems 4.1 to 4.3 of Janner et al. (2019) lie, "
        "and do they choose a good rollout length?",
        systems=[system.name for system in systems],
        seeds=seeds,
        settings={"seed": request.seed, "shares": list(SHARES), "r_max": bounds.R_MAX, "systems": told},
        findings=_findings(rows, seeds),
        caveats=CAVEATS,
        columns=COLUMNS,
        rows=rows,
    )


def _setting(system: LinearQuadratic, request: Request) -> _Setting:
    bounds.check_system(system)
    g = DISCOUNT if system.discount is None else system.discount
    optimum = solve(system)
    first, optimal, S = default_gain(system), optimum.gain, exploration_covariance(system, optimum)
    for share in (0.0, *SHARES):
        radius = spectral_radius(system.A + system.B @ (first + share * (optimal - first)))
        if not radius < 1:
            raise InputError(
                f"system {system.name!r}: the study of bounds needs stable closed loops, but {100 * share:g} % of the "
                f"way from the first gain to the optimal one A + BK has spectral radius {radius:.6g}"
            )
    spread = (1 - g) * system.initial_covariance + g * (system.W + system.B @ S @ system.B.T)
    visited = lyapunov(math.sqrt(g) * (system.A + system.B @ first), spread)
    scale = float(np.sum((system.Q + first.T @ system.R @ first) * visited) + np.sum(system.R * S))
    episode = min(max(math.ceil(math.log(1e-3) / math.log(g)), 10), 1000)
    longest = min(round(5 / (1 - g)), LENGTHS[-1])
    return _Setting(system, first, optimal, S, g, scale, longest, episode, _sizes(system, request))


def _sizes(system: LinearQuadratic, request: Request) -> list[int]:
    """Numbers of real transitions: all, a tenth and a hundredth, as far as they determine a model."""
    most = DEFAULT_TRANSITIONS if request.transitions is None else request.transitions
    least = 2 * (system.state_dim + system.action_dim)
    if most < least:
        raise InputError(f"system {system.name!r}: the bounds need at least {least} transitions, got {most}")
    return sorted({max(most // part, least) for part in (100, 10, 1)})


def _fitted_models(setting: _Setting, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """[A B] [count, n, n+m] by least squares on the first transitions of `count` streams of episodes, for each size."""
    system, n, m = setting.system, setting.system.state_dim, setting.system.action_dim
    values, vectors = np.linalg.eigh(system.initial_covariance)
    start = vectors * np.sqrt(np.maximum(values, 0.0))
    explore, noise = np.linalg.cholesky(setting.exploration), np.linalg.cholesky(system.W)
    AB = np.concatenate([system.A, system.B], axis=1)
    z, found = np.empty((count, n + m)), []
    squared, crossed = np.zeros((count, n + m, n + m)), np.zeros((count, n + m, n))
    for t in range(setting.sizes[-1]):
        if t % setting.episode == 0:
            z[:, :n] = rng.normal(size=(count, n)) @ start.T
        z[:, n:] = z[:, :n] @ setting.first.T + rng.normal(size=(count, m)) @ explore.T
        x_next = z @ AB.T + rng.normal(size=(count, n)) @ noise.T
        squared += z[:, :, None] * z[:, None, :]
        crossed += z[:, :, None] * x_next[:, None, :]
        z[:, :n] = x_next
        if t + 1 in setting.sizes:
            found.append(np.linalg.solve(squared, crossed).swapaxes(1, 2))
    return found


def _cell(setting: _Setting, transitions: int, share: float, models: np.ndarray, seed: int) -> list[Row]:
    """The rows of one number of transitions and one policy, one for each k."""
    n, g, longest = setting.system.state_dim, setting.discount, setting.longest
    A, B, S = models[:, :, :n], models[:, :, n:], setting.exploration
    gain = setting.first + share * (setting.optimal - setting.first)
    found = bounds.evaluate(setting.system, A, B, setting.first, gain, S, setting.scale, g, longest)
    pi, gaps, resampled = found.eps_pi, found.gap_branch, _Resampled(len(models), seed)
    m, current = mean_interval(found.eps_m), mean_interval(found.eps_m_current)
    recommended = [
        _of(current[end], lambda each: bounds.best_length_43(each, pi, g, longest)) for end in (0, 2, 1)
    ]
    best = resampled.interval(_shortest(gaps.mean(axis=0), EQUAL), _shortest(resampled.weights @ gaps, EQUAL))
    shared = {
        "system": setting.system.name,
        "transitions": transitions,
        "share": share,
        "eps_pi": pi,
        "slope": (current.estimate - m.estimate) / pi if pi > 0 else None,
        "eta": found.eta,
        "trivial": bounds.trivial_bound(g),
        "best_k_42": 0,
        "enough_k": int(_shortest(gaps.mean(axis=0), NEARLY)),
        "unstable": int((np.abs(np.linalg.eigvals(A + B @ gain)).max(axis=-1) >= 1).sum()),
        "violations": found.violations,
        **_ends("eps_m", m),
        **_ends("eps_m_current", current),
        **_ends("gap_model", mean_interval(found.gap_model)),
        **_ends("bound_41", [_of(each, lambda end: float(bounds.theorem_41(end, pi, g))) for each in m]),
        **_ends("looseness_41", resampled.ratio(found.bound_41, found.gap_model)),
        **_ends("best_k_43", recommended),
        **_ends("best_k", [_of(each, int) for each in best]),
    }
    lengths = {k for k in LENGTHS if k <= longest} | {shared[f"{name}_k"] for name in ("enough", "best")}
    rows = []
    for k in sorted(lengths | {recommended[0]}):
        row = shared | {"k": k} | _ends("gap", mean_interval(gaps[:, k]))
        row |= _ends(
            "bound_42", [_of(each, lambda end, k=k: float(bounds.theorem_42(end, pi, g, k)[k])) for each in m]
        )
        row |= _ends(
            "bound_43",
            [_of(each, lambda end, k=k: float(bounds.theorem_43(end, pi, g, k)[k])) for each in current],
        )
        row |= _ends("looseness_42", resampled.ratio(found.bound_42[:, k], gaps[:, k]))
        row |= _ends("looseness_43", resampled.ratio(found.bound_43[:, k], gaps[:, k]))
        rows.append({name: row[name] for name in COLUMNS})
    return rows


def _shortest(gaps: np.ndarray, factor: float) -> np.ndarray:
    """The first k whose gap, along the last axis, is within a factor of the least."""
    return (gaps <= factor * gaps.min(axis=-1, keepdims=True)).argmax(axis=-1)


def _of(end: float | None, taken: Callable[[Any], Any]) -> Any:
    """What is taken of an estimate or an end of its interval; None where there are too few models for one."""
    return None if end is None else taken(end)


def _ends(name: str, values: Sequence[Any] | None) -> dict[str, Any]:
    """An estimate and the ends of its interval as columns."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), values or (None, None, None), strict=True))


class _Resampled:
    """Bootstrap of what is not a mean over models: every resample is a row of weights."""

    def __init__(self, count: int, seed: int) -> None:
        draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        self.weights = draws / count

    def interval(self, estimate: Any, resampled: np.ndarray) -> Interval:
        return percentile_interval(float(estimate), resampled, self.weights.shape[1])

    def ratio(self, above: np.ndarray, below: np.ndarray) -> Interval | None:
        """mean(above) / mean(below) over models; none where a mean below is 0."""
        divided = self.weights @ below
        if not divided.all():
            return None
        return self.interval(above.mean() / below.mean(), self.weights @ above / divided)


def _findings(rows: Sequence[Row], seeds: int) -> list[str]:
    cells, zero = ([row for row in rows if row["k"] == row[name]] for name in ("best_k_43", "best_k_42"))
    settings, middle = len(cells), cells[len(cells) // 2]
    broken = sum(row["violations"] for row in cells)
    loose = f"{broken or 'No'} gap{'s exceed their' if broken > 1 else ' exceeds its'} bound"
    judged = sorted((row for row in cells if row["looseness_43"]), key=lambda row: row["looseness_43"])
    if judged:
        loose += (
            f", but at the rollout length it likes best theorem 4.3 allows {_times(judged[0])} to {_times(judged[-1])} "
            f"the true gap, and in {sum(row['bound_43'] > row['trivial'] for row in cells)} of {settings} settings it "
            "says nothing at all"
        )
    near, nearly = (sum(row["gap"] <= NEARLY * _least(rows, row) for row in each) for each in (cells, zero))
    lengths = (
        f"Theorem 4.2 recommends k = 0, as it always must, and is within a tenth of the least gap in {nearly} of "
        f"{settings} settings; the length that theorem 4.3 recommends is in {near}. On {_where(middle)}, it recommends "
        f"{_range(middle, 'best_k_43')} steps, and the mean gap is least at {_range(middle, 'best_k')} and within a "
        f"tenth of that from {middle['enough_k']} on"
    )
    return [f"{sentence} ({seeds} models in each setting)." for sentence in (loose, lengths)]


def _least(rows: Sequence[Row], like: Row) -> float:
    names = ("system", "transitions", "share")
    return min(row["gap"] for row in rows if all(row[name] == like[name] for name in names))


def _where(row: Row) -> str:
    return f"{row['system']} with {row['transitions']:,} transitions and {100 * row['share']:g} % of the way"


def _times(row: Row) -> str:
    def words(value: float) -> str:
        return f"{float(f'{value:.3g}'):,.4g}"

    ends = _interval(row, "looseness_43", words) if row["k"] else "exactly: no model enters at k = 0"
    return f"{words(row['looseness_43'])} times ({ends}; {_where(row)})"


def _range(row: Row, name: str) -> str:
    return f"{row[name]} ({_interval(row, name, str)})"


def _interval(row: Row, name: str, words: Callable[[Any], str]) -> str:
    low, high = (row[name + end] for end in ("_low", "_high"))
    return TOO_FEW if low is None else f"95 % interval {words(low)} to {words(high)}"
