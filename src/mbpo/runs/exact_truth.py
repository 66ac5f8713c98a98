"""What only a linear-quadratic task can tell: the exact excess cost of a policy, and a model's error over the floor."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mbpo.deep.ensemble import Ensemble, EnsembleState
from mbpo.deep.networks import Layers
from mbpo.deep.sac import mean_action
from mbpo.environments.linear_quadratic import LinearQuadraticTask

ROWS = 4096  # states on which a model is judged


def exact_excess(task: LinearQuadraticTask, actor: Layers, seed: int) -> dict[str, Any]:
    """`excess_cost` J/J* - 1 of the mean policy, its `standard_error` (the sum over states is sampled, the formula is
    exact), and `optimal_cost`."""
    limit = task.action_limit
    act = jax.jit(mean_action)

    def policy(x: np.ndarray) -> np.ndarray:
        return np.asarray(act(actor, jnp.asarray(x, jnp.float32)), np.float64) * limit

    found = task.excess_of(policy, seed=seed)
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
    predicted = np.asarray(jax.jit(model.mean_prediction)(state, observation, action)[1], np.float64)
    system = task.system
    u = np.asarray(actions, np.float64) * task.action_limit
    truth = np.asarray(rows, np.float64) @ system.A.T + u @ system.B.T
    floor = float(np.trace(system.W))
    error = float(np.mean(np.sum((truth - predicted) ** 2, axis=1)))
    return 1.0 + error / floor if floor > 0 else float("inf")
