"""The certified optimum of a linear-quadratic system: gain, value and cost, or the condition that fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mbpo.errors import InputError
from mbpo.lqr.certificate import (
    check_conditions,
    check_reachable,
    check_visible,
    holds,
    least_reachable_mode,
    least_visible_mode,
    sees,
)
from mbpo.lqr.radius import Radius, closed_loop_radius
from mbpo.lqr.reference import riccati_map, spectral_radius, stabilising_value
from mbpo.lqr.system import LinearQuadratic, Objective

RESIDUAL_TOLERANCE = 1e-8
LARGEST_RESIDUAL = 1e-6
RADIUS_MARGIN = 1e-10
CALM_RADIUS = 0.995
DEARER_CONTROL = 100.0


@dataclass(frozen=True, eq=False)
class Optimum:
    """The optimal policy u = +K x of one system and its certificate.

    For a horizon, `gain` and `value` are those of stage 0 and `gains` holds every stage.
    """

    gain: np.ndarray  # K [m, n]
    value: np.ndarray  # P [n, n]
    cost: float  # J*
    spectral_radius: float  # of A + B K, not scaled by the discount
    residual: float  # of the Riccati equation, relative to P
    objective: Objective
    gains: np.ndarray | None = None  # [T, m, n]
    spectral_radius_error: float = 0.0  # at most this far from the radius of A + B K for the K given


def solve(system: LinearQuadratic) -> Optimum:
    """The optimum of `system` and what proves it: residual, P >= 0, closed-loop radius, and their hold on the entries.

    The conditions are not tested beforehand: a gain that stabilises A + BK, and still does when the entries of A and B
    change in their twelfth digit, shows that (A, B) is stabilisable, and an observer shows the same of (A', Q). Where
    this proof fails the PBH test names the mode. Nothing depends on the units of states, inputs and costs.

    Average: P = Q + A'PA - A'PB (R + B'PB)^-1 B'PA, K = -(R + B'PB)^-1 B'PA, J* = tr(P W).
    Discounted: the same for (sqrt(g) A, sqrt(g) B), J* = tr(P X0) + g tr(P W) / (1 - g); finite costs allow a
    closed loop of radius up to 1/sqrt(g). Horizon: the recursion from `terminal_value`,
    J* = tr(P_0 X0) + sum_t tr(P_{t+1} W).

    Raises `InputError` naming the condition and the eigenvalue or mode that fails it.
    """
    with np.errstate(all="ignore"):  # what is not finite is refused below, in a sentence
        return _solve_stationary(system) if system.horizon is None else _solve_horizon(system, system.horizon)


def _solve_stationary(system: LinearQuadratic) -> Optimum:
    g = 1.0 if system.discount is None else system.discount
    K, P, residual, radius = _stationary(system, g)
    cost = float(np.sum(P * system.W))
    if system.discount is not None:
        cost = float(np.sum(P * system.initial_covariance)) + g * cost / (1 - g)
    if not np.isfinite(cost):
        raise InputError(f"{system.name}: the optimal cost overflows, scale the costs or the states down")
    return _optimum(system, K, P, cost, radius, residual)


def _optimum(
    system: LinearQuadratic,
    K: np.ndarray,
    P: np.ndarray,
    cost: float,
    radius: Radius,
    residual: float,
    gains: np.ndarray | None = None,
) -> Optimum:
    stages = None if gains is None else _frozen(gains)
    return Optimum(
        _frozen(K), _frozen(P), cost, radius.value, residual, system.objective, stages, radius.error
    )


def terminal_value(system: LinearQuadratic) -> np.ndarray:
    """The terminal cost matrix `[n, n]` in force: `terminal_cost`, else the undiscounted optimal value.

    Raises `InputError` when that matrix is asked for and does not exist.
    """
    if system.terminal_cost is not None:
        return system.terminal_cost
    try:
        return _frozen(_stationary(system, 1.0)[1])
    except InputError as error:
        if system.horizon is None:
            raise
        raise InputError(f"{error}; a finite horizon needs a terminal_cost then") from None


def default_gain(system: LinearQuadratic) -> np.ndarray:
    """A gain `[m, n]` to start learning from.

    The system's `initial_gain` when it has one; else zero when the system is calm by itself
    (sqrt(discount) rho(A) <= 0.995); else the optimal stationary gain of the same system with control made a
    hundred times dearer (100 R), which stabilises without being optimal. At a finite horizon every gain has a
    finite cost: `initial_gain` is taken as it is, and zero serves where no stabilising gain exists.

    Raises `InputError` when `initial_gain` does not stabilise the system, or when nothing does.
    """
    scale = 1.0 if system.discount is None else float(np.sqrt(system.discount))
    if system.initial_gain is not None:
        radius = closed_loop_radius(system.A, system.B, system.initial_gain).value
        if system.horizon is None and scale * radius >= 1:
            hint = sign_hint(system, system.initial_gain)
            raise InputError(
                f"{system.name}: initial_gain must stabilise the system, but A + B K has spectral radius "
                f"{radius:.6g} (expected below {1 / scale:.6g}){'' if hint is None else '; ' + hint}"
            )
        return system.initial_gain
    zero = np.zeros((system.action_dim, system.state_dim))
    if scale * spectral_radius(system.A) <= CALM_RADIUS:
        return _frozen(zero)
    try:
        return _frozen(_stationary(replace(system, R=DEARER_CONTROL * system.R), scale**2)[0])
    except InputError:
        if system.horizon is None:
            raise
        return _frozen(zero)


def sign_hint(system: LinearQuadratic, gain: np.ndarray) -> str | None:
    """A sentence for a `gain` `[m, n]` that does not stabilise while its negative does, else `None`."""
    scale = 1.0 if system.discount is None else float(np.sqrt(system.discount))
    if scale * closed_loop_radius(system.A, system.B, gain).value < 1:
        return None
    other = closed_loop_radius(system.A, system.B, -gain)
    if not scale * other.value < 1:
        return None
    return (
        f"-K stabilises (spectral radius {other.value:.6g}): this looks like a gain of u = -Kx, "
        "and here the policy is u = +Kx"
    )


def _stationary(system: LinearQuadratic, g: float) -> tuple[np.ndarray, np.ndarray, float, Radius]:
    """Gain, value, relative residual and radius of A + B K for an infinite horizon and discount `g`."""
    A, B, Q, R = system.A, system.B, system.Q, system.R
    try:
        return _certified(A, B, Q, R, g)
    except InputError as error:
        raise InputError(f"{system.name}: {error}") from None
    except np.linalg.LinAlgError:
        raise InputError(
            f"{system.name}: the entries of A, B or Q are too far apart to compute with"
        ) from None


def _certified(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, g: float
) -> tuple[np.ndarray, np.ndarray, float, Radius]:
    """A solution that proves what it needs; where there is none, `InputError` says which condition fails."""
    # Solve first: a gain that stabilises is a better proof of a condition than any test of it.
    solution = stabilising_value(A, B, Q, R, g)
    if solution is None or not all(np.isfinite(part).all() for part in solution):
        raise _refusal(A, B, Q, g, "no finite stabilising solution of the Riccati equation")
    K, P = solution
    residual, radius = _residual(A, B, Q, R, g, P), closed_loop_radius(A, B, K)
    smallest = float(np.linalg.eigvalsh(P)[0])
    if smallest < -1e-10 * max(np.abs(P).max(), 1e-300):
        raise _refusal(A, B, Q, g, f"the value matrix has the negative eigenvalue {smallest:.6g}")
    if not np.sqrt(g) * radius.value < 1 - RADIUS_MARGIN:
        raise _refusal(
            A,
            B,
            Q,
            g,
            f"the optimal closed loop has spectral radius {radius.value:.10g}, expected below {1 / np.sqrt(g):.10g}",
        )
    # P is rounded to doubles, which alone leaves a residual of eps |A + BK|^2 in coordinates that are far from normal.
    rounding = g * np.finfo(float).eps * float(np.linalg.norm(A + B @ K)) ** 2
    if not residual <= min(max(RESIDUAL_TOLERANCE, rounding), LARGEST_RESIDUAL):
        raise _refusal(
            A, B, Q, g, f"the Riccati equation is solved only to a relative residual of {residual:.3g}"
        )
    # The proof must not hang on the last digits of the entries. PBH then names the mode; alone it refuses nothing.
    if not holds(A, B, K, g):
        check_reachable(A, B, g)
    if not sees(A, B, Q, R, g):
        check_visible(A, Q, g)
    return K, P, residual, radius


def _refusal(A: np.ndarray, B: np.ndarray, Q: np.ndarray, g: float, otherwise: str) -> InputError:
    """The condition that fails, by name; else the sentence `otherwise` with the mode nearest to failing one."""
    try:
        check_conditions(A, B, Q, g)
    except InputError as error:
        return error
    modes = [(least_reachable_mode(A, B, g), "reached through B"), (least_visible_mode(A, Q, g), "seen by Q")]
    found = [(mode.margin, f"the mode {mode} is barely {how}") for mode, how in modes if mode is not None]
    return InputError(f"{otherwise} ({min(found)[1]})" if found else otherwise)


def _residual(A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, g: float, P: np.ndarray) -> float:
    try:
        _, before = riccati_map(A, B, Q, R, g, P)
    except (np.linalg.LinAlgError, ValueError):
        return float("nan")
    return float(np.linalg.norm((before - P).astype(float)) / max(float(np.linalg.norm(P)), 1e-300))


def _solve_horizon(system: LinearQuadratic, horizon: int) -> Optimum:
    after = terminal_value(system)
    gains = np.empty((horizon, system.action_dim, system.state_dim))
    noise, residual = 0.0, 0.0
    for t in reversed(range(horizon)):
        noise += float(np.sum(after * system.W))
        K, before = _backward(system, after)
        if not np.isfinite(before).all():
            raise InputError(
                f"{system.name}: the value overflows {horizon - t} steps before the end of the horizon"
            )
        residual = max(residual, _stage_residual(system, K, after, before))
        gains[t], after = K, before
    cost = float(np.sum(after * system.initial_covariance)) + noise
    radius = closed_loop_radius(system.A, system.B, gains[0])
    return _optimum(system, gains[0], after, cost, radius, residual, gains)


def _backward(system: LinearQuadratic, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        K, before = riccati_map(system.A, system.B, system.Q, system.R, 1.0, after)
        return K.astype(float), before.astype(float)
    except (np.linalg.LinAlgError, ValueError):
        return np.full(system.B.T.shape, np.nan), np.full(system.A.shape, np.nan)


def _stage_residual(system: LinearQuadratic, K: np.ndarray, after: np.ndarray, before: np.ndarray) -> float:
    F = system.A + system.B @ K
    defect = system.Q + K.T @ system.R @ K + F.T @ after @ F - before
    return float(np.linalg.norm(defect) / max(float(np.linalg.norm(before)), 1e-300))


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array, dtype=np.float64)
    array.flags.writeable = False
    return array
