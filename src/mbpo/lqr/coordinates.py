"""Coordinates in which a system is well scaled: learning happens there, so that nothing depends on anybody's units."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mbpo.lqr import exact
from mbpo.lqr.optimum import Optimum
from mbpo.lqr.system import LinearQuadratic

EXPLORATION_COST = 1.0  # what exploring adds to the cost of the optimal gain, relative to that cost
LEAST_CORRELATION = 1e-6  # added to correlations of the states before a root is taken of them


@dataclass(frozen=True, eq=False)
class Coordinates:
    """x = T x~ and u = U u~, in which the system is (T^-1 A T, T^-1 B U, T'QT, U'RU, T^-1 W T^-T) and a gain
    K~ = U^-1 K T costs what K costs.

    state: T [n, n]; action: U [m, m].
    """

    state: np.ndarray
    action: np.ndarray

    def system(self, system: LinearQuadratic) -> LinearQuadratic:
        """The same system, and the same costs, in these coordinates."""
        T, U = self.state, self.action
        terminal, first = system.terminal_cost, system.initial_gain
        return dataclasses.replace(
            system,
            A=np.linalg.solve(T, system.A @ T),
            B=np.linalg.solve(T, system.B @ U),
            Q=_symmetric(T.T @ system.Q @ T),
            R=_symmetric(U.T @ system.R @ U),
            W=self.inward_covariance(system.W),
            initial_covariance=self.inward_covariance(system.initial_covariance),
            terminal_cost=None if terminal is None else _symmetric(T.T @ terminal @ T),
            initial_gain=None if first is None else self.inward(first),
        )

    def inward(self, gain: ArrayLike) -> np.ndarray:
        """K~ = U^-1 K T, [..., m, n]."""
        return np.linalg.solve(self.action, np.asarray(gain) @ self.state)

    def outward(self, gain: ArrayLike) -> np.ndarray:
        """K = U K~ T^-1, [..., m, n]."""
        return self.action @ np.linalg.solve(self.state.T, np.swapaxes(gain, -1, -2)).swapaxes(-1, -2)

    def inward_covariance(self, covariance: np.ndarray) -> np.ndarray:
        """T^-1 X T^-T, [n, n]."""
        half = np.linalg.solve(self.state, covariance)
        return _symmetric(np.linalg.solve(self.state, half.T))

    def inward_exploration(self, exploration: np.ndarray) -> np.ndarray:
        """U^-1 S U^-T, [m, m]."""
        half = np.linalg.solve(self.action, exploration)
        return _symmetric(np.linalg.solve(self.action, half.T))

    def outward_exploration(self, exploration: np.ndarray) -> np.ndarray:
        """U S~ U', [m, m]."""
        return _symmetric(self.action @ exploration @ self.action.T)


def well_scaled(system: LinearQuadratic, gain: np.ndarray, optimum: Optimum) -> Coordinates:
    """Coordinates in which the input costs M = R + g B'P*B are the identity, and the states under `gain`, explored as
    `exploration_covariance` does, have covariance I and no correlation.

    So the metric of a Gauss-Newton step, tr(Sigma D'M D), becomes |D|^2 at the first gain. Cholesky factors make them
    unique: a system whose states and inputs are measured in other units has the same well-scaled system. A state that
    never moves keeps its unit.
    """
    S = exploration_covariance(system, optimum)
    visited = np.asarray(exact.state_covariance(system, gain, S)).reshape(-1, *system.A.shape)
    spread = visited.mean(axis=0) * (1.0 if system.discount is None else 1.0 - system.discount)
    size = np.sqrt(np.diag(spread))
    moves = size > 0
    size = np.where(moves, size, 1.0)
    correlation = spread / size[:, None] / size[None, :] + np.diag(np.where(moves, LEAST_CORRELATION, 1.0))
    return Coordinates(size[:, None] * np.linalg.cholesky(correlation), _input_scale(system, optimum))


def exploration_covariance(system: LinearQuadratic, optimum: Optimum) -> np.ndarray:
    """S = c J / m M^-1, [m, m]: exploring around the optimal gain costs tr(S M) = c J a step, where J is the optimal
    cost a step and c = `EXPLORATION_COST`, and every direction of the inputs costs the same.

    M = R + g B'P*B. Without any optimal cost to compare with, what the start costs takes its place, else S = M^-1.
    """
    U = _input_scale(system, optimum)
    size = EXPLORATION_COST * _cost_a_step(system, optimum) / system.action_dim
    return _symmetric(size * U @ U.T)


def _cost_a_step(system: LinearQuadratic, optimum: Optimum) -> float:
    """J* for the average cost, (1 - g) J* with a discount, J* / T over a horizon."""
    share = 1.0 if system.discount is None else 1.0 - system.discount
    cost = share * optimum.cost / (system.horizon or 1)
    return cost or float(np.sum(optimum.value * system.initial_covariance)) or 1.0


def _input_scale(system: LinearQuadratic, optimum: Optimum) -> np.ndarray:
    """U = L^-T with M = L L', [m, m]: U'M U = I."""
    g = 1.0 if system.discount is None else system.discount
    M = _symmetric(system.R + g * system.B.T @ optimum.value @ system.B)
    size = 1.0 / np.sqrt(np.diag(M))
    factor = np.linalg.cholesky(M * size[:, None] * size[None, :])
    return size[:, None] * np.linalg.inv(factor).T


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2
