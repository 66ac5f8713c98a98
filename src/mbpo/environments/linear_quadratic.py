"""Any linear-quadratic system as a Gymnasium task, `mbpo/LinearQuadratic-v0`, whose optimum is known exactly."""

from __future__ import annotations

import operator
from collections.abc import Callable
from os import PathLike
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mbpo.environments.excess import Excess, excess_of
from mbpo.environments.optimal_spread import normal_draws, optimal_spread, root_of
from mbpo.errors import InputError
from mbpo.lqr import catalogue
from mbpo.lqr.optimum import Optimum, solve
from mbpo.lqr.reference import spectral_radius
from mbpo.lqr.system import LinearQuadratic

DEFAULT_LENGTH = 200
ACTION_SPREADS = 4.0
STATE_SPREADS = 6.0
HELD = 0.6  # of the optimal action at the limits
LARGEST_LIMIT = 1e30  # float32 holds the limit and what one step makes of it


class LinearQuadraticTask(gymnasium.Env[np.ndarray, np.ndarray]):
    """x' = A x + B u + w with reward -(x'Qx + u'Ru) of the state and the (clipped) action before the step.

    The start is drawn from the stationary distribution of the optimal policy on average cost, from N(0, X0)
    otherwise. Float64 inside; observations are x in float32. Nothing terminates: an episode is truncated after
    `episode_length` steps (200, or the system's horizon) and when a coordinate leaves +-`state_limit`. A horizon's
    terminal cost is no reward (truncation bootstraps a value in its place): `info["terminal_cost"]` tells it.

    system: a name in the catalogue, the path of a TOML file, or a `LinearQuadratic`. state_limit: scalar or `[n]`, by
    default 6 standard deviations of the state under the optimal policy; action_limit: scalar or `[m]`, by default 4
    of the action, or more where an unstable system could not be brought back from the limits with so little.
    Raises `InputError` for a system without an optimum or an argument out of range.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # Gymnasium's own declaration

    def __init__(
        self,
        system: LinearQuadratic | str | PathLike[str],
        action_limit: Any = None,
        state_limit: Any = None,
        episode_length: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            raise InputError(f"a linear-quadratic system cannot be drawn, got render_mode={render_mode!r}")
        self.system = _system(system)
        self.optimum = solve(self.system)
        self.episode_length = _length(episode_length, self.system.horizon)
        spread = optimal_spread(self.system, self.optimum, self.episode_length)
        self.state_limit = _limit("state_limit", state_limit, STATE_SPREADS * spread.state)
        enough = _enough(self.system, self.optimum, self.state_limit, ACTION_SPREADS * spread.action)
        self.action_limit = _limit("action_limit", action_limit, enough)
        self._start_root, self._noise_root = root_of(spread.start), root_of(self.system.W)
        n = self.system.state_dim
        self.observation_space = spaces.Box(-np.inf, np.inf, (n,), np.float32)
        high = self.action_limit.astype(np.float32)
        self.action_space = spaces.Box(-high, high, dtype=np.float32)
        self._x, self._time = np.zeros(n), 0

    @property
    def state(self) -> np.ndarray:
        """The state x `[n]` in float64."""
        return self._x.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A start; `options={"state": x}` starts from x `[n]` instead."""
        super().reset(seed=seed)
        self._x, self._time = normal_draws(self.np_random, self._start_root), 0
        if options is not None and "state" in options:
            self._x = np.array(options["state"], np.float64)
            if self._x.shape != (self.system.state_dim,):
                raise InputError(
                    f"state must have shape [{self.system.state_dim}], got {list(self._x.shape)}"
                )
        return self._x.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        system, x = self.system, self._x
        u = np.clip(np.asarray(action, np.float64), -self.action_limit, self.action_limit)
        reward = -float(x @ system.Q @ x + u @ system.R @ u)
        x = system.A @ x + system.B @ u + normal_draws(self.np_random, self._noise_root)
        self._x, self._time = x, self._time + 1
        outside = bool(np.any(np.abs(x) > self.state_limit))
        info: dict[str, Any] = {"outside": outside}
        if self._time == system.horizon and system.terminal_cost is not None:
            info["terminal_cost"] = float(x @ system.terminal_cost @ x)
        return x.astype(np.float32), reward, False, outside or self._time >= self.episode_length, info

    def excess_of(
        self, policy: Callable[[np.ndarray], np.ndarray], samples: int = 20_000, seed: int = 0
    ) -> Excess:
        """The relative excess cost of `policy` (states `[B, n]` to physical actions `[B, m]`), see `excess_of`."""
        return excess_of(self.system, policy, samples, seed)


def _enough(
    system: LinearQuadratic, optimum: Optimum, state_limit: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """An action limit with which every state within the limits can be brought back.

    An unstable mode x' = a x + b u is held where |b u| >= (a - 1) |x|, about half of what the optimal gain asks for
    (exactly a / (a + 1) of it when states cost nothing); a state beyond has no finite value, and a critic diverges.
    """
    if spectral_radius(system.A) <= 1:
        return least
    return np.maximum(least, HELD * np.abs(optimum.gain) @ state_limit)


def _system(system: Any) -> LinearQuadratic:
    if isinstance(system, LinearQuadratic):
        return system
    if isinstance(system, (str, PathLike)):
        return catalogue.resolve(system)
    raise InputError(
        f"system must be a name in the catalogue, the path of a TOML file or a LinearQuadratic, got {system!r}"
    )


def _length(length: Any, horizon: int | None) -> int:
    if length is None:
        return DEFAULT_LENGTH if horizon is None else horizon
    try:
        whole = -1 if isinstance(length, bool) else operator.index(length)
    except TypeError:
        whole = -1
    if whole < 1:
        raise InputError(f"episode_length must be a whole number of at least 1, got {length!r}")
    if horizon is not None and whole != horizon:
        raise InputError(f"episode_length must be the system's horizon {horizon}, got {length!r}")
    return whole


def _limit(name: str, given: Any, default: np.ndarray) -> np.ndarray:
    try:
        limit = np.broadcast_to(
            np.asarray(default if given is None else given, np.float64), default.shape
        ).copy()
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must be a positive number or one for each of the {len(default)} coordinates, got {given!r}"
        ) from None
    if not ((limit > 1 / LARGEST_LIMIT) & (limit < LARGEST_LIMIT)).all():
        raise InputError(f"{name} must be positive and below {LARGEST_LIMIT:g}, got {limit.tolist()}")
    return limit
