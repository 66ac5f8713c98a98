"""Policy-gradient estimators for linear policies: one a file, one signature, one registry."""

from mbpo.lqr.gradients.deterministic import deterministic
from mbpo.lqr.gradients.estimate import Estimate, Estimator
from mbpo.lqr.gradients.likelihood_ratio import likelihood_ratio
from mbpo.lqr.gradients.pathwise import pathwise

ESTIMATORS: dict[str, Estimator] = {
    "dpg": deterministic,
    "likelihood-ratio": likelihood_ratio,
    "pathwise": pathwise,
}

__all__ = ["ESTIMATORS", "Estimate", "Estimator"]
