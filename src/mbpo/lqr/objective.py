"""What is minimised, as the learners see it."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.optimum import terminal_value
from mbpo.lqr.system import LinearQuadratic


class Objective(eqx.Module):
    """Average cost (discount 1, an unknown average is subtracted), discounted cost, or the cost of `horizon` steps
    followed by x_T' Q_T x_T."""

    discount: Float[Array, ""]
    terminal_cost: Float[Array, "n n"] | None
    kind: str = eqx.field(static=True)
    horizon: int | None = eqx.field(static=True)

    @classmethod
    def of(cls, system: LinearQuadratic) -> Objective:
        """The objective of `system`."""
        discount = 1.0 if system.discount is None else system.discount
        terminal = None if system.horizon is None else jnp.asarray(terminal_value(system))
        return cls(jnp.asarray(discount, jnp.float64), terminal, system.objective, system.horizon)
