"""The loop: which numbers depend on which settings, and that nothing can poison a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_parts import ToyAgent, ToyModel, toy_parts, toy_plan

from mbpo.core.loop import WARM_UP, begin, gather, mbpo, one_round
from mbpo.core.mixing import RealRatio
from mbpo.core.plan import Branches, OnPolicy, Plan
from mbpo.core.schedule import constant

KEY = jax.random.key(11)
ROUNDS = 6


pytestmark = pytest.mark.usefixtures("_compile_without_optimising")


def keep_gain(state, taken):
    del taken
    return state.policy.gain


whole_run = jax.jit(mbpo, static_argnums=3)


def run(parts, plan, key=KEY):
    """The final state and what was logged, as NumPy arrays."""
    state, _, info = jax.tree.map(np.asarray, whole_run(parts, plan, key, keep_gain))
    return state, info


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def assert_finite(tree):
    for leaf in jax.tree.leaves(tree):
        assert np.isfinite(leaf).all()


def test_at_ratio_one_the_model_side_changes_nothing():
    alone, info = run(toy_parts(model=False, rate=0.1), toy_plan(1.0, branches=False))
    assert np.unique(info.watched[:, 0]).size == ROUNDS, "the agent learns"
    for length in (1, 3):
        state, with_model = run(toy_parts(rate=0.1), toy_plan(1.0, length=length))
        np.testing.assert_array_equal(with_model.watched, info.watched)
        np.testing.assert_array_equal(with_model.realised_ratio, np.ones(ROUNDS))
        assert_same(state.real.data, alone.real.data)
        assert with_model.imagined_size[-1] > 0


def test_early_rounds_are_shorter_and_nothing_else_differs():
    parts = toy_parts(rate=0.1)
    plain = toy_plan(0.5)
    steps, warmup = plain.steps_per_round, plain.warmup_steps
    assert steps > 2
    plan = dataclasses.replace(plain, early=(1, 2))
    state, info = run(parts, plan)
    used = warmup + np.cumsum([1, 2, *[steps] * (ROUNDS - 2)])
    np.testing.assert_array_equal(info.clock.env_steps, used)
    assert [plan.env_steps_after(rounds) for rounds in range(ROUNDS + 1)] == [warmup, *used]
    assert plan.total_env_steps == used[-1] == state.clock.env_steps
    assert int(state.real.size) == used[-1] - int(info.cuts.sum())
    full = dataclasses.replace(plain, early=(steps,))
    assert_same(run(parts, full)[0], run(parts, plain)[0])


def test_early_rounds_that_cannot_be_are_refused():
    for early in ((0,), (1000,), (1,) * (ROUNDS + 1)):
        with pytest.raises(ValueError, match="early rounds"):
            dataclasses.replace(toy_plan(0.5), early=early)


def test_the_ratio_changes_the_composition_of_batches_and_nothing_else():
    runs = {ratio: run(toy_parts(), toy_plan(ratio)) for ratio in (0.0, 0.3, 1.0)}
    base_state, base = runs[0.3]
    for ratio, (state, info) in runs.items():
        for part in ("clock", "world", "real", "model", "imagined", "policy"):
            assert_same(getattr(state, part), getattr(base_state, part))
        assert_same(info.clock, base.clock)
        assert_same(info.imagined_size, base.imagined_size)
        rows, valid, noise = info.update
        assert rows.observation.shape == (ROUNDS, 12, 2)
        assert valid.all()
        np.testing.assert_array_equal(noise, base.update[2])
        real = np.mean(rows.reward == 0.0, axis=1)
        if ratio in (0.0, 1.0):
            np.testing.assert_array_equal(real, np.full(ROUNDS, ratio))
            np.testing.assert_array_equal(info.realised_ratio, np.full(ROUNDS, ratio))
        else:
            assert set(np.round(real * 12)) <= {3, 4}
            np.testing.assert_allclose(info.realised_ratio, real, rtol=1e-6)


def test_the_clock_counts_and_real_data_arrive_in_order():
    plan = toy_plan()
    state, info = run(toy_parts(), plan)
    assert plan.total_env_steps == 10 + 6 * 5
    np.testing.assert_array_equal(info.clock.rounds, np.arange(1, 7))
    np.testing.assert_array_equal(info.clock.env_steps, 10 + 5 * np.arange(1, 7))
    np.testing.assert_array_equal(info.clock.updates, np.arange(1, 7))
    assert state.real.size == plan.total_env_steps == state.clock.env_steps
    rows = state.real.data
    np.testing.assert_array_equal(rows.next_observation[:-1], rows.observation[1:])
    # 4 branches of 2 steps a round, up to the 24 places of two fits at the longest
    np.testing.assert_array_equal(info.imagined_size, np.minimum(8 * np.arange(1, 7), 24))


def test_branches_start_at_real_states_and_stay_finite():
    state, _ = run(toy_parts(), toy_plan(length=1))
    real = {tuple(row) for row in state.real.data.observation}
    assert {tuple(row) for row in state.imagined.data.observation[: state.imagined.size]} <= real


def refilled(length, refill, terminal=-1e9):
    """What 5 branches of up to 6 steps leave after the last round, by branch where rows are as many as fit."""
    branches = Branches(constant(length), 5, 6, varies=True, refill=jnp.bool_(refill))
    plan = toy_plan()
    plan = dataclasses.replace(plan, batches=dataclasses.replace(plan.batches, branches=branches))
    state, _ = run(dataclasses.replace(toy_parts(), model=ToyModel(terminal=terminal)), plan)
    real = {tuple(row) for row in state.real.data.observation}
    return state.imagined, jax.tree.map(lambda leaf: leaf.reshape(5, 6, -1), state.imagined.data), real


@pytest.mark.parametrize("length", [1.0, 2.0, 3.0, 4.0, 6.0])
def test_refilled_branches_begin_anew_after_each_length_and_chain_in_between(length):
    imagined, rows, real = refilled(length, True)
    assert imagined.size == 5 * 6
    for step in range(6):
        if step % int(length) == 0:
            assert {tuple(row) for row in rows.observation[:, step]} <= real
        else:
            np.testing.assert_array_equal(rows.observation[:, step], rows.next_observation[:, step - 1])
    starts = rows.observation[:, :: int(length)].reshape(-1, 2)
    assert len({tuple(row) for row in starts}) > len(starts) / 2
    assert refilled(length, False)[0].size == 5 * int(length)


def test_a_refilled_branch_that_ends_goes_on_from_a_real_state():
    imagined, rows, real = refilled(3.0, True, -0.1)
    assert imagined.size == 5 * 6
    over = rows.terminal[:, :-1, 0]
    assert over.any()
    assert not over.all()
    anew = over | (np.arange(1, 6) % 3 == 0)
    assert {tuple(row) for row in rows.observation[:, 1:][anew]} <= real
    np.testing.assert_array_equal(rows.observation[:, 1:][~anew], rows.next_observation[:, :-1][~anew])


def test_a_run_resumes_from_any_round_with_the_same_numbers():
    parts, plan = toy_parts(rate=0.1), toy_plan()
    final, info = run(parts, plan)
    warmup_key = jax.random.fold_in(jax.random.fold_in(KEY, 0), WARM_UP)
    warm_up = jax.jit(lambda key: gather(parts, plan, begin(parts, plan, KEY), plan.warmup_steps, key)[0])
    state = warm_up(warmup_key)
    step = jax.jit(lambda state: one_round(parts, plan, state, KEY, keep_gain))
    gains = []
    for _ in range(ROUNDS):
        saved = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]  # to the disk and back
        state = jax.tree.unflatten(jax.tree.structure(state), [jnp.asarray(leaf) for leaf in saved])
        state, logged = step(state)
        gains.append(logged.watched)
    np.testing.assert_allclose(np.stack(gains), info.watched, rtol=1e-5, atol=1e-7)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), state, final)


def test_seeds_side_by_side_are_the_runs_one_by_one_in_one_program():
    with jax.enable_x64(True):
        parts, plan = toy_parts(rate=0.1), toy_plan()
        traces = []

        def program(key):
            traces.append(key)
            return mbpo(parts, plan, key, keep_gain)

        together = jax.jit(jax.vmap(program))
        keys = jax.random.split(KEY, 3)
        state, _, info = jax.tree.map(np.asarray, together(keys))
        together(jax.random.split(jax.random.key(5), 3))
        assert len(traces) == 1
        for seed in range(3):
            alone = run(parts, plan, keys[seed])
            at_seed = jax.tree.map(lambda leaf, seed=seed: leaf[seed], (state, info))
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), at_seed, alone
            )
        assert np.unique(info.watched[:, -1, 0]).size == 3


def test_ratios_run_side_by_side_in_one_program():
    ratios = jnp.asarray([0.0, 0.3, 1.0])
    plan = toy_plan()

    def program(ratio):
        mixer = RealRatio.of(ratio)
        changed = dataclasses.replace(plan, batches=dataclasses.replace(plan.batches, real_ratio=mixer))
        return mbpo(toy_parts(), changed, KEY, keep_gain)[2].realised_ratio

    together = jax.jit(jax.vmap(program))(ratios)
    for row, ratio in zip(together, (0.0, 0.3, 1.0), strict=True):
        np.testing.assert_allclose(row, run(toy_parts(), toy_plan(ratio))[1].realised_ratio, rtol=1e-6)


@pytest.mark.parametrize("limit", [1e-6, 0.5])
def test_a_world_that_blows_up_is_cut_counted_and_poisons_nothing(limit):
    plan = toy_plan()
    state, info = run(toy_parts(rate=1e3, limit=limit), plan)
    assert_finite(state._replace(policy=None))
    assert_finite(info)
    assert info.cuts.sum() > 0
    assert state.real.size < plan.total_env_steps
    assert state.clock.env_steps == plan.total_env_steps, "a step that was cut was paid for"
    warmup_cut = state.policy.retreats - np.sum(info.cuts > 0)
    assert warmup_cut in (0, 1), "one retreat for each stretch with a cut"
    if limit == 1e-6:
        assert state.real.size == 0
        assert (info.cuts == 5).all()
        np.testing.assert_array_equal(info.realised_ratio, np.zeros(ROUNDS))


def test_a_model_that_blows_up_leaves_only_real_batches():
    parts = dataclasses.replace(toy_parts(), model=ToyModel(limit=1e-9))
    state, info = run(parts, toy_plan(0.0))
    assert state.imagined.size == 0
    np.testing.assert_array_equal(info.realised_ratio, np.ones(ROUNDS))
    assert_finite(state)


def on_policy(imagined: bool) -> Plan:
    return Plan(OnPolicy(3, 4, imagined), warmup_steps=12, rounds=2, steps_per_round=12, updates_per_round=3)


def test_on_policy_batches_are_the_round_just_gathered():
    state, info = run(toy_parts(episode=4), on_policy(False))
    rows, valid, _ = info.update
    assert rows.observation.shape == (2, 3, 4, 2)
    assert valid.all()
    np.testing.assert_array_equal(rows.observation.reshape(24, 2), state.real.data.observation[12:])
    np.testing.assert_array_equal(rows.next_observation[:, :, :-1], rows.observation[:, :, 1:])


def test_on_policy_imagination_starts_from_the_start_distribution():
    _, info = run(toy_parts(), on_policy(True))
    assert info.clock.updates.tolist() == [3, 6]
    rows, valid, _ = info.update
    assert valid.all()
    assert (rows.reward == 1).all()
    np.testing.assert_array_equal(info.realised_ratio, np.zeros(2))
    np.testing.assert_array_equal(rows.next_observation[:, :, :-1], rows.observation[:, :, 1:])
    assert np.unique(rows.observation[:, :, 0]).size == 12, "every rollout starts elsewhere"


def test_a_cut_spoils_the_on_policy_batch_of_its_round():
    _, info = run(toy_parts(limit=0.8, episode=4), on_policy(False))
    assert info.cuts.max() > 0
    assert not info.update[1][info.cuts > 0].any()
    assert info.update[1][info.cuts == 0].all()


def test_with_restart_every_real_round_begins_a_new_episode():
    plan = dataclasses.replace(on_policy(False), batches=OnPolicy(3, 4, False, restart=True))
    _, info = run(toy_parts(episode=4), plan)
    starts = info.update[0].observation[:, :, 0]
    assert np.unique(starts[..., 0]).size == 6
    assert info.update[0].truncated[:, :, 3].all()


def test_branched_trajectories_start_at_real_states():
    plan = dataclasses.replace(on_policy(True), batches=OnPolicy(3, 4, True, branched=True))
    state, info = run(toy_parts(), plan)
    real = {tuple(row) for row in state.real.data.observation}
    starts = info.update[0].observation[:, :, 0].reshape(-1, 2)
    assert {tuple(row) for row in starts} <= real


@pytest.mark.parametrize("imagined", [True, False])
def test_an_update_is_told_what_acted_in_each_trajectory(imagined):
    told = []

    class Listening(ToyAgent):
        def update(self, state, experience, key):
            told.append(experience.acting.shape)
            return state, experience.acting

    parts = toy_parts()
    perturbed = dataclasses.replace(parts, agent=Listening(spread=0.3))
    _, info = run(perturbed, on_policy(imagined))
    assert told[0] == (3, 2)
    assert np.unique(info.update[:, :, 0]).size == 6
    shared = dataclasses.replace(parts, agent=Listening())
    run(shared, on_policy(imagined))
    assert told[-1] == (1, 2)


@pytest.mark.parametrize(
    "change", [{"warmup_steps": 0}, {"rounds": 0}, {"steps_per_round": 0}, {"updates_per_round": -1}]
)
def test_plans_that_cannot_run_are_refused(change):
    with pytest.raises(ValueError, match="one of each or more"):
        dataclasses.replace(toy_plan(), **change)


def test_real_on_policy_batches_use_all_steps_of_a_round():
    with pytest.raises(ValueError, match=r"episodes \* length = steps_per_round"):
        Plan(OnPolicy(3, 5, False), warmup_steps=1, rounds=1, steps_per_round=12, updates_per_round=1)
