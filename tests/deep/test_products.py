"""Networks multiply in float32 on every device, though accelerators would round first."""

import jax
import jax.numpy as jnp
import pytest

from mbpo.core.buffer import Ring
from mbpo.core.types import Experience, Transition
from mbpo.deep.ensemble import Ensemble
from mbpo.deep.sac import SoftActorCritic

ROWS = 4
NO = jnp.zeros(ROWS, bool)
SEEN, ACTION = jnp.zeros((ROWS, 2), jnp.float32), jnp.zeros((ROWS, 1), jnp.float32)
BATCH = Transition(SEEN, ACTION, jnp.zeros(ROWS, jnp.float32), SEEN, NO, NO)
KEY = jax.random.key(0)


def update():
    agent = SoftActorCritic(2, 1, -1.0, (6,))
    return jax.jit(agent.update).lower(agent.init(KEY), Experience(BATCH, jnp.ones(ROWS, bool), None), KEY)


def fit():
    model = Ensemble(2, 1, lambda seen, action, following: jnp.bool_(False), 3, 2, (4,), (0.0, 0.0))
    return jax.jit(model.fit).lower(model.init(KEY), Ring(BATCH, jnp.int32(ROWS), jnp.int32(0)), KEY)


@pytest.mark.parametrize("program", [update, fit])
def test_products_are_not_rounded(program):
    products = [line for line in program().as_text().splitlines() if "dot_general" in line]
    assert len(products) > 10
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
