"""The bounds of model-based policy optimisation on a linear-Gaussian system, every term of them exact.

M. Janner, J. Fu, M. Zhang, S. Levine, When to Trust Your Model, NeurIPS 2019 (arXiv 1906.08253), theorems 4.1 to 4.3.
The real system moves by p = N(Ax + Bu, W), the model by p' = N(A'x + B'u, W): they differ in the matrices and share
the noise. Data come from pi_D = N(K_D x, S), the return is asked of pi = N(Kx, S). Every law met from x_0 ~ N(0, X0)
on is a centred Gaussian, so returns of the bounded reward below are sums over covariances.

Two things differ from the statements in print. They take the largest divergence of the policies over states, which is
1 for linear policies and makes every bound vacuous; the proofs need only the largest expectation over the steps of
one chain, which is what stands here. And a quadratic cost has no bound, so that the reward saturates:
r(x, u) = exp(-(x'Qx + u'Ru) / (2 l)) - 1/2, of size at most r_max = 1/2.

Why expectations suffice: the laws of x_t under two chains drift apart by at most E TV of their kernels a step, the
expectation taken under either chain, and the law of u_t adds E TV of the policies once. For 4.3 take the chain of
pi_D for the first t - k steps, where only the policies differ, and the chain of pi for the last k, where only the
models do. For 4.2 go from pi to pi_D and back, under the chain of pi_D throughout; for 4.1 likewise with k = t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy import ndarray as Array

from mbpo.errors import InputError
from mbpo.lqr.ratios import covariance_of, gain_of
from mbpo.lqr.reference import lyapunov, spectral_radius
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.total_variation import linear_total_variation, model_total_variation
from mbpo.lqr.validation import positive_definite

R_MAX = 0.5
NEGLIGIBLE = 1e-13  # discount^t beyond which a step no longer counts, and relative distance from a limit


@dataclass(frozen=True, eq=False)
class Bounds:
    """One policy under one model or many: `[...]` are the leading axes of the models' matrices, k = 0 .. longest.

    The theorems say eta >= eta_model - bound_41 and eta >= eta_branch - bound_42 or - bound_43; their proofs bound the
    size of the gap, whichever sign it has.

    discount: g.
    eta: return of pi in the real system, sum_t g^t E r(x_t, u_t).
    eta_model: return of pi in the model, `[...]`.
    eta_branch: return over branches of k steps, `[..., longest + 1]`: x_t is reached by t - k real steps of pi_D and
        then k steps of pi in the model (t < k: t steps of pi in the model), and u_t is drawn from pi.
    eps_m: max_t E TV(p, p') over x_t, u_t of pi_D in the real system, `[...]`.
    eps_m_current: the same of pi, eps_m' in theorem 4.3, `[...]`.
    eps_pi: max_t E TV(pi, pi_D) over x_t of pi_D in the real system.
    bound_41, bound_42, bound_43: `theorem_41` `[...]`, `theorem_42` and `theorem_43` `[..., longest + 1]`.
    """

    discount: float
    eta: float
    eta_model: Array
    eta_branch: Array
    eps_m: Array
    eps_m_current: Array
    eps_pi: float
    bound_41: Array
    bound_42: Array
    bound_43: Array

    @property
    def gap_model(self) -> Array:
        """|eta - eta_model|, `[...]`."""
        return np.abs(self.eta - self.eta_model)

    @property
    def gap_branch(self) -> Array:
        """|eta - eta_branch|, `[..., longest + 1]`."""
        return np.abs(self.eta - self.eta_branch)

    @property
    def violations(self) -> int:
        """How many gaps exceed their bound by more than rounding: none, or the theorems or this code are wrong."""
        slack = 1e-9 * trivial_bound(self.discount)
        branch = self.gap_branch - slack
        held = (self.gap_model - slack <= self.bound_41, branch <= self.bound_42, branch <= self.bound_43)
        return sum(int((~each).sum()) for each in held)


def trivial_bound(discount: float) -> float:
    """2 r_max / (1 - g): no two returns are further apart, so a bound above it says nothing."""
    return 2 * R_MAX / (1 - discount)


def theorem_41(eps_m: Any, eps_pi: Any, discount: float) -> Array:
    """2 g r_max (eps_m + 2 eps_pi) / (1-g)^2 + 4 r_max eps_pi / (1-g), the bound on eta - eta_model."""
    m, pi, rest = np.asarray(eps_m), np.asarray(eps_pi), 1 - discount
    return 2 * R_MAX * (discount * (m + 2 * pi) / rest**2 + 2 * pi / rest)


def theorem_42(eps_m: Any, eps_pi: Any, discount: float, longest: int) -> Array:
    """2 r_max [g^(k+1) eps_pi / (1-g)^2 + (g^k + 2) eps_pi / (1-g) + k (eps_m + 2 eps_pi) / (1-g)], k last.

    Least at k = 0, always: from k to k + 1 it grows by 2 r_max [eps_m + (2 - g^k) eps_pi] / (1-g).
    """
    m, pi = np.asarray(eps_m), np.asarray(eps_pi)
    rest = np.asarray(4 * R_MAX * pi / (1 - discount))[..., None]
    return rest + theorem_43(m + 2 * pi, pi, discount, longest)


def theorem_43(eps_m_current: Any, eps_pi: Any, discount: float, longest: int) -> Array:
    """2 r_max [g^(k+1) eps_pi / (1-g)^2 + g^k eps_pi / (1-g) + k eps_m' / (1-g)], k along the last axis."""
    m, pi, rest = np.asarray(eps_m_current)[..., None], np.asarray(eps_pi)[..., None], 1 - discount
    k = np.arange(longest + 1)
    return 2 * R_MAX * (discount ** (k + 1) * pi / rest**2 + discount**k * pi / rest + k * m / rest)


def best_length_43(eps_m_current: float, eps_pi: float, discount: float, longest: int) -> int:
    """The k that minimises `theorem_43` over 0 .. longest: the first with g^k eps_pi <= eps_m'.

    From k to k + 1 the bound changes by 2 r_max (eps_m' - g^k eps_pi) / (1-g).
    """
    if eps_pi <= eps_m_current:
        return 0
    if eps_m_current == 0.0:
        return longest
    return min(math.ceil(math.log(eps_m_current / eps_pi) / math.log(discount)), longest)


def evaluate(
    system: LinearQuadratic,
    model_A: Any,
    model_B: Any,
    data_gain: Any,
    gain: Any,
    exploration: Any,
    scale: float,
    discount: float,
    longest: int,
) -> Bounds:
    """Every term of the three theorems for models A' `[..., n, n]`, B' `[..., n, m]`, at once for all leading axes.

    `data_gain` K_D and `gain` K `[m, n]`, `exploration` S `[m, m]`, `scale` l of the reward, `longest` k. Sums over
    time run until discount^t is negligible or the covariances have reached their limit, and maxima over time include
    that limit. A model whose closed loop is unstable is allowed: its reward tends to the lowest, -1/2.

    Raises `InputError` for a finite horizon, W or S that is not positive definite (on different subspaces the total
    variation is 1), a gain that does not stabilise the real system, or a number out of range.
    """
    g = _numbers_checked(scale, discount, longest)
    check_system(system)
    K_D, K = _stabilising(system, "data_gain", data_gain), _stabilising(system, "gain", gain)
    S = covariance_of("exploration", exploration, system.action_dim, definite=True)
    A, B, axes = _models(system, model_A, model_B)
    data, current = (_covariances(system, each, S, g) for each in (K_D, K))
    reward = _Reward.of(system, K, S, scale)
    eta = float(_discounted(reward.expected(np.moveaxis(current, 0, -1)), g))
    F, noise = A + B @ K, system.W + B @ S @ B.swapaxes(-1, -2)
    ahead = _model_rewards(reward, F, noise, system.initial_covariance, g, longest)
    eta_branch = _branch_returns(reward, F, noise, data, ahead, g, longest)
    m, m_current = (
        model_total_variation(A - system.A, B - system.B, *each, S, system.W).max(axis=-1)
        for each in ((K_D, data), (K, current))
    )
    pi = float(linear_total_variation(K - K_D, data, S).max())
    bounds = theorem_41(m, pi, g), theorem_42(m, pi, g, longest), theorem_43(m_current, pi, g, longest)
    returns = _discounted(ahead, g), eta_branch
    eta_model, eta_branch, m, m_current, *bounds = (
        each.reshape(axes + each.shape[1:]) for each in (*returns, m, m_current, *bounds)
    )
    return Bounds(g, eta, eta_model, eta_branch, m, m_current, pi, *bounds)


@dataclass(frozen=True, eq=False)
class _Reward:
    """E r over a centred Gaussian state: factor det(I + L' Sigma L)^-1/2 - 1/2.

    The action u = Kx + e is integrated out first: E_e exp(-(Kx+e)'R(Kx+e) / (2 l)) = det(I + SR/l)^-1/2
    exp(-x'K'(l R^-1 + S)^-1 K x / 2), so that L L' = Q/l + K'(l R^-1 + S)^-1 K.
    """

    root: Array  # L [n, n]
    factor: float

    @staticmethod
    def of(system: LinearQuadratic, gain: Array, S: Array, scale: float) -> _Reward:
        curvature = system.Q / scale + gain.T @ np.linalg.solve(scale * np.linalg.inv(system.R) + S, gain)
        values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
        factor = float(np.linalg.det(np.eye(len(S)) + S @ system.R / scale)) ** -0.5
        return _Reward(vectors * np.sqrt(np.maximum(values, 0.0)), factor)

    def expected(self, covariance: Array) -> Array:
        """E r for covariances [n, n, ...], the last axes free."""
        with np.errstate(all="ignore"):
            inner = np.tensordot(self.root, np.tensordot(self.root, covariance, (0, 0)), (0, 1))
        return self.of_inner(inner)

    def of_inner(self, inner: Array) -> Array:
        """E r from M = L' Sigma L [n, n, ...] by elimination for all at once; the lowest where M has overflowed.

        The pivots of I + M are at least 1, and are held there against cancellation.
        """
        left = inner + np.eye(len(inner)).reshape(inner.shape[:2] + (1,) * (inner.ndim - 2))
        product = np.ones(inner.shape[2:])
        with np.errstate(all="ignore"):
            for i in range(len(inner)):
                pivot = np.maximum(left[i, i], 1.0)
                product *= pivot
                left[i + 1 :, i + 1 :] -= left[i + 1 :, i, None] * (left[i, None, i + 1 :] / pivot)
            return self.factor * np.nan_to_num(1 / np.sqrt(product), nan=0.0) - R_MAX


def _covariances(system: LinearQuadratic, gain: Array, S: Array, discount: float) -> Array:
    """Sigma_t = E x_t x_t' in the real system under u = Kx + e, from X0 on; the last is the limit, [steps, n, n]."""
    F, noise = system.A + system.B @ gain, system.W + system.B @ S @ system.B.T
    limit = lyapunov(F, noise)
    size = np.sqrt(np.outer(np.diag(limit), np.diag(limit)))
    found = [system.initial_covariance]
    while discount ** len(found) > NEGLIGIBLE and (np.abs(found[-1] - limit) > NEGLIGIBLE * size).any():
        found.append(F @ found[-1] @ F.T + noise)
    return np.stack([*found, limit])


def _model_rewards(reward: _Reward, F: Array, noise: Array, start: Array, g: float, longest: int) -> Array:
    """E r(x_t, u_t) from X0 on in models with loops F [M, n, n], [M, steps]; at least `longest` + 1 steps."""
    Sigma, found = np.broadcast_to(start, F.shape), []
    with np.errstate(all="ignore"):  # what overflows has the lowest reward
        for t in count():
            found.append(reward.expected(np.moveaxis(Sigma, 0, -1)))
            before, Sigma = Sigma, F @ Sigma @ F.swapaxes(-1, -2) + noise
            moved = np.abs(Sigma - before).max((-1, -2)) > 1e-2 * NEGLIGIBLE * np.abs(Sigma).max((-1, -2))
            if t >= longest and (g**t <= NEGLIGIBLE or not moved.any()):
                break
    return np.stack(found, axis=-1)


def _branch_returns(
    reward: _Reward, F: Array, noise: Array, data: Array, ahead: Array, discount: float, longest: int
) -> Array:
    """sum_{t<k} g^t E r after t model steps + g^k sum_j g^j E r after j real and k model steps, [M, longest + 1].

    k model steps take Sigma_j to F^k Sigma_j F'^k + N_k with N_{k+1} = F N_k F' + noise.
    """
    n, start = len(reward.root), data.reshape(len(data), -1).T
    power, spread, before = np.broadcast_to(reward.root.T, F.shape), np.zeros_like(F), np.zeros(len(F))
    found = np.empty((len(F), longest + 1))
    for k in range(longest + 1):
        with np.errstate(all="ignore"):
            squared = np.einsum("mai,mcj->acmij", power, power).reshape(n * n * len(F), n * n)
            inner = (squared @ start).reshape(n, n, len(F), -1)
            inner += (reward.root.T @ spread @ reward.root).transpose(1, 2, 0)[..., None]
            found[:, k] = before + discount**k * _discounted(reward.of_inner(inner), discount)
            power, spread = power @ F, F @ spread @ F.swapaxes(-1, -2) + noise
        before = before + discount**k * ahead[:, k]
    found[:, 0] = found[:1, 0]  # no model enters, not even by rounding
    return found


def _discounted(values: Array, discount: float) -> Array:
    """sum_t g^t values_t along the last axis, the last value standing for all that follow."""
    weights = discount ** np.arange(values.shape[-1])
    weights[-1] /= 1 - discount
    return values @ weights


def check_system(system: LinearQuadratic) -> None:
    """Raise `InputError` where the bounds are not defined: a finite horizon, or noise that leaves out a direction."""
    if system.horizon is not None:
        raise InputError(f"system {system.name!r}: the bounds need discounted returns, not a finite horizon")
    try:
        positive_definite("W", system.W)
    except InputError as error:
        raise InputError(f"system {system.name!r}: {error}, or total variations are 1") from None


def _numbers_checked(scale: float, discount: float, longest: int) -> float:
    if not (0 < discount < 1 and 0 < scale < math.inf and longest >= 0):
        got = f"{discount}, {scale} and {longest}"
        raise InputError(f"expected 0 < discount < 1, scale > 0 and longest >= 0, got {got}")
    return float(discount)


def _stabilising(system: LinearQuadratic, name: str, gain: Any) -> Array:
    K = gain_of(system, name, gain)
    radius = spectral_radius(system.A + system.B @ K)
    if not radius < 1:
        raise InputError(
            f"system {system.name!r}: {name} must stabilise it, got spectral radius {radius:.6g}"
        )
    return K


def _models(system: LinearQuadratic, model_A: Any, model_B: Any) -> tuple[Array, Array, tuple[int, ...]]:
    """The models as [M, n, n] and [M, n, m], and their leading axes."""
    n, m = system.state_dim, system.action_dim
    A, B = np.asarray(model_A, np.float64), np.asarray(model_B, np.float64)
    shaped = A.shape[-2:] == (n, n) and B.shape == (*A.shape[:-2], n, m)
    if not shaped or not (np.isfinite(A).all() and np.isfinite(B).all()):
        raise InputError(
            f"system {system.name!r}: models must be finite with shapes [..., {n}, {n}] and [..., {n}, {m}], "
            f"got {list(A.shape)} and {list(B.shape)}"
        )
    return A.reshape(-1, n, n), B.reshape(-1, n, m), A.shape[:-2]
