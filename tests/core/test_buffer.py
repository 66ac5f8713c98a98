"""The ring against a deque, and its sampling against the uniform law."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mbpo.core.buffer import add, empty, held, sample

add_compiled = jax.jit(add)
BATCH = 4


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.sampled_from([4, 5, 7]),
    batches=st.lists(st.lists(st.booleans(), min_size=BATCH, max_size=BATCH), max_size=8),
)
def test_ring_holds_what_a_deque_holds(capacity, batches):
    ring = empty({"id": jnp.int32(0), "pair": jnp.zeros(2)}, capacity)
    model, following = deque(maxlen=capacity), 1
    for valid in batches:
        ids = np.arange(following, following + BATCH, dtype=np.int32)
        following += BATCH
        items = {"id": jnp.asarray(ids), "pair": jnp.stack([jnp.float32(ids), -jnp.float32(ids)], axis=1)}
        ring = add_compiled(ring, items, jnp.asarray(valid))
        model.extend(ids[valid].tolist())
        assert int(ring.size) == len(model)
        assert int(held(ring).sum()) == len(model)
        oldest = int(ring.position) - len(model)
        order = [(oldest + i) % capacity for i in range(len(model))]
        assert np.asarray(ring.data["id"])[order].tolist() == list(model)
        np.testing.assert_array_equal(ring.data["pair"][:, 0], ring.data["id"].astype(jnp.float32))
        np.testing.assert_array_equal(ring.data["pair"][:, 1], -ring.data["id"].astype(jnp.float32))
        assert held(ring)[np.array(order, dtype=int)].all()


@pytest.mark.parametrize(("written", "capacity"), [(5, 8), (8, 8), (20, 8)])
def test_sampling_is_uniform_over_what_is_held(written, capacity):
    ring = empty(jnp.int32(0), capacity)
    for item in range(written):
        ring = add_compiled(ring, jnp.asarray([item], jnp.int32), jnp.ones(1, bool))
    drawn = np.asarray(sample(ring, 20_000, jax.random.key(3)))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == list(range(max(0, written - capacity), written))
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_an_empty_ring_samples_zeros_and_holds_nothing():
    ring = empty(jnp.ones(3), 4)
    assert ring.capacity == 4
    assert not held(ring).any()
    np.testing.assert_array_equal(sample(ring, 6, jax.random.key(0)), np.zeros((6, 3)))


def test_sizes_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="capacity of at least 1, got 0"):
        empty(jnp.zeros(2), 0)
    with pytest.raises(ValueError, match="5 items do not fit a ring of capacity 4"):
        add(empty(jnp.zeros(()), 4), jnp.zeros(5), jnp.ones(5, bool))
