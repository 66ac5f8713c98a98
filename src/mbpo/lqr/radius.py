"""The spectral radius of a closed loop with an error, for eigenvalues that doubles may not be able to tell.

Behind a dead time the eigenvalues of A + BK are so sensitive that the third digit of what LAPACK says can be wrong.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg

from mbpo.lqr.many_digits import decimal_radius_bounds

ACCURATE = 1e-11
FIRST_ORDER = 1e-8
ROUNDING = 4 * float(np.finfo(float).eps)
LARGEST_DECIMAL = 64
SAMPLES = 8
MOST_DIGITS = 12


class Radius(NamedTuple):
    """The radius, and how far it may be from the truth for the entries as they are given."""

    value: float
    error: float

    def __str__(self) -> str:
        """The digits that are right, twelve at most."""
        if not 0 < self.value < math.inf:
            return f"{self.value:.{MOST_DIGITS}g}"
        leading = math.floor(math.log10(self.value))
        if not self.error < self.value:
            return f"{self.value:.1g}, no digit of it certain"
        right = MOST_DIGITS if self.error == 0 else leading - math.ceil(math.log10(2 * self.error)) + 1
        return f"{self.value:.{min(max(right, 1), MOST_DIGITS)}g}"


def closed_loop_radius(A: np.ndarray, B: np.ndarray, K: np.ndarray) -> Radius:
    """The largest modulus of an eigenvalue of A + BK, A `[n, n]`, B `[n, m]`, K `[m, n]`, with its error.

    LAPACK's eigenvalues, each with the error |w|'E|v| / |w'v| for its left and right eigenvectors w and v and the
    rounding E. Where that is more than 1e-11 of the radius and n is at most 64, bounds in decimal arithmetic instead.
    Source: J. H. Wilkinson, The Algebraic Eigenvalue Problem (1965), chapter 2.
    """
    F = A + B @ K
    if not np.isfinite(F).all():
        return Radius(math.inf, math.inf)
    found = _by_lapack(F, np.abs(A) + np.abs(B) @ np.abs(K))
    if found.error <= ACCURATE * found.value:
        return found
    if len(A) <= LARGEST_DECIMAL:
        lower, upper = decimal_radius_bounds(A, B, K)
        if math.isfinite(upper):
            return Radius((lower + upper) / 2, (upper - lower) / 2 + ROUNDING * upper)
    return found


def _by_lapack(F: np.ndarray, size: np.ndarray) -> Radius:
    scale = scipy.linalg.matrix_balance(F, permute=True, separate=True)[1][0]
    F, size = F * scale / scale[:, None], size * scale / scale[:, None]
    eigenvalues, left, right = scipy.linalg.eig(F, left=True, right=True)  # pyright: ignore[reportAssignmentType]
    radius = float(np.abs(eigenvalues).max())
    # Vectors have unit length: the norm stands for the backward error of the QR iteration, `size` for that of A + BK.
    norm = np.linalg.norm(F, 2)
    overlap = np.maximum(np.abs(np.sum(left.conj() * right, axis=0)), 1e-300)
    errors = ROUNDING * (norm + np.sum(np.abs(left) * (size @ np.abs(right)), axis=0)) / overlap
    if errors.max() <= FIRST_ORDER * radius:
        return Radius(radius, float(errors[np.abs(eigenvalues) + errors >= radius].max()))
    rounding = ROUNDING * (size + norm / len(F))
    if not np.isfinite(rounding).all():
        return Radius(radius, math.inf)
    # Too sensitive for a first-order bound: what changes of the size of the rounding do is tried out.
    rng = np.random.default_rng(0)
    tried = [F + rounding * rng.choice([-1, 1], size=F.shape) for _ in range(SAMPLES)]
    return Radius(
        radius, 2 * max(abs(float(np.abs(np.linalg.eigvals(each)).max()) - radius) for each in tried)
    )
