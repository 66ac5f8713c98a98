"""Exact costs of controlling a hidden state from what is seen: LQG, the optimum, and gains on a history of order s.

The history is h_t = [y_t; ...; y_{t-s+1}; u_{t-1}; ...; u_{t-s+1}], the policy u = K h. Hidden state and history
together are a linear system, so the cost of any K is a Lyapunov equation. The optimum over all causal policies is LQG:
the LQR gain on the Kalman filter's estimate. With one output a history of order n + 1 can be exactly that policy, for
an LQG controller has n states and past inputs carry its memory.
Source: Anderson and Moore, Optimal Control (1990), ch. 8.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import minimize

from mbpo.errors import InputError
from mbpo.lqr import optimum
from mbpo.lqr.hidden import HiddenSystem
from mbpo.lqr.kalman import STATIONARY, filter_gains, pseudo_inverse, stationary_filter
from mbpo.lqr.reference import lyapunov, spectral_radius, stabilising_value
from mbpo.lqr.system import LinearQuadratic

FORBIDDING = 1e3  # times the cost of the start: what a search is told a gain costs that does not stabilise
FITS = 100  # fits after each other, at most, until the gain of a fitted model no longer changes
UNRESOLVED = 1e-13  # relative size of directions of the regressors that a fit leaves out


class Whole(NamedTuple):
    """z = [x; h] of a hidden system and its history: z' = A z + B u + noise, cost z'Q z + u'R u, h the last entries."""

    A: np.ndarray  # [n + d, n + d]
    B: np.ndarray  # [n + d, m]
    Q: np.ndarray  # [n + d, n + d]
    R: np.ndarray  # [m, m]
    W: np.ndarray  # [n + d, n + d], singular
    hidden: int  # n

    def closed(self, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[0 K] `[m, n + d]` of u = K h, and A + B [0 K]."""
        full = np.concatenate([np.zeros((len(gain), self.hidden)), gain], axis=1)
        return full, self.A + self.B @ full


def history_size(system: HiddenSystem, order: int) -> int:
    """The length d = s p + (s - 1) m of a history of order s."""
    return order * system.output_dim + (order - 1) * system.input_dim


def whole(system: HiddenSystem, order: int) -> Whole:
    """Hidden state and history as one linear system. Raises `InputError` without B, R and a cost, or for order < 1."""
    B, R = _controls(system)
    if order < 1:
        raise InputError(f"a history needs an order of at least 1, got {order}")
    n, p, m, d = system.state_dim, system.output_dim, system.input_dim, history_size(system, order)
    see = np.concatenate([np.eye(n), system.C])
    A_z, B_z = np.zeros((n + d, n + d)), np.zeros((n + d, m))
    A_z[: n + p, :n], B_z[: n + p] = see @ system.A, see @ B
    A_z[n + p : n + order * p, n : n + (order - 1) * p] = np.eye((order - 1) * p)
    if order > 1:
        first = n + order * p
        B_z[first : first + m] = np.eye(m)
        A_z[first + m :, first : first + (order - 2) * m] = np.eye((order - 2) * m)
    Q_z, W_z = np.zeros((n + d, n + d)), np.zeros((n + d, n + d))
    W_z[: n + p, : n + p] = see @ system.W @ see.T
    W_z[n : n + p, n : n + p] += system.V
    seen = np.zeros((p, p)) if system.Qy is None else system.Qy
    Q_z[: n + p, : n + p] = block_diag(np.zeros((n, n)) if system.Q is None else system.Q, seen)
    return Whole(A_z, B_z, Q_z, R, W_z, n)


def _controls(system: HiddenSystem) -> tuple[np.ndarray, np.ndarray]:
    if system.B is None or system.R is None:
        raise InputError(f"{system.name}: control needs B, R and a cost of the outputs Qy")
    return system.B, system.R


def history_cost(at: Whole, gain: np.ndarray) -> tuple[float, np.ndarray]:
    """J(K) of u = K h and its gradient `[m, d]`: tr(P W) and the last d columns of 2 E Sigma; +inf (and zeros) where K
    does not stabilise."""
    full, F = at.closed(gain)
    if not np.isfinite(F).all() or spectral_radius(F) >= STATIONARY:
        return math.inf, np.zeros_like(gain)
    P, Sigma = lyapunov(F.T, at.Q + full.T @ at.R @ full), lyapunov(F, at.W)
    E = at.R @ full + at.B.T @ P @ F
    return float(np.sum(P * at.W)), 2 * (E @ Sigma)[:, at.hidden :]


def seen_state(system: HiddenSystem) -> LinearQuadratic:
    """The same problem with the state in full view: cost x'(Q + C'Qy C)x + u'Ru, without the constant tr(Qy V)."""
    B, R = _controls(system)
    Q = np.zeros_like(system.A) if system.Q is None else system.Q
    if system.Qy is not None:
        Q = Q + system.C.T @ system.Qy @ system.C
    return LinearQuadratic(
        system.A, B, Q, R, W=system.W, initial_covariance=system.initial_covariance, name=system.name
    )


def lqg_cost(system: HiddenSystem) -> float:
    """J* of the best causal policy, u_t = K x^_{t|t}: tr(P W) + tr(K'(R + B'PB)K Sigma) + tr(Qy V), Sigma the
    covariance of the filter's error once y_t is seen. Raises `InputError` where LQR or Kalman filter do not exist."""
    seen = seen_state(system)
    best = optimum.solve(seen)
    posterior = _posterior(system, stationary_filter(system).covariance)[1]
    weight = best.gain.T @ (seen.R + seen.B.T @ best.value @ seen.B) @ best.gain
    noise = 0.0 if system.Qy is None else float(np.sum(system.Qy * system.V))
    return best.cost + float(np.sum(weight * posterior)) + noise


def _posterior(system: HiddenSystem, P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gain with which y corrects the state, and the covariance of the error that is left."""
    gain = P @ system.C.T @ pseudo_inverse(system.C @ P @ system.C.T + system.V)
    left = np.eye(len(P)) - gain @ system.C
    return gain, left @ P @ left.T + gain @ system.V @ gain.T


def short_memory_gain(system: HiddenSystem, order: int, gain: np.ndarray) -> np.ndarray:
    """The history gain `[m, d]` of u = `gain` x^, x^ by a filter that began s - 1 steps ago from the covariance that
    the state has under `gain`; whether it stabilises is another question."""
    B, _ = _controls(system)
    start = lyapunov(system.A + B @ gain, system.W) + stationary_filter(system).covariance
    gains, covariances = filter_gains(system, start, order - 1)
    outputs, inputs = [gain @ _posterior(system, covariances[-1])[0]], []
    row = gain - outputs[0] @ system.C
    for L in gains[::-1]:
        outputs.append(row @ L)
        inputs.append(row @ B)
        row = row @ (system.A - L @ system.C)
    return np.concatenate([*outputs, *inputs], axis=1)


def starting_gain(system: HiddenSystem, order: int) -> np.ndarray:
    """A history gain `[m, d]` to start learning from: zero where the system is calm by itself, else the short memory
    of a cautious LQG policy (control a hundred times dearer). Raises `InputError` when that does not stabilise."""
    _controls(system)
    if spectral_radius(system.A) <= optimum.CALM_RADIUS:
        return np.zeros((system.input_dim, history_size(system, order)))
    gain = short_memory_gain(system, order, optimum.default_gain(seen_state(system)))
    if math.isinf(history_cost(whole(system, order), gain)[0]):
        raise InputError(
            f"{system.name}: no history gain of order {order} was found that stabilises the system to start with; "
            "give a longer history"
        )
    return gain


def best_history_gain(system: HiddenSystem, order: int) -> tuple[np.ndarray, float]:
    """The best gain of that order that was found, and its exact cost: BFGS along the exact gradient, from the starting
    gain and from the short memory of LQG. The problem is not convex, so there may be a better one."""
    at, optimal = whole(system, order), optimum.solve(seen_state(system)).gain
    starts = [starting_gain(system, order), short_memory_gain(system, order, optimal)]
    found = [_descend(at, start) for start in starts if math.isfinite(history_cost(at, start)[0])]
    return min(found, key=lambda each: each[1])


def _descend(at: Whole, start: np.ndarray) -> tuple[np.ndarray, float]:
    scale = history_cost(at, start)[0]

    def relative(flat: np.ndarray) -> tuple[float, np.ndarray]:
        cost, gradient = history_cost(at, flat.reshape(start.shape))
        return min(cost / scale, FORBIDDING), gradient.ravel() / scale

    with np.errstate(all="ignore"):
        options = {"gtol": 1e-9, "maxiter": 1000}
        found = minimize(relative, start.ravel(), jac=True, method="BFGS", options=options)
    gain = found.x.reshape(start.shape)
    return gain, history_cost(at, gain)[0]


def regression_limit(system: HiddenSystem, order: int, exploration: np.ndarray) -> tuple[np.ndarray, float]:
    """What certainty equivalence on the history tends to with ever more data, gain `[m, d]` and exact cost: the gain
    that is optimal for the ARX model that least squares fits to data gathered under that very gain, with exploration
    covariance `[m, m]`. The cost is +inf where that gain, or one on the way to it, does not stabilise.

    [A_h B_h] = E h'[h; u]' (E [h; u][h; u]')^-1 over the stationary law of the closed loop.
    """
    at, gain = whole(system, order), starting_gain(system, order)
    for _ in range(FITS):
        following = _fitted_gain(at, gain, exploration)
        if following is None:
            return gain, math.inf
        change = float(np.abs(following - gain).max())
        gain = following
        if change <= 1e-10 * float(np.abs(gain).max()):
            break
    return gain, history_cost(at, gain)[0]


def _fitted_gain(at: Whole, gain: np.ndarray, exploration: np.ndarray) -> np.ndarray | None:
    """The optimal gain of the model fitted to data gathered under `gain`, None where there is none."""
    full, F = at.closed(gain)
    if spectral_radius(F) >= STATIONARY:
        return None
    Sigma = lyapunov(F, at.W + at.B @ exploration @ at.B.T)
    inputs = full @ Sigma
    moment = np.block([[Sigma, inputs.T], [inputs, inputs @ full.T + exploration]])
    cross = np.concatenate([at.A, at.B], axis=1) @ moment
    n, d = at.hidden, gain.shape[1]
    fitted = cross[n:, n:] @ np.linalg.pinv(moment[n:, n:], rcond=UNRESOLVED, hermitian=True)
    solution = stabilising_value(fitted[:, :d], fitted[:, d:], at.Q[n:, n:], at.R, 1.0)
    return None if solution is None or not np.isfinite(solution[0]).all() else solution[0]
