"""The Riccati equation and spectral radii in decimal arithmetic of many digits, where binary floats are exhausted.

With one input for many unstable modes the value matrix spans so many orders of magnitude that doubles run out
of digits, and behind a dead time the eigenvalues are too sensitive for them; sixty decimal digits do not. It is thirty
times slower, hence the last resort.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Context, Decimal, localcontext

import numpy as np

DIGITS = 60
EXACT = 1000  # holds products and sums of doubles without rounding
DOUBLINGS = 60
CONVERGED = Decimal("1e-40")
LARGEST_EXPONENT = 400
SQUARINGS = 64
AGREEMENT = 1e-15


def decimal_riccati(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, g: float
) -> tuple[np.ndarray, np.ndarray]:
    """The gain `[m, n]` and value `[n, n]` of P = Q + g A'PA - g A'PB (R + g B'PB)^-1 g B'PA.

    Structured doubling (Chu, Fan, Lin & Wang 2004). Raises `LinAlgError` when it does not converge.
    """
    with many_digits():
        discount = Decimal(g)
        A, B, Q, R = (_decimal(x) for x in (A, B, Q, R))
        eye = _decimal(np.eye(len(A)))
        step, G, H = discount.sqrt() * A, discount * B @ _solve(R, B.T), Q
        for _ in range(DOUBLINGS):
            across = _solve(eye + G @ H, np.hstack([step, G @ step.T]))  # (I + G H)^-1 [A, G A']
            n = len(A)
            rise = step.T @ H @ across[:, :n]
            G, H, step = G + step @ across[:, n:], H + rise, step @ across[:, :n]
            G, H = (G + G.T) / 2, (H + H.T) / 2
            if not _representable(H):
                raise np.linalg.LinAlgError("doubling diverges")
            if abs(rise).max() <= CONVERGED * abs(H).max():
                break
        else:
            raise np.linalg.LinAlgError("doubling does not converge")
        K = -_solve(R + discount * B.T @ H @ B, discount * B.T @ H @ A)
    return K.astype(float), H.astype(float)


def decimal_radius_bounds(A: np.ndarray, B: np.ndarray, K: np.ndarray) -> tuple[float, float]:
    """Numbers between which the spectral radius of A + BK lies, A `[n, n]`, B `[n, m]`, K `[m, n]`.

    (|tr F^N| / n)^(1/N) <= rho(F) <= |F^N|^(1/N) for N = 1, 2, 4, ... until the two agree to 1e-15. They differ by no
    more than log(n c) / N, c the condition number of the eigenvectors: the sensitivity of an eigenvalue does no harm.
    """
    with many_digits(EXACT):
        power = _decimal(A) + _decimal(B) @ _decimal(K)
    with many_digits():
        logarithm, lower, upper = 0.0, -math.inf, math.inf  # of |F^N| / N, and of the radius
        for k in range(SQUARINGS):
            weight = 2.0**-k
            size = abs(power).sum(axis=1).max()
            if not size.is_finite():
                return 0.0, math.inf
            if size == 0:
                return 0.0, 0.0
            power = power / size
            logarithm += weight * float(size.ln())
            trace = abs(power.trace()) / len(A)
            upper = min(upper, logarithm)
            if trace > 0:
                lower = max(lower, logarithm + weight * float(trace.ln()))
            if upper - lower <= AGREEMENT:
                break
            power = power @ power
    return math.exp(lower), math.exp(upper)


@contextmanager
def many_digits(digits: int = DIGITS) -> Iterator[None]:
    """Arithmetic with `digits`, in which what overflows is infinite.

    An error raised instead would come from inside NumPy's loops over objects, which can crash on it.
    """
    with localcontext(Context(prec=digits, traps=[])):
        yield


def _representable(array: np.ndarray) -> bool:
    """Whether every entry is finite, and within the range of doubles or not far beyond."""
    return all(entry.is_finite() and entry.adjusted() < LARGEST_EXPONENT for entry in array.flat)


def _decimal(array: np.ndarray) -> np.ndarray:
    """The same numbers, exactly, as an array of `Decimal`."""
    exact = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        exact[index] = Decimal(float(array[index]))
    return exact


def _solve(M: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """M^-1 Y by Gauss-Jordan elimination with row pivoting."""
    n, rows = len(M), np.hstack([M, Y])
    for k in range(n):
        pivot = k + int(np.argmax(abs(rows[k:, k])))
        if rows[pivot, k] == 0 or not rows[pivot, k].is_finite():
            raise np.linalg.LinAlgError("singular matrix")
        rows[[k, pivot]] = rows[[pivot, k]]
        rows[k] = rows[k] / rows[k, k]
        others = np.arange(n) != k
        rows[others] = rows[others] - np.outer(rows[others, k], rows[k])
    return rows[:, n:]
