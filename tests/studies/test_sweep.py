"""Sweeps: runs that differ in knobs alone, in one program, and nothing else that differs between them."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from exact_cases import random_system

from mbpo.core.schedule import Linear
from mbpo.lqr.algorithms import ALGORITHMS, BATCH, prepare, rounds_for
from mbpo.lqr.optimum import solve
from mbpo.lqr.train import Settings, train
from mbpo.studies import sweep
from mbpo.studies.sweep import CHUNK, Effort, Knobs

SYSTEM = random_system(2, 1, 0.9, 1)
EFFORT = Effort(60, 4, 30, 2, batch=64, branches=10, longest=3)
SEEDS = 9
RATIOS = ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.0, 1.0))
ERROR = 0.1 * np.array([[1.0, -1.0, 0.5], [0.3, 0.0, -0.7]])


@functools.cache
def setup():
    return prepare(SYSTEM, solve(SYSTEM))


def knobs(ends, lengths, errors, widths=1.0, equal=False):
    first, last = np.array(ends, np.float64).T
    zero = np.zeros(len(first))
    schedule, lengths = Linear(first, last, zero, zero + 180.0), np.array(lengths, np.float64)
    return Knobs(schedule, lengths, zero + widths, (zero + equal) > 0, np.array(errors))


def sweep_of(knobs_, keys, effort=EFFORT, model=True):
    told = []
    shared = sweep.base(setup(), effort, model)
    found = sweep.sweep(setup(), shared, knobs_, keys, solve(SYSTEM).cost, told.append)
    return found, told


@pytest.fixture(scope="module")
def outcome():
    """Four ratios, then ratio 0.5 with another length, then with a planted error, then exploring the model more
    widely; `SEEDS` seeds of each."""
    ends = [*RATIOS, *[(0.5, 0.5)] * 3]
    lengths, errors = [2, 2, 2, 2, 3, 2, 2], [*[0 * ERROR] * 5, ERROR, 0 * ERROR]
    widths = [*[1] * 6, 4]
    keys = jax.random.split(jax.random.key(3), SEEDS)[np.tile(np.arange(SEEDS), 7)]
    every = [np.repeat(np.array(each, np.float64), SEEDS, axis=0) for each in (ends, lengths, errors, widths)]
    before = sweep._compiled._cache_size()
    found, told = sweep_of(knobs(*every), keys)
    assert sweep._compiled._cache_size() - before == 1
    assert told == ["32 of 63 runs", "63 of 63 runs"]
    return jax.tree.map(lambda leaf: leaf.reshape(7, SEEDS, *leaf.shape[1:]), found)


def test_the_share_of_real_rows_is_the_schedules(outcome):
    shares = outcome.realised_ratio.mean(axis=1)
    for number, ratio in enumerate((0.0, 0.5, 1.0)):
        np.testing.assert_allclose(shares[number], ratio, atol=1e-12)
    steps = EFFORT.transitions
    np.testing.assert_allclose(shares[3], steps / 180.0, atol=1.5 / 64)


def test_a_ratio_changes_the_composition_of_batches_and_nothing_before_it(outcome):
    for other in range(1, 5):  # another ratio or length: the same real data, and the same model of them
        np.testing.assert_array_equal(outcome.models[other, :, 0], outcome.models[0, :, 0])
    assert not np.array_equal(outcome.gains[1, :, 0], outcome.gains[0, :, 0])
    assert not np.array_equal(outcome.gains[4, :, 0], outcome.gains[1, :, 0])


def test_exploring_the_model_more_widely_changes_imagined_data_and_nothing_before_them(outcome):
    np.testing.assert_array_equal(outcome.models[6, :, 0], outcome.models[1, :, 0])
    assert not np.array_equal(outcome.gains[6, :, 0], outcome.gains[1, :, 0])


def test_at_ratio_one_nothing_imagined_matters(outcome):
    keys = jax.random.split(jax.random.key(3), SEEDS)
    for length, width, equal in ((3, 1, False), (2, 4, False), (1, 4, True)):
        every = knobs(np.ones((SEEDS, 2)), np.full(SEEDS, length), np.zeros((SEEDS, 2, 3)), width, equal)
        found, _ = sweep_of(every, keys)
        for name in ("gains", "models", "excess_cost"):
            np.testing.assert_array_equal(getattr(found, name), getattr(outcome, name)[2])


def test_a_planted_error_is_added_to_every_fit(outcome):
    np.testing.assert_allclose(
        outcome.models[5, :, 0] - outcome.models[1, :, 0], np.broadcast_to(ERROR, (SEEDS, 2, 3)), atol=1e-12
    )
    truth = np.concatenate([setup().system.A, setup().system.B], axis=1)
    wrong = np.linalg.norm(outcome.models[5] - truth, axis=(-2, -1)) / np.linalg.norm(truth)
    np.testing.assert_allclose(outcome.model_error[5], wrong, rtol=1e-12)


def test_excess_cost_is_that_of_the_gains(outcome):
    best = solve(SYSTEM)
    gains = setup().coordinates.outward(outcome.gains[1, :3, -1])
    for gain, excess in zip(gains, outcome.excess_cost[1, :3, -1], strict=True):
        F = SYSTEM.A + SYSTEM.B @ gain
        covariance = np.linalg.solve(np.eye(4) - np.kron(F, F), SYSTEM.W.reshape(-1)).reshape(2, 2)
        cost = np.trace((SYSTEM.Q + gain.T @ SYSTEM.R @ gain) @ covariance)
        assert excess == pytest.approx(cost / best.cost - 1, rel=1e-8, abs=1e-12)


def test_ratio_one_with_the_model_off_is_the_model_free_learner_bit_for_bit():
    transitions, seeds = 400, CHUNK
    sizes, updates = rounds_for(SYSTEM, ALGORITHMS["dpg"], transitions), ALGORITHMS["dpg"].updates
    equal = sizes.rounds - len(sizes.early)
    effort = Effort(sizes.warmup, equal, sizes.steps, updates, batch=BATCH, early=sizes.early)
    keys = jax.random.split(jax.random.key(5), seeds)
    ours, _ = sweep_of(
        knobs(np.ones((seeds, 2)), np.ones(seeds), np.zeros((seeds, 2, 3))), keys, effort, model=False
    )
    theirs = train(SYSTEM, Settings("dpg", transitions, seeds, 5))
    np.testing.assert_array_equal(setup().coordinates.outward(ours.gains), theirs.gains)


def test_effort_uses_every_transition():
    for transitions in (130, 999, 3000):
        effort = Effort.of(transitions, 12, 2)
        assert effort.transitions[-1] == transitions
        assert effort.steps <= effort.warmup < 2 * effort.steps + 12
    assert dataclasses.replace(EFFORT, warmup=1).transitions[0] == 31
