"""Numbers that change over a run."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Linear(eqx.Module):
    """`first` until `start` env steps, `last` from `end` on, linear in between; `first == last` is a constant."""

    first: Float[Array, ""]
    last: Float[Array, ""]
    start: Float[Array, ""]
    end: Float[Array, ""]

    def __call__(self, env_steps: Int[Array, ""]) -> Float[Array, ""]:
        """The value at `env_steps`."""
        span = jnp.maximum(self.end - self.start, 1.0)
        share = jnp.clip((env_steps.astype(self.start.dtype) - self.start) / span, 0.0, 1.0)
        return self.first + share * (self.last - self.first)


def constant(value: float | Array) -> Linear:
    """A schedule that never moves."""
    value_array = jnp.asarray(value, jnp.result_type(float) if isinstance(value, float | int) else None)
    zero = jnp.zeros_like(value_array)
    return Linear(value_array, value_array, zero, zero)
