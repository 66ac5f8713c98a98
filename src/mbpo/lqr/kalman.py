"""The Kalman filter of a hidden system, and exactly what is lost by forecasting from the last s outputs alone.

The one-step forecast is y^_t = C x^_t with x^_{t+1} = A x^_t + L_t (y_t - C x^_t), L_t = A P_t C' (C P_t C' + V)^-1.
Write Phi_t = A - L_t C; Phi, L, P without an index are their limits.

- The forecast is y^_t = sum_k w_k y_{t-k} with w_k = C Phi^(k-1) L, so it forgets like rho(Phi)^k.
- The best linear forecast from the last s outputs is a Kalman filter that starts s steps ago, from the covariance the
  state then has. Two solutions of the Riccati recursion differ by D_{t+1} = Phi D_t Phi_t', so with D_0 = X - P the
  gap to the Kalman filter is tr(C D_s C'), and D_s = Phi^s (D_0^-1 + O_s)^-1 Phi^s', O_s the Gramian of what the s
  outputs told: it falls by rho(Phi)^2 for each further output. A state that is only known to be large (a unit root
  after a long time, D_0^-1 = 0) changes nothing in that.

Where A has no stationary state, covariances are averaged over a `window` of times (start, stop) instead: the same
formulas hold with X the mean covariance of the states s steps before, since the system does not depend on time.
Sources: Anderson and Moore, Optimal Filtering (1979), ch. 4, for the filter and the difference of two solutions;
Kozdoba, Marecek, Tchrakian, Mannor, arXiv 1809.05870, for what forgetting means for regression.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mbpo.errors import InputError
from mbpo.lqr.hidden import HiddenSystem
from mbpo.lqr.reference import lyapunov, spectral_radius, stabilising_value

Window = tuple[int, int]
UNSEEN = 1e-10  # relative size below which the outputs do not see a mode, or the noise does not reach it
STATIONARY = 1 - 1e-9  # spectral radius below which a state has a stationary law
SETTLED = 4 * float(np.finfo(float).eps)  # relative change of P in a step below which a filter has converged
REMEMBERED = 64  # systems whose filter is kept
VANISHED = 1e-30  # relative size of P_t - P below which it counts as zero


class Filter(NamedTuple):
    """The stationary Kalman predictor x^' = A x^ + L (y - C x^)."""

    covariance: np.ndarray  # P [n, n], of x - x^ before y is seen
    innovation: np.ndarray  # C P C' + V [p, p], of y - C x^: the error of the one-step forecast
    gain: np.ndarray  # L [n, p]
    transition: np.ndarray  # Phi = A - L C [n, n]


class Autoregression(NamedTuple):
    """The best linear forecast from the last s outputs."""

    coefficients: np.ndarray  # [p, s, p]: y^_t = sum_k coefficients[:, k - 1] y_{t-k}
    error: float  # E |y_t - y^_t|^2
    gap: float  # the same less the error of the Kalman filter


def stationary_filter(system: HiddenSystem) -> Filter:
    """The filter for long times; raises `InputError` where there is none: some mode of A that does not decay is not
    seen by C, or neither decays nor grows and is not driven by W."""
    n, p = system.state_dim, system.output_dim
    if not np.any(system.W) and spectral_radius(system.A) < STATIONARY:  # what is not disturbed becomes known
        return Filter(np.zeros((n, n)), np.array(system.V), np.zeros((n, p)), np.array(system.A))
    solution = _stabilising(system)
    if solution is None:
        raise InputError(
            f"{system.name}: the Kalman filter does not become stationary; every mode of A that does not decay must "
            "be seen by C and, on the unit circle, driven by process noise W"
        )
    gain, P = solution
    innovation = system.C @ P @ system.C.T + system.V
    return Filter(P, innovation, gain, system.A - gain @ system.C)


def _stabilising(system: HiddenSystem) -> tuple[np.ndarray, np.ndarray] | None:
    """L and P, or None."""
    A, C, W, V = system.A, system.C, system.W, system.V
    on_circle = _undriven_on_circle(A, W)
    found = None if on_circle else stabilising_value(A.T, C.T, W, V, 1.0)
    if found is None or not all(np.isfinite(part).all() for part in found):
        return None
    gain, P = -found[0].T, found[1]
    return (gain, P) if spectral_radius(A - gain @ C) < STATIONARY else None


def _undriven_on_circle(A: np.ndarray, W: np.ndarray) -> bool:
    """Whether process noise leaves out a mode of A with an eigenvalue of modulus 1."""
    values, left = np.linalg.eig(A.T)
    driven = np.linalg.norm(left.T @ W, axis=1) > UNSEEN * max(float(np.linalg.norm(W)), 1e-300)
    return bool(np.any(~driven & (np.abs(np.abs(values) - 1) < 1e-9)))


def forecast_weights(at: Filter, system: HiddenSystem, count: int) -> np.ndarray:
    """w_k = C Phi^(k-1) L `[count, p, p]`: the weight of y_{t-k} in the forecast of y_t, k = 1, 2, ..."""
    weights, row = [], np.array(system.C)
    for _ in range(count):
        weights.append(row @ at.gain)
        row = row @ at.transition
    return np.array(weights)


def forgetting_rate(system: HiddenSystem) -> float:
    """The spectral radius of Phi over what C sees: weights fall like rate^k, the gap of AR(s) like rate^(2s).

    Where the filter does not become stationary it is that of A: a mode that nothing disturbs is never forgotten.
    """
    part = seen_part(system)
    if not np.any(part.C):
        return 0.0
    limit = _limit(part)
    return spectral_radius(part.A if limit is None else limit.transition)


@functools.lru_cache(maxsize=REMEMBERED)
def seen_part(system: HiddenSystem) -> HiddenSystem:
    """The same outputs from as few states as C can see, the system itself where it sees all: x_o = T'x with T a basis
    of the row space of [C; CA; ...; CA^(n-1)]."""
    n, rows = system.state_dim, [system.C]
    for _ in range(n - 1):
        following = rows[-1] @ system.A
        rows.append(following / max(float(np.linalg.norm(following)), 1e-300))
    _, sizes, basis = np.linalg.svd(np.concatenate(rows))
    rank = int(np.sum(sizes > UNSEEN * sizes[0])) if sizes[0] > 0 else n
    if rank == n:
        return system
    T = basis[:rank]
    return replace(
        system, A=T @ system.A @ T.T, C=system.C @ T.T, W=T @ system.W @ T.T, B=None, Q=None, Qy=None, R=None,
        initial_covariance=T @ system.initial_covariance @ T.T,
    )  # fmt: skip


def state_covariances(system: HiddenSystem, steps: int) -> np.ndarray:
    """E x_t x_t' for t = 0 ... steps - 1 without inputs, `[steps, n, n]`."""
    found = np.empty((steps, system.state_dim, system.state_dim))
    Sigma = np.array(system.initial_covariance)
    for t in range(steps):
        found[t] = Sigma
        Sigma = system.A @ Sigma @ system.A.T + system.W
    return found


def earlier_covariance(system: HiddenSystem, order: int, window: Window | None = None) -> np.ndarray:
    """The covariance `[n, n]` of the state `order` steps before a forecast: stationary, or its mean over a window.

    Raises `InputError` for a window that begins before `order` outputs are there, or where there is no stationary law.
    """
    if window is None:
        if spectral_radius(system.A) >= STATIONARY:
            raise InputError(
                f"{system.name}: A has spectral radius {spectral_radius(system.A):.6g}, so the state has no "
                "stationary law; give a window of times"
            )
        return lyapunov(system.A, system.W)
    start, stop = window
    if not order <= start < stop:
        raise InputError(
            f"a window of forecasts from {order} outputs must begin at {order} or later, got {window}"
        )
    return state_covariances(system, stop - order)[start - order :].mean(axis=0)


def filter_gains(system: HiddenSystem, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """L_t `[steps, n, p]` and P_t `[steps + 1, n, n]` of the filter that begins with the covariance `start`."""
    gains = np.empty((steps, system.state_dim, system.output_dim))
    covariances = np.empty((steps + 1, system.state_dim, system.state_dim))
    covariances[0] = start
    for t in range(steps):
        P = covariances[t]
        gains[t] = L = _gain(system, P)
        F = system.A - L @ system.C
        following = F @ P @ F.T + L @ system.V @ L.T + system.W  # Joseph's form: no difference is taken
        covariances[t + 1] = following
        if np.abs(following - P).max() <= SETTLED * np.abs(P).max():
            gains[t + 1 :], covariances[t + 2 :] = L, following
            break
    return gains, covariances


def _gain(system: HiddenSystem, P: np.ndarray) -> np.ndarray:
    innovation = system.C @ P @ system.C.T + system.V
    return system.A @ P @ system.C.T @ pseudo_inverse(innovation)


def pseudo_inverse(covariance: np.ndarray) -> np.ndarray:
    """Of a covariance `[p, p]` that may be singular: what is known exactly has nothing to be corrected by."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-14 * values[-1]
    return (vectors * np.divide(1.0, values, out=np.zeros_like(values), where=kept)) @ vectors.T


def _excess(system: HiddenSystem, start: np.ndarray, steps: int, limit: Filter | None) -> np.ndarray:
    """P_t - P `[steps + 1, n, n]` by D_{t+1} = Phi D_t Phi_t', which keeps its digits as it vanishes; P_t itself where
    the filter has no limit."""
    if limit is None:
        return filter_gains(system, start, steps)[1]
    differences = np.zeros((steps + 1, *start.shape))
    differences[0] = start - limit.covariance
    for t in range(steps):
        L = _gain(system, limit.covariance + differences[t])
        D = limit.transition @ differences[t] @ (system.A - L @ system.C).T
        differences[t + 1] = (D + D.T) / 2
        if np.abs(D).max() <= VANISHED * np.abs(limit.covariance).max():
            break
    return differences


def best_autoregression(system: HiddenSystem, order: int, window: Window | None = None) -> Autoregression:
    """The linear forecast from the last `order` outputs with the least mean squared error, stationary or averaged over
    a window of times. Raises `InputError` as `earlier_covariance` does."""
    system = seen_part(system)
    start, limit = earlier_covariance(system, order, window), _limit(system)
    gains, _ = filter_gains(system, start, order)
    coefficients, row = [], np.array(system.C)
    for L in gains[::-1]:
        coefficients.append(row @ L)
        row = row @ (system.A - L @ system.C)
    remembered = _seen(system, _excess(system, start, order, limit)[-1])
    kalman = _kalman_excess(system, window)
    noise = float(np.trace(system.V)) + (0.0 if limit is None else _seen(system, limit.covariance))
    return Autoregression(np.stack(coefficients, axis=1), noise + remembered, remembered - kalman)


def kalman_error(system: HiddenSystem, window: Window | None = None) -> float:
    """E |y_t - y^_t|^2 of the Kalman filter that knows everything, no forecast has less: tr(C P C' + V) for long times,
    or its mean over a window of times of the filter that begins with X0."""
    system = seen_part(system)
    limit = _limit(system)
    noise = float(np.trace(system.V)) + (0.0 if limit is None else _seen(system, limit.covariance))
    return noise + _kalman_excess(system, window)


@functools.lru_cache(maxsize=REMEMBERED)  # regressions of many orders are asked for, one after another
def _limit(system: HiddenSystem) -> Filter | None:
    try:
        return stationary_filter(system)
    except InputError:
        return None


@functools.lru_cache(maxsize=REMEMBERED)
def _kalman_excess(system: HiddenSystem, window: Window | None) -> float:
    """tr(C (P_t - P) C') averaged over the window, 0 for long times."""
    if window is None:
        stationary_filter(system)  # or an error that says why there is none
        return 0.0
    excess = _excess(system, system.initial_covariance, window[1] - 1, _limit(system))
    return _seen(system, excess[window[0] :].mean(axis=0))


def _seen(system: HiddenSystem, P: np.ndarray) -> float:
    return float(np.trace(system.C @ P @ system.C.T))


def autoregression_error(
    system: HiddenSystem, coefficients: np.ndarray, window: Window | None = None
) -> float:
    """E |y_t - sum_k coefficients[:, k-1] y_{t-k}|^2 of any coefficients `[p, s, p]`, exactly.

    With r_0 = C, r_k = r_{k-1} A - theta_k C the error is r_s x_{t-s} + sum_{k<s} r_k w_{t-k-1} + v_t - sum_k theta_k
    v_{t-k}: a sum of squares. Raises `InputError` as `earlier_covariance` does.
    """
    system, order = seen_part(system), coefficients.shape[1]
    row, error = np.array(system.C), float(np.trace(system.V))
    for k in range(order):
        theta = coefficients[:, k]
        error += float(np.trace(row @ system.W @ row.T) + np.trace(theta @ system.V @ theta.T))
        row = row @ system.A - theta @ system.C
    return error + float(np.trace(row @ earlier_covariance(system, order, window) @ row.T))


def persistence(system: HiddenSystem) -> np.ndarray:
    """The coefficients `[p, 1, p]` of the forecast that the next output will be the last one."""
    return np.eye(system.output_dim)[:, None, :]


def forecasts(system: HiddenSystem, outputs: np.ndarray, inputs: np.ndarray | None = None) -> np.ndarray:
    """The Kalman filter's forecasts y^_t `[R, T, p]` of `outputs` `[R, T, p]`, each from what came before it, starting
    from x_0 ~ N(0, X0); `inputs` `[R, T, m]` are known to it."""
    runs, steps, _ = outputs.shape
    gains, _ = filter_gains(system, system.initial_covariance, steps)
    x, made = np.zeros((runs, system.state_dim)), np.empty_like(outputs)
    for t in range(steps):
        made[:, t] = x @ system.C.T
        x = x @ system.A.T + (outputs[:, t] - made[:, t]) @ gains[t].T
        if inputs is not None and system.B is not None:
            x = x + inputs[:, t] @ system.B.T
    return made
