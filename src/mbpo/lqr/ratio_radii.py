"""How far a target policy may lie from the behaviour that collected the data: radii of usable importance ratios.

The behaviour gain K_b is held fixed and the target moves away from it, K = K_b + d direction / |direction|_F.
The half radius is the distance d at which half the trajectories are worthless, E_b[rho_{0:T-1}^2] = 2; the
infinite radius the distance from which on that moment is infinite. The distances at which it exceeds a level
need not form an interval: both radii are first crossings, found on a scan of 64 points in geometric
progression and then bisected to 1e-9. A crossing undone between two points of the scan is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mbpo.errors import InputError
from mbpo.lqr.ratios import covariance_of, gain_of, log_moments, start_of, steps_of, whitening
from mbpo.lqr.reference import lyapunov, spectral_radius
from mbpo.lqr.system import LinearQuadratic

HALF = float(np.log(2.0))
FINITE = float(np.finfo(np.float64).max)  # a logarithm above this is infinite
SCAN = 64
BLOCK = 8
PRECISION = 1e-9
UNSEEN = 1e-13


@dataclass(frozen=True, eq=False)
class RatioPath:
    """Where importance sampling reaches, from behaviour gains on the segment from K_0 to K*; arrays [points]."""

    share: np.ndarray  # s, the behaviour gain being K_0 + s (K* - K_0)
    half: np.ndarray  # distance towards K* at which E rho^2 = 2
    infinite: np.ndarray  # distance towards K* from which on E rho^2 = +inf
    remaining: np.ndarray  # |K* - K(s)|_F, the distance needed
    stabilising: np.ndarray  # whether A + B K(s) is stable


def half_radius(
    system: LinearQuadratic,
    behaviour_gain: Any,
    direction: Any,
    exploration: Any,
    steps: int,
    start_covariance: Any = None,
) -> float:
    """The smallest d with E_b[rho_{0:T-1}^2] = 2 for K = K_b + d direction / |direction|_F, to 1e-9 from below.

    `behaviour_gain` K_b and `direction` [m, n], `exploration` S [m, m], T = `steps`, x_0 ~ N(0,
    `start_covariance`), by default the system's `initial_covariance`. +inf when no state visited is ever
    seen by the direction; 0 when K_b makes the covariances overflow. Raises `InputError` for a wrong shape,
    a zero direction, a covariance that is not one, or `steps` below 1.
    """
    rays = _from_behaviour(system, behaviour_gain, direction, exploration, steps, start_covariance)
    return float(_first_crossing(rays, HALF)[0])


def infinite_radius(
    system: LinearQuadratic,
    behaviour_gain: Any,
    direction: Any,
    exploration: Any,
    steps: int,
    start_covariance: Any = None,
) -> float:
    """The smallest d from which on E_b[rho_{0:T-1}^2] is infinite; arguments and errors as `half_radius`."""
    rays = _from_behaviour(system, behaviour_gain, direction, exploration, steps, start_covariance)
    return float(_first_crossing(rays, FINITE)[0])


def log_moments_along(
    system: LinearQuadratic,
    behaviour_gain: Any,
    direction: Any,
    exploration: Any,
    distances: Any,
    steps: int,
    start_covariance: Any = None,
) -> np.ndarray:
    """log E_b[rho_{0:t}^2] at each of `distances` [D] along `direction` and each t < `steps`, [D, steps].

    The grid over distance and horizon; other arguments and errors as `half_radius`.
    """
    rays = _from_behaviour(system, behaviour_gain, direction, exploration, steps, start_covariance)
    d = np.asarray(distances, dtype=np.float64)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise InputError(f"distances must be a list of finite numbers, got shape {list(d.shape)}")
    return _log_moments(rays, np.zeros(1, dtype=int), d[None])[0]


def path(
    system: LinearQuadratic,
    initial_gain: Any,
    optimal_gain: Any,
    exploration: Any,
    steps: int,
    points: int = 60,
    start: Literal["initial", "stationary"] = "initial",
) -> RatioPath:
    """The radii towards `optimal_gain` of behaviours spread evenly from `initial_gain`, [m, n] each.

    The last behaviour is `optimal_gain` itself, which has nowhere to go: its radii keep the direction.
    `start` "initial" takes x_0 from `initial_covariance`; "stationary" from the stationary state of the
    behaviour, x_0 ~ N(0, Sigma), Sigma = F Sigma F' + W_e. A behaviour that does not stabilise has finite
    moments at a finite horizon and ordinary radii under "initial", but no stationary state: there both radii
    are 0. +inf as in `half_radius`, never NaN. Raises `InputError` as `half_radius` and for `points` below 2.
    """
    K_0, K = gain_of(system, "initial_gain", initial_gain), gain_of(system, "optimal_gain", optimal_gain)
    S = covariance_of("exploration", exploration, system.action_dim, definite=True)
    if isinstance(points, bool) or not isinstance(points, (int, np.integer)) or points < 2:
        raise InputError(f"points must be a whole number of at least 2, got {points!r}")
    if start not in ("initial", "stationary"):
        raise InputError(f'start must be "initial" or "stationary", got {start!r}')
    share = np.linspace(0.0, 1.0, int(points))
    gains = K_0 + share[:, None, None] * (K - K_0)
    loops = system.A + system.B @ gains
    stabilising = np.array([spectral_radius(F) < 1.0 for F in loops])
    starts = np.broadcast_to(system.initial_covariance, loops.shape)
    kept = np.ones(len(share), dtype=bool)
    if start == "stationary":
        W_e, kept = system.W + system.B @ S @ system.B.T, stabilising
        starts = np.array(
            [lyapunov(F, W_e) if stable else W_e for F, stable in zip(loops, kept, strict=True)]
        )
    rays = _rays(system, gains[kept], _unit(K - K_0), 2.0, S, steps_of(steps), starts[kept])
    half, infinite = np.zeros(len(share)), np.zeros(len(share))
    half[kept] = _first_crossing(rays, HALF)
    infinite[kept] = _first_crossing(rays, FINITE, half[kept])
    remaining = (1.0 - share) * np.linalg.norm(K - K_0)
    return RatioPath(share, half, infinite, remaining, stabilising)


def largest_safe_share(
    system: LinearQuadratic,
    gain: Any,
    towards: Any,
    exploration: Any,
    steps: int,
    moment: float = 2.0,
    start_covariance: Any = None,
) -> float:
    """The largest f in [0, 1] such that every behaviour K + g (towards - K), g <= f, has E_b[rho^2] <= `moment`.

    Here the target K = `gain` is fixed and the behaviour moves, so this is not a radius of the behaviour. 1 when
    `towards` equals `gain`; 0 only when the covariances overflow. To 1e-9 from below. Arguments and errors as
    `half_radius`; also `InputError` unless `moment` is finite and above 1.
    """
    K, other = gain_of(system, "gain", gain), gain_of(system, "towards", towards)
    S = covariance_of("exploration", exploration, system.action_dim, definite=True)
    if not 1.0 < moment < np.inf:
        raise InputError(f"moment must be a finite number above 1, got {moment!r}")
    start, steps = start_of(system, start_covariance), steps_of(steps)
    distance = float(np.linalg.norm(other - K))
    if distance == 0.0:
        return 1.0
    # With K_b = K - d e: D = d e and F_2 = A + B (K + d e), a ray of half the slope.
    rays = _rays(system, K[None], _unit(K - other), 1.0, S, steps, start[None])
    return min(1.0, float(_first_crossing(rays, float(np.log(moment)))[0]) / distance)


@dataclass(frozen=True, eq=False)
class _Rays:
    """At distance d, F_2 = loop + d pull and H = d seen, from x_0 ~ N(0, start); one ray for each of p gains."""

    loop: np.ndarray  # [p, n, n]
    pull: np.ndarray  # [n, n]
    seen: np.ndarray  # [m, n]
    noise: np.ndarray  # [n, n]
    start: np.ndarray  # [p, n, n]
    steps: int


def _from_behaviour(
    system: LinearQuadratic, behaviour_gain: Any, direction: Any, exploration: Any, steps: int, start: Any
) -> _Rays:
    K_b, e = gain_of(system, "behaviour_gain", behaviour_gain), gain_of(system, "direction", direction)
    S = covariance_of("exploration", exploration, system.action_dim, definite=True)
    return _rays(system, K_b[None], _unit(e), 2.0, S, steps_of(steps), start_of(system, start)[None])


def _rays(
    system: LinearQuadratic,
    gains: np.ndarray,
    unit: np.ndarray,
    slope: float,
    S: np.ndarray,
    steps: int,
    starts: np.ndarray,
) -> _Rays:
    loop, noise = system.A + system.B @ gains, system.W + system.B @ S @ system.B.T
    return _Rays(loop, slope * system.B @ unit, whitening(S) @ unit, noise, starts, steps)


def _unit(direction: np.ndarray) -> np.ndarray:
    largest = np.abs(direction).max()
    if not largest > 0:
        raise InputError("the direction between the gains must not be zero")
    return direction / largest / np.linalg.norm(direction / largest)


def _log_moments(rays: _Rays, rows: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """For some of the rays and distances [rows, D]: [rows, D, steps]."""
    d = distances[..., None, None]
    F = rays.loop[rows, None] + d * rays.pull
    return log_moments(F, d * rays.seen, rays.noise, rays.start[rows, None], rays.steps)


def _brackets(rays: _Rays) -> tuple[np.ndarray, np.ndarray]:
    """Where to begin the scan, and where the moment is surely infinite (+inf: nowhere; 0: overflow), [p] each.

    To leading order the logarithm is d^2 sum_t tr(seen C_t seen') with C_t the behaviour's covariances. At the
    first t with seen C_t seen' > 0 nothing was tilted before, so that I - 2 d^2 seen C_t seen' decides exactly.
    """
    C, total, end = rays.start, np.zeros(len(rays.loop)), np.full(len(rays.loop), np.inf)
    with np.errstate(all="ignore"):  # what overflows counts as infinite
        for _ in range(rays.steps):
            seen = rays.seen @ C @ rays.seen.T
            size = np.trace(seen, axis1=-2, axis2=-1)
            rounding = UNSEEN * np.sum(rays.seen**2) * np.trace(C, axis1=-2, axis2=-1)
            fresh = np.isinf(end) & np.isfinite(size) & (size > rounding)
            largest = np.linalg.eigvalsh(np.where(fresh[:, None, None], seen, 0.0))[:, -1]
            end = np.where(fresh, np.sqrt(0.5 / largest), end)
            total = total + size
            C = rays.loop @ C @ rays.loop.swapaxes(-1, -2) + rays.noise
        end = np.where(np.isfinite(total), end * (1 + 1e-12), 0.0)
        return np.minimum(0.05 * np.sqrt(HALF / total), 0.05 * end), end


def _first_crossing(rays: _Rays, level: float, below: np.ndarray | float = 0.0) -> np.ndarray:
    """The distance at which the logarithm first exceeds `level`, from below, [p]; it does not before `below`."""
    first, end = _brackets(rays)
    first = np.minimum(np.maximum(first, below), end)
    low, high = np.where(np.isfinite(end), below, np.inf), end.copy()
    rows = np.flatnonzero(np.isfinite(end) & (end > 0))
    for block in range(0, SCAN + 1, BLOCK):  # most rays cross early
        if not rows.size:
            break
        powers = np.minimum(np.arange(block, block + BLOCK), SCAN) / SCAN
        grid = first[rows, None] * (end[rows] / first[rows])[:, None] ** powers
        above = _log_moments(rays, rows, grid)[..., -1] > level
        at, crossed, place = above.argmax(axis=1), above.any(axis=1), np.arange(len(rows))
        last = np.where(crossed, at, BLOCK) - 1
        low[rows] = np.where(last < 0, low[rows], grid[place, last])
        high[rows] = np.where(crossed, grid[place, at], high[rows])
        rows = rows[~crossed]
    return _bisect(rays, level, low, high)


def _bisect(rays: _Rays, level: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    for _ in range(200):
        rows = np.flatnonzero(low < (1 - PRECISION) * high)
        if not rows.size:
            break
        middle = low[rows] + (high[rows] - low[rows]) / 2
        above = _log_moments(rays, rows, middle[:, None])[:, 0, -1] > level
        low[rows], high[rows] = np.where(above, low[rows], middle), np.where(above, middle, high[rows])
    return low
