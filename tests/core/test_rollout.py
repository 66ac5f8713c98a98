"""Real and imagined rollouts step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_parts import ToyAgent, ToyEnvironment, ToyModel

from mbpo.core.parts import FittedModel
from mbpo.core.rollout import act, imagine

AGENT = ToyAgent()


def rolled(environment: ToyEnvironment, agent: ToyAgent = AGENT, steps: int = 40, seed: int = 0):
    start_key, policy_key, key = jax.random.split(jax.random.key(seed), 3)
    policy = agent.init(policy_key)
    return act(environment, environment.reset(start_key), agent, policy.gain[None], steps, key)


def test_real_steps_chain_except_where_the_world_restarts():
    world, taken = rolled(ToyEnvironment(episode=7))
    rows = jax.tree.map(np.asarray, taken.transitions)
    assert rows.truncated.tolist() == [step % 7 == 6 for step in range(40)]
    linked = np.all(rows.next_observation[:-1] == rows.observation[1:], axis=1)
    np.testing.assert_array_equal(linked, ~rows.truncated[:-1])
    np.testing.assert_array_equal(world.x, rows.next_observation[-1])
    assert int(world.time) == 40 % 7
    assert int(taken.cuts) == 0
    assert taken.valid.all()
    noise = rows.next_observation - 0.9 * rows.observation - rows.action
    assert np.abs(noise).max() < 0.5
    assert np.std(noise) > 0.05


def test_a_step_that_leaves_the_limit_is_counted_zeroed_and_restarted():
    world, taken = rolled(ToyEnvironment(limit=3.0), ToyAgent(start=0.6))
    rows, valid = jax.tree.map(np.asarray, taken.transitions), np.asarray(taken.valid)
    assert 0 < int(taken.cuts) == np.sum(~valid) < 40
    for leaf in (rows.observation, rows.action, rows.next_observation):
        assert (leaf[~valid] == 0).all()
        assert np.isfinite(leaf).all()
    assert np.abs(rows.next_observation).max() <= 3
    assert np.abs(np.asarray(world.x)).max() <= 5
    both = valid[:-1] & valid[1:]
    linked = np.all(rows.next_observation[:-1] == rows.observation[1:], axis=1)
    assert linked[both].all()
    after = np.flatnonzero(~valid[:-1]) + 1
    assert (rows.observation[after[valid[after]]] != 0).all(), "a restart draws a fresh state"


def dreamed(model: ToyModel, length: int, agent: ToyAgent = AGENT, steps: int = 5):
    fitted = FittedModel(model, jnp.zeros(2))
    start = jax.random.normal(jax.random.key(1), (8, 2))
    policy = agent.init(jax.random.key(0))
    rows, valid = imagine(
        fitted, agent, policy.gain[None], start, steps, jnp.int32(length), jax.random.key(2)
    )
    return start, jax.tree.map(np.asarray, rows), np.asarray(valid)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 9])
def test_branches_chain_and_stop_at_their_length(length):
    start, rows, valid = dreamed(ToyModel(), length)
    np.testing.assert_array_equal(valid, np.broadcast_to(np.arange(5) < length, (8, 5)))
    np.testing.assert_array_equal(rows.observation[:, 0], start)
    for step in range(min(length, 5) - 1):
        np.testing.assert_array_equal(rows.next_observation[:, step], rows.observation[:, step + 1])
    residual = rows.next_observation - 0.9 * rows.observation - rows.action
    assert np.unique(residual[valid].round(6)).size == residual[valid].size, "no noise is drawn twice"


def test_a_branch_stops_at_its_first_invalid_step():
    _, rows, valid = dreamed(ToyModel(limit=3.0), 5, ToyAgent(start=0.9))
    kept = valid.sum(axis=1)
    assert kept.min() < kept.max() == 5
    for branch, count in enumerate(kept):
        np.testing.assert_array_equal(valid[branch], np.arange(5) < count)
        assert np.abs(rows.next_observation[branch, :count]).max(initial=0) <= 3
        if count < 5:
            assert np.abs(rows.next_observation[branch, count]).max() > 3


def test_a_terminal_step_is_kept_and_ends_its_branch():
    _, rows, valid = dreamed(ToyModel(terminal=-0.5), 5)
    ended = (rows.terminal & valid).any(axis=1)
    assert 0 < ended.sum() < 8
    for branch in range(8):
        last = np.argmax(rows.terminal[branch]) if ended[branch] else 4
        np.testing.assert_array_equal(valid[branch], np.arange(5) <= last)
