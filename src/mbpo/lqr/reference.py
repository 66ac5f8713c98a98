"""The reference solver of the discrete-time Riccati equation, on the host, accurate to the last digits.

The scaled equation solved here, for a discount g in (0, 1], is

    P = Q + g A'P A - g A'P B (R + g B'P B)^-1 g B'P A.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.linalg

from mbpo.lqr.many_digits import decimal_riccati

ACCURATE = 1e-12
LARGEST_DECIMAL = 24
Extended = np.longdouble  # 80 bits where the machine has them: the residual is what refinement lives on


def spectral_radius(F: np.ndarray) -> float:
    """The largest modulus of an eigenvalue of `F` `[n, n]`."""
    return float(np.abs(np.linalg.eigvals(F)).max())


def lyapunov(F: np.ndarray, X: np.ndarray) -> np.ndarray:
    """The solution `[n, n]` of S = F S F' + X for a stable `F`, by doubling: sums over 1, 2, 4, ... steps.

    Source: Smith 1968. For X >= 0 nothing is ever subtracted, so no digits cancel.
    """
    S, power = np.array(X, dtype=float), np.array(F, dtype=float)
    for _ in range(64):
        step = power @ S @ power.T
        S = S + step
        power = power @ power
        if not np.abs(step).max() > 1e-40 * np.abs(S).max():
            break
    return (S + S.T) / 2


def riccati_map(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, g: float, P: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One backward step from the value `P` `[n, n]`: the greedy gain `[m, n]` and the value before, extended.

    K = -(R + g B'PB)^-1 g B'PA and Q + K'RK + g (A+BK)'P(A+BK), which an error in K enters only squared.
    """
    A, B, Q, R, P = (x.astype(Extended) for x in (A, B, Q, R, P))
    scaled = Extended(g) * P
    K = _solve(R + B.T @ scaled @ B, -(B.T @ scaled @ A))
    F = A + B @ K
    before = Q + K.T @ R @ K + F.T @ scaled @ F
    return K, (before + before.T) / 2


def _solve(M: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """M^-1 Y for a positive definite extended `M`, refined to extended precision."""
    scale = 1 / np.sqrt(np.diag(M))
    M, Y = scale[:, None] * M * scale, scale[:, None] * Y
    factor = scipy.linalg.cho_factor(M.astype(float))
    X = np.zeros_like(Y)
    for _ in range(3):
        X = X + scipy.linalg.cho_solve(factor, (Y - M @ X).astype(float))
    return scale[:, None] * X


def stabilising_value(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, g: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The gain `[m, n]` and value `[n, n]` of the scaled Riccati equation, or `None` when none was found.

    SciPy's solver (Arnold & Laub 1984) gives the start, structured doubling (Chu, Fan, Lin & Wang 2004) where
    that fails; policy iteration (Hewer 1971) then polishes it with residuals in extended precision. Where the
    last step of that is not small, the equation is solved in decimal arithmetic instead.
    """
    rough, error = None, np.inf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for start in (_by_scipy, _by_doubling):
            try:
                K, P, error = _polish(A, B, Q, R, g, start(np.sqrt(g) * A, np.sqrt(g) * B, Q, R))
            except (np.linalg.LinAlgError, ValueError):
                continue
            rough = K, P
            break
        if error <= ACCURATE or len(A) > LARGEST_DECIMAL:
            return rough
        try:
            return decimal_riccati(A, B, Q, R, g)
        except np.linalg.LinAlgError:
            return rough


def _polish(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, g: float, P: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Gain, value and relative size of the last step: Newton steps from `P` until they stop shrinking.

    Raises `LinAlgError` at a gain that does not stabilise.
    """
    P, size, last = P.astype(Extended), np.inf, np.inf
    for _ in range(80):
        K, before = riccati_map(A, B, Q, R, g, P)
        F = np.sqrt(g) * (A + B @ K.astype(float))
        if not spectral_radius(F) < 1:
            raise np.linalg.LinAlgError("the gain does not stabilise")
        step = lyapunov(F.T, (before - P).astype(float))
        P = P + step
        size = _relative(step, P)
        if not np.isfinite(size):
            raise np.linalg.LinAlgError("the value overflows")
        if size < 1e-20 or (size < 1e-8 and size > last / 4):
            break
        last = size
    return riccati_map(A, B, Q, R, g, P)[0].astype(float), P.astype(float), size


def _relative(step: np.ndarray, P: np.ndarray) -> float:
    """The largest entry of `step` against the geometric mean of its row's and column's diagonal in `P`."""
    diagonal = np.sqrt(np.abs(np.diag(P)))
    return float((np.abs(step) / np.maximum(np.outer(diagonal, diagonal), 1e-300)).max())


def _by_scipy(A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray) -> np.ndarray:
    return scipy.linalg.solve_discrete_are(A, B, Q, R)


def _by_doubling(A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Value iteration seen 1, 2, 4, ... steps on: H rises to the value `[n, n]`."""
    G, H, eye = B @ np.linalg.solve(R, B.T), Q, np.eye(len(A))
    for _ in range(64):
        left = np.linalg.solve((eye + G @ H).T, A.T).T  # A (I + G H)^-1
        step = A.T @ H @ np.linalg.solve(eye + G @ H, A)
        if not np.isfinite(step).all() or _relative(step, H) < 1e-17:
            break
        A, G, H = left @ A, G + left @ G @ A.T, H + (step + step.T) / 2
        G = (G + G.T) / 2
    return H
