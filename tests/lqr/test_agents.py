"""Agents on probe problems where the right move is known."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning_cases import TWO, gaussian, off_optimum, ring_of, scattered

from mbpo.core.loop import Parts, mbpo
from mbpo.core.mixing import RealRatio
from mbpo.core.parts import FittedModel
from mbpo.core.plan import Branches, Plan, Replay
from mbpo.core.schedule import constant
from mbpo.core.types import Experience
from mbpo.lqr import exact, optimum
from mbpo.lqr.agents import KEPT, CertaintyEquivalence, GradientAgent
from mbpo.lqr.environment import LinearQuadraticEnvironment
from mbpo.lqr.gradients import Estimate, GradientSource, ReplayedRows
from mbpo.lqr.model import LeastSquares, LinearModel
from mbpo.lqr.objective import Objective

pytestmark = pytest.mark.usefixtures("_compile_without_optimising")
START = off_optimum(TWO)


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


class Told(GradientSource):
    """A source that answers with a function of the policy and remembers how often it was asked."""

    answer: Callable = eqx.field(static=True)

    def init(self, gain):
        del gain
        return jnp.int32(0)

    def acting(self, gain, count, key):
        del count, key
        return gain[None]

    def estimate(self, memory, policy, experience, objective, key):
        del experience, objective, key
        return memory + 1, self.answer(policy)


def oracle(policy) -> Estimate:
    """The exact E and M of the double integrator at the policy's gain."""
    G = exact.quality_matrix(TWO, policy.gain)
    Sigma = exact.state_covariance(TWO, policy.gain, policy.covariance)
    cost = exact.cost(TWO, policy.gain, policy.covariance)
    return Estimate(
        G[2:, :2] + G[2:, 2:] @ policy.gain, G[2:, 2:], Sigma, cost, jnp.bool_(True), jnp.zeros(())
    )


def fixed(**changes):
    """An estimator that answers the same every time: E = M = Sigma = cost = 1 but for `changes`."""
    one = Estimate(jnp.ones((1, 2)), jnp.eye(1), jnp.eye(2), jnp.asarray(1.0), jnp.bool_(True), jnp.zeros(()))
    return lambda policy: one._replace(**changes)


def agent(answer, **options) -> GradientAgent:
    source = answer if isinstance(answer, GradientSource) else Told(answer)
    eye = jnp.eye(1)
    return GradientAgent(jnp.asarray(START), eye, eye, Objective.of(TWO), source, **options)


def sure_model(information: float = 1e12) -> FittedModel:
    A, B, Q, R, W = (jnp.asarray(each) for each in (TWO.A, TWO.B, TWO.Q, TWO.R, TWO.W))
    state = LinearModel(A, B, Q, R, W, information * jnp.eye(3), jnp.asarray(1.0))
    return FittedModel(LeastSquares.of(TWO, 1e6), state)


def nothing(model=None) -> Experience:
    rows = scattered(TWO, gaussian(TWO), 4, jax.random.key(0))
    return Experience(rows, jnp.ones(4, bool), model)


@pytest.mark.parametrize("model", [None, sure_model], ids=["model-free", "guarded"])
def test_exact_estimates_lead_to_the_optimum(model):
    learner, best = agent(oracle), optimum.solve(TWO)
    experience = nothing(model and model())
    update = jax.jit(lambda state: learner.update(state, experience, jax.random.key(0)))
    state = learner.init(jax.random.key(0))
    costs = []
    for _ in range(60):
        state, info = update(state)
        costs.append(float(exact.excess_cost(TWO, state.gain, best.cost)))
        assert info.usable
    assert costs[-1] < 1e-8
    assert np.diff(costs).max() < 1e-12, "no step makes it worse"
    np.testing.assert_allclose(state.gain, best.gain, atol=1e-3 * np.abs(best.gain).max())
    assert exact.excess_cost(TWO, state.average, best.cost) < 1e-2
    assert exact.excess_cost(TWO, state.average, best.cost) < exact.excess_cost(TWO, START, best.cost)


def test_the_first_step_is_policy_iteration_when_it_is_trusted():
    learner = agent(oracle, trust=1e9)
    state, info = learner.update(learner.init(jax.random.key(0)), nothing(), jax.random.key(0))
    expected = START - np.asarray(exact.gauss_newton_step(TWO, START))
    np.testing.assert_allclose(state.gain, expected, rtol=1e-9)
    assert float(info.step) == 1.0


def test_a_step_is_shortened_until_its_quadratic_term_is_trusted():
    learner = agent(fixed(error=jnp.asarray([[3.0, 4.0]]), cost=jnp.asarray(-2.0)), trust=0.25)
    state, info = learner.update(learner.init(jax.random.key(0)), nothing(), jax.random.key(0))
    step = np.asarray(state.gain) - START
    assert np.sum(step**2) / 2.0 == pytest.approx(0.25)
    np.testing.assert_allclose(step / np.linalg.norm(step), [[-0.6, -0.8]])
    assert float(info.change) == pytest.approx(12.5)


def test_the_part_of_an_estimate_that_is_noise_is_not_stepped_along():
    for noise, share in ((0.0, 1.0), (0.5, 0.75), (2.0, 0.0), (5.0, 0.0), (0.01, 0.999)):
        learner = agent(fixed(noise=jnp.asarray(noise)), trust=1e9)  # E M^-1 E' = 2
        state, info = learner.update(learner.init(jax.random.key(0)), nothing(), jax.random.key(0))
        np.testing.assert_allclose(state.gain, START - share * np.ones((1, 2)))
        assert float(info.step) == pytest.approx(share)


def rate(gain):
    """-log rho, how fast the loop forgets."""
    return -np.log(float(exact.spectral_radius(TWO, gain)))


def test_the_guard_takes_the_largest_share_that_keeps_a_quarter_of_the_loop_s_rate():
    direction = np.asarray([[0.0, 1.0]])
    shares = np.array([1.0, 0.5, 0.25, 0.0])
    for length in (0.1, 2.0, 4.0, 8.0, 4000.0):
        learner = agent(fixed(error=jnp.asarray(length * direction)), trust=1e9)
        experience = nothing(sure_model())
        state, info = learner.update(learner.init(jax.random.key(0)), experience, jax.random.key(0))
        gains = [START - share * length * direction for share in shares]
        safe = [rate(gain) > KEPT * rate(START) for gain in gains]
        expected = shares[np.argmax(safe)]
        np.testing.assert_allclose(state.gain, START - expected * length * direction, atol=1e-9)
        assert float(info.step) == pytest.approx(expected)
        assert exact.is_stabilising(TWO, state.gain)
    assert expected == 0.0


def test_an_uncertain_model_allows_less():
    learner = agent(fixed(error=jnp.asarray([[0.0, 1.0]])), trust=1e9)
    state = learner.init(jax.random.key(0))
    _, sure = learner.update(state, nothing(sure_model()), jax.random.key(0))
    _, unsure = learner.update(state, nothing(sure_model(10.0)), jax.random.key(0))
    assert unsure.step < sure.step


BROKEN = {
    "not usable": {"usable": False},
    "error": {"error": np.full((1, 2), np.nan)},
    "curvature": {"curvature": np.zeros((1, 1))},
    "infinite curvature": {"curvature": np.full((1, 1), np.nan)},
    "cost": {"cost": np.nan},
    "moment": {"moment": np.full((2, 2), np.nan)},
    "nothing to gain from nothing": {"cost": 0.0, "error": np.zeros((1, 2))},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("model", [None, sure_model], ids=["model-free", "guarded"])
def test_an_estimate_that_is_not_finite_leaves_the_policy_alone(broken, model):
    learner = agent(fixed(**{name: jnp.asarray(value) for name, value in broken.items()}))
    before = learner.init(jax.random.key(0))
    after, info = learner.update(before, nothing(model and model()), jax.random.key(0))
    assert after.memory == before.memory + 1, "what was seen is remembered all the same"
    jax.tree.map(np.testing.assert_array_equal, after._replace(memory=0), before._replace(memory=0))
    assert not info.usable
    assert info.step == 0
    assert np.isfinite(info.change)


def test_retreat_restores_the_start_and_trusts_less():
    learner = agent(oracle)
    state = learner.init(jax.random.key(0))
    for _ in range(3):
        state, _ = learner.update(state, nothing(), jax.random.key(0))
    back = learner.retreat(state)
    np.testing.assert_array_equal(back.gain, START)
    np.testing.assert_array_equal(back.average, START)
    np.testing.assert_array_equal(back.curvature, state.curvature)
    assert back.progress == 0
    assert back.trust == state.trust / 2


def test_certainty_equivalence_on_much_data_is_the_optimum():
    yardstick = CertaintyEquivalence(jnp.asarray(START), jnp.eye(1), Objective.of(TWO))
    state = yardstick.init(jax.random.key(0))
    part = LeastSquares.of(TWO, 1e6)
    rows = scattered(TWO, gaussian(TWO), 200_000, jax.random.key(1))
    model = FittedModel(part, part.fit(part.init(jax.random.key(0)), ring_of(rows), jax.random.key(0)))
    state, info = yardstick.update(state, nothing(model), jax.random.key(0))
    best = optimum.solve(TWO)
    assert info.usable
    assert 0 < exact.excess_cost(TWO, state.gain, best.cost) < 1e-4
    np.testing.assert_array_equal(yardstick.retreat(state).gain, START)


def test_certainty_equivalence_keeps_its_gain_when_the_model_has_no_optimum():
    yardstick = CertaintyEquivalence(jnp.asarray(START), jnp.eye(1), Objective.of(TWO))
    state = yardstick.init(jax.random.key(0))
    sure = sure_model()
    hopeless = sure._replace(state=sure.state._replace(A=2 * jnp.eye(2), B=jnp.zeros((2, 1))))
    after, info = yardstick.update(state, nothing(hopeless), jax.random.key(0))
    np.testing.assert_array_equal(after.gain, START)
    assert not info.usable


def keep_gain(state, taken):
    del taken
    return state.policy.gain


def test_a_world_that_blows_up_poisons_nothing():
    system = replace(TWO, initial_gain=None)
    environment = LinearQuadraticEnvironment.of(system, 0.4, None)
    model = LeastSquares.of(system, 7.0)
    batches = Replay(RealRatio.of(jnp.asarray(0.2)), 100, Branches(constant(2.0), 16, 2))
    parts, plan = Parts(environment, model, agent(ReplayedRows())), Plan(batches, 100, 5, 20, 2)
    program = eqx.filter_jit(lambda key: mbpo(parts, plan, key, keep_gain))
    state, _, info = jax.tree.map(np.asarray, program(jax.random.key(3)))
    assert info.cuts.sum() > 0
    np.testing.assert_array_equal(state.policy.gain[None], info.watched[-1:])
    for name, leaf in jax.tree_util.tree_leaves_with_path(state):
        assert np.isfinite(leaf).all() or "condition" in jax.tree_util.keystr(name), name
    assert np.isfinite(info.watched).all()
    assert np.abs(state.real.data.next_observation).max() <= 0.4
