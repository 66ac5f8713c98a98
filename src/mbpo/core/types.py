"""The values that travel between the parts of the loop, each a pytree.

Shape legend: `n` observation size, `m` action size, `B` batch, `T` steps of a trajectory, `C` capacity of a ring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int


class Transition(NamedTuple):
    """One step of a world, or a batch of them when every leaf carries the same leading axes.

    `terminal` (nothing follows, do not bootstrap) and `truncated` (a time limit, bootstrap) are never merged.
    """

    observation: Float[Array, "*batch n"]
    action: Float[Array, "*batch m"]
    reward: Float[Array, "*batch"]
    next_observation: Float[Array, "*batch n"]
    terminal: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]


class Experience(NamedTuple):
    """What one update may learn from.

    transitions: off-policy `[B]`, or trajectories `[B, T]` gathered with the current policy.
    valid: `[B]`, which rows (or trajectories) hold data; the rest are padding.
    model: the fitted model as a `FittedModel`, or None when the plan has none.
    acting: what acted in each trajectory, leading axis B, or 1 where all share it; None off-policy.
    """

    transitions: Transition
    valid: Bool[Array, "B"]
    model: Any
    acting: Any = None


class Clock(NamedTuple):
    """How far a run has come; keys are folded from it, so a resumed run draws the same numbers."""

    rounds: Int[Array, ""]
    env_steps: Int[Array, ""]
    updates: Int[Array, ""]
    fits: Int[Array, ""]
