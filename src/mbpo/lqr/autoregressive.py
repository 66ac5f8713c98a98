"""Forecasts learned online from the last s outputs (and inputs), many runs side by side.

A learner forecasts y_t from z_t = [y_{t-1}; ...; y_{t-s}; u_{t-1}; ...; u_{t-s}], sees y_t, and only then learns from
it. Before s outputs have been seen the forecast is zero and nothing is learned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mbpo.errors import InputError

# What the authors' published curves were drawn with: `testIdentification` in experiments.py of jmarecek/OnlineLDS, on
# the series of Liu et al. The radius 10 in the same file belongs to `test_AR`, which nothing calls.
PUBLISHED_RADIUS = 1.0  # D, of the ball of coefficients
PUBLISHED_DIVISORS = (1.0, 2500.0)  # c of the steps t^(-1/2) / c


class Learned(NamedTuple):
    """What an online learner did: its forecasts `[R, T, p]`, each made before that output was seen, its coefficients
    `[R, p, d]` at the end, and the Frobenius norm of each gradient `[R, T]` of |y_t - Theta z_t|^2 at the coefficients
    of the time."""

    forecasts: np.ndarray
    coefficients: np.ndarray
    slopes: np.ndarray


def regressors(outputs: np.ndarray, order: int, inputs: np.ndarray | None = None) -> np.ndarray:
    """z_t `[R, T, s (p + m)]` of outputs `[R, T, p]` and inputs `[R, T, m]`; zeros stand for what came before the
    start. Raises `InputError` for an order below 1."""
    if order < 1:
        raise InputError(f"an autoregression needs an order of at least 1, got {order}")
    parts = []
    for series in [outputs] if inputs is None else [outputs, inputs]:
        for lag in range(1, order + 1):
            part = np.zeros_like(series)
            part[:, lag:] = series[:, :-lag]
            parts.append(part)
    return np.concatenate(parts, axis=2)


def stacked(coefficients: np.ndarray) -> np.ndarray:
    """Coefficients `[p, s, p]` as one matrix Theta `[p, s p]` for the regressors."""
    return coefficients.reshape(coefficients.shape[0], -1)


def gradient_descent(
    outputs: np.ndarray,
    order: int,
    radius: float = PUBLISHED_RADIUS,
    scaled: bool = False,
    divisor: float = 1.0,
    inputs: np.ndarray | None = None,
) -> Learned:
    """Online gradient descent on |y_t - Theta z_t|^2 with step t^(-1/2) / c, projected on |Theta|_F <= radius.

    Theta <- project(Theta + 2 eta_t (y_t - Theta z_t) z_t'), eta_t = t^(-1/2) / c, from zero; c is `divisor`. `scaled`
    divides the step further by 2 max_{tau <= t} |z_tau|^2, so that a step never overshoots: the plain one does wherever
    2 eta_t |z_t|^2 > 2. The published c = 2500 suits the units of the series it was chosen for. Raises `InputError` for
    a radius or a divisor that is not positive.
    Source: Kozdoba, Marecek, Tchrakian, Mannor, arXiv 1809.05870, the algorithm (after Zinkevich, ICML 2003), where
    c = 1; c in {1, 2500} and D = 1 from the authors' code.
    """
    if not (radius > 0 and divisor > 0):
        raise InputError(f"radius and divisor must be positive, got {radius:g} and {divisor:g}")
    z = regressors(outputs, order, inputs)
    runs, steps, p = outputs.shape
    theta, made, slopes = np.zeros((runs, p, z.shape[2])), np.zeros_like(outputs), np.zeros((runs, steps))
    largest = np.zeros(runs)
    for t in range(order, steps):
        made[:, t] = _apply(theta, z[:, t])
        slope = -2 * (outputs[:, t] - made[:, t])[:, :, None] * z[:, t, None, :]
        slopes[:, t] = _norms(slope)
        largest = np.maximum(largest, np.sum(z[:, t] ** 2, axis=1))
        step = t**-0.5 / divisor / (np.where(largest > 0, 2 * largest, 1.0) if scaled else np.ones(runs))
        theta = theta - step[:, None, None] * slope
        theta *= np.minimum(1.0, radius / np.maximum(_norms(theta), 1e-300))[:, None, None]
    return Learned(made, theta, slopes)


def least_squares_online(
    outputs: np.ndarray, order: int, ridge: float = 1.0, inputs: np.ndarray | None = None
) -> Learned:
    """Recursive least squares: before each output Theta = argmin sum |y - Theta z|^2 + lambda |Theta|_F^2 over all
    that has been seen; lambda is `ridge` times the mean square of the first `order` outputs, so units do not matter.

    Source: Ljung, System Identification (1999), 11.2.
    """
    z = regressors(outputs, order, inputs)
    runs, steps, p = outputs.shape
    d = z.shape[2]
    first = ridge * np.mean(np.sum(outputs[:, :order] ** 2, axis=2), axis=1)
    inverse = np.eye(d) / np.where(first > 0, first, 1.0)[:, None, None]
    theta, made, slopes = np.zeros((runs, p, d)), np.zeros_like(outputs), np.zeros((runs, steps))
    for t in range(order, steps):
        made[:, t] = _apply(theta, z[:, t])
        error = outputs[:, t] - made[:, t]
        slopes[:, t] = _norms(2 * error[:, :, None] * z[:, t, None, :])
        spread = np.squeeze(inverse @ z[:, t, :, None], axis=2)
        gain = spread / (1 + np.sum(z[:, t] * spread, axis=1))[:, None]
        theta = theta + error[:, :, None] * gain[:, None, :]
        inverse = inverse - gain[:, :, None] * spread[:, None, :]
    return Learned(made, theta, slopes)


def fixed_forecasts(outputs: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """The forecasts `[R, T, p]` of coefficients `[p, s, p]` that do not change."""
    return regressors(outputs, coefficients.shape[1]) @ stacked(coefficients).T


def _apply(theta: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.squeeze(theta @ z[:, :, None], axis=2)


def _norms(matrices: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum(matrices**2, axis=(1, 2)))
