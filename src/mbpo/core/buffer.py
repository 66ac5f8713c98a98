"""A ring of fixed capacity over any pytree, with exact uniform sampling."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray


class Ring(NamedTuple):
    """The newest `capacity` items written.

    data: pytree, every leaf `[C, ...]`; size: items held; position: where the next one goes.
    """

    data: Any
    size: Int[Array, ""]
    position: Int[Array, ""]

    @property
    def capacity(self) -> int:
        """How many items fit."""
        return jax.tree.leaves(self.data)[0].shape[0]


def empty(example: Any, capacity: int) -> Ring:
    """A ring for items shaped like `example`; raises ValueError when `capacity` is below one."""
    if capacity < 1:
        raise ValueError(f"a ring needs a capacity of at least 1, got {capacity}")
    data = jax.tree.map(
        lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), jnp.asarray(leaf).dtype), example
    )
    return Ring(data, jnp.int32(0), jnp.int32(0))


def add(ring: Ring, items: Any, valid: Bool[Array, "B"]) -> Ring:
    """Write the valid rows of `items` (leaves `[B, ...]`, B at most the capacity) in order; skip the others."""
    if valid.shape[0] > ring.capacity:
        raise ValueError(f"{valid.shape[0]} items do not fit a ring of capacity {ring.capacity} at once")
    offset = jnp.cumsum(valid, dtype=jnp.int32) - 1
    slot = jnp.where(valid, (ring.position + offset) % ring.capacity, ring.capacity)  # capacity: dropped
    data = jax.tree.map(lambda store, new: store.at[slot].set(new, mode="drop"), ring.data, items)
    count = jnp.sum(valid, dtype=jnp.int32)
    return Ring(data, jnp.minimum(ring.size + count, ring.capacity), (ring.position + count) % ring.capacity)


def held(ring: Ring) -> Bool[Array, "C"]:
    """Which slots hold an item: items fill the ring from slot zero."""
    return jnp.arange(ring.capacity, dtype=jnp.int32) < ring.size


def sample(ring: Ring, count: int, key: PRNGKeyArray) -> Any:
    """`count` items drawn uniformly with replacement; zeros while the ring is empty."""
    index = jax.random.randint(key, (count,), 0, jnp.maximum(ring.size, 1))
    return jax.tree.map(lambda store: store[index], ring.data)
