"""Sweeps: runs that differ in knobs alone, in one program, and nothing else that differs between them."""

import dataclasses

import jax
import numpy as np
import pytest
from exact_cases import random_system

from mbpo.core.schedule import Linear
from mbpo.lqr.algorithms import ALGORITHMS, BATCH, prepare, rounds_for
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.train import Settings, train
from mbpo.studies import sweep
from mbpo.studies.sweep import CHUNK, Effort, Knobs

SYSTEM = random_system(2, 1, 0.9, 1)
EFFORT = Effort(60, 4, 30, 2, batch=64, branches=10, longest=3)
SEEDS = 9
RATIOS = ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.0, 1.0))
ERROR = 0.1 * np.array([[1.0, -1.0, 0.5], [0.3, 0.0, -0.7]])


def knobs(ends, lengths, errors):
    first, last = np.array(ends, np.float64).T
    zero = np.zeros(len(first))
    return Knobs(Linear(first, last, zero, zero + 180.0), np.array(lengths, np.float64), np.array(errors))


def sweep_of(knobs_, keys, effort=EFFORT, model=True):
    setup = prepare(SYSTEM, default_gain(SYSTEM))
    told = []
    shared = sweep.base(SYSTEM, setup, effort, model)
    found = sweep.sweep(SYSTEM, shared, knobs_, keys, solve(SYSTEM).cost, told.append)
    return found, told


@pytest.fixture(scope="module")
def outcome():
    """Four ratios, then ratio 0.5 with another length, then with a planted error; `SEEDS` seeds of each."""
    ends = [*RATIOS, (0.5, 0.5), (0.5, 0.5)]
    lengths, errors = [2, 2, 2, 2, 3, 2], [0 * ERROR] * 5 + [ERROR]
    keys = jax.random.split(jax.random.key(3), SEEDS)[np.tile(np.arange(SEEDS), 6)]
    every = [np.repeat(np.array(each, np.float64), SEEDS, axis=0) for each in (ends, lengths, errors)]
    before = sweep._compiled._cache_size()
    found, told = sweep_of(knobs(*every), keys)
    assert sweep._compiled._cache_size() - before == 1
    assert told == ["32 of 54 runs", "54 of 54 runs"]
    return jax.tree.map(lambda leaf: leaf.reshape(6, SEEDS, *leaf.shape[1:]), found)


def test_the_share_of_real_rows_is_the_schedules(outcome):
    shares = outcome.realised_ratio.mean(axis=1)
    for number, ratio in enumerate((0.0, 0.5, 1.0)):
        np.testing.assert_allclose(shares[number], ratio, atol=1e-12)
    steps = EFFORT.transitions
    np.testing.assert_allclose(shares[3], steps / 180.0, atol=1.5 / 64)


def test_a_ratio_changes_the_composition_of_batches_and_nothing_before_it(outcome):
    for other in range(
        1, 5
    ):  # other ratios and another length: the same real data, and the same model of them
        np.testing.assert_array_equal(outcome.models[other, :, 0], outcome.models[0, :, 0])
    assert not np.array_equal(outcome.gains[1, :, 0], outcome.gains[0, :, 0])
    assert not np.array_equal(outcome.gains[4, :, 0], outcome.gains[1, :, 0])


def test_at_ratio_one_nothing_imagined_matters(outcome):
    keys = jax.random.split(jax.random.key(3), SEEDS)
    ends, lengths = np.ones((SEEDS, 2)), np.full(SEEDS, 3.0)
    found, _ = sweep_of(knobs(ends, lengths, np.zeros((SEEDS, 2, 3))), keys)
    np.testing.assert_array_equal(found.gains, outcome.gains[2])


def test_a_planted_error_is_added_to_every_fit(outcome):
    np.testing.assert_allclose(
        outcome.models[5, :, 0] - outcome.models[1, :, 0], np.broadcast_to(ERROR, (SEEDS, 2, 3)), atol=1e-12
    )
    truth = np.concatenate([SYSTEM.A, SYSTEM.B], axis=1)
    wrong = np.linalg.norm(outcome.models[5] - truth, axis=(-2, -1)) / np.linalg.norm(truth)
    np.testing.assert_allclose(outcome.model_error[5], wrong, rtol=1e-12)


def test_excess_cost_is_that_of_the_gains(outcome):
    best = solve(SYSTEM)
    for gain, excess in zip(outcome.gains[1, :3, -1], outcome.excess_cost[1, :3, -1], strict=True):
        F = SYSTEM.A + SYSTEM.B @ gain
        covariance = np.linalg.solve(np.eye(4) - np.kron(F, F), SYSTEM.W.reshape(-1)).reshape(2, 2)
        cost = np.trace((SYSTEM.Q + gain.T @ SYSTEM.R @ gain) @ covariance)
        assert excess == pytest.approx(cost / best.cost - 1, rel=1e-8, abs=1e-12)


def test_ratio_one_with_the_model_off_is_the_model_free_learner_bit_for_bit():
    transitions, seeds = 400, CHUNK
    warmup, rounds, steps = rounds_for(SYSTEM, ALGORITHMS["dpg"], transitions)
    effort = Effort(warmup, rounds, steps, ALGORITHMS["dpg"].updates, batch=BATCH)
    keys = jax.random.split(jax.random.key(5), seeds)
    ours, _ = sweep_of(
        knobs(np.ones((seeds, 2)), np.ones(seeds), np.zeros((seeds, 2, 3))), keys, effort, model=False
    )
    theirs = train(SYSTEM, Settings("dpg", transitions, seeds, 5))
    np.testing.assert_array_equal(ours.gains, theirs.gains)


def test_effort_uses_every_transition():
    for transitions in (130, 999, 3000):
        effort = Effort.of(transitions, 12, 2)
        assert effort.transitions[-1] == transitions
        assert effort.steps <= effort.warmup < 2 * effort.steps + 12
    assert dataclasses.replace(EFFORT, warmup=1).transitions[0] == 31
