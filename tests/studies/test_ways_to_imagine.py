"""Ways to imagine that studies compare: what differs between them in traced runs, and what does not."""

import jax
import numpy as np
import pytest
from exact_cases import random_system

from mbpo.core.loop import mbpo
from mbpo.core.precision import double_precision
from mbpo.core.schedule import Linear
from mbpo.lqr.algorithms import prepare
from mbpo.lqr.optimum import solve
from mbpo.studies import sweep
from mbpo.studies.sweep import Effort, Knobs

pytestmark = pytest.mark.usefixtures("_compile_without_optimising")
SYSTEM = random_system(3, 2, 0.9, 4)
EFFORT = Effort(1500, 1, 500, 2, batch=64, branches=300, longest=6)
REAL = 2000
WAYS = [(k, 1.0, equal) for k in (1, 2, 3, 6) for equal in (True, False)]  # length, width, equal rows
WAYS += [(6, 4.0, True), (2, 4.0, False)]


@pytest.fixture(scope="module")
def setup():
    return prepare(SYSTEM, solve(SYSTEM))


@pytest.fixture(scope="module")
def held(setup):
    """The real and the imagined ring and the model after one round of each of `WAYS`, all with one key; whatever is in
    the rings, the first gain has acted."""
    lengths, widths, equal = np.array(WAYS).T
    zero = np.zeros(len(WAYS))
    half = Linear(zero + 0.5, zero + 0.5, zero, zero)
    shared = sweep.base(setup, EFFORT)

    @double_precision
    def several(ways):
        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(ways))

    def one(way):
        state = mbpo(*sweep.configured(*shared, way), jax.random.key(8), lambda state, taken: ())[0]
        return state.real, state.imagined, state.model

    return several(Knobs(half, lengths, widths, equal > 0, np.zeros((len(WAYS), 3, 5))))


def test_the_real_rows_and_the_first_model_are_the_same(held):
    real, _, model = held
    assert real.size.tolist() == [REAL] * len(WAYS)
    for leaf in jax.tree.leaves((real, model)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))


def test_equal_rows_are_as_many_at_every_length_and_equal_branches_are_not(held):
    _, imagined, _ = held
    assert imagined.size[:8].tolist() == [1800, 300, 1800, 600, 1800, 900, 1800, 1800]


def deviations(ring, way, setup):
    """L^-1 (u - K x) of the rows that one ring holds, with S = L L' the exploration in the world, [N, m]."""
    rows = jax.tree.map(lambda leaf: leaf[way, : ring.size[way]], ring.data)
    root = np.linalg.cholesky(setup.exploration)
    return np.linalg.solve(root, (rows.action - rows.observation @ setup.gain.T).T).T


@pytest.mark.parametrize("way", range(len(WAYS)), ids=str)
def test_the_model_is_explored_like_the_world_or_as_much_wider_as_asked(held, setup, way):
    """The mean product of two of N whitened normal draws has variance 2 / N where they are one, else 1 / N, and no
    entry may be four standard deviations off."""
    real, imagined, _ = held
    world, model = deviations(real, way, setup), deviations(imagined, way, setup) / WAYS[way][1]
    of_one = np.sqrt(1 + np.eye(2))
    apart = abs(model.T @ model / len(model) - world.T @ world / len(world))
    assert (apart < 4 * of_one * np.sqrt(1 / len(model) + 1 / len(world))).all()
    assert (abs(world.T @ world / len(world) - np.eye(2)) < 4 * of_one / np.sqrt(len(world))).all()
