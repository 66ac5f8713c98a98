"""Measures against the exact truth, held against the truth itself."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from mbpo.core.parts import Estimand
from mbpo.deep.ensemble import Ensemble
from mbpo.deep.networks import Dense
from mbpo.deep.sac import SoftActorCritic
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.lqr import catalogue, exact
from mbpo.runs.exact_truth import critic_error, exact_excess, one_step_error

AGENT = SoftActorCritic(3, 3, -3.0)


class Judge(NamedTuple):
    """As much of an agent as a critic's error needs."""

    value: Callable
    discount: float

    def estimand(self):
        return Estimand(self.discount)


def linear_actor(gain, limit):
    """tanh(K x / limit), made of relu(z) - relu(-z) = z; the log standard deviations are zero."""
    K = np.asarray(gain, np.float32) / limit[:, None]
    m, n = K.shape
    split = np.concatenate([np.eye(n), -np.eye(n)], axis=1)
    join = np.concatenate([K.T, -K.T], axis=0)
    out = np.concatenate([join, np.zeros((2 * n, m))], axis=1)
    layers = [Dense(split, np.zeros(2 * n)), Dense(out, np.zeros(2 * m))]
    return tuple(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), each) for each in layers)


@pytest.mark.parametrize("name", ["laplacian3", "pendulum"])
def test_a_linear_policy_s_excess_is_the_exact_one(name):
    system = catalogue.get(name)
    task = LinearQuadraticTask(system, action_limit=1e3)
    gain = 0.9 * task.optimum.gain
    found = exact_excess(task, AGENT, linear_actor(gain, task.action_limit), seed=0)
    truth = float(exact.excess_cost(system, gain, task.optimum.cost))
    assert found["excess_cost"] == pytest.approx(truth, abs=5 * found["standard_error"])
    assert found["standard_error"] < 0.1 * truth
    assert found["optimal_cost"] == task.optimum.cost


def test_a_model_that_predicts_no_change_has_the_known_error():
    task = LinearQuadraticTask("laplacian3")
    system = task.system
    part = Ensemble(3, 3, None, hidden=(4,), decays=(0.0, 0.0), networks=2, elites=1)
    state = jax.tree.map(jnp.zeros_like, part.init(jax.random.key(0)))
    state = state._replace(inputs=state.inputs._replace(scale=jnp.ones(6)))
    state = state._replace(targets=state.targets._replace(scale=jnp.ones(4)))
    rng = np.random.default_rng(0)
    x, a = rng.standard_normal((50, 3)).astype(np.float32), rng.uniform(-1, 1, (50, 3)).astype(np.float32)
    change = x @ (system.A - np.eye(3)).T + a * task.action_limit @ system.B.T
    expected = 1 + np.mean(np.sum(change**2, axis=1)) / np.trace(system.W)
    assert one_step_error(task, part, state, x, a) == pytest.approx(expected, rel=1e-5)


def test_the_exact_action_value_has_no_error():
    task, discount = LinearQuadraticTask("pendulum"), 0.95
    A, B, Q, R = (getattr(task.system, name) for name in "ABQR")
    root = np.sqrt(discount)
    P = scipy.linalg.solve_discrete_are(root * A, root * B, Q, R)
    rng = np.random.default_rng(0)
    x, a = rng.standard_normal((80, 2)).astype(np.float32), rng.uniform(-1, 1, (80, 1)).astype(np.float32)

    def value(state, observation, action, other=0.0):
        del state
        u = np.asarray(action, np.float64) * task.action_limit
        z = np.asarray(observation, np.float64)
        after = z @ A.T + u @ B.T
        cost = [
            np.einsum("bi,ij,bj->b", each, M, each) for each, M in ((z, Q), (u, R), (after, discount * P))
        ]
        return jnp.asarray(7.0 - 3.0 * sum(cost) + other, jnp.float32)

    def noisy(*rows):
        return value(*rows, other=1e4 * rng.standard_normal(80))

    assert critic_error(task, Judge(value, discount), (), x, a) == pytest.approx(0.0, abs=1e-6)
    assert critic_error(task, Judge(noisy, discount), (), x, a) > 0.8
    assert critic_error(task, Judge(lambda *rows: None, discount), (), x, a) is None
