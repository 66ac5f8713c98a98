"""The failing learner repaired one defect at a time, and the learners that work, on the same amount of data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbpo.core.quantiles import median
from mbpo.lqr import catalogue, exact
from mbpo.lqr.coordinates import exploration_covariance
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.train import Settings, train
from mbpo.studies.diagnosis.learner import Course, Habits, learn
from mbpo.studies.diagnosis.world import draw_states, excess_of, stationary, system_and_optimum

WORKING = ("policy-gradient", "mis", "dpg", "mbpo")  # algorithms of `mbpo train`, in the order of the repairs
EVIDENCE_SYSTEMS = ("double_integrator", "laplacian3", "pendulum")
REPAIRS = {
    "as it was": Habits(),
    "sampled actions": Habits(sampled=True),
    "no ratios: fresh data only": Habits(sampled=True, replays=False),
    "cost-to-go": Habits(sampled=True, replays=False, credit="to-go"),
    "value baseline, value at the end": Habits(sampled=True, replays=False, credit="advantage"),
}  # each keeps the repairs before it; the step stays constant
NAIVE = "sampled actions"
STEPS = (
    0.0003,
    0.001,
    0.003,
    0.01,
    0.03,
    0.1,
)  # tried, in units of 1 / (T times the largest curvature at K*)
REPETITIONS = 16
COURSE = Course(rounds=120, trajectories=10, length=20)


@dataclass(frozen=True)
class Curve:
    """Excess cost of R runs of one learner: transitions `[r]`, excess `[R, r]`; `step`: its constant step, if any."""

    system: str
    learner: str
    transitions: np.ndarray
    excess: np.ndarray
    step: float | None

    @property
    def median(self) -> np.ndarray:
        """The median over runs, `[r]`; infinite where one of the two in the middle is."""
        return median(self.excess)

    @property
    def lost(self) -> int:
        """Runs whose last gain does not stabilise."""
        return int(np.sum(~np.isfinite(self.excess[:, -1])))


def repaired(
    name: str, seed: int, repetitions: int = REPETITIONS, course: Course = COURSE
) -> tuple[Curve, ...]:
    """A curve for each of `REPAIRS`, each with the best of `STEPS`: the one of lowest median excess at the end.

    S, the first gain and the number of transitions are those of the learners that work; trajectories start from the
    stationary law of the first gain.
    """
    system, best, optimal = system_and_optimum(name)
    gain, S = default_gain(system), exploration_covariance(system, solve(system))
    curvature = float(np.linalg.eigvalsh(np.asarray(exact.hessian(system, best)))[-1])
    steps = np.array(STEPS) / (course.length * curvature)
    Sigma = stationary(system, gain, S)
    runs = (len(STEPS), repetitions)
    first = np.broadcast_to(gain, (*runs, *gain.shape))
    gains = []
    for habits in REPAIRS.values():
        rng = np.random.default_rng(seed)
        starts = draw_states(Sigma, (course.rounds, 1, repetitions, course.trajectories), rng)
        eta = np.broadcast_to(steps[:, None], runs)
        learned = learn(system, habits, course, first, S, starts, eta, rng)
        gains.append(np.concatenate([first[None], learned[:, -1]]))
    excess = excess_of(np.stack(gains), system, optimal)  # [learner, round, step, run]
    chosen = np.argmin(median(excess[:, -1], axis=2), axis=1)
    used = np.arange(course.rounds + 1) * course.trajectories * course.length
    return tuple(
        Curve(name, learner, used, excess[i, :, chosen[i]].T, STEPS[chosen[i]])
        for i, learner in enumerate(REPAIRS)
    )


def repairs(
    seed: int,
    systems: tuple[str, ...] = EVIDENCE_SYSTEMS,
    repetitions: int = REPETITIONS,
    course: Course = COURSE,
) -> tuple[Curve, ...]:
    """`repaired` on each of `systems`."""
    return tuple(curve for name in systems for curve in repaired(name, seed, repetitions, course))


def working(
    algorithm: str,
    systems: tuple[str, ...],
    seed: int,
    repetitions: int = REPETITIONS,
    transitions: int = COURSE.transitions,
) -> tuple[Curve, ...]:
    """The curve of an algorithm of `mbpo train` on each of `systems`."""
    curves = []
    for name in systems:
        training = train(catalogue.get(name), Settings(algorithm, transitions, repetitions, seed))
        curves.append(Curve(name, algorithm, training.transitions, training.excess_cost, None))
    return tuple(curves)
