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

    def final_value(self, x: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
        """x' Q_T x, what follows the last stage of a finite horizon."""
        assert self.terminal_cost is not None, "only a finite horizon has a terminal cost"
        return jnp.sum((x @ self.terminal_cost) * x, axis=-1)
