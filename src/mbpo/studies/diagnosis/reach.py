"""How far back a stored gain may lie before the ratios of its trajectories are worth nothing, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbpo.lqr.optimum import default_gain
from mbpo.lqr.ratio_radii import half_radius, infinite_radius
from mbpo.studies.diagnosis.world import stationary, system_and_optimum

REACH_CASES = (("double_integrator", 0.3), ("laplacian3", 0.3), ("pendulum", 0.5), ("boeing747", 0.3))


@dataclass(frozen=True)
class Reach:
    """Distances from the first gain K_0 towards K*, for trajectories of `steps` steps of u ~ N(K_0 x, s^2 I).

    half: where E rho^2 = 2, so that a trajectory is worth half of one of the present gain; infinite: from where on
    E rho^2 is infinite; needed: |K* - K_0|. Exact.
    """

    system: str
    deviation: float
    steps: int
    half: float
    infinite: float
    needed: float


def reaches(steps: int = 20) -> tuple[Reach, ...]:
    """The reach of whole-trajectory ratios on `REACH_CASES` (system, standard deviation s of the actions)."""
    return tuple(_reach(name, deviation, steps) for name, deviation in REACH_CASES)


def _reach(name: str, deviation: float, steps: int) -> Reach:
    system, best, _ = system_and_optimum(name)
    first = default_gain(system)
    S = deviation**2 * np.eye(system.action_dim)
    way = (system, first, best - first, S, steps, stationary(system, first, S))
    return Reach(
        name, deviation, steps, half_radius(*way), infinite_radius(*way), float(np.linalg.norm(best - first))
    )
