"""Defects 3 and 4: a model that cannot be identified from u = Kx, and a cost regressed on the wrong state."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array
from scipy.optimize import nnls

from mbpo.core.precision import double_precision
from mbpo.errors import InputError
from mbpo.lqr import exact
from mbpo.lqr.model import LinearModel, least_squares
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.system import LinearQuadratic
from mbpo.studies.diagnosis.world import (
    FAILED,
    Rows,
    draw_states,
    excess_of,
    quadratic,
    rollouts,
    system_and_optimum,
)

EXPLORATION = 0.5  # standard deviation of the actions, where they are explored
SIZES = (100, 300, 1_000, 3_000, 10_000, 30_000)
RIDGE = 1e-9  # as `mbpo.lqr.model.LeastSquares`; it decides what a rank-deficient fit returns
COST_ROWS = 1_000
MODEL_SYSTEMS = (FAILED, "laplacian3")


@dataclass(frozen=True)
class Identification:
    """Least squares on one trajectory of u = Kx, with and without exploration, R repetitions.

    sizes `[s]`: transitions used; errors of A, B and A + BK, relative, `[R, s]`; condition `[R, s]` of the scaled
    regressors [x; u]; excess `[R, s]`: of the gain that is optimal for the fitted model, infinite where it does not
    stabilise or does not exist.
    """

    system: str
    exploration: float
    repetitions: int
    sizes: np.ndarray
    A: np.ndarray
    B: np.ndarray
    closed_loop: np.ndarray
    condition: np.ndarray
    excess: np.ndarray


@double_precision
def identification(
    name: str,
    exploration: float,
    seed: int,
    repetitions: int = 20,
    sizes: tuple[int, ...] = SIZES,
) -> Identification:
    """How well A, B and A + BK are known from one trajectory, against its length.

    The gain has random entries in [0, 1] on the system that failed, as there; elsewhere it is the first gain.
    """
    system, _, optimal = system_and_optimum(name)
    rows, gain = _trajectories(system, exploration, repetitions, sizes[-1], np.random.default_rng(seed))
    used = np.arange(sizes[-1]) < np.array(sizes)[:, None]
    models = _fits(*(jnp.asarray(each) for each in rows), jnp.asarray(used, jnp.float64))
    A, B = np.asarray(models.A), np.asarray(models.B)  # [R, s, n, n] and [R, s, n, m]
    answers = np.asarray(_answers(models.A, models.B, jnp.asarray(system.Q), jnp.asarray(system.R)))
    loop = A + B @ gain[:, None]
    return Identification(
        name,
        exploration,
        repetitions,
        np.asarray(sizes),
        _relative(A, system.A),
        _relative(B, system.B),
        _relative(loop, (system.A + system.B @ gain)[:, None]),
        np.asarray(models.condition),
        excess_of(answers, system, optimal),
    )


@jax.jit
def _fits(x: jax.Array, u: jax.Array, x_next: jax.Array, used: jax.Array) -> LinearModel:
    """Least squares on the rows `used` `[s, T]` of each trajectory `[R, T, n]`, by leading axes `[R, s]`."""

    def fit(x: jax.Array, u: jax.Array, x_next: jax.Array) -> LinearModel:
        return jax.lax.map(lambda weight: least_squares(x, u, x_next, weight, jnp.asarray(RIDGE)), used)

    return jax.lax.map(lambda rows: fit(*rows), (x, u, x_next))


@jax.jit
def _answers(A: jax.Array, B: jax.Array, Q: jax.Array, R: jax.Array) -> jax.Array:
    """The optimal gains of fitted models; not a number where there is none."""

    def one(A: jax.Array, B: jax.Array) -> jax.Array:
        solution = exact.riccati(A, B, Q, R)
        return jnp.where(solution.ok, solution.K, jnp.nan)

    return jax.vmap(jax.vmap(one))(A, B)


def identifications(
    seed: int, repetitions: int = 20, sizes: tuple[int, ...] = SIZES
) -> tuple[Identification, ...]:
    """Both systems of `MODEL_SYSTEMS`, each without and with exploration."""
    return tuple(
        identification(name, exploration, seed, repetitions, sizes)
        for name in MODEL_SYSTEMS
        for exploration in (0.0, EXPLORATION)
    )


def _relative(estimate: Array, truth: Array) -> Array:
    size = np.linalg.norm(truth, axis=(-2, -1))
    return np.linalg.norm(estimate - truth, axis=(-2, -1)) / size


def _trajectories(
    system: LinearQuadratic, exploration: float, repetitions: int, steps: int, rng: np.random.Generator
) -> tuple[Rows, Float[Array, "R m n"]]:
    """One trajectory `[R, steps]` for each repetition, and the gains that acted."""
    gain = np.broadcast_to(default_gain(system), (repetitions, system.action_dim, system.state_dim))
    if system.name == FAILED:
        gain = rng.uniform(size=gain.shape)
    start = draw_states(system.W, (repetitions, 1), rng)
    rows = rollouts(system, gain, exploration * np.eye(system.action_dim), start, steps, rng)
    return Rows(*(each[:, 0] for each in rows)), gain


@dataclass(frozen=True)
class CostRegression:
    """The diagonals of Q and R from N costs c_t = x_{t+1}'Q x_{t+1} + u_t'R u_t by nonnegative least squares.

    truth `[n + m]`; wrong, right `[R, n + m]`: recovered from the squares of [x_t; u_t] and of [x_{t+1}; u_t];
    wrong_excess, right_excess `[R]`: of the gain that is optimal for the true A and B and the recovered cost.
    """

    system: str
    repetitions: int
    rows: int
    truth: np.ndarray
    wrong: np.ndarray
    right: np.ndarray
    wrong_excess: np.ndarray
    right_excess: np.ndarray


def cost_regression(name: str, seed: int, repetitions: int = 50, rows: int = COST_ROWS) -> CostRegression:
    """What a cost charged on the next state says about Q when it is regressed on the present one.

    Actions are explored, so that this defect stands alone.
    """
    system, _, _ = system_and_optimum(name)
    taken, _ = _trajectories(system, EXPLORATION, repetitions, rows, np.random.default_rng(seed))
    cost = quadratic(system.Q, taken.x_next) + quadratic(system.R, taken.u)
    recovered = [
        np.stack([_squares(x[r], taken.u[r], cost[r]) for r in range(repetitions)])
        for x in (taken.x, taken.x_next)
    ]
    truth = np.concatenate([np.diag(system.Q), np.diag(system.R)])
    excess = [np.array([_excess_under(system, each) for each in found]) for found in recovered]
    return CostRegression(name, repetitions, rows, truth, *recovered, *excess)


def cost_regressions(seed: int, repetitions: int = 50, rows: int = COST_ROWS) -> tuple[CostRegression, ...]:
    """Both systems of `MODEL_SYSTEMS`."""
    return tuple(cost_regression(name, seed, repetitions, rows) for name in MODEL_SYSTEMS)


def _squares(x: np.ndarray, u: np.ndarray, cost: np.ndarray) -> np.ndarray:
    return nnls(np.concatenate([x, u], axis=1) ** 2, cost)[0]


def _excess_under(system: LinearQuadratic, weights: np.ndarray) -> float:
    """Excess cost, in the true system, of the gain that is optimal for diagonal costs `weights`."""
    n = system.state_dim
    try:
        believed = LinearQuadratic(system.A, system.B, np.diag(weights[:n]), np.diag(weights[n:]), system.W)
        gain = solve(believed).gain
    except InputError:  # R = 0, or a mode that the recovered cost does not see
        return float("inf")
    return float(exact.excess_cost(system, gain, solve(system).cost))
