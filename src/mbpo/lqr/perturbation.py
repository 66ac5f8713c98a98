"""How far a gain may be moved before its cost says more about the move than about the gain."""

from __future__ import annotations

import numpy as np

from mbpo.lqr import exact
from mbpo.lqr.system import LinearQuadratic

DIRECTIONS = 256
SHARE = 0.1  # largest relative change of the cost
HALVINGS = 60


def safe_radius(system: LinearQuadratic, gain: np.ndarray, exploration: np.ndarray) -> float:
    """The largest r = 2^-k |K|_F (2^-k where K = 0) at which J(K + U) stays within a tenth of J(K) for each of
    `DIRECTIONS` fixed pairs of opposite U with |U|_F = r.

    The cost is exact, the directions are random: one between them may change the cost by somewhat more than a tenth.
    """
    directions = np.random.default_rng(0).standard_normal((DIRECTIONS, *gain.shape))
    directions /= np.sqrt(np.sum(directions**2, axis=(1, 2), keepdims=True))
    directions = np.concatenate([directions, -directions])
    here = float(exact.cost(system, gain, exploration))
    radius = float(np.linalg.norm(gain)) or 1.0
    for _ in range(HALVINGS):
        change = np.asarray(exact.costs(system, gain + radius * directions, exploration)) / here - 1.0
        if np.max(np.abs(change)) <= SHARE:
            return radius
        radius /= 2
    return radius
