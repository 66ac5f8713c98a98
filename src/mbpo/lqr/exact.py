"""Exact answers about linear policies in linear-quadratic systems: one name for all of them.

Importing this registers `LinearQuadratic` as a JAX pytree: its arrays and its discount are leaves; horizon,
name and source are static.
"""

from mbpo.lqr.derivatives import (
    cost_sensitivity,
    gain_sensitivity,
    gauss_newton_step,
    gradient,
    hessian,
    natural_gradient,
    stationary_optimum,
)
from mbpo.lqr.evaluation import (
    closed_loop,
    cost,
    costs,
    excess_cost,
    excess_costs,
    is_stabilising,
    quality_matrix,
    resolved,
    spectral_radius,
    state_covariance,
    value_matrix,
)
from mbpo.lqr.lyapunov import discrete_lyapunov
from mbpo.lqr.riccati import Riccati, riccati

__all__ = [
    "Riccati",
    "closed_loop",
    "cost",
    "cost_sensitivity",
    "costs",
    "discrete_lyapunov",
    "excess_cost",
    "excess_costs",
    "gain_sensitivity",
    "gauss_newton_step",
    "gradient",
    "hessian",
    "is_stabilising",
    "natural_gradient",
    "quality_matrix",
    "resolved",
    "riccati",
    "spectral_radius",
    "state_covariance",
    "stationary_optimum",
    "value_matrix",
]
