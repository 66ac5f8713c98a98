"""What gradient estimators are given: trajectories, who gathered them, and the pieces of their formulas."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import quadratic


class Trajectories(NamedTuple):
    """N windows of T steps, shapes [N, T, ...].

    x, u, cost, x_next: the steps. follow: what the cost-to-go of the next step counts for, the discount inside a
    window, 0 at its end and where the state restarts. closes: what the value at x_next counts for, nonzero where a
    window ends but the problem goes on (or the terminal cost is due); that value is x'Hx + h with end_matrix H and
    end_offset h. acted [N, m, n]: the gain that acted in each. pool [J, m, n], share [J], source [N]: the policies the
    trajectories came from, their shares, and which one was it. log_start [N, J]: log p(x_0) under the target policy's
    start law over that of each pool member. log_visits [N, T]: log density of x_t under the target over that under the
    policy that acted. valid [N]: which trajectories hold data.
    """

    x: Float[Array, "N T n"]
    u: Float[Array, "N T m"]
    cost: Float[Array, "N T"]
    x_next: Float[Array, "N T n"]
    follow: Float[Array, "N T"]
    closes: Float[Array, "N T"]
    end_matrix: Float[Array, "n n"]
    end_offset: Float[Array, ""]
    acted: Float[Array, "N m n"]
    pool: Float[Array, "J m n"]
    share: Float[Array, "J"]
    source: Int[Array, "N"]
    log_start: Float[Array, "N J"]
    log_visits: Float[Array, "N T"]
    valid: Bool[Array, "N"]

    @property
    def closing(self) -> Float[Array, "N T"]:
        """The value of what follows a window, at the steps where one ends."""
        return self.closes * (quadratic(self.end_matrix[None], self.x_next) + self.end_offset)


def score_sum(
    policy: LinearGaussian, data: Trajectories, weight: Float[Array, "N T"]
) -> Float[Array, "N m n"]:
    """1/T sum_t weight_t S^-1 (u_t - K x_t) x_t', one for each trajectory."""
    whitened = policy.whitened(data.x, data.u)
    return jnp.einsum("nt,nti,ntj->nij", weight, whitened, data.x) / data.x.shape[1]


def cost_to_go(
    data: Trajectories, ratio: Float[Array, "N T"] | None = None, baseline: Float[Array, "N T"] | None = None
) -> Float[Array, "N T"]:
    """H_t = w_t (c_t + closing_t) + follow_t H_{t+1} - w_t b_t, with w = 1 and b = 0 unless given.

    The baseline is subtracted from the answer at t alone, not from what earlier steps receive.
    """
    earned = data.cost + data.closing
    earned = earned if ratio is None else ratio * earned

    def back(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        earned, follow = step
        total = earned + follow * later
        return total, total

    _, totals = jax.lax.scan(back, jnp.zeros_like(earned[:, 0]), (earned.T, data.follow.T), reverse=True)
    if baseline is None:
        return totals.T
    return totals.T - (baseline if ratio is None else ratio * baseline)


def log_likelihood_ratio(
    policy: LinearGaussian, data: Trajectories, gain: Float[Array, "*N m n"]
) -> Float[Array, "N T"]:
    """log N(u_t; K x_t, S) - log N(u_t; K_b x_t, S) of each step, K_b = `gain`, one or one for each trajectory."""
    target = _half_squares(policy, data.u - data.x @ policy.gain.T)
    mean = jnp.einsum("ij,ntj->nti" if gain.ndim == 2 else "nij,ntj->nti", gain, data.x)
    other = _half_squares(policy, data.u - mean)
    return other - target


def _half_squares(policy: LinearGaussian, deviation: Float[Array, "N T m"]) -> Float[Array, "N T"]:
    """e' S^-1 e / 2."""
    flat = deviation.reshape(-1, deviation.shape[-1]).T
    white = jax.scipy.linalg.solve_triangular(policy.factor, flat, lower=True)
    return jnp.sum(white**2, axis=0).reshape(deviation.shape[:-1]) / 2


def running_sum(
    data: Trajectories, start: Float[Array, "N"], steps: Float[Array, "N T"]
) -> Float[Array, "N T"]:
    """start + sum of `steps` up to t, begun anew at zero where the state restarted inside the window."""

    def forth(total: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        increment, follow = step
        total = total + increment
        return jnp.where(follow > 0, total, 0.0), total

    _, totals = jax.lax.scan(forth, start, (steps.T, data.follow.T))
    return totals.T


def prefix_ratio(policy: LinearGaussian, data: Trajectories) -> Float[Array, "N T"]:
    """w_t = p(x_0) / p_b(x_0) prod_{s <= t} pi(u_s | x_s) / pi_b(u_s | x_s), since the last restart."""
    start = jnp.take_along_axis(data.log_start, data.source[:, None], axis=1)[:, 0]
    return jnp.exp(running_sum(data, start, log_likelihood_ratio(policy, data, data.acted)))
