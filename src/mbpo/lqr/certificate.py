"""The conditions under which a linear-quadratic problem has an optimum, and the mode that breaks one.

Popov-Belevitch-Hautus test: (A, B) is stabilisable when [A - lambda I, B] has full rank at every eigenvalue
with |lambda| >= 1, and (A, Q) is detectable when (A', Q) is stabilisable. A discount g asks it of sqrt(g) A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from mbpo.errors import InputError

UNIT_CIRCLE_MARGIN = 1e-8
RANK_TOLERANCE = 1e-12
CLUSTER_RADIUS = 1e-5


@dataclass(frozen=True)
class Mode:
    """A mode of A, the unit `vector` that PBH finds for it, and the `margin`, zero where the test fails."""

    eigenvalue: complex
    vector: np.ndarray
    margin: float

    def __str__(self) -> str:
        entries = ", ".join(format_complex(entry, 3) for entry in self.vector)
        return f"λ = {format_complex(self.eigenvalue, 6)} (vector ({entries}))"


def check_conditions(A: np.ndarray, B: np.ndarray, Q: np.ndarray, g: float) -> None:
    """Raise `InputError` naming a mode, |sqrt(g) lambda| >= 1, that B cannot reach or that Q does not see."""
    bound = "" if g == 1 else f", and |λ| is not below 1/sqrt(discount) = {1 / np.sqrt(g):.6g}"
    mode = least_reachable_mode(A, B, g)
    if mode is not None and mode.margin <= RANK_TOLERANCE:
        raise InputError(f"(A, B) is not stabilisable: the mode {mode} cannot be reached through B{bound}")
    mode = least_visible_mode(A, Q, g)
    if mode is not None and mode.margin <= RANK_TOLERANCE:
        raise InputError(f"(A, Q) is not detectable: the mode {mode} is not seen by Q{bound}")


def least_reachable_mode(A: np.ndarray, B: np.ndarray, g: float) -> Mode | None:
    """The mode with |sqrt(g) lambda| >= 1 that B `[n, m]` reaches least; `None` when all decay."""
    _, (scale, _) = scipy.linalg.matrix_balance(A, permute=False, separate=True)
    balanced = A * scale / scale[:, None]
    inputs = B / scale[:, None]
    norms = np.linalg.norm(inputs, axis=0)
    inputs = inputs / np.where(norms > 0, norms, 1)
    modes = [_pbh(balanced, inputs, eigenvalue) for eigenvalue in _slow_eigenvalues(balanced, g)]
    if not modes:
        return None
    worst = min(modes, key=lambda mode: mode.margin)
    return Mode(worst.eigenvalue, _unit(worst.vector / scale), worst.margin)


def least_visible_mode(A: np.ndarray, Q: np.ndarray, g: float) -> Mode | None:
    """The mode with |sqrt(g) lambda| >= 1 that the cost Q `[n, n]` sees least; `None` when all decay."""
    weights = np.sqrt(np.maximum(np.diag(Q), 0))
    outputs = Q / np.where(weights > 0, weights, 1)
    return least_reachable_mode(A.T, outputs, g)


def _slow_eigenvalues(A: np.ndarray, g: float) -> list[complex]:
    """Eigenvalues with |sqrt(g) lambda| >= 1 (upper half plane), and the mean of each with its neighbours.

    Round-off spreads a defective eigenvalue over a ring about its true value; the mean restores it.
    """
    eigenvalues = np.linalg.eigvals(A).astype(complex)
    near = np.abs(eigenvalues[:, None] - eigenvalues) <= CLUSTER_RADIUS * max(1.0, np.abs(eigenvalues).max())
    candidates = np.concatenate([eigenvalues, near @ eigenvalues / near.sum(axis=1)])
    slow = candidates[np.sqrt(g) * np.abs(candidates) >= 1 - UNIT_CIRCLE_MARGIN]
    return [complex(value.real, abs(value.imag)) for value in slow]


def _pbh(A: np.ndarray, inputs: np.ndarray, eigenvalue: complex) -> Mode:
    """The smallest singular value of [A - lambda I, B] against its largest, and its left singular vector."""
    pencil = np.hstack([A - eigenvalue * np.eye(len(A)), inputs])
    left, singular, _ = np.linalg.svd(pencil)
    margin = singular[-1] / singular[0] if singular[0] > 0 else 0.0
    return Mode(eigenvalue, left[:, -1].conj(), float(margin))


def _unit(vector: np.ndarray) -> np.ndarray:
    """The vector at unit length with its largest entry real and positive."""
    largest = vector[np.argmax(np.abs(vector))]
    return vector / np.linalg.norm(vector) * (abs(largest) / largest)


def format_complex(value: complex, digits: int) -> str:
    """A number to `digits` significant digits, without an imaginary part that is round-off."""
    value = complex(value)
    real = 0.0 if abs(value.real) < 1e-9 * max(1.0, abs(value)) else value.real
    if abs(value.imag) < 1e-9 * max(1.0, abs(value)):
        return f"{real:.{digits}g}"
    return f"{real:.{digits}g} {'+' if value.imag > 0 else '-'} {abs(value.imag):.{digits}g}i"
