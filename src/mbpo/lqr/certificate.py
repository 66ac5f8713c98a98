"""The conditions under which a linear-quadratic problem has an optimum, and the mode that breaks one.

A solution is its own proof: a gain that stabilises shows that (A, B) is stabilisable. Two things could be wrong with
that proof in floating point. The gain may live on the last digits of the entries; `entry_margin` measures that. And a
stabilising solution exists for an unstable mode that costs nothing; `sees` looks for an observer instead.

Only where the proof fails is a mode named, by the Popov-Belevitch-Hautus test: (A, B) is stabilisable when
[A - lambda I, B] has full rank at every eigenvalue with |lambda| >= 1, and (A, Q) is detectable when (A', Q) is
stabilisable. A discount g asks it of sqrt(g) A. No answer here depends on the units of states, inputs or costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from mbpo.errors import InputError
from mbpo.lqr.reference import stabilising_value

UNIT_CIRCLE_MARGIN = 1e-8
ENTRY_TOLERANCE = 1e-12
RANK_TOLERANCE = 1e-9
CANCELLED = 1e-10
CLUSTER_RADII = (1e-5, 1e-3)
ANGLES = 33
SQUARINGS = 6
EQUILIBRATIONS = 30


@dataclass(frozen=True)
class Mode:
    """A mode of A, the unit `vector` that PBH finds for it, and the `margin`, zero where the test fails."""

    eigenvalue: complex
    vector: np.ndarray
    margin: float

    def __str__(self) -> str:
        entries = ", ".join(format_complex(entry, 3) for entry in self.vector)
        return f"λ = {format_complex(self.eigenvalue, 6)} (vector ({entries}))"


def entry_margin(F: np.ndarray, size: np.ndarray) -> float:
    """A relative change of every entry that the stable loop `F` `[n, n]` survives, whatever the signs.

    F + D is stable for |D| <= e `size` entry by entry when e max_z rho(|(zI - F)^-1| size) < 1 on |z| = 1; for
    F = A + BK the `size` is |A| + |B||K|. An e is returned for which this holds at a grid of z that includes the angle
    of every eigenvalue; zero where F is not stable. Units of states and inputs cancel in the radius.
    Source: D. Hinrichsen, A. J. Pritchard, Mathematical Systems Theory I (2005), chapter 5.
    """
    eigenvalues = np.linalg.eigvals(F)
    if not np.abs(eigenvalues).max() < 1:
        return 0.0
    z = np.exp(1j * np.unique([*np.linspace(0, np.pi, ANGLES), *np.abs(np.angle(eigenvalues))]))
    margin = _margin_at(z, F, size)
    if margin >= ENTRY_TOLERANCE:
        return margin
    scale = scipy.linalg.matrix_balance(F, permute=True, separate=True)[1][0]
    return max(margin, _margin_at(z, F * scale / scale[:, None], size * scale / scale[:, None]))


def _margin_at(z: np.ndarray, F: np.ndarray, size: np.ndarray) -> float:
    """`entry_margin` on the grid `z` `[k]`, zero where the numbers run out of range."""
    try:
        resolvents = np.linalg.inv(z[:, None, None] * np.eye(len(F)) - F)
    except np.linalg.LinAlgError:
        return 0.0
    with np.errstate(divide="ignore"):
        margin = 1 / _radius_bound(np.abs(resolvents) @ size).max()
    return float(margin) if margin >= 0 else 0.0


def _radius_bound(M: np.ndarray) -> np.ndarray:
    """|M^64|^(1/64) `[k]` for non-negative `M` `[k, n, n]`: at least the spectral radius, and close to it."""
    logarithm, weight = np.zeros(len(M)), 1.0
    for _ in range(SQUARINGS + 1):
        norm = np.maximum(np.linalg.norm(M, axis=(1, 2)), 1e-300)
        logarithm, M, weight = logarithm + weight * np.log(norm), M / norm[:, None, None], weight / 2
        M = M @ M
    return np.exp(logarithm)


def holds(A: np.ndarray, B: np.ndarray, K: np.ndarray, g: float) -> bool:
    """Whether u = Kx also stabilises every plant whose entries agree with A and B to twelve digits."""
    r = np.sqrt(g)
    return entry_margin(r * (A + B @ K), r * (np.abs(A) + np.abs(B) @ np.abs(K))) >= ENTRY_TOLERANCE


def sees(A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, g: float) -> bool:
    """Whether some L makes A + LQ stable, for every A and Q that agree to twelve digits: the cost sees what lasts.

    L = 0 is tried first, then the observer that is dual to the optimal gain: it watches outputs C with C'C = Q through
    noise of unit size, while W = B R^-1 B', and its loop has the eigenvalues of the optimal one.
    """
    C, inverse = _outputs(Q)
    if holds(A.T, Q, np.zeros_like(A), g):
        return True
    if not len(C):
        return False
    found = stabilising_value(A.T, C.T, B @ np.linalg.solve(R, B.T), np.eye(len(C)), g)
    return found is not None and bool(np.isfinite(found[0]).all()) and holds(A.T, Q, inverse @ found[0], g)


def check_conditions(A: np.ndarray, B: np.ndarray, Q: np.ndarray, g: float) -> None:
    """Raise `InputError` naming a mode, |sqrt(g) lambda| >= 1, that B cannot reach or that Q does not see."""
    check_reachable(A, B, g)
    check_visible(A, Q, g)


def check_reachable(A: np.ndarray, B: np.ndarray, g: float) -> None:
    """Raise `InputError` naming a mode, |sqrt(g) lambda| >= 1, that B cannot reach."""
    mode = least_reachable_mode(A, B, g)
    if mode is not None and mode.margin <= RANK_TOLERANCE:
        raise InputError(
            f"(A, B) is not stabilisable: the mode {mode} cannot be reached through B{_circle(g)}"
        )


def check_visible(A: np.ndarray, Q: np.ndarray, g: float) -> None:
    """Raise `InputError` naming a mode, |sqrt(g) lambda| >= 1, that Q does not see."""
    mode = least_visible_mode(A, Q, g)
    if mode is not None and mode.margin <= RANK_TOLERANCE:
        raise InputError(f"(A, Q) is not detectable: the mode {mode} is not seen by Q{_circle(g)}")


def _circle(g: float) -> str:
    return "" if g == 1 else f", and |λ| is not below 1/sqrt(discount) = {1 / np.sqrt(g):.6g}"


def least_reachable_mode(A: np.ndarray, B: np.ndarray, g: float) -> Mode | None:
    """The mode with |sqrt(g) lambda| >= 1 that B `[n, m]` reaches least; `None` when all decay."""
    modes = [_pbh(A, B, eigenvalue) for eigenvalue in _slow_eigenvalues(A, g)]
    return min(modes, key=lambda mode: mode.margin) if modes else None


def least_visible_mode(A: np.ndarray, Q: np.ndarray, g: float) -> Mode | None:
    """The mode with |sqrt(g) lambda| >= 1 that the cost Q `[n, n]` sees least; `None` when all decay."""
    return least_reachable_mode(A.T, _outputs(Q)[0].T, g)


def _outputs(Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C `[r, n]` of rank r with C'C = Q, and X `[n, r]` with QX = C'.

    Eigenvalues that are round-off once the diagonal is scaled to one are left out.
    """
    scale = np.sqrt(np.maximum(np.diag(Q), 0))
    scale = np.where(scale > 0, scale, 1)
    eigenvalues, vectors = np.linalg.eigh(Q / scale / scale[:, None])
    kept = eigenvalues > 1e-14 * len(Q)
    root, vectors = np.sqrt(eigenvalues[kept]), vectors[:, kept]
    return root[:, None] * vectors.T * scale, vectors / root / scale[:, None]


def _slow_eigenvalues(A: np.ndarray, g: float) -> list[complex]:
    """Eigenvalues with |sqrt(g) lambda| >= 1 (upper half plane), and the mean of each with its neighbours.

    Round-off spreads a defective eigenvalue over a ring about its true value; the mean restores it.
    """
    eigenvalues = np.linalg.eigvals(A).astype(complex)
    candidates = [eigenvalues]
    for radius in CLUSTER_RADII:
        near = np.abs(eigenvalues[:, None] - eigenvalues) <= radius * np.abs(eigenvalues)[:, None]
        candidates.append(near @ eigenvalues / np.maximum(near.sum(axis=1), 1))
    every = np.concatenate(candidates)
    slow = every[np.sqrt(g) * np.abs(every) >= 1 - UNIT_CIRCLE_MARGIN]
    return [complex(value.real, abs(value.imag)) for value in slow]


def _pbh(A: np.ndarray, B: np.ndarray, eigenvalue: complex) -> Mode:
    """The smallest singular value of [A - lambda I, B] against its largest, and its left singular vector.

    Rows and columns of the pencil are first brought to one size: its rank stays as it is, and the units go.
    """
    shift = np.diag(A) - eigenvalue
    cancelled = np.abs(shift) <= CANCELLED * (np.abs(np.diag(A)) + abs(eigenvalue))
    pencil = np.hstack([A - np.diag(np.diag(A)) + np.diag(np.where(cancelled, 0, shift)), B])
    rows = np.ones(len(A))
    for _ in range(EQUILIBRATIONS):
        factor = _inverse_root(np.abs(pencil).max(axis=1))
        pencil = factor[:, None] * pencil * _inverse_root(np.abs(pencil).max(axis=0))
        rows = rows * factor
    left, singular, _ = np.linalg.svd(pencil)
    margin = singular[-1] / singular[0] if singular[0] > 0 else 0.0
    return Mode(eigenvalue, _unit(left[:, -1].conj() * rows), float(margin))


def _inverse_root(size: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(np.where(size > 0, size, 1))


def _unit(vector: np.ndarray) -> np.ndarray:
    """The vector at unit length with its largest entry real and positive."""
    vector = vector / np.abs(vector).max()
    largest = vector[np.argmax(np.abs(vector))]
    return vector / np.linalg.norm(vector) * (abs(largest) / largest)


def format_complex(value: complex, digits: int) -> str:
    """A number to `digits` significant digits, without an imaginary part that is round-off."""
    value = complex(value)
    real = 0.0 if abs(value.real) < 1e-9 * max(1.0, abs(value)) else value.real
    if abs(value.imag) < 1e-9 * max(1.0, abs(value)):
        return f"{real:.{digits}g}"
    return f"{real:.{digits}g} {'+' if value.imag > 0 else '-'} {abs(value.imag):.{digits}g}i"
