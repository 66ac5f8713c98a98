"""Systems, gains and data of known origin that the tests of the learners share."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from exact_cases import random_system

from mbpo.core.buffer import Ring
from mbpo.core.types import Transition
from mbpo.lqr import catalogue, optimum
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.values import World

TWO = catalogue.get("double_integrator")
THREE = replace(catalogue.get("laplacian3"), name="laplacian3")
SINGULAR = random_system(4, 2, 1.1, 3, noise_rank=1)


def off_optimum(system: LinearQuadratic) -> np.ndarray:
    """A stabilising gain well away from the optimum: control four times dearer."""
    steady = replace(system, R=4 * system.R, horizon=None, terminal_cost=None)
    return optimum.solve(steady).gain


def gaussian(system: LinearQuadratic, scale: float = 1.0) -> LinearGaussian:
    """The policy `off_optimum` with exploration covariance scale^2 I."""
    return LinearGaussian(jnp.asarray(off_optimum(system)), scale * jnp.eye(system.action_dim))


def trajectories(system: LinearQuadratic, policy: LinearGaussian, start, steps: int, key) -> Transition:
    """`[B, T]` transitions of the policy from `start` `[B, n]`, written without the package's environment."""
    A, B, Q, R = (jnp.asarray(each) for each in (system.A, system.B, system.Q, system.R))
    values, vectors = np.linalg.eigh(system.W)
    root = jnp.asarray(vectors * np.sqrt(np.maximum(values, 0)))

    def step(x, key):
        noise_key, action_key = jax.random.split(key)
        u = x @ policy.gain.T + jax.random.normal(action_key, (x.shape[0], B.shape[1])) @ policy.factor.T
        after = x @ A.T + u @ B.T + jax.random.normal(noise_key, x.shape) @ root.T
        cost = jnp.sum((x @ Q) * x, axis=1) + jnp.sum((u @ R) * u, axis=1)
        no = jnp.zeros(x.shape[0], bool)
        return after, Transition(x, u, -cost, after, no, no)

    _, rows = jax.lax.scan(step, start, jax.random.split(key, steps))
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), rows)


def normal_rows(covariance, count: int, key) -> jax.Array:
    """Draws `[count, n]` from N(0, covariance)."""
    values, vectors = np.linalg.eigh(np.asarray(covariance))
    root = jnp.asarray(vectors * np.sqrt(np.maximum(values, 0)))
    return jax.random.normal(key, (count, root.shape[0])) @ root.T


def scattered(system: LinearQuadratic, policy: LinearGaussian, count: int, key) -> Transition:
    """`[B]` transitions from independent states of covariance I."""
    start_key, key = jax.random.split(key)
    start = jax.random.normal(start_key, (count, system.state_dim))
    return jax.tree.map(lambda leaf: leaf[:, 0], trajectories(system, policy, start, 1, key))


def ring_of(rows: Transition) -> Ring:
    """A ring that `rows` `[B]` fill."""
    return Ring(rows, jnp.int32(rows.reward.shape[0]), jnp.int32(0))


def z_scores(draws, expected) -> np.ndarray:
    """(mean - expected) in standard errors of the mean, over the first axis."""
    draws = np.asarray(draws)
    return (draws.mean(axis=0) - np.asarray(expected)) / (draws.std(axis=0, ddof=1) / np.sqrt(len(draws)))


def world_of(system: LinearQuadratic) -> World:
    """The true parameters, as estimators are told them."""
    parts = (system.A, system.B, system.Q, system.R, system.W, system.initial_covariance)
    return World(*(jnp.asarray(each) for each in parts))
