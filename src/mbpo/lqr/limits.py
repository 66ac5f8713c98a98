"""The limits of sample efficiency: what certainty equivalence tends to, and no regular estimator beats.

From N transitions with regressors z = [x; u] and information G = sum z z', least squares has theta = [A B]
with an error of covariance W (x) G^-1 (`vec` along rows). The optimal gain of the fitted model then costs, to
leading order, the quadratic form of the Hessian H in DK vec(error), with DK = d vec K* / d vec theta.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import chi2

from mbpo.errors import InputError
from mbpo.lqr import exact, optimum
from mbpo.lqr.derivatives import check_stationary, optimum_loss
from mbpo.lqr.system import LinearQuadratic

SINGULAR = 1e-13
NODES = 32


def asymptotic_excess(system: LinearQuadratic, information: ArrayLike) -> np.ndarray:
    """The mean relative excess cost tr(H DK (W (x) G^-1) DK') / (2 J*) that certainty equivalence tends to.

    `information` G = sum z z' over the transitions collected, [..., n+m, n+m], any leading axes; the result
    has those axes. +inf where G is singular. H and J* belong to the objective: average, discounted, or finite
    horizon with the optimal value matrix as terminal cost (`InputError` with another one).
    Source: Lee, Ziemann, Tsiamis, Sandberg, Matni, arXiv 2303.15637 (local minimax bound).
    """
    return limit_weights(system, information).sum(axis=-1)


def limit_weights(system: LinearQuadratic, information: ArrayLike) -> np.ndarray:
    """The weights of the limit law of the relative excess, sum_i weight_i g_i^2 with g_i independent N(0, 1).

    Eigenvalues of H^1/2 DK (W (x) G^-1) DK' H^1/2 / (2 J*), [..., mn], ascending; +inf where G is singular.
    """
    n, m = system.state_dim, system.action_dim
    G = np.asarray(information, dtype=np.float64)
    if G.shape[-2:] != (n + m, n + m) or not np.isfinite(G).all():
        raise InputError(
            f"information must be finite with shape [..., {n + m}, {n + m}], got {list(G.shape)}"
        )
    root, best = _loss_root(system)
    spread, regular = _inverse_root(G)
    noise = _square_root(np.asarray(system.W))
    per_parameter = root.reshape(-1, n, n + m)
    factor = np.einsum("kia,ij,...ab->...kjb", per_parameter, noise, spread)
    factor = factor.reshape(G.shape[:-2] + (m * n, n * (n + m)))
    weights = np.sort(np.linalg.svd(factor, compute_uv=False) ** 2, axis=-1)
    weights = np.divide(weights, best, out=np.where(weights > 0, np.inf, 0.0), where=best > 0)
    return np.where(regular[..., None], weights, np.inf)


def _loss_root(system: LinearQuadratic) -> tuple[np.ndarray, float]:
    """L [mn, n(n+m)] with J - J* = |L vec(error)|^2 to leading order, and J*."""
    check_stationary(system, "the limit of certainty equivalence")
    DK, curvature, best = (np.asarray(each) for each in optimum_loss(system))
    if not np.isfinite(DK).all():
        raise InputError(f"system {system.name!r}: without an optimal gain there is no limit")
    return _square_root(curvature) @ DK, float(best)


def _square_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive-semidefinite matrix [k, k]."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _inverse_root(G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C [..., k, k] with C C' = G^-1, and whether G, scaled to a unit diagonal, is regular."""
    diagonal = np.diagonal(G, axis1=-2, axis2=-1)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(G / (scale[..., :, None] * scale[..., None, :]))
    regular = (values[..., 0] > SINGULAR * G.shape[-1]) & (diagonal > 0).all(axis=-1)
    values = np.where(regular[..., None], values, 1.0)
    return vectors / scale[..., :, None] / np.sqrt(values)[..., None, :], regular


def limit_quantiles(weights: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Quantiles of sum_i weights_i g_i^2, shaped like `probabilities`, to about 1e-12 in probability.

    The distribution function is the inverse Laplace transform of prod_i (1 + 2 weight_i s)^(-1/2) / s along a
    parabola around the negative axis. Weights [k] at least 0; probabilities in [0, 1).
    Source: J. A. C. Weideman, L. N. Trefethen, Math. Comp. 76 (2007), 1341-1356.
    """
    lam, levels = np.asarray(weights, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if lam.ndim != 1 or np.isnan(lam).any() or (lam < 0).any():
        raise InputError(f"weights must be a list of numbers at least 0, got shape {list(lam.shape)}")
    if not ((levels >= 0) & (levels < 1)).all():
        raise InputError("probabilities must lie in [0, 1)")
    if np.isinf(lam).any():
        return np.where(levels > 0, np.inf, 0.0)
    largest = float(lam.max(initial=0.0))
    if largest == 0.0:
        return np.zeros(levels.shape)
    relative = lam[lam > 0] / largest
    return largest * np.array([_quantile(relative, float(p)) for p in levels.ravel()]).reshape(levels.shape)


def _quantile(lam: np.ndarray, probability: float) -> float:
    if probability == 0.0:
        return 0.0
    low, high = (float(chi2.ppf(probability, degrees)) for degrees in (1, len(lam)))
    if len(lam) == 1 or _distribution(lam, low) >= probability:
        return low
    if _distribution(lam, high) <= probability:
        return high
    root = brentq(lambda x: _distribution(lam, x) - probability, low, high, xtol=1e-300)
    return float(root)  # pyright: ignore[reportArgumentType]  # the stubs forget full_output=False


def _distribution(lam: np.ndarray, x: float) -> float:
    """P(sum_i lam_i g_i^2 <= x) for x > 0; half of the parabola suffices, the other half is its conjugate."""
    angle = (np.arange(NODES // 2) + 0.5) * 2 * np.pi / NODES
    contour = NODES * (0.1309 - 0.1194 * angle**2 + 0.2500j * angle)
    slope = NODES * (-0.2388 * angle + 0.2500j)
    transform = np.prod((1 + 2 * lam[:, None] * contour / x) ** -0.5, axis=0)
    return float(2 / NODES * np.imag(np.exp(contour) * transform / contour * slope).sum())


def regressor_covariance(system: LinearQuadratic, gain: ArrayLike, exploration: ArrayLike) -> np.ndarray:
    """Sigma_z = E zz', z = [x; u], under u = Kx + e, e ~ N(0, S), in its stationary state, [n+m, n+m].

    Sigma = F Sigma F' + W + B S B' whatever the objective; N transitions carry the information N Sigma_z.
    Raises `InputError` unless the spectral radius of A + BK is below 1.
    """
    K, S = np.asarray(gain, dtype=np.float64), np.asarray(exploration, dtype=np.float64)
    n, m = system.state_dim, system.action_dim
    if K.shape != (m, n) or S.shape != (m, m):
        raise InputError(
            f"expected a gain [{m}, {n}] and a covariance [{m}, {m}], got {K.shape} and {S.shape}"
        )
    F = system.A + system.B @ K
    if not float(exact.spectral_radius(system, K)) < 1.0:
        raise InputError(
            f"system {system.name!r}: the gain has no stationary state, expected a stable A + BK"
        )
    Sigma = np.asarray(exact.discrete_lyapunov(F, system.W + system.B @ S @ system.B.T))
    both = np.concatenate([np.eye(n), K])
    covariance = both @ Sigma @ both.T
    covariance[n:, n:] += S
    return covariance


def regret_constant(system: LinearQuadratic) -> float:
    """tau = tr(W P F Sigma F' P) at the optimum of the average cost (`InputError` for another objective).

    With little exploration the mean excess cost after N transitions tends to tau tr(M^-1 S^-1) / N.
    """
    if system.objective != "average":
        raise InputError(f"system {system.name!r}: the regret constant needs the average-cost objective")
    best = optimum.solve(system)
    Sigma = np.asarray(exact.state_covariance(system, best.gain))
    step = best.value @ (system.A + system.B @ best.gain)
    return float(np.trace(system.W @ step @ Sigma @ step.T))


def explore_then_commit_regret(system: LinearQuadratic, transitions: int) -> float:
    """2 m sqrt(tau T): the least regret over T transitions of exploring, with S ~ M^-1, then committing."""
    if transitions < 0:
        raise InputError(f"transitions must be at least 0, got {transitions}")
    return 2 * system.action_dim * float(np.sqrt(regret_constant(system) * transitions))
