"""The parts of a gradient's error, from draws whose parts are known; and estimates that become exact."""

import jax
import numpy as np
import pytest
from exact_cases import random_system

from mbpo.core.schedule import Linear
from mbpo.lqr import exact
from mbpo.lqr.algorithms import prepare
from mbpo.lqr.optimum import solve
from mbpo.studies import sweep
from mbpo.studies.gradient_error import estimates, measuring_gain, summary
from mbpo.studies.sweep import Effort, Knobs

SYSTEM = random_system(2, 1, 0.9, 1)


def draws(bias, persistent, noise, sets=400, batches=4, seed=0):
    """Estimates [sets, batches, 2, 3] of a truth of norm 2, errors relative to it as given."""
    rng, size = np.random.default_rng(seed), np.sqrt(6)
    truth = np.full((2, 3), 2 / size)
    error = bias * np.eye(2, 3) / np.sqrt(2)
    error = error + persistent / size * rng.standard_normal((sets, 1, 2, 3))
    error = error + noise / size * rng.standard_normal((sets, batches, 2, 3))
    return truth + 2 * error, truth


@pytest.mark.parametrize(("bias", "persistent", "noise"), [(0.3, 0.2, 0.5), (0.0, 0.4, 0.1), (0.5, 0.0, 0.3)])
def test_the_parts_of_the_error_are_told_apart(bias, persistent, noise):
    found = summary(*draws(bias, persistent, noise), seed=1)
    assert found.noise == pytest.approx(noise, rel=0.05)
    assert found.persistent == pytest.approx(persistent, rel=0.1, abs=0.06)
    assert found.bias.low - 0.01 <= bias <= found.bias.high + 0.01
    assert found.bias.estimate == pytest.approx(bias, abs=0.06)
    assert found.total == pytest.approx(np.sqrt(bias**2 + persistent**2 + noise**2), rel=0.05)


def test_the_interval_of_the_bias_covers_it():
    inside = [
        interval.low <= 0.2 <= interval.high
        for interval in (summary(*draws(0.2, 0.5, 0.5, 40, seed=seed), seed).bias for seed in range(60))
    ]
    assert np.mean(inside) >= 0.85


def test_estimates_tend_to_the_exact_gradient_and_a_planted_error_shows_as_bias():
    optimum = solve(SYSTEM)
    setup = prepare(SYSTEM, optimum)
    gain = measuring_gain(setup, optimum)
    assert bool(exact.is_stabilising(setup.system, gain))
    assert bool(exact.is_stabilising(SYSTEM, setup.coordinates.outward(gain)))
    truth = np.asarray(exact.natural_gradient(setup.system, gain)) / 2
    shared = sweep.base(setup, Effort(500, 1, 3500, 1, batch=4096, branches=500, longest=4))
    seeds, zero = 16, np.zeros(48)
    ratios = np.repeat([1.0, 0.0, 0.0], seeds)
    errors = np.repeat([0.0, 0.0, 0.3], seeds)[:, None, None] * np.array([[1.0, 0, 0], [0, 0, 0]])
    knobs = Knobs(
        Linear(ratios, ratios, zero, zero), np.full(48, 4.0), np.ones(48), np.ones(48, bool), errors
    )
    keys = jax.random.split(jax.random.key(0), 48)
    found = estimates(shared, knobs, np.full(48, 4000), gain, keys).reshape(3, seeds, -1, *gain.shape)
    real, imagined, wrong = (summary(each, truth, 0) for each in found)
    assert real.total < 0.5
    assert imagined.total < 0.5
    assert wrong.bias.low > 2 * max(real.bias.high, imagined.bias.high)
