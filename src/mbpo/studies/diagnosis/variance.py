"""Defects 5 and 6: the noise of a whole-trajectory gradient, and what clipping its ratios does to its mean.

The objective is the cost of `LENGTH` steps with the optimal value at the end, so that one gain is optimal and the exact
gradient is known. Data come from u ~ N(Kx, S), or, for the ratios, from an older gain K_b on the way to K.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array
from scipy.optimize import brentq

from mbpo.lqr import exact
from mbpo.lqr.optimum import default_gain
from mbpo.lqr.ratios import ratio_second_moment
from mbpo.lqr.system import LinearQuadratic
from mbpo.studies.diagnosis.world import (
    LENGTH,
    Mean,
    Rows,
    draw_states,
    mean_of,
    quadratic,
    rollouts,
    stationary,
    system_and_optimum,
    to_go,
)

VARIANCE_SYSTEMS = ("double_integrator", "laplacian3", "pendulum")
EXPLORED_VARIANCE = 0.5  # S = 0.5 I
OLD_MOMENT = 2.0  # E rho^2 of the older gain: its trajectories are worth half as many of the present gain
ESTIMATORS = (
    "ratio × total cost",
    "ratio × cost-to-go",
    "total cost",
    "cost-to-go",
    "cost-to-go − value",
    "advantage",
)
CLIPS = (0.5, 1.0, 2.0, 5.0, 20.0)


class Case(NamedTuple):
    """A system over `LENGTH` steps at its first gain K, with an older gain K_b, S, and the exact gradient."""

    system: LinearQuadratic
    gain: Array
    old: Array
    back: float
    S: Array
    truth: Array
    values: Array
    offsets: Array


@dataclass(frozen=True)
class Noise:
    """Relative standard deviation of one trajectory's gradient, sqrt(E|g - dJ|^2) / |dJ|, by estimator.

    spread: the mean over batches with its interval; bias: |mean - dJ| / |dJ| of all trajectories and, beside it, the
    size that sampling noise alone would give it.
    """

    system: str
    trajectories: int
    batches: int
    old_distance: float
    spread: dict[str, Mean]
    bias: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Clipping:
    """The mean of the gradient with ratios clipped at c, as its component along the exact gradient: 1 is right.

    total, baseline: by clip level, for the total cost and for cost-to-go minus value. The unclipped estimator, whose
    mean is known, is the control variate.
    """

    system: str
    trajectories: int
    old_distance: float
    clips: tuple[float, ...]
    total: tuple[Mean, ...]
    baseline: tuple[Mean, ...]
    share_clipped: tuple[float, ...]


def gradient_noise(name: str, seed: int, batches: int = 20, batch: int = 10_000) -> Noise:
    """The noise of the six `ESTIMATORS` of one gradient, without bias all of them."""
    case, rng = _case(name), np.random.default_rng(seed)
    size = float(np.linalg.norm(case.truth))
    spreads: dict[str, list[float]] = {each: [] for each in ESTIMATORS}
    sums = {each: np.zeros_like(case.truth) for each in ESTIMATORS}
    for _ in range(batches):
        for each, g in _estimates(case, batch, rng).items():
            spreads[each].append(float(np.sqrt(np.mean(np.sum((g - case.truth) ** 2, (1, 2))))) / size)
            sums[each] += g.mean(axis=0) / batches
    spread = {each: mean_of(np.array(found)) for each, found in spreads.items()}
    bias = {
        each: (
            float(np.linalg.norm(sums[each] - case.truth)) / size,
            spread[each].value / float(np.sqrt(batches * batch)),
        )
        for each in ESTIMATORS
    }
    return Noise(name, batches * batch, batches, case.back, spread, bias)


def gradient_noises(seed: int, batches: int = 20, batch: int = 10_000) -> tuple[Noise, ...]:
    """`gradient_noise` of each of `VARIANCE_SYSTEMS`."""
    return tuple(gradient_noise(name, seed, batches, batch) for name in VARIANCE_SYSTEMS)


def clipping(name: str, seed: int, batches: int = 20, batch: int = 10_000) -> Clipping:
    """What clipping whole-trajectory ratios at c does to the mean of the gradient."""
    case, rng = _case(name), np.random.default_rng(seed)
    unit = case.truth / np.sum(case.truth**2)
    moved = np.empty((2, batches, len(CLIPS)))
    share = np.zeros(len(CLIPS))
    for at in range(batches):
        rows = _act(case, case.old, batch, rng)
        ratio, weights = _ratio(case, rows), _weights(case, rows)
        cut = np.minimum(ratio[:, None], CLIPS) - ratio[:, None]
        for kind, each in enumerate(("total cost", "cost-to-go − value")):
            along = np.einsum("bij,ij->b", _sum_over_steps(case, rows, weights[each]), unit)
            moved[kind, at] = 1.0 + along @ cut / batch
        share += np.mean(ratio[:, None] > CLIPS, axis=0) / batches
    total, baseline = (tuple(mean_of(column) for column in each.T) for each in moved)
    return Clipping(
        name, batches * batch, case.back, CLIPS, total, baseline, tuple(float(each) for each in share)
    )


def clippings(seed: int, batches: int = 20, batch: int = 10_000) -> tuple[Clipping, ...]:
    """`clipping` on the first two of `VARIANCE_SYSTEMS`."""
    return tuple(clipping(name, seed, batches, batch) for name in VARIANCE_SYSTEMS[:2])


def _case(name: str) -> Case:
    system, best, _ = system_and_optimum(name)
    gain = default_gain(system)
    away = (gain - best) / np.linalg.norm(gain - best)
    S = EXPLORED_VARIANCE * np.eye(system.action_dim)
    finite = exact.resolved(replace(system, horizon=LENGTH, initial_covariance=stationary(system, gain, S)))
    values = np.asarray(exact.value_matrix(finite, gain))
    W_e = finite.W + finite.B @ S @ finite.B.T
    stage = np.einsum("tij,ij->t", values[1:], W_e) + np.sum(finite.R * S)
    offsets = np.append(to_go(stage), 0.0)
    truth = np.asarray(exact.gradient(finite, gain, S))
    back = _distance_back(finite, gain, away)
    return Case(finite, gain, gain + back * away, back, S, truth, values, offsets)


def _distance_back(system: LinearQuadratic, gain: Array, away: Array) -> float:
    """How far behind `gain` the ratios of whole trajectories have the second moment `OLD_MOMENT`."""
    S = EXPLORED_VARIANCE * np.eye(system.action_dim)

    def over(distance: float) -> float:
        old = gain + distance * away
        moment = ratio_second_moment(system, gain, old, S, LENGTH)
        return min(moment, 1e9) - OLD_MOMENT

    far = 1e-3
    while over(far) < 0:
        far *= 1.5
    return float(brentq(over, 0.0, far))  # pyright: ignore[reportArgumentType]


def _estimates(case: Case, batch: int, rng: np.random.Generator) -> dict[str, Float[Array, "B m n"]]:
    """One gradient a trajectory from each estimator: on-policy ones from the gain, the others from the older gain."""
    rows = _act(case, case.gain, batch, rng)
    found = {each: _sum_over_steps(case, rows, weight) for each, weight in _weights(case, rows).items()}
    rows = _act(case, case.old, batch, rng)
    ratio, weights = _ratio(case, rows)[:, None], _weights(case, rows)
    replayed = {
        f"ratio × {each}": _sum_over_steps(case, rows, ratio * weights[each])
        for each in ("total cost", "cost-to-go")
    }
    return replayed | found


def _act(case: Case, gain: Array, batch: int, rng: np.random.Generator) -> Rows:
    start = draw_states(case.system.initial_covariance, (batch,), rng)
    return rollouts(case.system, gain, np.linalg.cholesky(case.S), start, LENGTH, rng)


def _sum_over_steps(case: Case, rows: Rows, weight: Float[Array, "B T"]) -> Float[Array, "B m n"]:
    """sum_t weight_t S^-1 (u_t - K x_t) x_t'."""
    whitened = (rows.u - rows.x @ case.gain.T) @ np.linalg.inv(case.S)
    return np.swapaxes(weight[..., None] * whitened, -1, -2) @ rows.x


def _ratio(case: Case, rows: Rows) -> Float[Array, "B"]:
    """The ratio of whole trajectories of the older gain."""
    inverse = np.linalg.inv(case.S)
    new, old = (quadratic(inverse, rows.u - rows.x @ gain.T) for gain in (case.gain, case.old))
    return np.exp(np.sum(old - new, axis=1) / 2)


def _weights(case: Case, rows: Rows) -> dict[str, Float[Array, "B T"]]:
    """What the score of a step is multiplied with; value and advantage are the exact ones."""
    A, B, W = case.system.A, case.system.B, case.system.W
    stage = quadratic(case.system.Q, rows.x) + quadratic(case.system.R, rows.u)
    following = to_go(stage) + quadratic(case.values[-1], rows.x_next[:, -1])[:, None]
    value = np.einsum("bti,tij,btj->bt", rows.x, case.values[:-1], rows.x, optimize=True) + case.offsets[:-1]
    ahead = rows.x @ A.T + rows.u @ B.T
    expected = np.einsum("bti,tij,btj->bt", ahead, case.values[1:], ahead, optimize=True)
    noise = np.einsum("tij,ij->t", case.values[1:], W) + case.offsets[1:]
    return {
        "total cost": np.broadcast_to(following[:, :1], stage.shape),
        "cost-to-go": following,
        "cost-to-go − value": following - value,
        "advantage": stage + expected + noise - value,
    }
