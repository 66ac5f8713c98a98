"""The exact total variation between Gaussians whose means differ linearly in a random vector.

TV(N(a, V), N(b, V)) = 2 Phi(delta / 2) - 1 with delta = |V^-1/2 (a - b)|. Where a - b = D z and z ~ N(0, Sigma),
delta^2 = sum_i lam_i g_i^2 with g_i independent N(0, 1) and lam the eigenvalues of V^-1/2 D Sigma D' V^-1/2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf

from mbpo.errors import InputError

STEP = 0.25  # the trapezoidal error is about exp(-pi^2 / STEP)
GRID = np.arange(
    -17.0, 12.0, STEP
)  # around the peak of the integrand, which falls off as exp(2v) and exp(-3v)
CHUNK = 256  # rows at once: what stays in the cache


def total_variation(distance: ArrayLike) -> np.ndarray:
    """TV(N(a, V), N(b, V)) = 2 Phi(delta / 2) - 1 for `distance` delta = |V^-1/2 (a - b)|, of any shape."""
    return erf(np.asarray(distance, np.float64) / np.sqrt(8.0))


def expected_total_variation(eigenvalues: ArrayLike) -> np.ndarray:
    """E [2 Phi(delta / 2) - 1] for delta^2 = sum_i lam_i g_i^2, from `eigenvalues` lam [..., n] >= 0; [...].

    With erf(sqrt(q/8)) = 1 - (2/pi) int_0^{pi/2} exp(-q / (8 sin^2 t)) dt (Craig's form of the normal integral) the
    expectation is P(Z^2 < sum_i lam_i g_i^2 / 4) =

        (2/pi) int_0^{pi/2} 1 - prod_i (1 + lam_i / (4 sin^2 t))^-1/2 dt.

    One eigenvalue gives (2/pi) arctan(sqrt(lam) / 2). That closed form for the eigenvalue L with
    1 + L/4 = prod_i (1 + lam_i/4) is taken out, and what remains is integrated over u = log tan t by the trapezoidal
    rule: its singularities lie pi/2 off the real line whatever the eigenvalues are, so that an equidistant grid around
    u = -log(1 + 4/max lam)/2 is accurate to about 1e-12, relative to the result.
    +inf among the eigenvalues gives 1. Raises `InputError` where one is negative or not a number.
    Sources: J. W. Craig, MILCOM 1991, 571-575; L. N. Trefethen, J. A. C. Weideman, SIAM Review 56 (2014), 385-458.
    """
    lam = np.asarray(eigenvalues, np.float64)
    if lam.ndim == 0 or lam.shape[-1] == 0 or not (lam >= 0).all():
        raise InputError(f"eigenvalues must be numbers at least 0 with shape [..., n], got {list(lam.shape)}")
    rows = lam.reshape(-1, lam.shape[-1])
    found = np.empty(len(rows))
    for first in range(0, len(rows), CHUNK):
        found[first : first + CHUNK] = _expected(rows[first : first + CHUNK])
    return found.reshape(lam.shape[:-1])


def linear_total_variation(difference: ArrayLike, covariance: ArrayLike, noise: ArrayLike) -> np.ndarray:
    """E_z TV(N(M z, V), N((M + D) z, V)) over z ~ N(0, Sigma): `difference` D [..., n, p], `covariance` Sigma
    [..., p, p], `noise` V [n, n] positive definite; leading axes broadcast.

    What is not finite, a state that has overflowed, counts as 1.
    """
    V = np.linalg.inv(np.linalg.cholesky(np.asarray(noise, np.float64)))
    with np.errstate(all="ignore"):
        D = V @ np.asarray(difference, np.float64)
        squares = D @ np.asarray(covariance, np.float64) @ D.swapaxes(-1, -2)
    finite = np.isfinite(squares).all((-1, -2))
    values = np.linalg.eigvalsh(np.where(np.expand_dims(finite, (-2, -1)), squares, 0.0))
    return np.where(finite, expected_total_variation(np.maximum(values, 0.0)), 1.0)


def model_total_variation(
    dA: np.ndarray,
    dB: np.ndarray,
    gain: np.ndarray,
    states: np.ndarray,
    exploration: np.ndarray,
    noise: np.ndarray,
) -> np.ndarray:
    """E TV(N(Ax + Bu, W), N((A+dA)x + (B+dB)u, W)) over x ~ N(0, Sigma_t), u = Kx + e, e ~ N(0, S).

    dA [M, n, n] and dB [M, n, m] of M models, `gain` K [m, n], `states` Sigma_t [T, n, n], `exploration` S [m, m],
    `noise` W [n, n]; [M, T].
    """
    n, m = dB.shape[-2:]
    joint = np.zeros((len(states), n + m, n + m))  # of [x; e]
    joint[:, :n, :n], joint[:, n:, n:] = states, exploration
    difference = np.concatenate([dA + dB @ gain, dB], axis=-1)
    return linear_total_variation(difference[:, None], joint, noise)


def _expected(lam: np.ndarray) -> np.ndarray:
    """The expectation for eigenvalues [r, n], [r]."""
    largest = lam.max(axis=1, initial=0.0)
    some = (largest > 0) & np.isfinite(largest)
    lam, scale = np.where(some[:, None], lam, 1.0), np.where(some, largest, 1.0)
    with np.errstate(over="ignore", divide="ignore"):  # infinite factors give the limit, 0
        alone = 4 * np.expm1(np.log1p(lam / 4).sum(axis=1))
        many = _factor(lam[:, 0], scale)
        for each in lam.T[1:]:
            many *= _factor(each, scale)
        difference = 1 / np.sqrt(_factor(alone, scale)) - 1 / np.sqrt(many)
        rest = STEP * (difference / _twice_cosh(scale)).sum(axis=1)
    value = (2 / np.pi) * (np.arctan(np.sqrt(alone) / 2) + rest)
    return np.where(some, value, np.where(np.isinf(largest), 1.0, 0.0))


def _factor(lam: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """1 + lam (1 + e^-2u) / 4 on the grid u = v - log(1 + 4/scale) / 2, without forming e^-2u; [r, v]."""
    slope = lam / 4 + lam / scale
    return (1 + lam / 4)[:, None] + slope[:, None] * np.exp(-2 * GRID)


def _twice_cosh(scale: np.ndarray) -> np.ndarray:
    """2 cosh u on the same grid."""
    shift = np.sqrt(scale / (scale + 4))[:, None]
    return shift * np.exp(GRID) + np.exp(-GRID) / shift
