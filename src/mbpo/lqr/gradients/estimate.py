"""What every gradient estimator is given and what it returns."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mbpo.core.types import Experience
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian


class Estimate(NamedTuple):
    """An estimate of the cost's derivatives at the gain K.

    error: E = M K + B'PA, the natural gradient being 2 E and the gradient 2 E Sigma; curvature: M = R + B'PB;
    moment: second moment of the states that were weighted; cost: estimated cost per step; usable: False where the
    data did not allow an estimate.
    """

    error: Float[Array, "m n"]
    curvature: Float[Array, "m m"]
    moment: Float[Array, "n n"]
    cost: Float[Array, ""]
    usable: Bool[Array, ""]

    @property
    def gradient(self) -> Float[Array, "m n"]:
        """2 E Sigma."""
        return 2 * self.error @ self.moment


class Estimator(Protocol):
    """Experience gathered under any exploration, and the policy to be improved, to an estimate."""

    def __call__(
        self, policy: LinearGaussian, experience: Experience, objective: Objective, key: PRNGKeyArray
    ) -> Estimate: ...
