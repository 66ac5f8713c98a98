"""What biased estimators have as their mean, in closed form or by exact costs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mbpo.lqr import exact
from mbpo.lqr.values import PolicyValues, World
from mbpo.studies.gradients.setting import BenchSetting, state_laws

DIRECTIONS = 20_000


def on_behaviour_states(setting: BenchSetting, values: PolicyValues) -> np.ndarray:
    """2 sum_t E_t Sigma_t^b (2 E Sigma^b over 1 or 1 - g): the off-policy actor-critic, and what `dpg` tends to."""
    error = np.asarray(values.error(jnp.asarray(setting.gain)))
    return 2 * setting.scale * np.mean(error @ _states(setting, setting.behaviour_gain), axis=0)


def through_model(setting: BenchSetting, model: World, end: np.ndarray) -> np.ndarray:
    """Pathwise through (A_m, B_m) along real trajectories: 2 sum_t (R K + B_m' P_{t+1} F) Sigma_t over the window, with
    P_t = Q + K'RK + g F_m' P_{t+1} F; its end is `end`."""
    system, K = setting.system, setting.gain
    g = 1.0 if system.discount is None else system.discount
    F, F_m = system.A + system.B @ K, np.asarray(model.A) + np.asarray(model.B) @ K
    states = np.broadcast_to(_states(setting, K), (setting.steps, *system.A.shape))
    P, total = end, np.zeros_like(K)
    for t in reversed(range(setting.steps)):
        total = total + 2 * (system.R @ K + g * np.asarray(model.B).T @ P @ F) @ states[t]
        P = system.Q + K.T @ system.R @ K + g * F_m.T @ P @ F
    return setting.scale * total / setting.steps


def smoothed(setting: BenchSetting, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """grad of J averaged over the ball of `radius` around K, and the standard error of the average [m, n] twice.

    d/r^2 E[J(K + U) U] over the sphere, from exact costs at `DIRECTIONS` pairs of opposite directions; the part that is
    linear in U is known and taken out, so what is averaged is of order r^2.
    """
    K = setting.gain
    gradient = np.asarray(exact.gradient(setting.system, K, setting.exploration))
    U = sphere(K.shape, DIRECTIONS, np.random.default_rng(0)) * radius
    plus, minus = (
        np.asarray(exact.costs(setting.system, each, setting.exploration)) for each in (K + U, K - U)
    )
    odd = (plus - minus) / 2
    rest = odd - np.sum(gradient * U, axis=(1, 2))
    terms = K.size / radius**2 * rest[:, None, None] * U
    return gradient + terms.mean(axis=0), terms.std(axis=0) / np.sqrt(DIRECTIONS)


def sphere(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` draws from the unit sphere of matrices of `shape`."""
    drawn = rng.standard_normal((count, *shape))
    return drawn / np.sqrt(np.sum(drawn**2, axis=(1, 2), keepdims=True))


def _states(setting: BenchSetting, gain: np.ndarray) -> np.ndarray:
    """The covariance of the states of a window, [T or 1, n, n]."""
    start = setting.start(gain)
    return state_laws(setting, gain, start) if setting.system.horizon is not None else start[None]
