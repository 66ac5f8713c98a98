"""What a linear policy costs, exactly: value matrices, state covariances and costs for the three objectives.

Notation: F = A + BK, W_e = W + B S B' with S the exploration covariance of u = Kx + e. Every function takes a
gain [m, n]; with a finite horizon T it also takes one gain for each stage, [T, m, n]. All of them work inside
`jit`, `vmap` and differentiation with respect to gain, exploration and system, and return float64. To map
over or differentiate a system of finite horizon whose terminal cost is left open, pass `resolved(system)`
instead of `system`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from mbpo.core.precision import double_precision
from mbpo.errors import InputError
from mbpo.lqr import optimum
from mbpo.lqr.lyapunov import discrete_lyapunov, matrix_spectral_radius
from mbpo.lqr.system import LinearQuadratic

LEAVES = ("A", "B", "Q", "R", "W", "initial_covariance", "discount", "terminal_cost", "initial_gain")
STATIC = ("horizon", "name", "source")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _flatten(system: LinearQuadratic) -> tuple[tuple, tuple]:
    return tuple(getattr(system, each) for each in LEAVES), tuple(getattr(system, each) for each in STATIC)


def _flatten_with_keys(system: LinearQuadratic) -> tuple[tuple, tuple]:
    leaves, static = _flatten(system)
    keys = tuple(jax.tree_util.GetAttrKey(each) for each in LEAVES)
    return tuple(zip(keys, leaves, strict=True)), static


def _unflatten(static: tuple, leaves: Iterable) -> LinearQuadratic:
    system = object.__new__(LinearQuadratic)
    for name, value in zip(LEAVES + STATIC, tuple(leaves) + static, strict=True):
        object.__setattr__(system, name, value)
    return system


jax.tree_util.register_pytree_with_keys(LinearQuadratic, _flatten_with_keys, _unflatten, _flatten)


def resolved(system: LinearQuadratic) -> LinearQuadratic:
    """The system with its terminal cost written out, which a finite horizon needs before tracing.

    Raises `InputError` when the system is already traced: its Riccati equation can no longer be solved on the
    host.
    """
    if system.horizon is None or system.terminal_cost is not None:
        return system
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(system)):
        raise InputError(
            f"system {system.name!r}: the terminal cost of a finite horizon must be given before tracing, "
            "expected resolved(system)"
        )
    terminal = optimum.terminal_value(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), system))
    leaves, static = _flatten(system)
    at = LEAVES.index("terminal_cost")
    return _unflatten(static, (*leaves[:at], terminal, *leaves[at + 1 :]))


def exact_function(
    function: Callable[Concatenate[LinearQuadratic, Arguments], Result],
) -> Callable[Concatenate[LinearQuadratic, Arguments], Result]:
    """Compile a function of a system: float64 throughout, terminal cost resolved beforehand."""
    compiled = jax.jit(lambda system, *args, **kwargs: function(_as_float64(system), *args, **kwargs))

    @double_precision
    @functools.wraps(function)
    def wrapped(system: LinearQuadratic, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return compiled(_nameless(resolved(system)), *args, **kwargs)

    return wrapped


def _nameless(system: LinearQuadratic) -> LinearQuadratic:
    """The same numbers under one name, so that systems of one shape share one compiled program."""
    return _unflatten((system.horizon, "system", ""), _flatten(system)[0])


def _as_float64(system: LinearQuadratic) -> LinearQuadratic:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), system)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A policy in a system, ready for the formulas: gains checked, F scaled by the root of the discount.

    gains [m, n] or [T, m, n]; F [n, n] or [T, n, n], zero where the gain does not stabilise; S [m, m] or
    None; W_e [n, n]; stage_cost = Q + K'RK, shaped like F; discount 1 unless discounted.
    """

    gains: Array
    F: Array
    S: Array | None
    W_e: Array
    stage_cost: Array
    discount: Array
    stabilising: Array


def setting(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None = None) -> Setting:
    """Check shapes and gather what every formula needs; raises `InputError` on a wrong shape."""
    gains = _gains(system, gain)
    S = None if exploration is None else jnp.asarray(exploration, jnp.float64)
    m = system.B.shape[1]
    if S is not None and S.shape != (m, m):
        raise InputError(f"exploration has shape {list(S.shape)}, expected a covariance [{m}, {m}]")
    discount = jnp.asarray(1.0 if system.discount is None else system.discount, jnp.float64)
    stabilising = _is_stabilising(system, gains)
    F = jnp.where(stabilising, jnp.sqrt(discount) * _closed_loop(system, gains), jnp.zeros(()))
    Q = jnp.broadcast_to(jnp.asarray(system.Q), F.shape)
    stage_cost = Q + jnp.swapaxes(gains, -1, -2) @ system.R @ gains
    W_e = jnp.asarray(system.W if S is None else system.W + system.B @ S @ system.B.T)
    return Setting(gains, F, S, W_e, stage_cost, discount, stabilising)


def _gains(system: LinearQuadratic, gain: ArrayLike) -> Array:
    gains = jnp.asarray(gain, jnp.float64)
    m, n, T = system.B.shape[1], system.B.shape[0], system.horizon
    if gains.shape == (m, n):
        return gains if T is None else jnp.broadcast_to(gains, (T, m, n))
    if T is not None and gains.shape == (T, m, n):
        return gains
    expected = f"[{m}, {n}]" if T is None else f"[{m}, {n}] or [{T}, {m}, {n}]"
    raise InputError(f"gain has shape {list(gains.shape)}, expected {expected}")


def _closed_loop(system: LinearQuadratic, gains: Array) -> Array:
    product = jnp.asarray(system.B) @ gains
    return jnp.broadcast_to(jnp.asarray(system.A), product.shape) + product


def _is_stabilising(system: LinearQuadratic, gains: Array) -> Array:
    if system.horizon is not None:
        return jnp.asarray(True)
    radius = matrix_spectral_radius(_closed_loop(system, gains))
    discount = 1.0 if system.discount is None else jax.lax.stop_gradient(system.discount)
    return jnp.sqrt(discount) * radius < 1.0


@exact_function
def closed_loop(system: LinearQuadratic, gain: ArrayLike) -> Array:
    """F = A + BK, [n, n] ([T, n, n] for one gain for each stage)."""
    F = _closed_loop(system, _gains(system, gain))
    return F[0] if system.horizon is not None and jnp.ndim(gain) == 2 else F


@exact_function
def spectral_radius(system: LinearQuadratic, gain: ArrayLike) -> Array:
    """The spectral radius of A + BK for one gain [m, n], a constant under differentiation."""
    gains = jnp.asarray(gain, jnp.float64)
    if gains.ndim != 2:
        raise InputError(
            f"gain has shape {list(gains.shape)}, expected one gain [m, n] for a spectral radius"
        )
    _gains(system, gain)
    return matrix_spectral_radius(_closed_loop(system, gains))


@exact_function
def is_stabilising(system: LinearQuadratic, gain: ArrayLike) -> Array:
    """Whether the cost is finite: radius of A + BK below discount^(-1/2); always for a finite horizon."""
    return _is_stabilising(system, _gains(system, gain))


def values(system: LinearQuadratic, at: Setting) -> Array:
    if system.horizon is None:
        return discrete_lyapunov(at.F.T, at.stage_cost)

    def back(P: Array, stage: tuple[Array, Array]) -> tuple[Array, Array]:
        F, stage_cost = stage
        return stage_cost + F.T @ P @ F, P

    last = jnp.asarray(system.terminal_cost)
    first, rest = jax.lax.scan(back, last, (at.F, at.stage_cost), reverse=True)
    return jnp.concatenate([first[None], rest])


def covariances(system: LinearQuadratic, at: Setting) -> Array:
    X0 = jnp.asarray(system.initial_covariance)
    if system.horizon is None and system.discount is None:
        return discrete_lyapunov(at.F, at.W_e)
    if system.horizon is None:
        return discrete_lyapunov(at.F, X0 + at.discount / (1.0 - at.discount) * at.W_e)

    def forth(Sigma: Array, F: Array) -> tuple[Array, Array]:
        return F @ Sigma @ F.T + at.W_e, Sigma

    last, rest = jax.lax.scan(forth, X0, at.F)
    return jnp.concatenate([rest, last[None]])


def defined(at: Setting, value: Array) -> Array:
    return jnp.where(at.stabilising, value, jnp.nan)


@exact_function
def value_matrix(system: LinearQuadratic, gain: ArrayLike) -> Array:
    """P = Q + K'RK + g F'PF, g the discount (1 on average cost), [n, n].

    NaN when the gain does not stabilise. Finite horizon: P_T = Q_T, P_t = Q + K_t'RK_t + F_t'P_{t+1}F_t,
    stacked [T+1, n, n].
    """
    at = setting(system, gain)
    return defined(at, values(system, at))


@exact_function
def state_covariance(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None = None) -> Array:
    """The covariance of the states visited, [n, n]; NaN when the gain does not stabilise.

    Average: Sigma = F Sigma F' + W_e. Discounted: sum_t g^t E x_t x_t' = g F Sigma F' + X0 + g W_e / (1-g).
    Finite horizon: Sigma_0 = X0, Sigma_{t+1} = F_t Sigma_t F_t' + W_e, stacked [T+1, n, n].
    """
    at = setting(system, gain, exploration)
    return defined(at, covariances(system, at))


@exact_function
def quality_matrix(system: LinearQuadratic, gain: ArrayLike) -> Array:
    """G = diag(Q, R) + g [A B]'P[A B], [n+m, n+m]: Q(x, u) = z'Gz + constant with z = [x; u].

    NaN when the gain does not stabilise. Finite horizon: with P_{t+1}, stacked [T, n+m, n+m].
    """
    at = setting(system, gain)
    P = values(system, at)
    dynamics = jnp.concatenate([system.A, system.B], axis=1)
    immediate = jax.scipy.linalg.block_diag(system.Q, system.R)
    if system.horizon is None:
        return defined(at, immediate + at.discount * (dynamics.T @ P @ dynamics))
    return jax.vmap(lambda later: immediate + dynamics.T @ later @ dynamics)(P[1:])


def policy_cost(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None) -> Array:
    at = setting(system, gain, exploration)
    P = values(system, at)
    effort = jnp.zeros(()) if at.S is None else jnp.sum(system.R * at.S)
    if system.horizon is not None:
        noise = jnp.sum(jnp.sum(P[1:], axis=0) * at.W_e)
        return jnp.sum(P[0] * system.initial_covariance) + noise + system.horizon * effort
    step = at.discount * jnp.sum(P * at.W_e) + effort
    if system.discount is None:
        return jnp.where(at.stabilising, step, jnp.inf)
    total = jnp.sum(P * system.initial_covariance) + step / (1.0 - at.discount)
    return jnp.where(at.stabilising, total, jnp.inf)


@exact_function
def cost(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike | None = None) -> Array:
    """J(K) of u = Kx + e, e ~ N(0, S), exactly; +inf when the gain does not stabilise.

    Average: tr(P W_e) + tr(RS). Discounted: tr(P X0) + [g tr(P W_e) + tr(RS)] / (1-g).
    Finite horizon: tr(P_0 X0) + sum_t tr(P_{t+1} W_e) + T tr(RS). `exploration` S is a covariance [m, m].
    """
    return policy_cost(system, gain, exploration)


@exact_function
def excess_cost(system: LinearQuadratic, gain: ArrayLike, optimal_cost: ArrayLike) -> Array:
    """J(K) / J* - 1 for the cost without exploration; where J* = 0 it is 0 or +inf."""
    return _excess(policy_cost(system, gain, None), optimal_cost)


@exact_function
def costs(system: LinearQuadratic, gains: ArrayLike, exploration: ArrayLike | None = None) -> Array:
    """`cost` of each of many gains [..., m, n], all in one program."""
    return _of_each(lambda gain: policy_cost(system, gain, exploration), gains)


@exact_function
def excess_costs(system: LinearQuadratic, gains: ArrayLike, optimal_cost: ArrayLike) -> Array:
    """`excess_cost` of each of many gains [..., m, n], all in one program."""
    return _of_each(lambda gain: _excess(policy_cost(system, gain, None), optimal_cost), gains)


def _of_each(function: Callable[[Array], Array], gains: ArrayLike) -> Array:
    stacked = jnp.asarray(gains, jnp.float64)
    each = jax.vmap(function)(stacked.reshape(-1, *stacked.shape[-2:]))
    return each.reshape(stacked.shape[:-2])


def _excess(actual: Array, optimal_cost: ArrayLike) -> Array:
    best = jnp.asarray(optimal_cost, jnp.float64)
    positive = best > 0.0
    ratio = actual / jnp.where(positive, best, 1.0) - 1.0
    return jnp.where(positive, ratio, jnp.where(actual > 0.0, jnp.inf, 0.0))
