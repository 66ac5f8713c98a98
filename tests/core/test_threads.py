"""What importing mbpo.core changes in JAX: how random numbers are compiled, and none of the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p

from mbpo.core.loop import WARM_UP, round_keys
from mbpo.core.rollout import keys_of_steps

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


def test_keys_made_ahead_are_those_of_each_round_and_step():
    key = jax.random.key(5)
    ahead = jax.vmap(lambda number: round_keys(key, number))(jnp.arange(1, 4))
    for number in (1, 2, 3):
        own = jax.random.fold_in(key, number)
        for stage in range(WARM_UP):
            np.testing.assert_array_equal(
                data(ahead[number - 1, stage]), data(jax.random.fold_in(own, stage))
            )
    steps = keys_of_steps(key, 4, (2, 3))
    for step, own in enumerate(jax.random.split(key, 4)):
        np.testing.assert_array_equal(data(steps[step]), data(jax.random.split(own, (2, 3))))
    assert keys_of_steps(key, 0, 3).shape == (0, 3)
