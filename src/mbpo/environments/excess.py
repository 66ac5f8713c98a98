"""The excess cost of any policy in a linear-quadratic system, by the performance-difference lemma.

J(pi) - J* = E_pi sum_t g^t e_t' (R + g B'P_{t+1} B) e_t with e_t = pi(x_t) - K*_t x_t: only deviations from the optimal
action are summed, so the large common part of the two costs never has to cancel (Kakade & Langford 2002, lemma 6.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mbpo.environments.optimal_spread import normal_draws, optimal_spread, root_of
from mbpo.errors import InputError
from mbpo.lqr.optimum import Optimum, solve, terminal_value
from mbpo.lqr.system import LinearQuadratic

Policy = Callable[[np.ndarray], np.ndarray]

CHAINS = 256
SHORTEST_BURN_IN = 64
LONGEST = 16_384  # steps of burn-in, or of a discounted sum that is slow to converge
DRIFT = 3.0  # standard errors
TAIL = 1e-3  # of a discounted sum, what its last tenth may add
ESCAPED = 1e6  # optimal standard deviations
EXPONENTIAL = 4.0  # growth from one window to the next, twice as long; a random walk only doubles


class Excess(NamedTuple):
    """relative: (J - J*) / J*, infinite when a chain diverged or J* = 0 < J. standard_error: of `relative`, from
    independent chains. optimal_cost: J*. cut: how many of the chains diverged.
    """

    relative: float
    standard_error: float
    optimal_cost: float
    cut: int


def excess_of(system: LinearQuadratic, policy: Policy, samples: int = 20_000, seed: int = 0) -> Excess:
    """The excess cost of `policy`, from states `[B, n]` to physical actions `[B, m]`, on `samples` states or more.

    At least 256 independent chains follow the policy without limits or restarts. Average cost: they start from the
    stationary distribution of the optimal policy and burn in until two successive windows agree; then
    J - J* = E e'(R + B'PB)e. Discounted: from N(0, X0), for as long as terms count. Horizon: T steps from N(0, X0).
    Raises `InputError` when the policy's actions have the wrong shape.
    """
    if not samples >= 1:
        raise InputError(f"samples must be a positive number, got {samples!r}")
    optimum = solve(system)
    if system.horizon is not None:
        chains, terms = _over_horizon(system, optimum, policy, samples, seed, system.horizon)
    elif system.discount is not None:
        chains, terms = _discounted(system, optimum, policy, samples, seed, system.discount)
    else:
        chains, terms = _stationary(system, optimum, policy, samples, seed)
    if chains.cut:
        return Excess(math.inf, math.inf, optimum.cost, chains.cut)
    mean, error = float(terms.mean()), _standard_error(terms)
    if not optimum.cost > 0:
        relative = 0.0 if mean == 0 else math.inf
        return Excess(relative, relative, optimum.cost, 0)
    return Excess(mean / optimum.cost, error / optimum.cost, optimum.cost, 0)


class _Chains:
    """States `x` `[B, n]` that follow the policy side by side; a chain that diverges stays at 0."""

    def __init__(
        self, system: LinearQuadratic, optimum: Optimum, policy: Policy, count: int, seed: int
    ) -> None:
        spread = optimal_spread(system, optimum, system.horizon or LONGEST)
        self.system, self.policy = system, policy
        self.rng = np.random.default_rng(seed)
        self.noise_root = root_of(system.W)
        self.x = normal_draws(self.rng, root_of(spread.start), count)
        self.escape = ESCAPED * spread.state
        self.alive = np.ones(count, bool)

    @property
    def cut(self) -> int:
        return int(np.sum(~self.alive))

    def step(self, K: np.ndarray, weight: np.ndarray, scale: float) -> np.ndarray:
        """e' weight e `[B]` with e = pi(x) - K x, then one step; `scale` multiplies states to tell divergence."""
        x, system = self.x, self.system
        u = np.asarray(self.policy(x.copy()), np.float64)
        if u.shape != (len(x), system.action_dim):
            raise InputError(
                f"the policy returned actions of shape {list(u.shape)}, expected [{len(x)}, {system.action_dim}]"
            )
        e = u - x @ K.T
        noise = normal_draws(self.rng, self.noise_root, len(x))
        with np.errstate(all="ignore"):
            terms = np.einsum("bi,ij,bj->b", e, weight, e)
            after = x @ system.A.T + u @ system.B.T + noise
            inside = np.isfinite(terms) & (scale * np.abs(after) <= self.escape).all(axis=1)
        self.alive &= inside
        self.x = np.where(self.alive[:, None], after, 0.0)
        return np.where(self.alive, terms, 0.0)


def _stationary(
    system: LinearQuadratic, optimum: Optimum, policy: Policy, samples: int, seed: int
) -> tuple[_Chains, np.ndarray]:
    """Mean terms `[B]` of stationary chains; the optimal loop's mixing time is the least that they burn in."""
    chains = _Chains(system, optimum, policy, CHAINS, seed)
    weight = _weight(system, optimum.value, 1.0)

    def window(length: int) -> np.ndarray:
        total = np.zeros(CHAINS)
        for _ in range(length):
            total += chains.step(optimum.gain, weight, 1.0)
        return total / length

    mixing = math.ceil(8 / (1 - optimum.spectral_radius))
    length = min(max(SHORTEST_BURN_IN, mixing), LONGEST)
    window(length)
    before, total, settled = window(length), 2 * length, False
    while total < LONGEST and not settled and not chains.cut:
        length *= 2
        after, total = window(length), total + length
        settled = bool(abs(np.mean(after - before)) <= DRIFT * _standard_error(after - before))
        if not settled and total >= LONGEST and after.mean() > EXPONENTIAL * before.mean():
            chains.alive[:] = False
        before = after
    return chains, window(math.ceil(samples / CHAINS))


def _discounted(
    system: LinearQuadratic, optimum: Optimum, policy: Policy, samples: int, seed: int, g: float
) -> tuple[_Chains, np.ndarray]:
    """Discounted sums `[B]`, lengthened until their last tenth adds nothing to speak of; if it always does, the sum
    diverges and every chain is cut."""
    steps = math.ceil(math.log(TAIL) / math.log(g))
    chains = _Chains(system, optimum, policy, max(CHAINS, math.ceil(samples / steps)), seed)
    weight = _weight(system, optimum.value, g)
    total, t, longest = np.zeros(len(chains.x)), 0, steps
    while longest <= max(steps, LONGEST):
        last = np.zeros_like(total)
        while t < longest:
            term = g**t * chains.step(optimum.gain, weight, g ** (t / 2))
            total += term
            last += term if t >= 0.9 * longest else 0.0
            t += 1
        if chains.cut or last.sum() <= TAIL * total.sum():
            return chains, total
        longest *= 2
    chains.alive[:] = False
    return chains, total


def _over_horizon(
    system: LinearQuadratic, optimum: Optimum, policy: Policy, samples: int, seed: int, horizon: int
) -> tuple[_Chains, np.ndarray]:
    """Sums `[B]` over the horizon with the stage's own gain and the value that follows it."""
    gains = np.asarray(optimum.gains)
    weights, P = [], terminal_value(system)
    for K in gains[::-1]:
        weights.append(_weight(system, P, 1.0))
        F = system.A + system.B @ K
        P = system.Q + K.T @ system.R @ K + F.T @ P @ F
    chains = _Chains(system, optimum, policy, max(CHAINS, math.ceil(samples / horizon)), seed)
    total = np.zeros(len(chains.x))
    for K, weight in zip(gains, reversed(weights), strict=True):
        total += chains.step(K, weight, 0.0)
    return chains, total


def _weight(system: LinearQuadratic, P: np.ndarray, g: float) -> np.ndarray:
    return system.R + g * system.B.T @ P @ system.B


def _standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
