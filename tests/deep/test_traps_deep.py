"""Mistakes of published implementations of MBPO that show in what learns or is set, each kept out by a test."""

import functools
import gc
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_host import ToyHost, copied, followed, on_host

from mbpo.core.buffer import empty, sample
from mbpo.core.host_loop import Episode, HostWorld, Stages, example_of
from mbpo.core.loop import Parts
from mbpo.core.mixing import RealRatio
from mbpo.core.plan import Branches, Plan, Replay
from mbpo.core.schedule import Linear
from mbpo.deep.ensemble import Ensemble
from mbpo.deep.sac import SoftActorCritic
from mbpo.environments import make
from mbpo.errors import InputError
from mbpo.presets import PRESETS, override, preset
from mbpo.runs.task_parts import assemble
from mbpo.runs.task_request import TaskRequest
from mbpo.runs.task_run import train_task

KEY = jax.random.key(21)
AGENT = SoftActorCritic(2, 1, -1.0, (6,), learning_rate=0.01)
MODEL = Ensemble(
    2,
    1,
    lambda s, a, following: jnp.abs(following[0]) > 2.5,
    3,
    2,
    (4,),
    (0.0, 0.0),
    batch_size=8,
    most_epochs=3,
)


GROWING = Linear(
    *(jnp.float32(each) for each in (1, 3, 16, 25))
)  # at the fits, steps 16, 19, 22, 25: 1, 1, 2, 3
STEPS_BEFORE, ROUNDS = 15, 12


@functools.cache
def stages_of(model):
    """A plan of real batches only, in which the model is fitted and imagines in rounds 1, 4, 7 and 10 all the same."""
    batches = Replay(
        RealRatio.of(jnp.float32(1)), 8, Branches(GROWING, 6, longest=3, varies=True) if model else None
    )
    return Stages(Parts(None, MODEL if model else None, AGENT), Plan(batches, STEPS_BEFORE, ROUNDS, 1, 3, 3))


def world_of(episode=None):
    return HostWorld(ToyHost(bound=2.5, limit=7), 3, episode)


@functools.cache
def run(model):
    return followed(stages_of(model), world_of(), KEY)


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_ratio_one_with_a_model_is_soft_actor_critic_bit_for_bit():
    for each, other in zip(run(True), run(False), strict=True):
        assert_same(each.done.state.policy, other.done.state.policy)
        assert_same(each.done.update, other.done.update)
        assert_same(each.done.transitions, other.done.transitions)
    learning = run(True)[STEPS_BEFORE:]
    assert [float(each.done.realised_ratio) for each in learning] == [1.0] * ROUNDS
    assert sum(each.done.refitted for each in learning) == 4, "the ratio switches nothing off"
    assert len(learning[-1].imagined.reward) > 0


def test_a_saved_run_goes_on_bit_for_bit_with_its_ensemble_and_optimisers():
    """A restore without ensemble, pools or termination functions (jannerm)."""
    whole, world = run(True), world_of()
    for count, done in enumerate(on_host(stages_of(True), world, KEY), 1):
        if count == 20:
            saved = copied(done.state), Episode(world.episode.number, *copied(world.episode[1:]))
            break
    assert saved[1].number > 0
    assert len(saved[1].actions) > 0
    state = jax.tree.map(jnp.asarray, saved[0])
    rest = followed(stages_of(True), world_of(saved[1]), KEY, state)
    assert len(rest) == len(whole) - 20
    for each, other in zip(rest, whole[20:], strict=True):
        assert_same(each.done.state, other.done.state)


def test_data_collection_and_imagination_are_stochastic():
    """Mean actions in the world (mbrl-lib) or in the model (DI-engine, x35f)."""
    policy, choose = run(True)[-1].done.state.policy, stages_of(True).choose
    here = np.ones(2, np.float32)
    actions = [float(choose(policy, here, key)[0]) for key in jax.random.split(KEY, 20)]
    assert np.unique(actions).size == 20
    assert np.std(actions) > 0.05
    rows = run(True)[-1].imagined
    starts, counts = np.unique(rows.observation, axis=0, return_counts=True)
    together = (rows.observation == starts[counts.argmax()]).all(axis=1)
    assert together.sum() > 1, "two branches from one real state"
    assert np.unique(rows.action[together]).size == together.sum()
    assert np.unique(rows.next_observation[together, 0]).size == together.sum()


def test_each_stage_is_compiled_once_however_often_the_model_is_refitted_and_branches_grow():
    """Graph nodes added at each fit until memory ran out (jannerm #27)."""
    seen = run(True)
    assert sum(each.done.refitted for each in seen) == 4
    first = seen[STEPS_BEFORE].programs
    assert first == {"choose": 1, "store": 1, "refit": 1, "imagine": 1, "improve": 1}
    assert seen[-1].programs == first


def test_no_array_is_left_behind_and_nothing_compiled_from_refit_to_refit(caplog):
    run(True)
    alive, rounds = [], on_host(stages_of(True), world_of(), KEY)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, "jax"):
        for done in rounds:
            refitted = done.refitted
            del done
            if refitted:
                gc.collect()
                alive.append(len(jax.live_arrays()))
    assert len(alive) == 4
    assert max(alive[2:]) <= max(alive[:2]), alive
    assert [each.getMessage() for each in caplog.records if "ompil" in each.getMessage()] == []


class WarmedUp(Exception):
    """The warm-up was accepted."""


def trained(folder, termination):
    """Train InvertedPendulum up to the end of its warm-up of 100 steps, in which a dozen episodes end."""
    changes = ["warmup_steps=100", "agent_hidden=4", "model_hidden=4", "networks=2", "elites=1", "branches=4"]
    settings = override(preset("default", "InvertedPendulum-v5"), changes)
    request = TaskRequest("InvertedPendulum-v5", {}, termination, "default", settings, 101, 0)

    def watch(progress):
        if progress.done == 100:
            raise WarmedUp

    train_task(request, folder, watch, [])


def ends_late(observation, action, following):
    return jnp.abs(following[1]) > 0.3


def test_a_wrong_termination_function_is_caught_before_anything_is_learned(tmp_path):
    """Humanoid with the rule of Ant for a year (mbrl-lib #138)."""
    for name in ("never", f"{__name__}:ends_late"):
        with pytest.raises(
            InputError, match=r"the termination rule is at odds with InvertedPendulum-v5 on \d+ of 100"
        ):
            trained(tmp_path / name.replace(":", "_"), name)
    with pytest.raises(WarmedUp):
        trained(tmp_path / "right", None)


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_overwrites_the_ratio_and_the_ratio_switches_nothing_off(name):
    """A flag replaced by 0.95 or 0 (STFL); one flag for fitting, rollouts, buffer and batches (jannerm)."""
    environment = make("InvertedPendulum-v5")
    for ratio in (0.0, 0.3, 1.0):
        settings = override(preset(name, "InvertedPendulum-v5"), [f"real_ratio={ratio}"])
        parts, plan = assemble(settings, environment, 6000)
        assert float(plan.batches.real_ratio.share(jnp.int32(0))) == pytest.approx(ratio)
        assert (parts.model is None) == (plan.batches.branches is None) == (name == "sac")
    environment.close()


def test_zero_is_never_taken_for_the_default():
    """`size or default` (softlearning)."""
    ring = empty(example_of(ToyHost()), 5)
    assert sample(ring, 0, KEY).observation.shape == (0, 2)
    changed = override(preset("default", "Hopper-v5"), ["real_ratio=0", "model_decay=0", "length_start=0"])
    assert (changed.real_ratio, changed.model_decay, changed.length_start) == (0, 0, 0)
    assert override(changed, ["discount=0", "target_entropy=0"]).target_entropy == 0
