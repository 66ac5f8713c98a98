"""Selling a holding of stock at least cost as a linear-quadratic system, and the gains that only ever sell.

Hambly, Xu and Yang 2021 (SIAM J. Control Optim. 59; arXiv 2011.10300), section 5.1, their u = -K x turned into
u = +K x: their K_t = -0.2 and k <= 0 are +0.2 and k >= 0 here. State x = (price, inventory), action u = the shares
sold in a period, and only a positive u brings the inventory down.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from mbpo.errors import InputError, did_you_mean
from mbpo.lqr.system import LinearQuadratic


class Stock(NamedTuple):
    """Temporary impact beta and permanent impact gamma of one share sold on the price, its volatility sigma."""

    beta: float
    gamma: float
    sigma: float


STOCKS = {  # table 3
    "AAPL": Stock(1.03e-5, 7.27e-6, 0.107),
    "FB": Stock(1.30e-5, 1.40e-5, 0.115),
    "IBM": Stock(2.65e-5, 4.60e-5, 0.082),
    "JPM": Stock(9.28e-6, 1.65e-5, 0.059),
    "AAL": Stock(3.27e-5, 1.331e-5, 0.042),
}
RISK_AVERSION = 5e-6  # phi
PRICE_WEIGHT = 1e-8  # eps: makes Q positive definite
HORIZON = 10
INVENTORY = 500.0  # mean of q_0, its variance is 1
PRICE = 100.0  # S_0: not in the paper's text; docs/finite-horizon.md shows how little hangs on it
START_GAIN = 0.2
LARGEST_IMPACT = 5e-5  # gamma-bar, above every gamma of the table
SLACK = 1e-12  # zeta
STEP_SIZES = {"exact": 0.1, "zeroth-order": 0.05}
RADIUS = 0.6


def liquidation(stock: str = "AAPL", price: float = PRICE) -> LinearQuadratic:
    """The system of one stock of table 3, from the price S_0 and an inventory q_0 ~ N(500, 1).

    S' = S - gamma u + sigma Z, q' = q - u; cost sum_t (eps S_t^2 + phi sigma^2 q_t^2 + delta u_t^2) + eps S_T^2 +
    (delta + phi sigma^2) q_T^2 with delta = beta - gamma / 2.
    Raises `InputError` for an unknown stock, or a price that is not a positive finite number.
    """
    if stock not in STOCKS:
        raise InputError(f"there is no stock {stock!r}, {did_you_mean(stock, STOCKS)}")
    mean = start_mean(price)
    beta, gamma, sigma = STOCKS[stock]
    delta, risk = beta - gamma / 2, RISK_AVERSION * sigma**2
    return LinearQuadratic(
        A=np.eye(2),
        B=np.array([[-gamma], [-1.0]]),
        Q=np.diag([PRICE_WEIGHT, risk]),
        R=np.array([[delta]]),
        W=np.diag([sigma**2, 0.0]),
        initial_covariance=np.outer(mean, mean) + np.diag([0.0, 1.0]),
        horizon=HORIZON,
        terminal_cost=np.diag([PRICE_WEIGHT, delta + risk]),
        initial_gain=np.full((1, 2), START_GAIN),
        name="liquidation",
        source=f"Hambly, Xu and Yang 2021, section 5.1, with the estimates for {stock} and a price of {price:g}",
    )


def start_mean(price: float = PRICE) -> np.ndarray:
    """The mean (S_0, 500) of the first state; the second moment of the system less its square is diag(0, 1)."""
    if not (math.isfinite(price) and 0 < price <= 1e6):
        raise InputError(f"price must be a positive number up to 1e6, got {price!r}")
    return np.array([price, INVENTORY])


def project(gains: Array) -> Array:
    """The nearest gains [..., 1, 2] with k1 >= 0, k2 >= 0 and gamma-bar k1 + k2 <= 1 - zeta.

    These sell, and keep the eigenvalue 1 - gamma k1 - k2 of A + B K positive. The set is a triangle: where raising
    entries to zero is not enough, the nearest point is on the side from (0, b) to (b / gamma-bar, 0), b = 1 - zeta.
    """
    bound = 1.0 - SLACK
    raised = jnp.maximum(gains, 0.0)
    inside = LARGEST_IMPACT * raised[..., :1] + raised[..., 1:] <= bound
    side = (bound / LARGEST_IMPACT, -bound)
    along = gains[..., :1] * side[0] + (gains[..., 1:] - bound) * side[1]
    share = jnp.clip(along / (side[0] ** 2 + side[1] ** 2), 0.0, 1.0)
    on_side = jnp.concatenate([share * side[0], bound + share * side[1]], axis=-1)
    return jnp.where(inside, raised, on_side)
