"""The excess cost from simulated deviations against the exact costs of linear policies."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mbpo.environments.excess import Excess, excess_of
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.errors import InputError
from mbpo.lqr import catalogue, exact, optimum
from mbpo.lqr.system import LinearQuadratic

SCALAR = catalogue.get("scalar")
# objectives, terminal costs and noise of every kind, beside the catalogue
OTHERS = {
    "discounted": replace(catalogue.get("double_integrator"), discount=0.9),
    "unstable_under_discount": LinearQuadratic([[1.2]], [[1.0]], [[0.05]], [[1.0]], discount=0.6),
    "horizon": replace(catalogue.get("pendulum"), horizon=15),
    "horizon_with_terminal_cost": replace(SCALAR, horizon=7, terminal_cost=[[3.0]]),
    "singular_noise": replace(catalogue.get("double_integrator"), W=[[0.0, 0.0], [0.0, 0.3]]),
}
SYSTEMS = {**{name: catalogue.get(name) for name in catalogue.names()}, **OTHERS}


def linear(gain):
    return lambda x: x @ np.asarray(gain).T


@pytest.mark.parametrize("name", list(SYSTEMS))
@pytest.mark.parametrize("scale", [0.85, 1.1])
def test_linear_policies_cost_what_they_cost(name, scale):
    system = SYSTEMS[name]
    best = optimum.solve(system)
    gain = scale * best.gain
    found = excess_of(system, linear(gain), samples=40_000, seed=1)
    expected = float(exact.excess_cost(system, gain, best.cost))
    assert found.optimal_cost == best.cost
    assert found.cut == 0
    assert abs(found.relative - expected) <= 4 * found.standard_error + 1e-3 * expected
    assert found.standard_error <= 0.15 * expected


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("scalar", 500_000),
        ("laplacian3", 400_000),
        ("unstable_under_discount", 10_000_000),
        ("horizon", 3_000_000),
    ],
)
def test_more_samples_come_within_a_percent(name, samples):
    system = SYSTEMS[name]
    best = optimum.solve(system)
    gain = 0.9 * best.gain
    found = excess_of(system, linear(gain), samples=samples)
    assert found.relative == pytest.approx(float(exact.excess_cost(system, gain, best.cost)), rel=0.01)


def test_the_optimal_policy_has_no_excess():
    for system in (SCALAR, SYSTEMS["discounted"], SYSTEMS["horizon"]):
        found = excess_of(system, linear(optimum.solve(system).gain))
        assert 0 <= found.relative < 1e-20 if system.horizon is None else found.relative < 1e-3


def test_an_affine_policy_against_its_moments():
    """u = K* x + b: mean mu = B b / (1 - F), variance W / (1 - F^2), and J from these two by hand."""
    best = optimum.solve(SCALAR)
    K, F, b = best.gain[0, 0], 1.1 + best.gain[0, 0], 0.3
    mu, variance = b / (1 - F), 1 / (1 - F**2)
    cost = (variance + mu**2) + (K**2 * variance + (K * mu + b) ** 2)
    found = excess_of(SCALAR, lambda x: x * K + b)
    assert found.relative == pytest.approx(cost / best.cost - 1, rel=1e-9)
    assert found.standard_error < 1e-9


def test_a_nonlinear_policy_against_its_average_cost():
    best = optimum.solve(SCALAR)

    def policy(x):
        return 2.5 * np.tanh(best.gain[0, 0] * x / 2.5)

    found = excess_of(SCALAR, policy, samples=300_000)
    rng, x, total, steps = np.random.default_rng(5), np.zeros((4000, 1)), 0.0, 400
    for t in range(100 + steps):
        u = policy(x)
        total += float(np.mean(x**2 + u**2)) if t >= 100 else 0.0
        x = 1.1 * x + u + rng.normal(size=x.shape)
    assert found.relative == pytest.approx(total / steps / best.cost - 1, abs=0.004)
    assert found.relative > 0.01


@pytest.mark.parametrize("radius", [0.98, 0.995])
def test_a_slow_policy_is_burnt_in(radius):
    gain = [[radius - 1.1]]
    found = excess_of(SCALAR, linear(gain), samples=200_000)
    expected = float(exact.excess_cost(SCALAR, gain, optimum.solve(SCALAR).cost))
    assert found.relative == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("radius", [1.0005, 1.01, 1.1, 3.0, -1.05])
def test_a_diverging_policy_has_infinite_excess(radius):
    found = excess_of(SCALAR, linear([[radius - 1.1]]))
    assert found.relative == math.inf
    assert found.standard_error == math.inf
    assert found.cut > 0


@pytest.mark.parametrize("policy", [lambda x: np.full((len(x), 1), np.nan), lambda x: 1e200 * (1 + x * x)])
@pytest.mark.parametrize("name", ["scalar", "discounted", "horizon"])
def test_a_policy_of_no_use_has_infinite_excess(policy, name):
    found = excess_of(SYSTEMS[name], lambda x: policy(x[:, :1]), samples=1)
    assert found == Excess(math.inf, math.inf, optimum.solve(SYSTEMS[name]).cost, 256)


def test_divergence_beyond_the_discount():
    system = SYSTEMS["unstable_under_discount"]
    slow = [[1.28 - 1.2]]  # sqrt(0.6) 1.28 = 0.9915
    found = excess_of(system, linear(slow))
    expected = float(exact.excess_cost(system, slow, found.optimal_cost))
    assert abs(found.relative - expected) <= 4 * found.standard_error
    assert excess_of(system, linear([[1.35 - 1.2]])).relative == math.inf


def test_without_noise_only_staying_at_rest_is_optimal():
    still = replace(SCALAR, W=[[0.0]])
    assert excess_of(still, linear(optimum.solve(still).gain)).relative == 0
    assert excess_of(still, lambda x: x * -0.5 + 0.1).relative == math.inf


def test_the_seed_decides_the_number_and_the_task_passes_it_on():
    task = LinearQuadraticTask("scalar")
    policy = linear(0.9 * task.optimum.gain)
    assert task.excess_of(policy, 1000, 3) == excess_of(SCALAR, policy, 1000, 3)
    assert task.excess_of(policy, 1000, 3) != task.excess_of(policy, 1000, 4)


def test_policies_and_samples_are_checked():
    with pytest.raises(InputError, match=r"shape \[256\], expected \[256, 1\]"):
        excess_of(SCALAR, lambda x: x[:, 0])
    with pytest.raises(InputError, match="samples must be a positive number"):
        excess_of(SCALAR, lambda x: x, samples=0)
