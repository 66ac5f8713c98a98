"""The real ratio is exact in expectation and decides on nothing but the composition of a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbpo.core.buffer import add, empty
from mbpo.core.mixing import RealRatio
from mbpo.core.schedule import Linear
from mbpo.core.types import Transition

KEYS = 10_000
START = jnp.int32(0)


def ring_of(count: int, label: float):
    """A ring whose transitions carry `label` as their reward and their slot as first observation."""
    example = Transition(
        jnp.zeros(2), jnp.zeros(1), jnp.zeros(()), jnp.zeros(2), jnp.bool_(False), jnp.bool_(False)
    )
    items = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (8, *leaf.shape)), example)
    slot = jnp.arange(8.0)
    items = items._replace(
        reward=jnp.full(8, label), observation=jnp.stack([slot, jnp.full(8, label)], axis=1)
    )
    return add(empty(example, 8), items, slot < count)


@functools.partial(jax.jit, static_argnames="batch")
@functools.partial(jax.vmap, in_axes=(None, None, None, None, 0))
def composed(ratio, real, imagined, batch, key):
    """Real rows and imagined rows counted in the batch itself, the realised share, and whether rows are whole."""
    rows, share = RealRatio.of(ratio).compose(real, imagined, batch, START, key)
    assert rows.reward.shape == (batch,)
    assert rows.observation.shape == (batch, 2)
    same = jnp.all(rows.observation[:, 1] == rows.reward)
    return jnp.sum(rows.reward == 1.0), jnp.sum(rows.reward == 2.0), share, same


def compositions(ratio: float, batch: int, real: int = 8, imagined: int = 5):
    """Real rows counted in the batches, and the realised shares, for many keys."""
    keys = jax.random.split(jax.random.key(7), KEYS)
    counted, other, shares, same = composed(
        jnp.asarray(ratio), ring_of(real, 1.0), ring_of(imagined, 2.0), batch, keys
    )
    assert same.all(), "the leaves of one row come from one transition"
    np.testing.assert_array_equal(np.asarray(counted) + np.asarray(other), batch)
    return np.asarray(counted, np.float64), np.asarray(shares, np.float64)


@pytest.mark.parametrize("batch", [1, 7, 32])
@pytest.mark.parametrize("ratio", [0.0, 1e-3, 0.05, 0.3, 0.5, 0.999, 1.0])
def test_expected_share_is_the_ratio(ratio, batch):
    counted, shares = compositions(ratio, batch)
    np.testing.assert_allclose(shares, counted / batch, rtol=1e-6)
    wanted = np.float64(np.float32(ratio)) * batch
    assert set(np.unique(counted)) <= {np.floor(wanted + 1e-5), np.ceil(wanted - 1e-5)}
    part = wanted - np.floor(wanted)
    error = np.sqrt(part * (1 - part) / KEYS)
    assert abs(counted.mean() - wanted) <= 4 * error + 1e-6 * batch


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_single_precision_never_adds_a_row(ratio):
    real, imagined, mixer = ring_of(8, 1.0), ring_of(5, 2.0), RealRatio.of(jnp.asarray(ratio))
    share = jax.jit(jax.vmap(lambda key: mixer.compose(real, imagined, 4096, START, key)[1]))  # draws no rows
    assert set(np.unique(share(jax.random.split(jax.random.key(7), 50_000)))) == {ratio}


@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
def test_an_empty_ring_leaves_the_whole_batch_to_the_other(ratio):
    counted, shares = compositions(ratio, 6, real=3, imagined=0)
    assert (counted == 6).all()
    assert (shares == 1).all()
    counted, shares = compositions(ratio, 6, real=0, imagined=2)
    assert (counted == 0).all()
    assert (shares == 0).all()


def test_real_rows_are_drawn_uniformly_from_what_the_real_ring_holds():
    rows, _ = RealRatio.of(jnp.asarray(1.0)).compose(
        ring_of(3, 1.0), ring_of(5, 2.0), 3000, START, jax.random.key(1)
    )
    counts = np.bincount(np.asarray(rows.observation[:, 0], np.int64), minlength=8)
    assert (counts[3:] == 0).all()
    assert (abs(counts[:3] - 1000) < 4.5 * np.sqrt(3000 * 2 / 9)).all()


def test_a_schedule_decides_the_share_by_the_real_steps_taken():
    rising = RealRatio(Linear(*(jnp.asarray(each) for each in (0.0, 1.0, 10.0, 20.0))))
    real, imagined = ring_of(8, 1.0), ring_of(5, 2.0)
    share = jax.jit(lambda steps: rising.compose(real, imagined, 64, steps, jax.random.key(3))[1])
    assert [float(share(jnp.int32(steps))) for steps in (0, 10, 15, 20, 99)] == [0.0, 0.0, 0.5, 1.0, 1.0]
