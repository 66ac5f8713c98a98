"""What importing mbpo.core changes in JAX: how random numbers are compiled, and none of the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p

from mbpo.core.loop import WARM_UP, round_keys

# key, count and hash of Threefry-2x32 with 20 rounds: Random123's known answers (Salmon et al., SC 2011)
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@jax.jit
def hashed(key, count):
    return jnp.stack(threefry2x32_p.bind(key[0], key[1], count[0], count[1]))


@pytest.mark.parametrize(("key", "count", "answer"), KNOWN)
def test_the_hash_gives_the_published_answers(key, count, answer):
    key, count, answer = (np.array(each, np.uint32) for each in (key, count, answer))
    np.testing.assert_array_equal(hashed(key, count), answer)
    several = np.repeat(count[:, None], 3, axis=1)
    np.testing.assert_array_equal(
        hashed(np.repeat(key[:, None], 3, axis=1), several), answer[:, None] * [1, 1, 1]
    )
    together = jax.vmap(hashed, (None, 1), 1)(key, several)
    np.testing.assert_array_equal(together, answer[:, None] * [1, 1, 1])
    assert hashed(np.zeros((2, 0), np.uint32), np.zeros((2, 0), np.uint32)).shape == (2, 0)


def data(keys):
    return np.asarray(jax.random.key_data(keys))


def test_the_stages_of_a_round_fold_their_numbers_into_its_key():
    key = jax.random.key(5)
    own = jax.random.fold_in(key, 3)
    for stage, found in enumerate(round_keys(key, jnp.int32(3))):
        np.testing.assert_array_equal(data(found), data(jax.random.fold_in(own, stage)))
    assert round_keys(key, jnp.int32(3)).shape == (WARM_UP,)
