"""Defects 1 and 8: the wrong optimum to compare with, and a system on which every small gain is optimal."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from scipy.linalg import solve_continuous_are
from scipy.optimize import minimize

from mbpo.core.precision import double_precision
from mbpo.core.quantiles import median
from mbpo.lqr import exact
from mbpo.lqr.limits import asymptotic_excess, regressor_covariance
from mbpo.lqr.system import LinearQuadratic
from mbpo.studies.diagnosis.world import FAILED, SCORED_VARIANCE, excess_of, system_and_optimum

REFERENCE_SYSTEMS = (FAILED, "double_integrator", "laplacian3", "pendulum", "boeing747")
LANDSCAPE_SYSTEMS = (FAILED, "laplacian3")
EULER_STEPS = {"double_integrator": 0.1, "pendulum": 0.05}  # A = I + h A_c, B = h B_c


@dataclass(frozen=True)
class ReferenceRow:
    """One system: J*, and what other gains cost, infinite where they do not stabilise.

    `continuous_own`: the continuous-time gain of the system before its Euler step, as u = -K x, where there is one.
    """

    system: str
    optimal_cost: float
    zero: float
    continuous_plus: float  # the continuous-time gain applied as u = +K x
    continuous_minus: float  # the same applied as u = -K x, the sign it is meant for
    discrete_wrong_sign: float  # the right gain with the sign of the other convention
    continuous_own: float | None
    continuous_gain: np.ndarray  # K of u = -K x, [m, n]
    optimal_gain: np.ndarray  # K of u = +K x, [m, n]

    @property
    def costs(self) -> dict[str, float]:
        """The four costs by name."""
        return {
            "K = 0": self.zero,
            "continuous, as +K": self.continuous_plus,
            "continuous, as −K": self.continuous_minus,
            "discrete, wrong sign": self.discrete_wrong_sign,
        }


@dataclass(frozen=True)
class References:
    """The rows of `REFERENCE_SYSTEMS`; exact, nothing is repeated."""

    rows: tuple[ReferenceRow, ...]

    def of(self, system: str) -> ReferenceRow:
        """The row of a system."""
        return next(row for row in self.rows if row.system == system)


def reference_gains() -> References:
    """J of the continuous-time Riccati gain in the discrete system, with either sign, beside the optimum."""
    return References(tuple(_reference_row(name) for name in REFERENCE_SYSTEMS))


def continuous_gain(system: LinearQuadratic, euler_step: float | None = None) -> np.ndarray:
    """K = R^-1 B'X of u = -K x, with A'X + XA - XBR^-1B'X + Q = 0: the optimum of dx/dt = Ax + Bu.

    A and B are those of the discrete system, as in the set-up that failed, or with `euler_step` h the (A - I)/h and
    B/h that they came from.
    """
    A, B = system.A, system.B
    if euler_step is not None:
        A, B = (A - np.eye(len(A))) / euler_step, B / euler_step
    X = solve_continuous_are(A, B, system.Q, system.R)
    return np.linalg.solve(system.R, B.T @ X)


def _reference_row(name: str) -> ReferenceRow:
    system, best, optimal = system_and_optimum(name)
    wrong = continuous_gain(system)

    def cost(gain: np.ndarray) -> float:
        return float(exact.cost(system, gain))

    h = EULER_STEPS.get(name)
    return ReferenceRow(
        system=name,
        optimal_cost=optimal,
        zero=cost(np.zeros_like(best)),
        continuous_plus=cost(wrong),
        continuous_minus=cost(-wrong),
        discrete_wrong_sign=cost(-best),
        continuous_own=None if h is None else cost(-continuous_gain(system, h)),
        continuous_gain=wrong,
        optimal_gain=best,
    )


@dataclass(frozen=True)
class Landscape:
    """Excess cost around the optimum of one system.

    distances `[d]`: Frobenius norms |K - K*|; lowest, highest `[d]`: the least and the greatest excess at that distance
    over all directions, see `extremes`; median `[d]`: over `directions` random ones; zero: J(0)/J* - 1; condition: of
    the Hessian at K*; points: named gains as (|K - K*|, excess).
    """

    system: str
    optimal_cost: float
    distances: np.ndarray
    lowest: np.ndarray
    median: np.ndarray
    highest: np.ndarray
    directions: int
    zero: float
    condition: float
    transitions_to_beat_zero: float
    points: dict[str, tuple[float, float]]


def landscape(name: str, seed: int, directions: int = 400) -> Landscape:
    """Excess cost at given distances from K*: how little |K - K*| says about J.

    `transitions_to_beat_zero` is the number of transitions, collected around K = 0 with the exploration that the
    set-up scored with, at which the asymptotic excess of certainty equivalence falls to that of K = 0; 0 when K = 0
    does not stabilise.
    """
    system, best, optimal = system_and_optimum(name)
    distances = np.logspace(-2.5, 0.5, 25)
    draws = np.random.default_rng(seed).standard_normal((directions, *best.shape))
    draws /= np.linalg.norm(draws, axis=(1, 2), keepdims=True)
    gains = best + distances[:, None, None, None] * draws
    excess = excess_of(gains, system, optimal)
    lowest, highest = extremes(system, best, optimal, distances, draws)
    curvature = np.linalg.eigvalsh(np.asarray(exact.hessian(system, best)))
    zero = float(exact.excess_cost(system, np.zeros_like(best), optimal))
    return Landscape(
        system=name,
        optimal_cost=optimal,
        distances=distances,
        lowest=lowest,
        median=median(excess, axis=1),
        highest=highest,
        directions=directions,
        zero=zero,
        condition=float(curvature[-1] / curvature[0]),
        transitions_to_beat_zero=_transitions_to(system, zero),
        points=_points(system, best, optimal),
    )


@double_precision
def extremes(
    system: LinearQuadratic, best: np.ndarray, optimal_cost: float, distances: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest J/J* - 1 on each sphere |K - K*|_F = d, `[d]` each, for `distances` that grow.

        J(K* + d v) = J* + d^2 / 2 v'Hv + O(d^3),    |v| = 1

    Near K* the extremes are d^2 / (2 J*) times the least and the greatest eigenvalue of the Hessian H, at its
    eigenvectors. From there each of them is followed outwards, with both signs, by BFGS on the direction with the exact
    gradient; the most extreme of `draws` `[r, m, n]` (unit vectors) is one more start, for further out the sphere may
    have several valleys. Infinite where a gain that does not stabilise was met.
    """
    _, vectors = np.linalg.eigh(np.asarray(exact.hessian(system, best)))
    excess = excess_of(best + distances[:, None, None, None] * draws, system, optimal_cost)
    found = []
    for sign, vector, drawn in (
        (1.0, vectors[:, 0], excess.argmin(axis=1)),
        (-1.0, vectors[:, -1], excess.argmax(axis=1)),
    ):
        ways = [vector, -vector]
        values = []
        for distance, start in zip(distances, draws[drawn], strict=True):
            sphere = _Sphere(system, best, optimal_cost, float(distance), sign)
            ends = sorted((sphere.least(each) for each in (*ways, start.ravel())), key=lambda end: end[0])
            ways = [end[1] for end in ends[:2]]
            values.append(sign * ends[0][0])
        found.append(np.array(values))
    return found[0], found[1]


@dataclass(frozen=True)
class _Sphere:
    """`sign` times the excess of the gains at one distance from the best, as a function of the direction."""

    system: LinearQuadratic
    best: np.ndarray
    optimal: float
    distance: float
    sign: float

    def least(self, direction: np.ndarray) -> tuple[float, np.ndarray]:
        """The least value that descent from `direction` finds, and where; at an unstable gain it stays."""
        first = self._value_and_slope(direction)[0]
        if not np.isfinite(first):
            return first, direction
        with np.errstate(all="ignore"):  # a line search may try an unstable gain
            solution = minimize(
                self._value_and_slope, direction, jac=True, method="BFGS", options={"gtol": 1e-9}
            )
        return float(solution.fun) * self.distance**2, solution.x / np.linalg.norm(solution.x)

    def _value_and_slope(self, free: np.ndarray) -> tuple[float, np.ndarray]:
        """In units of d^2, so that they are of order one at every distance."""
        length = float(np.linalg.norm(free))
        v, unit = free / length, self.sign / (self.optimal * self.distance**2)
        cost, slope = _cost_and_gradient(self.system, self.best + self.distance * v.reshape(self.best.shape))
        if not np.isfinite(cost):
            return self.sign * np.inf, np.zeros_like(free)
        flat = np.asarray(slope).ravel() * unit * self.distance
        along = (flat - v * (v @ flat)) / length  # the length of `free` says nothing
        return unit * (float(cost) - self.optimal), along


@jax.jit
def _cost_and_gradient(system: LinearQuadratic, gain: np.ndarray) -> tuple[jax.Array, jax.Array]:
    return exact.cost(system, gain), exact.gradient(system, gain)


def _transitions_to(system: LinearQuadratic, excess: float) -> float:
    if not np.isfinite(excess):
        return 0.0
    S = SCORED_VARIANCE * np.eye(system.action_dim)
    one = regressor_covariance(system, np.zeros((system.action_dim, system.state_dim)), S)
    return float(asymptotic_excess(system, one)) / excess


def _points(system: LinearQuadratic, best: np.ndarray, optimal: float) -> dict[str, tuple[float, float]]:
    wrong = continuous_gain(system)
    named = {"K = 0": np.zeros_like(best), "continuous Riccati, +K": wrong, "continuous Riccati, −K": -wrong}
    if system.initial_gain is not None:
        named["first gain"] = system.initial_gain
    found = {
        each: (float(np.linalg.norm(gain - best)), float(exact.excess_cost(system, gain, optimal)))
        for each, gain in named.items()
    }
    return {each: point for each, point in found.items() if np.isfinite(point).all()}


def landscapes(seed: int, directions: int = 400) -> tuple[Landscape, ...]:
    """The landscape of the system that failed and of one on which the gain matters."""
    return tuple(landscape(name, seed, directions) for name in LANDSCAPE_SYSTEMS)
