"""Coordinates in which systems are well scaled: exact identities, and learning that does not depend on units."""

import dataclasses

import numpy as np
import pytest
from exact_cases import random_system

from mbpo.lqr import catalogue, exact
from mbpo.lqr.algorithms import prepare
from mbpo.lqr.coordinates import EXPLORATION_COST, Coordinates, exploration_covariance, well_scaled
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.train import Settings, train

pytestmark = pytest.mark.usefixtures("_compile_without_optimising")
PLANTS = [
    catalogue.get("boeing747"),
    dataclasses.replace(catalogue.get("laplacian3"), discount=0.9, name="discounted"),
    dataclasses.replace(catalogue.get("double_integrator"), horizon=20, name="ends"),
]
VALVE = LinearQuadratic(  # position in mm, pressure in kPa
    A=[[0.9, 0.0], [0.005, 0.95]],
    B=[[1.0], [0.0]],
    Q=np.diag([0.0, 1.0]),
    R=[[1.0]],
    W=1e-4 * np.eye(2),
    initial_covariance=np.diag([0.01, 0.1]),
    name="valve",
)


def in_other_units(system, states, inputs):
    """The same plant with x' = x / states, u' = u / inputs."""
    return Coordinates(np.diag(states), np.diag(inputs)).system(system)


@pytest.mark.parametrize("system", PLANTS, ids=lambda system: system.name)
def test_costs_and_gains_are_the_same_in_other_coordinates(system):
    system, rng = exact.resolved(system), np.random.default_rng(0)
    n, m = system.state_dim, system.action_dim
    coordinates = Coordinates(rng.standard_normal((n, n)), rng.standard_normal((m, m)))
    other, best = coordinates.system(system), solve(system)
    gain = best.gain + 0.01 * rng.standard_normal((m, n))
    there = coordinates.inward(gain)
    assert exact.cost(other, there) == pytest.approx(float(exact.cost(system, gain)), rel=1e-8)
    assert solve(other).cost == pytest.approx(best.cost, rel=1e-8)
    np.testing.assert_allclose(coordinates.outward(there), gain, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(coordinates.outward(np.stack([there, 2 * there]))[1], 2 * gain, rtol=1e-9)


@pytest.mark.parametrize("system", PLANTS, ids=lambda system: system.name)
def test_well_scaled_means_the_gauss_newton_metric_is_the_identity(system):
    best = solve(system)
    setup = prepare(system, best)
    scaled = setup.system
    g = 1.0 if system.discount is None else system.discount
    M = scaled.R + g * scaled.B.T @ solve(scaled).value @ scaled.B
    np.testing.assert_allclose(M, np.eye(system.action_dim), atol=1e-9)
    visited = np.asarray(exact.state_covariance(scaled, setup.gain, setup.exploration))
    weight = 1.0 if system.discount is None else 1.0 - system.discount
    visited = weight * visited.reshape(-1, *scaled.A.shape).mean(axis=0)
    np.testing.assert_allclose(visited, np.eye(system.state_dim), atol=1e-3)


@pytest.mark.parametrize("system", PLANTS, ids=lambda system: system.name)
def test_exploring_costs_what_the_optimum_costs(system):
    best = solve(system)
    S = exploration_covariance(system, best)
    explored = float(exact.cost(system, best.gains if system.horizon else best.gain, S))
    assert explored / best.cost - 1 == pytest.approx(EXPLORATION_COST, rel=1e-9)


def test_a_state_that_never_moves_keeps_its_unit():
    still = LinearQuadratic(
        np.diag([0.5, 0.5]), [[1.0], [0.0]], np.eye(2), [[1.0]], W=np.diag([1.0, 0.0]),
        initial_covariance=np.diag([1.0, 0.0]),
    )  # fmt: skip
    T = well_scaled(still, default_gain(still), solve(still)).state
    assert T[1, 1] == pytest.approx(1.0, rel=1e-2)
    assert np.isfinite(T).all()


@pytest.mark.parametrize("algorithm", ["certainty-equivalence", "mbpo", "dpg"])
def test_units_do_not_change_what_is_learned(algorithm):
    # the numbers of a system are arguments of one compiled program, so all plants cost one compilation
    rng = np.random.default_rng(1)
    for system in (VALVE, random_system(2, 1, 0.9, 3)):
        states, inputs = 10.0 ** rng.uniform(-6, 6, 2), 10.0 ** rng.uniform(-6, 6, 1)
        settings = Settings(algorithm, 1000, seeds=3)
        here, there = train(system, settings), train(in_other_units(system, states, inputs), settings)
        np.testing.assert_allclose(there.excess_cost, here.excess_cost, rtol=1e-5, atol=1e-11)
        np.testing.assert_allclose(
            there.gains[:, -1] * inputs[:, None] / states, here.gains[:, -1], rtol=1e-5, atol=1e-9
        )
        assert there.limit == pytest.approx(here.limit, rel=1e-6)
        assert np.isfinite(here.excess_cost[:, -1]).all()


def test_the_unit_of_the_cost_does_not_matter():
    settings = Settings("mbpo", 1000, seeds=3)
    dearer = dataclasses.replace(VALVE, Q=1e9 * VALVE.Q, R=1e9 * VALVE.R)
    np.testing.assert_allclose(
        train(dearer, settings).excess_cost, train(VALVE, settings).excess_cost, rtol=1e-5, atol=1e-11
    )
