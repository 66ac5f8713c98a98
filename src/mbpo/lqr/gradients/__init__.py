"""Policy-gradient estimators for linear policies: one a file, one signature, one registry."""

from mbpo.lqr.gradients.estimate import Estimate, GradientSource
from mbpo.lqr.gradients.from_trajectories import FromTrajectories
from mbpo.lqr.gradients.registry import ESTIMATORS, Estimator
from mbpo.lqr.gradients.replayed_rows import ReplayedRows
from mbpo.lqr.gradients.trajectories import Trajectories

__all__ = [
    "ESTIMATORS",
    "Estimate",
    "Estimator",
    "FromTrajectories",
    "GradientSource",
    "ReplayedRows",
    "Trajectories",
]
