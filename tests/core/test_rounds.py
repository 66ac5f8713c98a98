"""Rounds of any size on the host: what is done when, what a piece leaves, and going on after any of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.toy_parts import ToyAgent, ToyEnvironment, ToyModel
from deep.toy_host import MARK, Counting, Marking, ToyHost, copied
from mbpo.core.host_loop import Episode, HostWorld, Stages, mbpo_on_host
from mbpo.core.loop import Parts, mbpo, piece_keys
from mbpo.core.mixing import RealRatio
from mbpo.core.plan import Branches, Plan, Replay
from mbpo.core.schedule import constant

KEY = jax.random.key(11)
COUNT, LENGTH, EVERY = 6, 3, 2


def plan_of(refresh=EVERY, restart=False, refit=2, first_fits=3, first_improves=2):
    """Five rounds of four real steps and six updates after seven of warm-up; fits in rounds 1, 3 and 5."""
    branches = Branches(
        constant(jnp.float32(LENGTH)), COUNT, LENGTH, retain=3, refresh_every=refresh, restart=restart
    )
    return Plan(
        Replay(RealRatio.of(jnp.float32(0.5)), 8, branches), 7, 5, 4, 6, refit, first_fits, first_improves
    )


def world_of(episode=None):
    return HostWorld(ToyHost(bound=2.5, limit=9), 3, episode)


def pieces_of(plan, agent=None, world=None, state=None, announce=lambda doing: None):
    """Every piece in NumPy, and the episode after it."""
    world = world_of() if world is None else world
    parts = Parts(None, Marking(), Counting() if agent is None else agent)
    found = []
    for done in mbpo_on_host(parts, plan, world, KEY, state, announce):
        episode = world.episode
        kept = Episode(episode.number, *copied(tuple(episode[1:])))
        found.append((copied(done._replace(seconds={})), kept))
    return found


@pytest.fixture(scope="module")
def pieces():
    return pieces_of(plan_of())


def test_a_round_acts_then_fits_then_improves(pieces):
    after = [done for done, _ in pieces[7:]]
    told = [
        ("act" if done.transitions is not None else "fit" if done.refitted else "improve", done.complete)
        for done in after
    ]
    first = [("act", False), *[("fit", False)] * 3, ("improve", False), ("improve", True)]
    second = [("act", False), ("improve", True)]
    third = [("act", False), ("fit", False), ("improve", True)]
    assert told == [*first, *second, *third, *second, *third]
    clock = pieces[-1][0].state.clock
    assert [int(each) for each in clock] == [5, 7 + 5 * 4, (2 + 4) * 6, 3 + 2]
    assert all(len(done.transitions.reward) == 4 for done in after if done.transitions is not None)


def test_the_policy_is_frozen_while_a_round_acts(pieces):
    for (before, _), (done, _) in itertools.pairwise(pieces[6:]):
        if done.transitions is not None:
            np.testing.assert_array_equal(before.state.policy, done.state.policy)


def test_updates_refresh_what_is_imagined(pieces):
    """Every second update six branches of three steps are imagined anew; three refreshments are kept."""
    learned = [done for done, _ in pieces if done.update is not None]
    sizes = [int(done.state.imagined.size) for done in learned]
    assert sizes[0] == 3 * COUNT * LENGTH == sizes[-1]
    for done in learned:
        fits = set(np.unique(done.state.imagined.data.reward[: int(done.state.imagined.size)]))
        assert fits == {MARK + int(done.state.clock.fits)}, "all of it is of the newest fit"


def test_without_refreshment_only_fits_imagine():
    found = [done for done, _ in pieces_of(plan_of(refresh=None))]
    sizes = [int(done.state.imagined.size) for done in found if done.complete]
    assert sizes == [18, 18, 36, 36, 54]


@pytest.mark.parametrize("stop", range(3, 22, 2))
def test_a_run_goes_on_bit_for_bit_after_any_piece(pieces, stop):
    done, episode = pieces[stop]
    state = jax.tree.map(jnp.asarray, done.state)
    rest = pieces_of(plan_of(), world=world_of(episode), state=state)
    assert len(rest) == len(pieces) - stop - 1
    for (one, _), (other, _) in zip(rest, pieces[stop + 1 :], strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.state, other.state)


def test_each_stage_announces_when_it_compiles():
    told = []
    pieces_of(plan_of(), announce=told.append)
    after = [each for each in told if each != "warming up"]
    assert after[:6] == ["compiling", "compiling", "fitting", "fitting", "compiling", "improving"]
    assert after[6:] == ["acting", "improving", "acting", "fitting", "improving"] * 2


class OnHost(Counting):
    """Acts in NumPy: its noise through tanh."""

    def on_host(self, policy):
        return lambda observation, noise: np.tanh(noise)


def test_an_agent_that_acts_in_numpy_is_asked_for_no_compiled_call(monkeypatch):
    monkeypatch.setattr(Stages, "_choose", lambda *given: pytest.fail("a compiled call"))
    found = pieces_of(plan_of(), agent=OnHost())
    acted = np.concatenate([done.transitions.action for done, _ in found[7:] if done.transitions is not None])
    assert acted.shape == (20, 1)
    assert len(np.unique(acted)) == 20
    assert (np.abs(acted) < 1).all()


def test_branches_that_restart_are_all_as_long_as_asked():
    """Half of the imagined steps are terminal; still each refreshment gives count x length rows, and a row after a
    terminal one starts from a real state."""
    parts = Parts(None, Ending(), Counting())

    def improved(restart):
        rounds = mbpo_on_host(parts, plan_of(restart=restart), world_of(), KEY)
        return next(done.state for done in rounds if done.update is not None)

    whole, cut = improved(True), improved(False)
    assert int(whole.imagined.size) == 3 * COUNT * LENGTH
    assert int(cut.imagined.size) < 3 * COUNT * LENGTH
    real = {tuple(row) for row in np.asarray(whole.real.data.observation)}
    rows = jax.tree.map(np.asarray, whole.imagined.data)
    by_branch = jax.tree.map(lambda leaf: leaf.reshape(3, COUNT, LENGTH, *leaf.shape[1:]), rows)
    ended = by_branch.terminal[:, :, :-1]
    following = by_branch.observation[:, :, 1:]
    assert ended.any()
    assert not ended.all()
    assert all(tuple(row) in real for row in following[ended])
    np.testing.assert_array_equal(following[~ended], by_branch.next_observation[:, :, :-1][~ended])


class Ending(Marking):
    """Ends where the imagined state is positive."""

    def step(self, state, observation, action, keys):
        rows, valid = super().step(state, observation, action, keys)
        return rows._replace(terminal=rows.next_observation[:, 0] > 0), valid


def test_a_traced_world_has_the_same_rounds():
    """First round: three fits, twice the updates; imagined transitions refreshed by updates."""
    parts = Parts(ToyEnvironment(100.0, 1000), ToyModel(), ToyAgent(0.1))
    branches = Branches(constant(2.0), 4, 2, retain=3, refresh_every=3)
    plan = Plan(Replay(RealRatio.of(jnp.float32(0.5)), 12, branches), 10, 4, 5, 6, 1, 3, 2)

    def watch(state, taken):
        return state.imagined.data.reward, state.real.size

    state, _, infos = jax.jit(lambda key: mbpo(parts, plan, key, watch))(KEY)
    assert [int(each) for each in state.clock] == [4, 30, 5 * 6, 6]
    np.testing.assert_array_equal(infos.clock.updates, [12, 18, 24, 30])
    np.testing.assert_array_equal(infos.clock.fits, [3, 4, 5, 6])
    np.testing.assert_array_equal(infos.watched[1], [15, 20, 25, 30])
    assert int(state.imagined.size) == 3 * 4 * 2


def test_groups_of_updates_must_come_out_whole():
    with pytest.raises(ValueError, match="not a multiple of 4"):
        plan_of(refresh=4)


def test_keys_of_pieces_are_all_different():
    keys = [tuple(np.asarray(jax.random.key_data(each))) for each in piece_keys(KEY, 5)]
    assert len(set(keys)) == 5
    assert piece_keys(KEY, 1) == [KEY]
