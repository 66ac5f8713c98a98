"""The named algorithms on linear-quadratic systems: each is an agent, a model or none, and a plan for one loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from mbpo.core.loop import Parts
from mbpo.core.mixing import RealRatio
from mbpo.core.plan import Branches, OnPolicy, Plan, Replay
from mbpo.core.schedule import constant
from mbpo.lqr.agents import CertaintyEquivalence, GradientAgent
from mbpo.lqr.environment import LinearQuadraticEnvironment
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.lqr.model import LeastSquares
from mbpo.lqr.objective import Objective
from mbpo.lqr.system import LinearQuadratic


@dataclass(frozen=True)
class Algorithm:
    """How an algorithm differs from the others; sizes are defaults that the command line may change."""

    summary: str
    improve: str
    uses_model: bool
    on_policy: bool
    real_ratio: float
    rollout_length: int
    updates_per_round: int


ALGORITHMS: dict[str, Algorithm] = {
    "mbpo": Algorithm("MBPO, Algorithm 2: branched rollouts, mixed batches", "dpg", True, False, 0.05, 5, 4),
    "mbpo-simple": Algorithm("MBPO, Algorithm 1: full rollouts", "likelihood-ratio", True, True, 0.0, 20, 4),
    "dyna": Algorithm("Dyna: one-step branches, mixed batches", "dpg", True, False, 0.05, 1, 4),
    "dpg": Algorithm("deterministic policy gradient on replayed real data", "dpg", False, False, 1.0, 0, 4),
    "policy-gradient": Algorithm("on-policy likelihood ratio", "likelihood-ratio", False, True, 1.0, 20, 1),
    "certainty-equivalence": Algorithm("Riccati on the fitted model", "riccati", True, False, 1.0, 0, 1),
}
