"""Real and imagined rollouts step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_parts import ToyAgent, ToyEnvironment, ToyModel

from mbpo.core.parts import FittedModel
from mbpo.core.rollout import act, act_in_turn, imagine

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
    np.testing.assert_array_equal(rows.observation[:, 0], start if length else 0 * start)
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


def test_trajectories_in_turn_act_each_under_its_own_gain():
    gains = jnp.linspace(-0.9, -0.1, 6)[:, None] * jnp.ones((6, 2))
    environment = ToyEnvironment(limit=1e6, episode=10**6)
    start = environment.reset(jax.random.key(0))
    _, taken = act_in_turn(environment, start, AGENT, gains, 400, False, jax.random.key(1))
    rows = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(6, 400, *leaf.shape[1:]), taken.transitions)
    for gain, x, u in zip(gains, rows.observation, rows.action, strict=True):
        fitted = np.sum(x * u) / np.sum(x * x)
        assert fitted == pytest.approx(float(gain[0]), abs=0.15)
    flat = taken.transitions
    np.testing.assert_array_equal(flat.next_observation[:-1], flat.observation[1:])
    np.testing.assert_array_equal(taken.acting, gains)


def test_twins_share_start_and_noise_in_the_world_and_in_the_model():
    gains = jnp.repeat(jnp.linspace(-0.9, -0.1, 3), 2)[:, None] * jnp.ones((6, 2))
    environment = ToyEnvironment(limit=1e6, episode=10**6)
    start = environment.reset(jax.random.key(0))
    _, taken = act_in_turn(environment, start, AGENT, gains, 5, True, jax.random.key(1))
    x = np.asarray(taken.transitions.observation).reshape(6, 5, 2)
    np.testing.assert_array_equal(x[::2], x[1::2])
    np.testing.assert_array_equal(x[2, 0], taken.transitions.next_observation[4])
    fitted, starts = FittedModel(ToyModel(), jnp.zeros(2)), jnp.repeat(jnp.ones((3, 2)), 2, axis=0)
    rows, _ = imagine(fitted, AGENT, gains, starts, 5, jnp.int32(5), jax.random.key(2), twins=True)
    np.testing.assert_array_equal(rows.observation[::2], rows.observation[1::2])
    assert np.unique(np.asarray(rows.next_observation[::2, 0])).size == 6
    alone, _ = imagine(fitted, AGENT, gains, starts, 5, jnp.int32(5), jax.random.key(2))
    assert (np.asarray(alone.observation[::2, 1:]) != np.asarray(alone.observation[1::2, 1:])).all()
