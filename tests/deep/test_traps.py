"""Mistakes of published implementations of MBPO that show in the loop, each kept out by a test named after it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_host import MARK, Counting, Marking, ToyHost, followed

from mbpo.core.buffer import add, empty
from mbpo.core.host_loop import HostWorld, Stages
from mbpo.core.loop import Parts
from mbpo.core.mixing import RealRatio
from mbpo.core.plan import Branches, Plan, Replay
from mbpo.core.schedule import Linear, constant

KEY = jax.random.key(21)
WARM_UP, ROUNDS, UPDATES, BATCH, COUNT = 6, 12, 3, 8, 4
GROWING = Linear(
    *(jnp.float32(each) for each in (1, 3, 7, 16))
)  # at the fits, steps 7, 10, 13, 16: 1, 1, 2, 3


@functools.cache
def marked(ratio):
    """The rounds of a run in which imagined rows are marked; its episodes end after 4 steps or at |s_0| > 1.5.

    Branches are imagined at steps 7, 10, 13 and 16: of 1, 1, 2 and 3 steps at ratio 0.3, of 2 at 0.
    """
    branches = Branches(GROWING if ratio == 0.3 else constant(2.0), COUNT, longest=3, retain=2, varies=True)
    return rounds_of(Parts(None, Marking(), Counting()), ratio, branches)


def rounds_of(parts, ratio, branches):
    plan = Plan(Replay(RealRatio.of(jnp.float32(ratio)), BATCH, branches), WARM_UP, ROUNDS, 1, UPDATES, 3)
    return followed(Stages(parts, plan), HostWorld(ToyHost(bound=1.5, limit=4), 0), KEY)


def learning_of(seen):
    return [each for each in seen if each.done.update is not None]


def real_share(each):
    return np.mean(each.done.update[0].reward < MARK)


@pytest.mark.parametrize("ratio", [0.0, 0.3])
def test_first_batches_are_full_and_the_ratio_never_changes_their_size(ratio):
    """Batches of 12 until the first fit (Xingyu-Lin, x35f); real rows on top of a full batch (SSRL)."""
    learning = learning_of(marked(ratio))
    assert len(learning) == ROUNDS
    for each in learning:
        rows, valid = each.done.update
        assert rows.reward.shape == valid.shape == (BATCH,)
        assert valid.all()
        known = {tuple(row) for row in np.vstack([each.real.observation, each.imagined.observation])}
        assert {tuple(row) for row in rows.observation} <= known, "no padding"


def test_ratio_zero_works_and_takes_no_real_row():
    """A crash at 0 (Xingyu-Lin)."""
    learning = learning_of(marked(0.0))
    assert [real_share(each) for each in learning] == [0.0] * ROUNDS
    assert [float(each.done.realised_ratio) for each in learning] == [0.0] * ROUNDS


def test_before_there_is_anything_imagined_batches_are_real_and_full():
    for each in learning_of(rounds_of(Parts(None, None, Counting()), 0.3, None)):
        assert each.done.update[0].reward.shape == (BATCH,)
        assert real_share(each) == 1


def test_the_ratio_asked_for_is_realised():
    shares = [real_share(each) for each in learning_of(marked(0.3))]
    assert set(np.round(np.array(shares) * BATCH)) == {2, 3}


def test_updates_are_as_many_as_asked_from_the_first_round_on():
    """A cap of five updates a step that was silently below what was asked (Xingyu-Lin)."""
    seen = marked(0.3)
    counts = [int(each.done.state.policy) for each in seen]
    assert counts == [0] * WARM_UP + [UPDATES * round_ for round_ in range(1, ROUNDS + 1)]
    assert counts == [int(each.done.state.clock.updates) for each in seen]


def test_the_rollout_length_follows_its_schedule():
    """A length that was never updated (x35f #2)."""
    fits = [each for each in marked(0.3) if each.done.refitted]
    assert [int(each.done.state.clock.env_steps) for each in fits] == [7, 10, 13, 16]
    for number, (each, length) in enumerate(zip(fits, (1, 1, 2, 3), strict=True), 1):
        assert np.sum(each.imagined.reward == MARK + number) == COUNT * length


def held_fits(each):
    numbers, counts = np.unique(each.imagined.reward - MARK, return_counts=True)
    return dict(zip(numbers.astype(int).tolist(), counts.tolist(), strict=True))


def test_what_is_imagined_is_not_flushed_at_each_fit():
    """mbrl-lib PR #61: here the rows of the last two fits are kept."""
    found = [held_fits(each) for each in marked(0.0) if each.done.refitted]
    assert found == [{1: 8}, {1: 8, 2: 8}, {2: 8, 3: 8}, {3: 8, 4: 8}]


def test_what_is_imagined_is_not_flushed_when_branches_grow():
    """As many rows are kept as two fits imagine at the new length: 4, 8, 16 and 24."""
    found = [held_fits(each) for each in marked(0.3) if each.done.refitted]
    assert found == [{1: 4}, {1: 4, 2: 4}, {1: 4, 2: 4, 3: 8}, {2: 4, 3: 8, 4: 12}]


def test_branches_that_become_shorter_leave_the_newest_rows():
    """An assertion that forbade it (jannerm)."""
    ring = add(empty(jnp.int32(0), 12), jnp.arange(12, dtype=jnp.int32), jnp.ones(12, bool))
    ring = add(ring, jnp.asarray([12, 0], jnp.int32), jnp.asarray([True, False]), 4)
    assert sorted(ring.data[: int(ring.size)].tolist()) == [9, 10, 11, 12]


def test_real_rows_are_never_relabelled():
    """Rewards and next states of real rows overwritten by the model (safe-learning)."""
    seen = marked(0.3)
    taken = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(each.done.transitions for each in seen))
    jax.tree.map(np.testing.assert_array_equal, seen[-1].real, taken)
    known = {tuple(np.hstack(row)) for row in zip(*taken[:4], strict=True)}
    for each in learning_of(seen):
        rows = each.done.update[0]
        real = rows.reward < MARK
        assert {
            tuple(np.hstack(row)) for row in zip(*(leaf[real] for leaf in rows[:4]), strict=True)
        } <= known


def test_a_time_limit_is_not_terminal_and_leads_to_the_state_before_the_reset():
    """Time limits stored as terminal (Xingyu-Lin); that they bootstrap is tested with the agent."""
    rows = marked(0.3)[-1].real
    terminal, truncated = rows.terminal, rows.truncated
    assert (truncated & ~terminal).sum() >= 2
    assert (terminal & ~truncated).sum() >= 1
    np.testing.assert_array_equal(terminal, np.abs(rows.next_observation[:, 0]) > 1.5)
    linked = (rows.next_observation[:-1] == rows.observation[1:]).all(axis=1)
    np.testing.assert_array_equal(linked, ~(terminal | truncated)[:-1])
    noise = rows.next_observation - 0.9 * rows.observation - rows.action * np.float32([1.0, 0.5])
    assert np.abs(noise).max() < 0.5
