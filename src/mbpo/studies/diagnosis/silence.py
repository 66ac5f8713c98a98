"""Defect 2: actions executed exactly at Kx but scored as N(Kx, S).

On the policy's own data the score S^-1 (u - Kx) x' is zero, so is the gradient. On the data of an older gain K_b the
score is S^-1 (K_b - K) x x': the step is a cost-weighted push away from K_b, whatever the cost is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from mbpo.lqr import exact
from mbpo.lqr.system import LinearQuadratic
from mbpo.studies.diagnosis.learner import Course, Habits, gradient, learn, summarise, weights
from mbpo.studies.diagnosis.reference import continuous_gain
from mbpo.studies.diagnosis.world import (
    FAILED,
    FIRST_STATE,
    LENGTH,
    SCORED_VARIANCE,
    STEP,
    Mean,
    cosine,
    excess_of,
    mean_of,
    rollouts,
    system_and_optimum,
)

NEARBY = 0.1  # |K - K_b| of the replay experiment
EARLY = 10  # updates after new data that count as a jump


@dataclass(frozen=True)
class Silence:
    """The step of the set-up that failed, in R repetitions, each with its own random gain with entries in [0, 1].

    on_policy: largest entry of the gradient on the gain's own data `[R]`; with_old: cos(step, K - K_b) `[R]` on the
    data of a gain K_b at distance `NEARBY`; with_descent: cos(step, -dJ/dK) `[R]`. `exact`: actions executed as Kx;
    `sampled`: drawn from N(Kx, S), as the score assumes.
    """

    system: str
    repetitions: int
    trajectories: int
    exact: dict[str, np.ndarray]
    sampled: dict[str, np.ndarray]
    exact_means: dict[str, Mean]
    sampled_means: dict[str, Mean]


def silent_score(seed: int, repetitions: int = 200, trajectories: int = 80) -> Silence:
    """What a step points at on the data of one older gain, with actions executed exactly and sampled."""
    system, _, _ = system_and_optimum(FAILED)
    S = SCORED_VARIANCE * np.eye(system.action_dim)

    def look(factor: Array) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        found = [_look(system, S, factor, trajectories, rng) for _ in range(repetitions)]
        return {name: np.array([each[name] for each in found]) for name in found[0]}

    exactly, sampled = look(np.zeros_like(S)), look(np.linalg.cholesky(S))
    means = [{name: mean_of(draws) for name, draws in each.items()} for each in (exactly, sampled)]
    return Silence(FAILED, repetitions, trajectories, exactly, sampled, *means)


def _look(
    system: LinearQuadratic, S: Array, factor: Array, trajectories: int, rng: np.random.Generator
) -> dict[str, float]:
    old = rng.uniform(size=(system.action_dim, system.state_dim))
    turn = rng.standard_normal(old.shape)
    gain = old + NEARBY * turn / np.linalg.norm(turn)
    start = np.broadcast_to(FIRST_STATE, (trajectories, system.state_dim))
    rows = rollouts(system, old, factor, start, LENGTH, rng)
    weight, S_inverse = weights(system, rows, "total"), np.linalg.inv(S)
    score = np.einsum("bti,btj->btij", rows.u - rows.x @ old.T, rows.x) / SCORED_VARIANCE
    own = np.einsum("bt,btij->ij", weight, score) / trajectories
    step = -gradient(summarise(rows, weight, old, S_inverse), gain, S_inverse, True)
    return {
        "on_policy": float(np.max(np.abs(own))),
        "with_old": cosine(step, gain - old),
        "with_descent": cosine(step, -np.asarray(exact.gradient(system, gain))),
    }


@dataclass(frozen=True)
class Stampede:
    """The whole loop of the set-up that failed, R runs: after every update, over all runs.

    updates `[k]`: the updates shown; moved `[R, k]`: |K - K_0|; cost `[R, k]`: J/J*; to_wrong_target `[R, k]`: distance
    from the gain that it was judged by; all infinite once a run has overflowed. jump: the share of the way walked
    after an episode's data that its first `EARLY` updates cover, median over episodes and runs.
    """

    system: str
    repetitions: int
    episodes: int
    updates_each: int
    updates: np.ndarray
    moved: np.ndarray
    cost: np.ndarray
    to_wrong_target: np.ndarray
    jump: float
    overflowed: int


def stampede(
    seed: int, repetitions: int = 32, episodes: int = 80, updates: int = 80, sampled: bool = False
) -> Stampede:
    """K jumps away from where its data lie, the ratios vanish, and it stays there."""
    system, _, optimal = system_and_optimum(FAILED)
    course = Course(episodes, 1, LENGTH, updates, continues=True)
    S = SCORED_VARIANCE * np.eye(system.action_dim)
    rng = np.random.default_rng(seed)
    first = rng.uniform(size=(repetitions, system.action_dim, system.state_dim))
    starts = np.broadcast_to(FIRST_STATE, (episodes, repetitions, 1, system.state_dim))
    learned = learn(system, Habits(sampled), course, first, S, starts, np.full(repetitions, STEP), rng)
    gains = np.moveaxis(learned.reshape(-1, *first.shape), 1, 0)
    shown = _shown(episodes * updates)
    whole = np.concatenate([first[:, None], gains], axis=1)
    path = whole[:, shown]
    with np.errstate(all="ignore"):  # a run that overflows is a finding
        moved = np.linalg.norm(path - path[:, :1], axis=(2, 3))
        target = np.linalg.norm(path - continuous_gain(system), axis=(2, 3))
    cost = 1.0 + excess_of(path, system, optimal)
    return Stampede(
        system=FAILED,
        repetitions=repetitions,
        episodes=episodes,
        updates_each=updates,
        updates=shown,
        moved=np.where(np.isnan(moved), np.inf, moved),
        cost=cost,
        to_wrong_target=np.where(np.isnan(target), np.inf, target),
        jump=_jump(whole, updates),
        overflowed=int(np.sum(~np.isfinite(cost[:, -1]))),
    )


def _jump(gains: Float[Array, "R k m n"], updates: int) -> float:
    """`Stampede.jump` of the gains before the first and after every update."""
    with np.errstate(all="ignore"):
        steps = np.linalg.norm(np.diff(gains, axis=1), axis=(2, 3)).reshape(len(gains), -1, updates)
        shares = np.sum(steps[:, :, :EARLY], axis=2) / np.sum(steps, axis=2)
    known = shares[np.isfinite(shares)]
    return float(np.median(known)) if len(known) else float("nan")


def _shown(updates: int) -> np.ndarray:
    """Up to 60 numbers of updates, evenly spread on a logarithmic scale, with 0 and the last."""
    spread = np.unique(np.round(np.logspace(0, np.log10(updates), 60)).astype(int))
    return np.concatenate([[0], spread])
