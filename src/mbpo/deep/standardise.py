"""Coordinates with mean zero and deviation one, from the data that are there."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.core.precision import product


class Affine(NamedTuple):
    """x -> (x - mean) / scale, for each coordinate."""

    mean: Float[Array, "d"]
    scale: Float[Array, "d"]


def moments(
    rows: Float[Array, "C d"], weight: Float[Array, "C"]
) -> tuple[Float[Array, "d"], Float[Array, "d"]]:
    """Mean and standard deviation of the rows, weighted; exact for a coordinate that never changes."""
    count = jnp.maximum(jnp.sum(weight), 1.0)
    mean = rows[0] + product(weight, rows - rows[:1]) / count
    variance = product(weight, (rows - mean[None]) ** 2) / count
    return mean, jnp.sqrt(variance)
