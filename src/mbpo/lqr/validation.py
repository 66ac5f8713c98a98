"""What a matrix given by a user must be, and the sentence that says so when it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mbpo.errors import InputError

SYMMETRY_TOLERANCE = 1e-10
DEFINITENESS_TOLERANCE = 1e-12


def matrix(name: str, value: Any, rows: int | None = None, columns: int | None = None) -> np.ndarray:
    """`value` as a read-only float64 matrix `[rows, columns]`; `None` leaves that size free (but at least 1).

    Raises `InputError` when it is not a matrix of finite real numbers of that shape.
    """
    array = _as_floats(name, value)
    if array.ndim == 2 and 0 in array.shape:
        raise InputError(f"{name} must have at least one row and one column, got shape {_shape(array.shape)}")
    for size, expected in zip(array.shape, (rows, columns), strict=True):
        if expected is not None and size != expected:
            wanted = _shape([given or got for given, got in zip((rows, columns), array.shape, strict=True)])
            raise InputError(f"{name} must have shape {wanted}, got shape {_shape(array.shape)}")
    if not np.isfinite(array).all():
        i, j = np.argwhere(~np.isfinite(array))[0]
        raise InputError(f"{name}[{i}, {j}] is {array[i, j]}: every entry of {name} must be a finite number")
    array.flags.writeable = False
    return array


def square(name: str, value: Any) -> np.ndarray:
    """`value` as a square `matrix`; raises `InputError`."""
    array = matrix(name, value)
    if array.shape[0] != array.shape[1]:
        raise InputError(f"{name} must be square, got shape {_shape(array.shape)}")
    return array


def labels(name: Any, source: Any) -> None:
    """Raise `InputError` unless the name of a system is one line of text, and its source text."""
    for field, value in (("name", name), ("source", source)):
        if not isinstance(value, str):
            raise InputError(f"{field} must be a string, got {value!r}")
    if not name.strip() or len(name.splitlines()) != 1:
        raise InputError(f"name must be one line of text, got {name!r}")


def symmetric(name: str, array: np.ndarray) -> np.ndarray:
    """`array` `[n, n]` with round-off asymmetry averaged away, read-only.

    Raises `InputError` naming the worst pair of entries when they differ by more than round-off.
    """
    diagonal = np.sqrt(np.abs(np.diag(array)))
    with np.errstate(over="ignore"):
        size = np.maximum(np.abs(array), np.abs(array.T)) + np.outer(diagonal, diagonal)
        excess = np.abs(array - array.T) - SYMMETRY_TOLERANCE * size - 1e-14 * np.abs(array).max()
    if excess.max() > 0:
        i, j = np.unravel_index(np.argmax(excess), excess.shape)
        i, j = min(i, j), max(i, j)
        raise InputError(
            f"{name} must be symmetric, but {name}[{i}, {j}] = {float(array[i, j])!r} "
            f"and {name}[{j}, {i}] = {float(array[j, i])!r}"
        )
    result = array / 2 + array.T / 2
    result.flags.writeable = False
    return result


def positive_semidefinite(name: str, array: np.ndarray) -> np.ndarray:
    """A symmetric `array` with no negative eigenvalue beyond round-off; raises `InputError` naming it."""
    if _smallest_scaled_eigenvalue(array) < -DEFINITENESS_TOLERANCE * len(array):
        raise InputError(f"{name} must be positive semidefinite, but it has {_worst_eigenvalue(array)}")
    return array


def positive_definite(name: str, array: np.ndarray) -> np.ndarray:
    """A symmetric `array` with positive eigenvalues only; raises `InputError` naming the one that is not."""
    if _smallest_scaled_eigenvalue(array) <= 1e-14 * len(array):
        raise InputError(f"{name} must be positive definite, but it has {_worst_eigenvalue(array)}")
    return array


def _smallest_scaled_eigenvalue(array: np.ndarray) -> float:
    """Smallest eigenvalue after scaling the diagonal to one, so that units do not decide on definiteness."""
    return float(np.linalg.eigvalsh(_unit_diagonal(array))[0])


def _unit_diagonal(array: np.ndarray) -> np.ndarray:
    floor = 1e-14 * np.abs(array).max()
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(array)), floor)) if floor > 0 else np.ones(len(array))
    return scale[:, None] * array * scale


def _worst_eigenvalue(array: np.ndarray) -> str:
    eigenvalue = float(np.linalg.eigvalsh(array)[0])
    if eigenvalue <= 0:
        return f"the eigenvalue {_number(eigenvalue)}"
    scaled = _number(_smallest_scaled_eigenvalue(array))
    return f"the eigenvalue {scaled} once its diagonal is scaled to one"


def _as_floats(name: str, value: Any) -> np.ndarray:
    if isinstance(value, (bool, int, float, complex, np.generic)):
        raise InputError(f"{name} must be a matrix, got the scalar {value!r}: write a 1x1 matrix as [[1.0]]")
    if isinstance(value, (list, tuple)):
        return _from_rows(name, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a matrix of numbers, got a {type(value).__name__}") from None
    if np.iscomplexobj(array):
        raise InputError(f"{name} must be a matrix of real numbers, got complex entries")
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name} must be a matrix of numbers, got entries of type {array.dtype}")
    if array.ndim != 2:
        raise InputError(f"{name} must be a matrix (2-D), got {array.ndim} dimension{'s'[: array.ndim != 1]}")
    return np.array(array, dtype=np.float64)


def _from_rows(name: str, rows: Sequence[Any]) -> np.ndarray:
    for i, row in enumerate(rows):
        if not isinstance(row, (list, tuple, np.ndarray)):
            raise InputError(
                f"{name} must be a list of rows such as [[1.0, 0.0]], but its entry {i} is {_short(row)}"
            )
        if len(row) != len(rows[0]):
            raise InputError(
                f"{name} must have rows of one length, but row 0 has {len(rows[0])} entries "
                f"and row {i} has {len(row)}"
            )
    table = [
        [_entry(f"{name}[{i}, {j}]", entry) for j, entry in enumerate(row)] for i, row in enumerate(rows)
    ]
    return np.array(table, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 0)


def _entry(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputError(f"{place} must be a real number, got {_short(value)}")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{place} must be a number below 1e308, got a larger one") from None


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else text[:37] + "..."


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(int(size)) for size in shape) + "]"


def _number(value: float) -> str:
    return f"{value:.6g}"
