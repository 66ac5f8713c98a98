"""Policy gradient descent over a finite horizon, one gain a stage: with the exact gradient and from rollouts.

Hambly, Xu and Yang 2021 (SIAM J. Control Optim. 59; arXiv 2011.10300), with u_t = +K_t x_t for their -K_t x_t. Each
descent may be projected; every scenario runs in the same compiled program.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from mbpo.core.precision import double_precision
from mbpo.core.quantiles import quantiles
from mbpo.errors import InputError
from mbpo.lqr import exact, step_rules
from mbpo.lqr.optimum import Optimum, default_gain, solve
from mbpo.lqr.rollout_gradient import Draws, compiled_estimate, draws, estimate
from mbpo.lqr.system import LinearQuadratic

Projection = Callable[[Array], Array]
LEVEL = 0.01
ITERATIONS = 50
QUANTILES = {"median": 0.5, "p10": 0.1, "p90": 0.9}
MOST_ITERATIONS, MOST_TRAJECTORIES, MOST_SCENARIOS, MOST_SEED = 100_000, 1_000_000, 10_000, 2**63 - 1
NUMBERS_AT_ONCE = 2**21  # perturbations of several scenarios held at a time
MOST_NUMBERS = 2**26  # perturbations of one scenario
PILOT = 2**32 - 1  # the streams of the pilot rollouts count down from here, those of scenarios up from 0


@dataclass(frozen=True)
class Sampling:
    """How rollouts are used: M `trajectories` for each stage, |U|_F = `radius` (None: `smoothing_radius`), S
    `scenarios` derived from `seed`, and E x_0 = `start_mean` [n], for x_0 ~ N(start_mean, X0 - its square)."""

    trajectories: int = 200
    radius: float | None = None
    scenarios: int = 50
    seed: int = 0
    start_mean: np.ndarray | None = None

    def __post_init__(self) -> None:
        _whole("trajectories", self.trajectories, 1, MOST_TRAJECTORIES)
        _whole("scenarios", self.scenarios, 1, MOST_SCENARIOS)
        _whole("seed", self.seed, 0, MOST_SEED)
        if self.radius is not None:
            _positive("radius", self.radius)


@dataclass(frozen=True, eq=False)
class Study:
    """What a descent did: S scenarios, N iterations, host arrays.

    normalised_error [S, N+1]: (J(K) - J*) / J* before the first and after every iteration, infinite from where a
    step left the finite numbers; gains [S, T, m, n]: the last finite ones; rollouts: those of one scenario. The
    exact method draws nothing: its one row stands for every scenario, and trajectories and radius are None.
    """

    method: str
    system: LinearQuadratic
    optimum: Optimum
    step_size: float
    trajectories: int | None
    radius: float | None
    normalised_error: np.ndarray
    gains: np.ndarray
    rollouts: int

    def iterations_to(self, level: float = LEVEL) -> np.ndarray:
        """The first iteration after which the error is below `level`, [S]; infinite where none is."""
        below = self.normalised_error < level
        return np.where(below.any(axis=1), np.argmax(below, axis=1), np.inf)

    def to_json(self) -> dict[str, Any]:
        """One entry of `methods` in `mbpo finite-horizon --json`, where infinite numbers become null."""
        error, first = self.normalised_error, self.iterations_to()
        return {
            "method": self.method,
            "step_size": self.step_size,
            "trajectories": self.trajectories,
            "radius": self.radius,
            "scenarios": len(error),
            "rollouts": self.rollouts,
            "normalised_error": {name: _quantile(error, q) for name, q in QUANTILES.items()},
            "iterations_to_1_percent": float(_quantile(first, 0.5)),
            "iterations_to_1_percent_p90": float(_quantile(first, 0.9)),
            "share_within": float(np.mean(np.isfinite(first))),
            "share_at_end": float(np.mean(error[:, -1] < LEVEL)),
            "final": {name: float(_quantile(error[:, -1], q)) for name, q in QUANTILES.items()},
            "stopped": int(np.sum(~np.isfinite(error[:, -1]))),
        }


def _quantile(values: np.ndarray, share: float) -> np.ndarray:
    return quantiles(values, [share])[0]


@double_precision
def descend(
    system: LinearQuadratic,
    iterations: int = ITERATIONS,
    step_size: float | None = None,
    start_gains: ArrayLike | None = None,
    projection: Projection | None = None,
) -> Study:
    """Gradient descent with the exact gradient: K_t <- proj(K_t - a dJ/dK_t), dJ/dK_t = 2 E_t Sigma_t (lemma 3.5).

    `step_size` defaults to `step_rules.exact_step`, `start_gains` ([m, n] or [T, m, n]) to `default_gain(system)`;
    `projection` maps gains [T, m, n] to gains, traceably.
    Raises `InputError` without a horizon, where the costs give no relative error, and for numbers out of range.
    """
    best, stages, anonymous, start = _ready(system, iterations, start_gains)
    step = (
        step_rules.exact_step(anonymous, start, stages)
        if step_size is None
        else _positive("step_size", step_size)
    )
    run = _descend(anonymous, best.cost, start, step, iterations, projection)
    errors, gains = (np.asarray(each)[None] for each in run)
    return Study("exact", system, best, step, None, None, errors, gains, 0)


@double_precision
def descend_on_rollouts(
    system: LinearQuadratic,
    sampling: Sampling,
    iterations: int = ITERATIONS,
    step_size: float | None = None,
    start_gains: ArrayLike | None = None,
    projection: Projection | None = None,
) -> Study:
    """Algorithm 1: descent along `rollout_gradient`, T x M fresh rollouts for each iteration of each scenario.

    Scenario s draws from the seed and s alone, so more scenarios only add rows. `step_size` defaults to
    `step_rules.noisy_step`, which takes the rollouts of two more iterations as pilots. The rest is as in `descend`.
    """
    best, stages, anonymous, start = _ready(system, iterations, start_gains)
    M, size = sampling.trajectories, start.size * sampling.trajectories
    if size > MOST_NUMBERS:
        most = max(1, MOST_NUMBERS // start.size)
        raise InputError(f"trajectories must be at most {most} for gains of {start.size} numbers, got {M}")
    r = (
        step_rules.smoothing_radius(anonymous, stages, best.cost)
        if sampling.radius is None
        else float(sampling.radius)
    )
    drawn, key = draws(anonymous, sampling.start_mean), jax.random.key(sampling.seed)
    step, pilots = (
        _noisy_step(anonymous, drawn, (start, stages), key, M, r) if step_size is None else (step_size, 0)
    )
    step = _positive("step_size", step)
    keys = jax.vmap(lambda s: jax.random.fold_in(key, s))(jnp.arange(sampling.scenarios))
    batch = min(sampling.scenarios, max(1, NUMBERS_AT_ONCE // size))
    run = _descend_scenarios(
        anonymous, drawn, best.cost, start, step, r, keys, iterations, M, projection, batch
    )
    errors, gains = (np.asarray(each) for each in run)
    rollouts = (iterations + pilots) * len(start) * M
    return Study("zeroth-order", system, best, step, M, r, errors, gains, rollouts)


def _ready(
    system: LinearQuadratic, iterations: int, start_gains: ArrayLike | None
) -> tuple[Optimum, np.ndarray, LinearQuadratic, np.ndarray]:
    """The optimum, its gains [T, m, n], the system without name and with terminal cost, the first gains [T, m, n]."""
    _whole("iterations", iterations, 1, MOST_ITERATIONS)
    if system.horizon is None:
        raise InputError(
            f"{system.name} has no horizon: gradient descent with one gain a stage needs a finite one, "
            "expected `horizon` in the system"
        )
    best = solve(system)
    if not best.cost > 0:
        raise InputError(f"{system.name}: the optimal cost is 0, so no error relative to it can be measured")
    system = exact.resolved(system)
    stages = np.asarray(best.gains)
    shape = stages.shape
    given = np.asarray(default_gain(system) if start_gains is None else start_gains, np.float64)
    if given.shape not in (shape, shape[1:]) or not np.isfinite(given).all():
        raise InputError(
            f"start_gains must be finite numbers of shape {list(shape[1:])} or {list(shape)}, got shape "
            f"{list(given.shape)}"
        )
    start = np.broadcast_to(given, shape)
    if not np.isfinite(exact.excess_cost(system, start, best.cost)):
        raise InputError(
            f"{system.name}: the cost of the first gains overflows, expected another initial_gain"
        )
    # without a name, so that systems of one shape share one compiled program
    return best, stages, dataclasses.replace(system, name="system", source=""), start


def _noisy_step(
    system: LinearQuadratic,
    drawn: Draws,
    ends: tuple[np.ndarray, np.ndarray],
    key: Array,
    trajectories: int,
    radius: float,
) -> tuple[float, int]:
    """The step of `noisy_step` for first and optimal gains, and how many iterations' rollouts it took."""
    pilots = []
    for i, gains in enumerate(ends):
        stream = jax.random.fold_in(key, PILOT - i)
        _, costs = compiled_estimate(system, drawn, jnp.asarray(gains), stream, trajectories, radius)
        pilots.append((float(exact.cost(system, gains)), np.asarray(costs)))
    longest = step_rules.exact_step(system, *ends)
    return step_rules.noisy_step(pilots, longest, system.B.size, radius), len(pilots)


@functools.partial(jax.jit, static_argnames=("iterations", "projection"))
def _descend(
    system: LinearQuadratic,
    optimal_cost: Array,
    start: Array,
    step_size: Array,
    iterations: int,
    projection: Projection | None,
) -> tuple[Array, Array]:
    def gradient(gains: Array, _: Array) -> Array:
        return exact.gradient(system, gains)

    return _path(system, optimal_cost, start, step_size, gradient, iterations, projection)


@functools.partial(jax.jit, static_argnames=("iterations", "trajectories", "projection", "batch"))
def _descend_scenarios(
    system: LinearQuadratic,
    drawn: Draws,
    optimal_cost: Array,
    start: Array,
    step_size: Array,
    radius: Array,
    keys: Array,
    iterations: int,
    trajectories: int,
    projection: Projection | None,
    batch: int,
) -> tuple[Array, Array]:
    def one(key: Array) -> tuple[Array, Array]:
        def gradient(gains: Array, i: Array) -> Array:
            return estimate(system, drawn, gains, jax.random.fold_in(key, i), trajectories, radius)[0]

        return _path(system, optimal_cost, start, step_size, gradient, iterations, projection)

    return jax.lax.map(one, keys, batch_size=batch)


def _path(
    system: LinearQuadratic,
    optimal_cost: Array,
    start: Array,
    step_size: Array,
    gradient: Callable[[Array, Array], Array],
    iterations: int,
    projection: Projection | None,
) -> tuple[Array, Array]:
    """Errors [N+1] and last gains [T, m, n]; a step out of the finite numbers ends the path with error infinity."""

    def step(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
        gains, going = carry
        moved = gains - step_size * gradient(gains, i)
        going = going & jnp.all(jnp.isfinite(moved))
        moved = jnp.where(going, moved, gains)
        moved = moved if projection is None else projection(moved)
        error = exact.excess_cost(system, moved, optimal_cost)
        going = going & jnp.isfinite(error)
        return (jnp.where(going, moved, gains), going), jnp.where(going, error, jnp.inf)

    first = exact.excess_cost(system, start, optimal_cost)
    (last, _), errors = jax.lax.scan(step, (start, jnp.asarray(True)), jnp.arange(iterations))
    return jnp.concatenate([first[None], errors]), last


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} must be a whole number from {least} to {most}, got {value!r}")


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < math.inf:
        raise InputError(f"{name} must be a positive finite number, got {value!r}")
    return float(value)
