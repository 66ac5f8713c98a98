"""Random sampled stiff plants: poles over decades, states and inputs in any units, and what breaks them on purpose."""

from __future__ import annotations

from typing import Literal, NamedTuple

import mpmath
import numpy as np
import scipy.linalg

from mbpo.lqr.system import LinearQuadratic

Fault = Literal["none", "unreachable", "unseen"]
SENTENCES: dict[Fault, str] = {
    "none": "",
    "unreachable": "(A, B) is not stabilisable: the mode ",
    "unseen": "(A, Q) is not detectable: the mode ",
}


class Plant(NamedTuple):
    """A plant in the coordinates it was made in, and the same in other units, as a user would write it."""

    natural: LinearQuadratic
    written: LinearQuadratic
    broken: float  # the eigenvalue that is not reached or not seen, 0 where none is


def stiff_plant(seed: int, fault: Fault = "none") -> Plant:
    """Between 2 and 8 first- and second-order lags in a network, sampled once a second with the input held.

    Rates span 1e-3 to 300 a second; one or two modes may grow or integrate. With a `fault` one growing or integrating
    mode is added that no input reaches, or that the cost does not see; every second time the states are then rotated,
    so that the fault hides behind round-off.
    """
    rng = np.random.default_rng((seed, list(SENTENCES).index(fault)))
    lags = [_lag(rng) for _ in range(int(rng.integers(2, 6)))]
    slow = [_slow(rng) for _ in range(int(rng.integers(0, 3)))]
    blocks = [
        each for _, each in sorted(zip(rng.random(len(lags + slow)), lags + slow, strict=True), key=_first)
    ]
    A = scipy.linalg.block_diag(*blocks)
    n, m = len(A), int(rng.integers(1, 3))
    rates = np.maximum(np.abs(A).max(axis=1), 1e-2)
    network = rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.5)
    links = (
        np.arange(n - 1),
        np.arange(1, n),
    )  # everything drives its neighbour, so all is reached and all is seen
    network[links] = rng.choice([-1, 1], size=n - 1) * rng.uniform(0.5, 2, size=n - 1)
    A = A + np.triu(rates[:, None] * network, 1) * (A == 0)
    B = rates[:, None] * rng.normal(size=(n, m)) * (rng.random((n, m)) < 0.5)
    B[-1] = rates[-1] * rng.uniform(0.5, 2, size=m)
    weights = np.where(rng.random(n) < 0.3, 0, 10.0 ** rng.uniform(-2, 2, size=n))
    weights[0] = 1.0
    sampled = scipy.linalg.expm(np.block([[A, B], [np.zeros((m, n + m))]]))
    A, B, broken = sampled[:n, :n], sampled[:n, n:], 0.0
    if fault != "none":
        A, B, weights, broken = _break(rng, fault, A, B, weights)
        n += 1
    Q = np.diag(weights)
    if rng.random() < 0.5:
        T = scipy.linalg.qr(rng.normal(size=(n, n)))[0]
        A, B, Q = T @ A @ T.T, T @ B, T @ Q @ T.T
    natural = LinearQuadratic(A, B, (Q + Q.T) / 2, np.diag(10.0 ** rng.uniform(-2, 2, size=m)))
    return Plant(natural, _in_other_units(natural, rng), broken)


def _first(pair: tuple[float, np.ndarray]) -> float:
    return pair[0]


def _lag(rng: np.random.Generator) -> np.ndarray:
    rate = 10.0 ** rng.uniform(-3, 2.5)
    if rng.random() < 0.7:
        return np.array([[-rate]])
    damping, frequency = rate * rng.uniform(0.1, 1), min(rate, 2.5)
    return np.array([[-damping, frequency], [-frequency, -damping]])


def _slow(rng: np.random.Generator) -> np.ndarray:
    return np.array([[0.0 if rng.random() < 0.3 else 10.0 ** rng.uniform(-3, 0)]])


def _break(
    rng: np.random.Generator, fault: Fault, A: np.ndarray, B: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """One more state at the end, with the eigenvalue that is returned; it is not driven, or it drives nothing."""
    growth = 1.0 if rng.random() < 0.3 else float(np.exp(10.0 ** rng.uniform(-2, 0)))
    n, link = len(A), rng.normal(size=len(A))
    A = scipy.linalg.block_diag(A, [[growth]])
    if fault == "unreachable":
        A[:n, n] = link
        return A, np.vstack([B, np.zeros(B.shape[1])]), np.append(weights, 1.0), growth
    A[n, :n] = link
    return A, np.vstack([B, rng.normal(size=B.shape[1])]), np.append(weights, 0.0), growth


def _in_other_units(system: LinearQuadratic, rng: np.random.Generator) -> LinearQuadratic:
    state = 10.0 ** rng.uniform(-5, 5, size=system.state_dim)
    inputs = 10.0 ** rng.uniform(-4, 4, size=system.action_dim)
    money = 10.0 ** rng.uniform(-6, 6)
    return LinearQuadratic(
        A=state[:, None] * system.A / state,
        B=state[:, None] * system.B / inputs,
        Q=money * system.Q / np.outer(state, state),
        R=money * system.R / np.outer(inputs, inputs),
        W=system.W * np.outer(state, state) / money,
    )


def exact_cost(system: LinearQuadratic, digits: int = 60) -> float:
    """tr(P W) by structured doubling (Chu, Fan, Lin & Wang 2004), where the power of A that is left has died out.

    Raises `ArithmeticError` where it has not: the solution does not stabilise.
    """
    with mpmath.workdps(digits):
        A, B, Q, R, W = (
            mpmath.matrix(x.tolist()) for x in (system.A, system.B, system.Q, system.R, system.W)
        )
        eye, G = mpmath.eye(A.rows), B * mpmath.inverse(R) * B.T
        units = [1 / mpmath.sqrt(W[i, i]) for i in range(A.rows)]  # in which the noise has unit size
        for _ in range(60):
            inverse = mpmath.inverse(eye + G * Q)
            A, G, Q = A * inverse * A, G + A * inverse * G * A.T, Q + A.T * Q * inverse * A
            left = max(abs(A[i, j]) * units[i] / units[j] for i in range(A.rows) for j in range(A.rows))
            if left < mpmath.mpf(10) ** -30:
                return float(sum((Q * W)[i, i] for i in range(A.rows)))
            if left > mpmath.mpf(10) ** 300:
                break
        raise ArithmeticError("the doubling does not settle")
