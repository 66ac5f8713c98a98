"""Training on a linear-quadratic system: many seeds in one compiled program, judged against the known optimum."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from mbpo.core.loop import Parts, RunState, mbpo
from mbpo.core.plan import Plan
from mbpo.core.precision import double_precision
from mbpo.core.quantiles import median, quantiles
from mbpo.core.rollout import RealSteps
from mbpo.errors import InputError
from mbpo.lqr import exact
from mbpo.lqr.algorithms import (
    ALGORITHMS,
    Setup,
    Sizes,
    assemble,
    prepare,
    replays_rows,
    rounds_for,
)
from mbpo.lqr.environment import covariance_factor
from mbpo.lqr.limits import asymptotic_excess
from mbpo.lqr.needed import LEVELS, needed
from mbpo.lqr.optimum import Optimum, solve, terminal_value
from mbpo.lqr.settings import Settings
from mbpo.lqr.system import LinearQuadratic

__all__ = ["Settings", "Training", "train"]

ROLLOUT = 50  # steps of the real and the imagined rollout that are kept to look at
SEEDS_A_DEVICE = 8  # fewer are not worth a second device


@dataclass(frozen=True, eq=False)
class Training:
    """What a training did: S seeds, r recorded rounds, host arrays.

    transitions `[r]`: real transitions used, warm-up included; gains `[S, r, m, n]`; excess_cost `[S, r]`: J/J* - 1,
    infinite where a gain does not stabilise; model_error `[S, r]`: relative error of the fitted [A B] in well-scaled
    coordinates; realised_ratio, cuts, imagined `[S, r]`; limit: the relative excess that certainty equivalence tends to
    at this many transitions under the data collected (median over seeds), limit_curve `[r]` the same after each round;
    real_rollout, imagined_rollout `[T, n]`: the final policy of the first seed, with equal noise, in the world and in
    its model.
    """

    system: LinearQuadratic
    settings: Settings
    optimum: Optimum
    initial_gain: np.ndarray
    exploration: np.ndarray
    transitions: np.ndarray
    gains: np.ndarray
    excess_cost: np.ndarray
    model_error: np.ndarray | None
    realised_ratio: np.ndarray
    cuts: np.ndarray
    imagined: np.ndarray
    limit: float
    limit_curve: np.ndarray
    real_rollout: np.ndarray
    imagined_rollout: np.ndarray | None

    def _mixed(self, share: float | None) -> float | None:
        """A real ratio, or None where batches are not mixed."""
        known = ALGORITHMS[self.settings.algorithm]
        return share if replays_rows(known, self.settings.choices.improve) else None

    @property
    def stood_still(self) -> int:
        """Seeds whose gain is the first one from beginning to end: every update was rejected."""
        moved = np.any(self.gains != self.gains[:, :1], axis=(1, 2, 3))
        at_start = np.isclose(self.gains[:, 0], self.initial_gain, rtol=1e-9, atol=0.0).all(axis=(1, 2))
        return int(np.sum(~moved & at_start))

    @property
    def exploration_cost(self) -> float:
        """What exploring adds to the optimal cost of a step, relative to it."""
        exact_cost = float(exact.cost(self.system, self._optimal_gain, self.exploration))
        return exact_cost / self.optimum.cost - 1.0

    @property
    def _optimal_gain(self) -> np.ndarray:
        return self.optimum.gain if self.optimum.gains is None else self.optimum.gains

    def _needed(self, level: float) -> dict[str, Any]:
        found = needed(self.transitions, self.excess_cost, level)
        return {"median": found.middle, "low": found.low, "high": found.high, "at_most": found.at_most}

    def to_json(self) -> dict[str, Any]:
        """The contract of `mbpo train --json`; a cost that is not finite becomes None."""
        excess = self.excess_cost[:, -1]
        shares = {"median": 0.5, "p10": 0.1, "p90": 0.9}
        found = quantiles(self.excess_cost, list(shares.values()))
        curve = {name: [_finite(q) for q in row] for name, row in zip(shares, found, strict=True)}
        chosen, known = self.settings.choices, ALGORITHMS[self.settings.algorithm]
        return {
            "algorithm": self.settings.algorithm,
            "improve": chosen.improve,
            "system": self.system.name,
            "objective": self.system.objective,
            "transitions": int(self.transitions[-1]),
            "seeds": self.settings.seeds,
            "seed": self.settings.seed,
            "real_ratio": self._mixed(chosen.real_ratio),
            "real_ratio_last": self._mixed(chosen.real_ratio_last),
            "realised_ratio": float(np.mean(self.realised_ratio)),
            "rollout_length": chosen.rollout_length,
            "imagined_exploration": chosen.imagined_exploration if known.imagines else None,
            "optimal_cost": self.optimum.cost,
            "excess_cost": [_finite(value) for value in excess],
            "median_excess_cost": curve["median"][-1],
            "limit": _finite(self.limit),
            "unstable": int(np.sum(~np.isfinite(excess))),
            "stood_still": self.stood_still,
            "needed": {level: self._needed(share) for level, share in LEVELS.items()},
            "exploration_cost": self.exploration_cost,
            "cuts": int(np.sum(self.cuts)),
            "gains": self.gains[:, -1].tolist(),
            "curve": {"transitions": self.transitions.tolist(), **curve},
        }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class _Watched(NamedTuple):
    gain: jax.Array
    information: jax.Array
    model: tuple[jax.Array, ...] | None


@double_precision
def train(system: LinearQuadratic, settings: Settings) -> Training:
    """Train `settings.algorithm` on `system` for every seed at once, and judge every round's gain exactly.

    Raises InputError where the system cannot be learned: a zero optimal cost leaves no relative excess, and a finite
    horizon whose terminal cost is not the optimal value has no optimal constant gain.
    """
    optimum = learnable(system)
    sizes = planned(system, settings)
    setup = prepare(system, optimum)
    parts, plan = assemble(setup, ALGORITHMS[settings.algorithm], sizes, settings.choices)
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    start, infos = _over_seeds(parts, plan, keys)
    return _judge(system, settings, optimum, setup, plan, start, infos)


def planned(system: LinearQuadratic, settings: Settings) -> Sizes:
    """The rounds of a training; raises InputError where the algorithm cannot run on `system` with these
    settings."""
    known = ALGORITHMS[settings.algorithm]
    improve = settings.improve or known.improve
    branches = known.imagines and not known.from_start and not replays_rows(known, improve)
    if branches and system.horizon is not None:
        raise InputError(
            f"{system.name}: improve {improve} with {settings.algorithm} needs an objective without a horizon, since "
            "branches begin at no particular stage; use mbpo-simple, or improve dpg"
        )
    try:
        return rounds_for(system, known, settings.transitions, settings.improve)
    except ValueError as least:
        raise InputError(
            f"transitions: {settings.algorithm} needs at least {least} real transitions on {system.name} "
            f"(a warm-up and one round), got {settings.transitions}"
        ) from None


def learnable(system: LinearQuadratic) -> Optimum:
    """The optimum that learning is judged by; raises InputError where there is none to judge by."""
    optimum = solve(system)
    if not optimum.cost > 0:
        raise InputError(
            f"{system.name}: the optimal cost is 0, so no excess over it can be measured; give the system process "
            "noise W (or, with a discount or a horizon, an initial_covariance)"
        )
    if system.horizon is not None and not _ends_in_optimal_value(system):
        raise InputError(
            f"{system.name}: training learns one gain for all stages, which is optimal only when terminal_cost "
            "is the optimal value matrix; leave terminal_cost out"
        )
    return optimum


def _ends_in_optimal_value(system: LinearQuadratic) -> bool:
    if system.terminal_cost is None:
        return True
    try:
        stationary = solve(dataclasses.replace(system, horizon=None, terminal_cost=None)).value
    except InputError:
        return False
    return np.allclose(terminal_value(system), stationary, rtol=1e-6, atol=1e-12)


def _over_seeds(parts: Parts, plan: Plan, keys: jax.Array) -> tuple[Any, Any]:
    """Every seed in one program, spread over the local devices where each gets `SEEDS_A_DEVICE` or more.

    The numbers of the parts are arguments of the program, so one compilation serves every system of the same size.
    """
    arrays, static = eqx.partition((parts, plan), eqx.is_array)
    devices = jax.local_devices()
    share, rest = divmod(keys.shape[0], len(devices))
    if len(devices) > 1 and share >= SEEDS_A_DEVICE and rest == 0:
        mesh = Mesh(np.array(devices), ("seeds",))
        return jax.block_until_ready(_spread(static, mesh, arrays, keys))
    return jax.block_until_ready(_vectorised(static, arrays, keys))


@functools.partial(jax.jit, static_argnums=0)
def _vectorised(static: Any, arrays: Any, keys: jax.Array) -> tuple[Any, Any]:
    parts, plan = eqx.combine(arrays, static)
    return _run(parts, plan, keys)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _spread(static: Any, mesh: Mesh, arrays: Any, keys: jax.Array) -> tuple[Any, Any]:
    seeds = PartitionSpec("seeds")

    def share(arrays: Any, keys: jax.Array) -> tuple[Any, Any]:
        parts, plan = eqx.combine(arrays, static)
        return _run(parts, plan, keys)

    mapped = jax.shard_map(
        share, mesh=mesh, in_specs=(PartitionSpec(), seeds), out_specs=seeds, check_vma=False
    )
    return mapped(arrays, keys)


def _run(parts: Parts, plan: Plan, keys: jax.Array) -> tuple[Any, Any]:
    def watch(state: RunState, taken: RealSteps) -> _Watched:
        rows = taken.transitions
        z = jnp.concatenate([rows.observation, rows.action], 1) * taken.valid.astype(jnp.float64)[:, None]
        fitted = state.model
        model = None if fitted is None else (fitted.A, fitted.B, fitted.W)
        return _Watched(state.policy.average, z.T @ z, model)

    def one(key: jax.Array) -> tuple[Any, Any]:
        _, start, infos = mbpo(parts, plan, key, watch)
        return start, infos

    return jax.vmap(one)(keys)


def _judge(
    system: LinearQuadratic,
    settings: Settings,
    optimum: Optimum,
    setup: Setup,
    plan: Plan,
    start: _Watched,
    infos: Any,
) -> Training:
    watched: _Watched = infos.watched
    scaled, gains = setup.system, np.asarray(watched.gain)
    excess = np.asarray(exact.excess_costs(scaled, gains, optimum.cost))
    information = np.asarray(start.information)[:, None] + np.cumsum(np.asarray(watched.information), axis=1)
    limits = asymptotic_excess(scaled, information.reshape(-1, *information.shape[2:])).reshape(excess.shape)
    model = None if watched.model is None else [np.asarray(each) for each in watched.model]
    noise = np.random.default_rng(settings.seed).standard_normal((ROLLOUT + 1, system.state_dim))
    final, outward = gains[0, -1], setup.coordinates.state.T
    real = _rollout(scaled.A + scaled.B @ final, scaled.W, scaled.initial_covariance, noise) @ outward
    imagined = error = None
    if model is not None:
        A, B, W = model
        truth = np.concatenate([scaled.A, scaled.B], 1)
        error = np.linalg.norm(np.concatenate([A, B], -1) - truth, axis=(-2, -1)) / np.linalg.norm(truth)
        imagined = _rollout(A[0, -1] + B[0, -1] @ final, W[0, -1], scaled.initial_covariance, noise) @ outward
    return Training(
        system=system,
        settings=settings,
        optimum=optimum,
        initial_gain=setup.coordinates.outward(setup.gain),
        exploration=setup.coordinates.outward_exploration(setup.exploration),
        transitions=np.asarray(infos.clock.env_steps)[0].astype(np.int64),
        gains=setup.coordinates.outward(gains),
        excess_cost=excess,
        model_error=error,
        realised_ratio=np.asarray(infos.realised_ratio),
        cuts=np.asarray(infos.cuts),
        imagined=np.asarray(infos.imagined_size),
        limit=float(median(limits[:, -1])),
        limit_curve=median(limits),
        real_rollout=real,
        imagined_rollout=imagined,
    )


def _rollout(F: np.ndarray, W: np.ndarray, start: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """x_0 ~ N(0, X_0), x' = F x + w, from given standard-normal draws."""
    states = [covariance_factor(start) @ noise[0]]
    factor = covariance_factor(W)
    for draw in noise[1:]:
        states.append(F @ states[-1] + factor @ draw)
    return np.array(states)
