"""The exact second moments of importance ratios between linear-Gaussian policies.

Target N(Kx, S), behaviour N(K_b x, S), D = K - K_b, H = S^-1/2 D, W_e = W + B S B', F_2 = A + B(2K - K_b).
Since pi^2 / pi_b = N(u; (2K - K_b)x, S) exp(|H x|^2), the second moment of a product of ratios under the
behaviour is E exp(sum_t |H x_t|^2) along x' = F_2 x + e, e ~ N(0, W_e). Weighted by that exponential up to
step t the state stays a centred Gaussian, of total weight E rho_{0:t-1}^2 and covariance C_t:

    E rho_{0:t}^2 = E rho_{0:t-1}^2 det(I - 2 H C_t H')^-1/2,    C_0 = X0,
    C_{t+1} = F_2 (C_t + 2 C_t H'(I - 2 H C_t H')^-1 H C_t) F_2' + W_e,

finite exactly while the eigenvalues of H C_t H' stay below 1/2. This runs forwards, needs no inverse of a
covariance (W and X0 may be singular or zero) and gives every prefix in one pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mbpo.errors import InputError
from mbpo.lqr.reference import spectral_radius
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.validation import matrix, positive_definite, positive_semidefinite, symmetric

DOUBLINGS = 60
SINGULAR = 1e-13


def log_prefix_second_moments(
    system: LinearQuadratic,
    gain: Any,
    behaviour_gain: Any,
    exploration: Any,
    steps: int,
    start_covariance: Any = None,
) -> np.ndarray:
    """log E_b[rho_{0:t}^2] for t = 0 .. steps-1, [steps]: the prefix ratios of per-decision importance sampling.

    `gain` K and `behaviour_gain` K_b [m, n], `exploration` S [m, m], x_0 ~ N(0, `start_covariance`) with the
    system's `initial_covariance` by default. Non-decreasing; +inf from the first prefix of infinite variance
    on (and where the covariances overflow). Raises `InputError` for a wrong shape, a covariance that is not
    one, or `steps` below 1.
    """
    K, K_b = gain_of(system, "gain", gain), gain_of(system, "behaviour_gain", behaviour_gain)
    S = covariance_of("exploration", exploration, system.action_dim, definite=True)
    F_2 = system.A + system.B @ (2 * K - K_b)
    noise = system.W + system.B @ S @ system.B.T
    start = start_of(system, start_covariance)
    return log_moments(F_2, whitening(S) @ (K - K_b), noise, start, steps_of(steps))


def prefix_second_moments(
    system: LinearQuadratic,
    gain: Any,
    behaviour_gain: Any,
    exploration: Any,
    steps: int,
    start_covariance: Any = None,
) -> np.ndarray:
    """E_b[rho_{0:t}^2] for t = 0 .. steps-1, [steps]; +inf where it diverges or exceeds 1e308."""
    logs = log_prefix_second_moments(system, gain, behaviour_gain, exploration, steps, start_covariance)
    with np.errstate(over="ignore"):
        return np.exp(logs)


def log_ratio_second_moment(
    system: LinearQuadratic,
    gain: Any,
    behaviour_gain: Any,
    exploration: Any,
    steps: int,
    start_covariance: Any = None,
) -> float:
    """log E_b[rho_{0:T-1}^2] of the whole trajectory of T = `steps` actions; +inf exactly when it diverges.

    Arguments and errors as `log_prefix_second_moments`, whose last entry this is.
    """
    logs = log_prefix_second_moments(system, gain, behaviour_gain, exploration, steps, start_covariance)
    return float(logs[-1])


def ratio_second_moment(
    system: LinearQuadratic,
    gain: Any,
    behaviour_gain: Any,
    exploration: Any,
    steps: int,
    start_covariance: Any = None,
) -> float:
    """E_b[rho_{0:T-1}^2] of the whole trajectory; +inf when it diverges, or exceeds 1e308 (then see the log)."""
    log = log_ratio_second_moment(system, gain, behaviour_gain, exploration, steps, start_covariance)
    return _exponential(log)


def effective_fraction(
    system: LinearQuadratic,
    gain: Any,
    behaviour_gain: Any,
    exploration: Any,
    steps: int,
    start_covariance: Any = None,
) -> float:
    """1 / E_b[rho_{0:T-1}^2]: the share of trajectories that count, in the limit of many; 0 when it diverges.

    Source: A. Kong, J. S. Liu, W. H. Wong, J. Amer. Statist. Assoc. 89 (1994), 278-288.
    """
    log = log_ratio_second_moment(system, gain, behaviour_gain, exploration, steps, start_covariance)
    return float(np.exp(-log))


def always_finite(
    system: LinearQuadratic,
    gain: Any,
    behaviour_gain: Any,
    exploration: Any,
    start_covariance: Any = None,
) -> bool:
    """Whether E_b[rho_{0:T-1}^2] is finite for every horizon T.

    Needs rho(F_2) < 1 (except when D = 0), the H-infinity norm of H (zI - F_2)^-1 W_e^1/2 below 1/sqrt(2), and
    I - 2 X0^1/2 Pi X0^1/2 > 0 for the limit Pi of the backward recursion Pi = H'H + F_2'Pi(I - 2 W_e Pi)^-1 F_2.
    Decided by doubling the horizon 60 times, so that an unstable F_2 whose unstable mode is neither reached
    nor seen by D is refused all the same. Source: bounded-real lemma; doubling as in E. K.-W. Chu et al.,
    Internat. J. Control 77 (2004), 767-788.
    """
    K, K_b = gain_of(system, "gain", gain), gain_of(system, "behaviour_gain", behaviour_gain)
    S = covariance_of("exploration", exploration, system.action_dim, definite=True)
    H = whitening(S) @ (K - K_b)
    F_2 = system.A + system.B @ (2 * K - K_b)
    if not H.any():
        return True
    if not spectral_radius(F_2) < 1.0:
        return False
    start = _root(start_of(system, start_covariance))
    power, noise, Pi = F_2, system.W + system.B @ S @ system.B.T, H.T @ H
    for _ in range(DOUBLINGS):
        L = _root(noise)
        values, vectors = np.linalg.eigh(L.T @ Pi @ L)
        if not (values[-1] < 0.5 and np.linalg.eigvalsh(start.T @ Pi @ start)[-1] < 0.5):
            return False
        wide = L @ vectors / np.sqrt(1 - 2 * values)
        tilt = np.eye(len(Pi)) + 2 * wide @ wide.T @ Pi  # (I - 2 noise Pi)^-1
        Pi = _symmetric(Pi + power.T @ Pi @ tilt @ power)
        noise = _symmetric(noise + power @ wide @ wide.T @ power.T)
        power = power @ tilt @ power
        if not (np.isfinite(Pi).all() and np.isfinite(noise).all() and np.isfinite(power).all()):
            return False
    return True


def step_second_moment(gain: Any, behaviour_gain: Any, exploration: Any, covariance: Any) -> float:
    """E_b[rho_t^2] of a single action's ratio at x_t ~ N(0, C), det(I - 2 H C H')^-1/2; +inf when it diverges.

    `covariance` C [n, n] of the states met under the behaviour, as in off-policy actor-critic (Degris, White,
    Sutton, ICML 2012). Errors as `log_prefix_second_moments`.
    """
    H, C = _whitened_difference(gain, behaviour_gain, exploration), matrix("covariance", covariance)
    C = covariance_of("covariance", C, H.shape[1])
    return _exponential(_log_tilt(H, C))


def state_ratio_second_moment(covariance: Any, behaviour_covariance: Any) -> float:
    """E_b[w(x)^2] of w = N(0, C) / N(0, C_b), the state ratio of marginalised importance sampling.

    prod_i (l_i (2 - l_i))^-1/2 with l_i the eigenvalues of C relative to C_b [n, n]; finite iff C < 2 C_b.
    Singular covariances of equal range are compared on that range. +inf where the ranges differ: the target
    is then not absolutely continuous with respect to the behaviour, or its density is unbounded. Ranks are
    taken to 1e-13 after scaling C_b to a unit diagonal. Raises `InputError` for what is not a covariance.
    """
    return _exponential(_relative(covariance, behaviour_covariance)[0])


def state_action_second_moment(
    gain: Any, behaviour_gain: Any, exploration: Any, covariance: Any, behaviour_covariance: Any
) -> float:
    """E_b[(w(x) rho(x, u))^2], w = N(0, C) / N(0, C_b), of the marginalised ratio at one step.

    That of w alone times det(I - 2 H G H')^-1/2 with G = (2 C^-1 - C_b^-1)^-1, the covariance of w^2 N(0, C_b).
    Arguments and +inf as in `state_ratio_second_moment` and `step_second_moment`.
    Source: T. Xie, Y. Ma, Y.-X. Wang, NeurIPS 2019, for the estimator.
    """
    H = _whitened_difference(gain, behaviour_gain, exploration)
    log, G = _relative(covariance, behaviour_covariance)
    if len(G) != H.shape[1]:
        raise InputError(f"covariance has shape {list(G.shape)}, expected [{H.shape[1]}, {H.shape[1]}]")
    return _exponential(log + _log_tilt(H, G))


def log_moments(F: np.ndarray, H: np.ndarray, noise: np.ndarray, start: np.ndarray, steps: int) -> np.ndarray:
    """The recursion at the head of this file for F_2 [..., n, n] and H [..., m, n]; logs, [..., steps]."""
    axes = F.shape[:-2]
    C, log, alive = np.broadcast_to(start, F.shape), np.zeros(axes), np.ones(axes, dtype=bool)
    back, logs = F.swapaxes(-1, -2), np.empty((*axes, steps))
    with np.errstate(all="ignore"):  # what overflows counts as infinite
        for t in range(steps):
            seen = H @ C
            excess = seen @ H.swapaxes(-1, -2)
            alive = alive & np.isfinite(excess).all((-1, -2)) & np.isfinite(C).all((-1, -2))
            values, vectors = np.linalg.eigh(np.where(alive[..., None, None], excess, 0.0))
            alive = alive & (values[..., -1] < 0.5)
            values = np.where(alive[..., None], values, 0.0)
            log = np.where(alive, log - 0.5 * np.log1p(-2 * values).sum(-1), np.inf)
            logs[..., t] = log
            wide = (vectors.swapaxes(-1, -2) @ seen) * np.sqrt(2 / (1 - 2 * values))[..., None]
            C = np.where(alive[..., None, None], C + wide.swapaxes(-1, -2) @ wide, 0.0)
            C = F @ C @ back + noise
    return logs


def _log_tilt(H: np.ndarray, C: np.ndarray) -> float:
    """log E exp(|H x|^2) for x ~ N(0, C)."""
    values = np.linalg.eigvalsh(H @ C @ H.T)
    return float(-0.5 * np.log1p(-2 * values).sum()) if values[-1] < 0.5 else np.inf


def _relative(covariance: Any, behaviour_covariance: Any) -> tuple[float, np.ndarray]:
    """log E_b[w^2] and (2 C^-1 - C_b^-1)^-1 on the common range; +inf and zeros where it diverges."""
    C_b = covariance_of("behaviour_covariance", matrix("behaviour_covariance", behaviour_covariance))
    C = covariance_of("covariance", covariance, len(C_b))
    diagonal = np.diag(C_b)
    units = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(C_b / np.outer(units, units))
    target, kept = C / np.outer(units, units), values > SINGULAR * len(values)
    outside = vectors[:, ~kept]
    if np.trace(outside.T @ target @ outside) > SINGULAR * len(values) * np.trace(target):
        return np.inf, np.zeros_like(C)
    root = vectors[:, kept] * np.sqrt(values[kept])
    inverse = vectors[:, kept] / np.sqrt(values[kept])
    ratios, axes = np.linalg.eigh(inverse.T @ target @ inverse)
    if not ((ratios > SINGULAR * len(values)) & (ratios < 2.0)).all():
        return np.inf, np.zeros_like(C)
    wide = units[:, None] * (root @ axes) * np.sqrt(ratios / (2 - ratios))
    return float(-0.5 * (np.log(ratios) + np.log(2 - ratios)).sum()), wide @ wide.T


def _whitened_difference(gain: Any, behaviour_gain: Any, exploration: Any) -> np.ndarray:
    K = matrix("gain", gain)
    S = covariance_of("exploration", exploration, len(K), definite=True)
    return whitening(S) @ (K - matrix("behaviour_gain", behaviour_gain, *K.shape))


def _exponential(log: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(log))


def _symmetric(array: np.ndarray) -> np.ndarray:
    return array / 2 + array.T / 2


def _root(covariance: np.ndarray) -> np.ndarray:
    """L with L L' = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def whitening(S: np.ndarray) -> np.ndarray:
    """V with V'V = S^-1, so that |V D x|^2 = x'D'S^-1 D x; [m, m]."""
    return np.linalg.inv(np.linalg.cholesky(S))


def gain_of(system: LinearQuadratic, name: str, gain: Any) -> np.ndarray:
    return matrix(name, gain, system.action_dim, system.state_dim)


def covariance_of(name: str, value: Any, size: int | None = None, definite: bool = False) -> np.ndarray:
    array = matrix(name, value, size, size)
    if array.shape[0] != array.shape[1]:
        raise InputError(f"{name} must be square, got shape {list(array.shape)}")
    check = positive_definite if definite else positive_semidefinite
    return check(name, symmetric(name, array))


def start_of(system: LinearQuadratic, covariance: Any) -> np.ndarray:
    if covariance is None:
        return system.initial_covariance
    return covariance_of("start_covariance", covariance, system.state_dim)


def steps_of(steps: int) -> int:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise InputError(f"steps must be a whole number of at least 1, got {steps!r}")
    return int(steps)
