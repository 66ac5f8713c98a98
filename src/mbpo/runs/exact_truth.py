"""What only a linear-quadratic task can tell: the exact excess cost of a policy, the error of a model over the noise
floor, and the error of a critic against the exact action value."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mbpo.core.parts import Agent
from mbpo.deep.ensemble import Ensemble, EnsembleState
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.environments.true_model import noise_floor
from mbpo.lqr.optimum import solve

ROWS = 4096  # states on which a model is judged


def exact_excess(task: LinearQuadraticTask, agent: Agent, policy: Any, seed: int) -> dict[str, Any]:
    """`excess_cost` J/J* - 1 of the mean policy, its `standard_error` (the sum over states is sampled, the formula is
    exact), and `optimal_cost`."""
    limit = task.action_limit
    act = jax.jit(agent.mean_action)

    def physical(x: np.ndarray) -> np.ndarray:
        return np.asarray(act(policy, jnp.asarray(x, jnp.float32)), np.float64) * limit

    found = task.excess_of(physical, seed=seed)
    return {
        "excess_cost": found.relative,
        "standard_error": found.standard_error,
        "optimal_cost": found.optimal_cost,
    }


def one_step_error(
    task: LinearQuadraticTask, model: Ensemble, state: EnsembleState, rows: np.ndarray, actions: np.ndarray
) -> float:
    """E |x' - mu(x, u)|^2 / tr W of the elites' mean prediction mu, at the given states and actions: 1 is the floor.

    The noise is integrated out exactly: E |x' - mu|^2 = tr W + |A x + B u - mu|^2. Infinite where W is zero.
    """
    observation, action = jnp.asarray(rows, jnp.float32), jnp.asarray(actions, jnp.float32)
    predicted = np.asarray(_next_mean(model, state, observation, action), np.float64)
    system = task.system
    u = np.asarray(actions, np.float64) * task.action_limit
    truth = np.asarray(rows, np.float64) @ system.A.T + u @ system.B.T
    floor = noise_floor(system).trace
    error = float(np.mean(np.sum((truth - predicted) ** 2, axis=1)))
    return 1.0 + error / floor if floor > 0 else float("inf")


@eqx.filter_jit
def _next_mean(model: Ensemble, state: EnsembleState, observation: Array, action: Array) -> Array:
    return model.mean_prediction(state, observation, action)[1]


def critic_error(
    task: LinearQuadraticTask, agent: Agent, state: Any, rows: np.ndarray, actions: np.ndarray
) -> float | None:
    """1 - R^2 of the agent's value against the exact optimal action value at the given states and actions, from 0
    (equal up to offset and unit); None without values, at a finite horizon, where there is one for each stage, and
    without a future.

    -Q*(x, u) = x'Qx + u'Ru + g (A x + B u)'P(A x + B u) + constant, P of the optimum with the agent's discount g. A
    soft critic values entropy and its own policy, so it tends to this as temperature and excess cost fall.
    """
    system, discount = task.system, agent.estimand().discount
    if system.horizon is not None or discount == 0:
        return None
    x, u = np.asarray(rows, np.float64), np.asarray(actions, np.float64) * task.action_limit
    P = solve(dataclasses.replace(system, discount=discount)).value
    following = x @ system.A.T + u @ system.B.T
    exact = -sum(
        np.sum((each @ matrix) * each, axis=1) * factor
        for each, matrix, factor in ((x, system.Q, 1.0), (u, system.R, 1.0), (following, P, discount))
    )
    value = agent.value(state, jnp.asarray(rows, jnp.float32), jnp.asarray(actions, jnp.float32))
    if value is None:
        return None
    learned = np.asarray(value, np.float64)
    if np.std(learned) == 0 or np.std(exact) == 0:
        return 1.0
    return float(1.0 - np.corrcoef(learned, exact)[0, 1] ** 2)
