"""What a bench is about: target and behaviour policy, their states' laws, and the size of the ratios between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from mbpo.core.precision import double_precision
from mbpo.errors import InputError
from mbpo.lqr import exact, ratios
from mbpo.lqr.coordinates import exploration_covariance
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.system import LinearQuadratic

STEPS = 20  # of a trajectory, where the system does not set them
POOL = 4  # policies that the mixture of `mis` is drawn from
MOMENT = 1.5  # E w^2 of the whole-trajectory weight under the default behaviour
LONGEST, MOST = 1000, 10_000_000


@dataclass(frozen=True, eq=False)
class BenchSetting:
    """A system, the target gain K and the behaviour gain K_b [m, n], the exploration covariance S [m, m] of both, and T
    steps. `scale` turns a mean over steps into the gradient: T, 1 or 1/(1 - g)."""

    system: LinearQuadratic
    gain: np.ndarray
    behaviour_gain: np.ndarray
    exploration: np.ndarray
    steps: int

    @property
    def scale(self) -> float:
        """1 on average cost, 1/(1 - g) discounted, T over a finite horizon."""
        if self.system.discount is not None:
            return 1.0 / (1.0 - self.system.discount)
        return float(self.steps) if self.system.horizon is not None else 1.0

    @property
    def pool(self) -> np.ndarray:
        """The policies of the mixture, from the behaviour to the target, [J, m, n]."""
        share = np.linspace(0.0, 1.0, POOL)[:, None, None]
        return (1.0 - share) * self.behaviour_gain + share * self.gain

    def start(self, gain: np.ndarray) -> np.ndarray:
        """The covariance of first states under `gain`: X0 over a finite horizon; else that of the states visited, for a
        discount g those of the chain that restarts from X0 with probability 1 - g."""
        return np.asarray(first_states(self.system, gain, self.exploration))

    def log_weight_moment(self) -> float:
        """log E w^2 of the whole-trajectory weight, start and restarts included; inf where it diverges."""
        return log_weight_moment(self.system, self.gain, self.behaviour_gain, self.exploration, self.steps)

    def log_prefix_moment(self) -> float:
        """The largest log E w_t^2 over the steps of the prefix weight since the last restart; inf where it diverges."""
        args = self.system, self.gain, self.behaviour_gain, self.exploration, self.steps
        return float(np.max(_over_ages(self.system, _first_segment(*args), lambda: _fresh_segment(*args))))

    def log_state_action_moment(self) -> float:
        """The largest log E w_t^2 over the steps of the marginalised weight."""

        def moments(start: np.ndarray, behaviour_start: np.ndarray) -> np.ndarray:
            ours, theirs = (
                state_laws(self, self.gain, start),
                state_laws(self, self.behaviour_gain, behaviour_start),
            )
            args = self.gain, self.behaviour_gain, self.exploration
            return _logs(
                [ratios.state_action_second_moment(*args, *each) for each in zip(ours, theirs, strict=True)]
            )

        fresh = self.system.initial_covariance
        first = moments(self.start(self.gain), self.start(self.behaviour_gain))
        return float(np.max(_over_ages(self.system, first, lambda: moments(fresh, fresh))))

    def log_step_moment(self) -> float:
        """The largest log E rho_t^2 over the steps of the ratio of one action."""

        def moments(start: np.ndarray) -> np.ndarray:
            args = self.gain, self.behaviour_gain, self.exploration
            laws = state_laws(self, self.behaviour_gain, start)
            return _logs([ratios.step_second_moment(*args, each) for each in laws])

        first, fresh = moments(self.start(self.behaviour_gain)), self.system.initial_covariance
        return float(np.max(_over_ages(self.system, first, lambda: moments(fresh))))


def _logs(values: list[float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(values)


def _over_ages(system: LinearQuadratic, first: np.ndarray, fresh: Callable[[], np.ndarray]) -> np.ndarray:
    """log E w_t^2 for t < T, `[T]`, of a weight that is begun anew at a restart.

        E w_t^2 = g^t a_t + (1 - g) sum_{j < t} g^j b_j

    `first` log a_t `[T]`: after t steps of the first segment; `fresh` gives log b_j `[T]`: j steps after a restart.
    Without a discount there are no restarts and the answer is `first`.
    """
    g = system.discount
    if g is None:
        return first
    steps = np.arange(len(first))
    since = np.logaddexp.accumulate(np.log1p(-g) + steps * math.log(g) + fresh())
    return np.logaddexp(steps * math.log(g) + first, np.concatenate([[-math.inf], since[:-1]]))


@double_precision
def first_states(system: LinearQuadratic, gain: ArrayLike, exploration: np.ndarray) -> Array:
    """See `BenchSetting.start`; works under `jit` and `vmap` over gains."""
    if system.horizon is not None:
        return jnp.asarray(system.initial_covariance)
    visited = exact.state_covariance(system, gain, exploration)
    return visited if system.discount is None else (1.0 - system.discount) * visited


def state_laws(setting: BenchSetting, gain: np.ndarray, start: np.ndarray) -> np.ndarray:
    """C_0 = start, C_{t+1} = F C_t F' + W + B S B', [T, n, n]."""
    system = setting.system
    F = system.A + system.B @ gain
    arriving = system.W + system.B @ setting.exploration @ system.B.T
    laws = [np.asarray(start)]
    for _ in range(setting.steps - 1):
        laws.append(F @ laws[-1] @ F.T + arriving)
    return np.array(laws)


def log_weight_moment(
    system: LinearQuadratic, gain: np.ndarray, behaviour: np.ndarray, exploration: np.ndarray, steps: int
) -> float:
    """log E_b w^2 with w = p(x_0)/p_b(x_0) prod_{t < T} pi/pi_b, over every restart on the way.

    Restarts, with probability 1 - g after each step, cut the product into independent segments. With a_k for k steps
    of the first segment and b_k for k steps after a restart,

        E w^2 = g^(T-1) a_T + (1 - g) sum_{k < T} g^(k-1) a_k V_{T-k},    V_n the same with b in the place of a

    Without a discount E w^2 = a_T.
    """
    args = system, gain, behaviour, exploration, steps
    first, g = _first_segment(*args), system.discount
    if g is None or not math.isfinite(first[-1]):
        return float(first[-1])
    fresh = _fresh_segment(*args)
    renewed: list[float] = []  # log V_n
    for n in range(1, steps + 1):
        segment = fresh if n < steps else first
        terms = [(n - 1) * math.log(g) + segment[n - 1]]
        terms += [
            math.log1p(-g) + (k - 1) * math.log(g) + segment[k - 1] + renewed[n - k - 1] for k in range(1, n)
        ]
        renewed.append(float(np.logaddexp.reduce(terms)))
    return renewed[-1]


def _first_segment(
    system: LinearQuadratic, gain: np.ndarray, behaviour: np.ndarray, exploration: np.ndarray, steps: int
) -> np.ndarray:
    """log E_b w^2 of the first k = 1 .. T steps without a restart, `[T]`, with the ratio of the first state: p^2/p_b is
    again a Gaussian, of precision 2/C - 1/C_b."""
    infinite = np.full(steps, math.inf)
    start, other = (np.asarray(first_states(system, each, exploration)) for each in (gain, behaviour))
    if not (np.isfinite(start).all() and np.isfinite(other).all()):
        return infinite
    states = 1.0 if np.allclose(start, other, rtol=1e-13) else ratios.state_ratio_second_moment(start, other)
    if not math.isfinite(states):
        return infinite
    tilted = start if states == 1.0 else _tilted(start, other)
    moments = ratios.log_prefix_second_moments(system, gain, behaviour, exploration, steps, tilted)
    return math.log(states) + moments


def _fresh_segment(
    system: LinearQuadratic, gain: np.ndarray, behaviour: np.ndarray, exploration: np.ndarray, steps: int
) -> np.ndarray:
    """log E_b w^2 of the k = 1 .. T steps after a restart, `[T]`."""
    return ratios.log_prefix_second_moments(system, gain, behaviour, exploration, steps)


def _tilted(C: np.ndarray, C_b: np.ndarray) -> np.ndarray:
    """(2 C^-1 - C_b^-1)^-1 on the range of both."""
    values, vectors = np.linalg.eigh(C_b)
    basis = vectors[:, values > 1e-13 * values[-1]]
    small = [np.linalg.inv(basis.T @ each @ basis) for each in (C, C_b)]
    return basis @ np.linalg.inv(2 * small[0] - small[1]) @ basis.T


@double_precision
def bench_setting(
    system: LinearQuadratic,
    gain: np.ndarray | None = None,
    behaviour_gain: np.ndarray | None = None,
    exploration: np.ndarray | None = None,
    steps: int | None = None,
) -> BenchSetting:
    """A setting with its defaults: the gain that learning starts from, the exploration that it uses, T = 20 or the
    system's horizon, and a behaviour whose whole-trajectory weight has E w^2 = `MOMENT`.

    Raises `InputError` where a gain does not stabilise (unless the horizon is finite) or a number is out of range.
    """
    if steps is not None and not 1 <= steps <= LONGEST:
        raise InputError(f"horizon must be a whole number from 1 to {LONGEST}, got {steps}")
    system = exact.resolved(system)
    if system.horizon is not None:
        system = replace(system, horizon=steps or system.horizon)
        if system.horizon is not None and system.horizon > LONGEST:
            raise InputError(f"{system.name}: a bench follows at most {LONGEST} steps, got {system.horizon}")
    length = system.horizon or steps or STEPS
    K = np.asarray(default_gain(system) if gain is None else gain, dtype=np.float64)
    _check_stabilising(system, "gain", K)
    S = exploration_covariance(system, solve(system)) if exploration is None else exploration
    if behaviour_gain is None:
        behaviour = _default_behaviour(system, K, S, length)
    else:
        behaviour = np.asarray(behaviour_gain, dtype=np.float64)
        _check_stabilising(system, "behaviour-gain", behaviour)
    return BenchSetting(system, K, behaviour, S, length)


def _check_stabilising(system: LinearQuadratic, name: str, gain: np.ndarray) -> None:
    if not bool(exact.is_stabilising(system, gain)):
        radius = float(exact.spectral_radius(system, gain))
        raise InputError(
            f"{name} does not stabilise {system.name}: the spectral radius of A + B K is {radius:.6g}, expected "
            f"below {1.0 if system.discount is None else system.discount**-0.5:.6g}"
        )


def _default_behaviour(system: LinearQuadratic, K: np.ndarray, S: np.ndarray, steps: int) -> np.ndarray:
    """The gain on the way from K to the optimum (to zero, at the optimum) where E w^2 reaches `MOMENT`."""
    towards = solve(system).gain - K
    if np.linalg.norm(towards) <= 1e-6 * max(np.linalg.norm(K), 1e-12):
        towards = -K if np.any(K) else np.ones_like(K)
    low, high, allowed = 0.0, 1.0, math.log(MOMENT)
    for _ in range(40):
        middle = (low + high) / 2 if low > 0 else high / 2
        inside = log_weight_moment(system, K, K + middle * towards, S, steps) <= allowed
        low, high = (middle, high) if inside else (low, middle)
        if low > 0 and high - low < 1e-3 * high:
            break
    return K + low * towards
