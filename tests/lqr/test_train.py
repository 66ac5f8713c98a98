"""Training end to end, judged against the known optimum and the limit of certainty equivalence."""

import dataclasses
import math

import numpy as np
import pytest
from exact_cases import random_system
from scipy.linalg import solve_discrete_are

from mbpo.errors import InputError
from mbpo.lqr import catalogue
from mbpo.lqr.algorithms import ALGORITHMS, GROWTH, LEAST, rounds_for
from mbpo.lqr.limits import asymptotic_excess, regressor_covariance
from mbpo.lqr.optimum import solve
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.train import Settings, train

pytestmark = pytest.mark.usefixtures("_compile_without_optimising")
SYSTEM = catalogue.get("double_integrator")
FAST = random_system(2, 1, 0.5, 1)


@pytest.fixture(scope="module")
def mbpo():
    return train(SYSTEM, Settings("mbpo", 2000, seeds=8, seed=3))


@pytest.fixture(scope="module")
def certainty_equivalence():
    return train(SYSTEM, Settings("certainty-equivalence", 2000, seeds=64, seed=3))


def test_mbpo_comes_within_three_times_the_limit(mbpo):
    assert np.all(np.isfinite(mbpo.excess_cost[:, -1]))
    assert np.median(mbpo.excess_cost[:, -1]) <= 3 * mbpo.limit


def test_excess_cost_is_that_of_the_gains(mbpo):
    best = solve(SYSTEM)
    for gain, excess in zip(mbpo.gains[:, -1], mbpo.excess_cost[:, -1], strict=True):
        F = SYSTEM.A + SYSTEM.B @ gain
        covariance = np.linalg.solve(np.eye(4) - np.kron(F, F), SYSTEM.W.reshape(-1)).reshape(2, 2)
        cost = np.trace((SYSTEM.Q + gain.T @ SYSTEM.R @ gain) @ covariance)
        assert excess == pytest.approx(cost / best.cost - 1, rel=1e-8, abs=1e-12)


def test_every_transition_is_counted(mbpo):
    assert mbpo.transitions[-1] == 2000
    assert np.all(np.diff(mbpo.transitions) > 0)


def test_realised_ratio_is_the_real_ratio(mbpo):
    batches = mbpo.realised_ratio.size
    assert np.mean(mbpo.realised_ratio) == pytest.approx(0.05, abs=4 / 4096 / np.sqrt(batches))


def test_model_error_falls(mbpo):
    assert np.median(mbpo.model_error[:, -1]) < 0.5 * np.median(mbpo.model_error[:, 0])


def test_same_seed_same_numbers(mbpo):
    again = train(SYSTEM, Settings("mbpo", 2000, seeds=8, seed=3))
    assert again.to_json() == mbpo.to_json()
    np.testing.assert_array_equal(again.gains, mbpo.gains)


def test_certainty_equivalence_tends_to_the_limit(certainty_equivalence):
    # the limit law has mean `limit`; its mean over 64 seeds has a standard error near 0.18 of it at two degrees
    mean = np.mean(certainty_equivalence.excess_cost[:, -1])
    assert 0.4 < mean / certainty_equivalence.limit < 2.0


def test_limit_uses_the_data_collected(certainty_equivalence):
    run = certainty_equivalence
    at_optimum = 2000 * regressor_covariance(SYSTEM, solve(SYSTEM).gain, run.exploration)
    at_start = 2000 * regressor_covariance(SYSTEM, run.initial_gain, run.exploration)
    bounds = sorted(float(asymptotic_excess(SYSTEM, each)) for each in (at_optimum, at_start))
    assert 0.7 * bounds[0] < run.limit < 1.3 * bounds[1]
    assert run.limit_curve[0] > run.limit_curve[-1] == run.limit


@pytest.mark.parametrize(
    ("algorithm", "transitions", "seeds", "most"),
    [("mbpo-simple", 2000, 2, 0.05), ("dpg", 6000, 8, 0.02), ("policy-gradient", 24000, 8, 0.1)],
)
def test_every_algorithm_improves_on_its_start(algorithm, transitions, seeds, most):
    run = train(SYSTEM, Settings(algorithm, transitions, seeds=seeds))
    assert np.all(np.isfinite(run.excess_cost[:, -1]))
    assert np.median(run.excess_cost[:, -1]) < most


@pytest.mark.parametrize(
    "system",
    [
        dataclasses.replace(SYSTEM, discount=0.95, name="discounted"),
        dataclasses.replace(SYSTEM, horizon=20, name="horizon"),
    ],
    ids=lambda system: system.name,
)
def test_other_objectives_are_learned(system):
    run = train(system, Settings("mbpo", 2000, seeds=4))
    assert np.median(run.excess_cost[:, -1]) <= max(5 * run.limit, 0.01)


def test_a_learned_cost_is_as_good_as_a_known_one(certainty_equivalence):
    run = train(SYSTEM, Settings("certainty-equivalence", 2000, seeds=64, seed=3, learn_cost=True))
    np.testing.assert_allclose(run.gains[:, -1], certainty_equivalence.gains[:, -1], atol=1e-4)


def test_pathwise_improvement():
    run = train(SYSTEM, Settings("mbpo", 1000, seeds=4, improve="pathwise"))
    assert np.median(run.excess_cost[:, -1]) <= 5 * run.limit


ON_REAL_DATA = {  # one for each kind of data and of knowledge
    "time-baseline": 1.0, "mis": 0.5, "marginalised": 0.5, "pathwise": 0.5, "zeroth-order-2-common": 1.0, "known": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("name", ON_REAL_DATA)
def test_estimators_are_algorithms_on_real_data(name):
    run = train(FAST, Settings(name, 6400, seeds=2))
    assert np.isfinite(run.gains).all()
    assert run.to_json()["improve"] == name
    assert run.transitions[-1] == 6400
    share = ON_REAL_DATA[name]
    assert np.median(run.excess_cost[:, -1]) < share * np.median(run.excess_cost[:, 0])


@pytest.mark.parametrize(
    ("algorithm", "name", "transitions"), [("mbpo", "marginalised", 600), ("mbpo-simple", "pathwise", 300)]
)
def test_estimators_improve_inside_the_model(algorithm, name, transitions):
    run = train(FAST, Settings(algorithm, transitions, seeds=2, improve=name))
    assert np.isfinite(run.gains).all()
    assert np.median(run.excess_cost[:, -1]) < 0.1
    assert run.to_json()["real_ratio"] is None


def test_balance_weights_end_below_one_per_cent():
    run = train(catalogue.get("pendulum"), Settings("mis", 120_000, seeds=4, seed=5))
    assert np.isfinite(run.excess_cost[:, -1]).all()
    assert np.median(run.excess_cost[:, -1]) < 0.01


def test_branches_have_no_stage_at_a_finite_horizon():
    system = dataclasses.replace(SYSTEM, horizon=20, name="ends")
    with pytest.raises(InputError, match="no particular stage"):
        train(system, Settings("mbpo", 2000, improve="gpomdp"))


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("transitions", [3400, 5000, 20011, 240000])
def test_rounds_use_exactly_the_transitions(name, transitions):
    sizes = rounds_for(SYSTEM, ALGORITHMS[name], transitions)
    assert sizes.transitions == transitions
    assert sizes.rounds >= 1
    assert all(1 <= each <= sizes.steps for each in sizes.early)


def test_early_rounds_grow_with_the_transitions_so_far():
    sizes = rounds_for(SYSTEM, ALGORITHMS["mbpo"], 3000)
    *growing, rest = sizes.early
    assert sizes.warmup == LEAST * 3  # two states and an input
    so_far = sizes.warmup + np.cumsum([0, *growing])
    assert growing == [math.ceil(GROWTH * each) for each in so_far[:-1]]
    assert rest < sizes.steps <= math.ceil(GROWTH * so_far[-1])
    assert rounds_for(SYSTEM, ALGORITHMS["policy-gradient"], 48_000).early == ()


def test_what_is_recorded_early_tells_ten_per_cent_from_one(mbpo):
    found = mbpo.to_json()["needed"]
    assert mbpo.transitions[0] < 20
    assert found["10"]["median"] < found["1"]["median"]
    assert not found["10"]["at_most"]


def test_a_learner_whose_every_update_was_rejected_is_counted(mbpo):
    assert mbpo.stood_still == 0
    still = mbpo.gains.copy()
    still[:3] = mbpo.initial_gain
    still[3, 0] = mbpo.initial_gain  # and moved later
    assert dataclasses.replace(mbpo, gains=still).to_json()["stood_still"] == 3


def test_the_real_ratio_can_change_in_training():
    run = train(SYSTEM, Settings("mbpo", 1000, seeds=2, real_ratio=1.0, real_ratio_last=0.0))
    np.testing.assert_allclose(run.realised_ratio.mean(axis=0), 1 - run.transitions / 1000, atol=2 / 4096)
    assert (run.to_json()["real_ratio"], run.to_json()["real_ratio_last"]) == (1.0, 0.0)


@pytest.mark.parametrize(("name", "step"), [("plain-gpomdp", 0.05), ("plain-reinforce", 0.02)])
def test_plain_gradients_descend_with_their_constant_step(name, step):
    run = train(FAST, Settings(name, 24_000, seeds=4, step=step))
    assert np.median(run.excess_cost[:, -1]) < 0.5 * np.median(run.excess_cost[:, 0])
    other = train(FAST, Settings(name, 24_000, seeds=4, step=step / 2))
    first, half = (each.gains[:, 0] - each.initial_gain for each in (run, other))
    np.testing.assert_allclose(half, first / 2, rtol=1e-8)  # one update, without any rule


def test_exploring_costs_a_step_what_the_optimum_costs(certainty_equivalence):
    """tr(S M) = J* = tr(P W), and every direction of the inputs costs the same: S M = J* / m I."""
    plane = train(catalogue.get("boeing747"), Settings("certainty-equivalence", 1000, seeds=1))
    for run in (certainty_equivalence, plane):
        system, m = run.system, run.system.action_dim
        P = solve_discrete_are(system.A, system.B, system.Q, system.R)
        M, cost = system.R + system.B.T @ P @ system.B, np.trace(P @ system.W)
        np.testing.assert_allclose(run.exploration @ M, cost / m * np.eye(m), rtol=1e-7, atol=1e-7 * cost)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "mpbo"}, "did you mean 'mbpo'"),
        ({"transitions": 0}, "transitions"),
        ({"transitions": -5}, "transitions"),
        ({"transitions": 2.5}, "transitions"),
        ({"seeds": 0}, "seeds"),
        ({"seed": -1}, "seed"),
        ({"real_ratio": 1.1}, "real_ratio"),
        ({"real_ratio": float("nan")}, "real_ratio"),
        ({"rollout_length": 0}, "rollout_length"),
        ({"algorithm": "policy-gradient", "real_ratio": 0.5}, "no meaning"),
        ({"algorithm": "certainty-equivalence", "improve": "dpg"}, "no meaning"),
        ({"improve": "dgp"}, "did you mean 'dpg'"),
        ({"improve": "likelihood-ratio"}, "no gradient estimator"),
        ({"algorithm": "dpg", "improve": "pathwise"}, "use algorithm pathwise"),
        ({"improve": "gpomdp", "real_ratio": 0.5}, "only dpg mixes"),
        ({"algorithm": "dpg", "learn_cost": True}, "no meaning"),
        ({"real_ratio_last": -0.1}, "real_ratio_last"),
        ({"algorithm": "dpg", "real_ratio_last": 0.5}, "no meaning"),
        ({"algorithm": "dpg", "imagined_exploration": 1.0}, "imagines nothing"),
        ({"imagined_exploration": float("nan")}, "imagined_exploration"),
        ({"step": 0.1}, "sets its own"),
        ({"algorithm": "plain-gpomdp", "step": -1.0}, "step"),
    ],
)
def test_bad_settings_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        Settings(**{"algorithm": "mbpo", "transitions": 1000, **options})


def test_too_few_transitions_say_how_many_are_needed():
    with pytest.raises(InputError, match="at least 1600 real transitions"):
        train(SYSTEM, Settings("policy-gradient", 100))


def test_systems_that_cannot_be_judged_are_refused():
    quiet = LinearQuadratic(SYSTEM.A, SYSTEM.B, SYSTEM.Q, SYSTEM.R, W=np.zeros((2, 2)))
    with pytest.raises(InputError, match="optimal cost is 0"):
        train(quiet, Settings("mbpo", 1000))
    ends_free = dataclasses.replace(SYSTEM, horizon=10, terminal_cost=np.zeros((2, 2)))
    with pytest.raises(InputError, match="terminal_cost"):
        train(ends_free, Settings("mbpo", 1000))
