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


def add(ring: Ring, items: Any, valid: Bool[Array, "B"], limit: Int[Array, ""] | int | None = None) -> Ring:
    """Write the valid rows of `items` (leaves `[B, ...]`, B at most the capacity) in order; skip the others.

    limit: how many items the ring may hold from now on, at most its capacity (the default). Where it has grown, the
    room is filled before anything is overwritten; where it has shrunk, the newest items stay.
    """
    if valid.shape[0] > ring.capacity:
        raise ValueError(f"{valid.shape[0]} items do not fit a ring of capacity {ring.capacity} at once")
    most = jnp.int32(ring.capacity)
    if limit is not None:
        most = jnp.clip(jnp.int32(limit), 1, most)
        ring = limited(ring, most)
    offset = jnp.cumsum(valid, dtype=jnp.int32) - 1
    slot = jnp.where(valid, (ring.position + offset) % most, ring.capacity)  # capacity: dropped
    data = jax.tree.map(lambda store, new: store.at[slot].set(new, mode="drop"), ring.data, items)
    end = ring.position + jnp.sum(valid, dtype=jnp.int32)
    return Ring(data, jnp.clip(end, ring.size, most), end % most)


def limited(ring: Ring, limit: Int[Array, ""]) -> Ring:
    """`ring` with room for `limit` items: only the newest where it held more, all of them first in line."""

    def newest(ring: Ring) -> Ring:
        place = jnp.arange(ring.capacity, dtype=jnp.int32)
        slot = (ring.position - limit + place) % jnp.maximum(ring.size, 1)
        return Ring(jax.tree.map(lambda store: store[slot], ring.data), limit, jnp.int32(0))

    def roomy(ring: Ring) -> Ring:
        return ring._replace(position=jnp.where(ring.size < limit, ring.size, ring.position))

    return jax.lax.cond(ring.size > limit, newest, roomy, ring)


def held(ring: Ring) -> Bool[Array, "C"]:
    """Which slots hold an item: items fill the ring from slot zero."""
    return jnp.arange(ring.capacity, dtype=jnp.int32) < ring.size


def sample(ring: Ring, count: int, key: PRNGKeyArray) -> Any:
    """`count` items drawn uniformly with replacement; zeros while the ring is empty."""
    index = jax.random.randint(key, (count,), 0, jnp.maximum(ring.size, 1))
    return jax.tree.map(lambda store: store[index], ring.data)
