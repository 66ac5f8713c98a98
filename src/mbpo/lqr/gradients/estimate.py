"""What an agent steps along, and where it comes from."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mbpo.core.types import Experience
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian


class Estimate(NamedTuple):
    """An estimate of the cost's derivatives at the gain K.

    error: E = M K + g B'PA, the natural gradient being 2 E and the gradient 2 E Sigma; curvature: M = R + g B'PB;
    moment: second moment of the states that were weighted; cost: estimated cost per step; usable: False where the
    data did not allow an estimate; noise: E of tr(Sigma D'M^-1 D) for the error D of `error`, as estimated from the
    spread over trajectories, 0 where it is not known.
    """

    error: Float[Array, "m n"]
    curvature: Float[Array, "m m"]
    moment: Float[Array, "n n"]
    cost: Float[Array, ""]
    usable: Bool[Array, ""]
    noise: Float[Array, ""]

    @property
    def gradient(self) -> Float[Array, "m n"]:
        """2 E Sigma."""
        return 2 * self.error @ self.moment


class GradientSource(eqx.Module):
    """Where an agent's estimates come from: what acts, what is remembered, and the estimate itself."""

    @abc.abstractmethod
    def init(self, gain: Float[Array, "m n"]) -> Any:
        """What is remembered before any data."""

    @abc.abstractmethod
    def acting(self, gain: Float[Array, "m n"], count: int, key: PRNGKeyArray) -> Float[Array, "c m n"]:
        """The gains that act in each of `count` trajectories, or one for all."""

    @abc.abstractmethod
    def estimate(
        self,
        memory: Any,
        policy: LinearGaussian,
        experience: Experience,
        objective: Objective,
        key: PRNGKeyArray,
    ) -> tuple[Any, Estimate]:
        """What is remembered from now on, and the estimate at `policy`."""
