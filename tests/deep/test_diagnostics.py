"""Diagnostics against worlds in which the answer is known."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_world import (
    NOISE,
    REWARD_NOISE,
    A,
    C,
    LinearWorld,
    agent_and_policy,
    biased,
    exact_ensemble,
    imagined_ring,
    recorded,
)
from scipy.stats import norm

from mbpo.core.parts import FittedModel
from mbpo.deep.diagnostics import Extent, diagnose
from mbpo.deep.model_error import _calibrated, calibration, errors_by_depth
from mbpo.deep.recorded import gather, spread
from mbpo.deep.sac import SoftActorCritic, sample_action
from mbpo.deep.value_error import critic_bias_in_imagination, critic_bias_in_reality, exploitation
from mbpo.environments import make
from mbpo.environments.true_model import TrueModel

KEY = jax.random.key(3)
SMALL = Extent(2, 2, 60, 4, 16, 64, 10, 8, 8, 0.05, 100)


@pytest.fixture(scope="module")
def noisy():
    return recorded(LinearWorld(400))


def test_recorded_episodes_are_those_of_the_world():
    agent, policy = agent_and_policy()
    found = gather(LinearWorld(30), agent, policy, 2, 50, 7)
    rows = found.transitions
    assert found.lengths.tolist() == [30, 30]
    assert rows.observation.shape == (2, 50, 2)
    np.testing.assert_array_equal(rows.next_observation[:, :29], rows.observation[:, 1:30])
    assert len(np.unique(rows.action[:, :30])) == 60
    assert rows.truncated.sum() == 2
    assert rows.truncated[:, 29].all()
    assert not found.ends.any()
    assert gather(LinearWorld(30, dies=True), agent, policy, 2, 50, 7).ends.all()
    cut = gather(LinearWorld(30), agent, policy, 2, 20, 7)
    assert cut.transitions.truncated[:, 19].all()
    np.testing.assert_array_equal(cut.transitions.action, rows.action[:, :20])
    steady = gather(LinearWorld(30), agent, policy, 1, 50, 7, noise=False).transitions
    np.testing.assert_array_equal(steady.action[0], agent.mean_action(policy.actor, steady.observation[0]))
    with pytest.raises(ValueError, match="at least one step"):
        gather(LinearWorld(30), agent, policy, 0, 20, 7)


def test_places_are_spread_evenly_over_the_steps_that_took_place():
    eligible = np.array([[1, 1, 0], [1, 1, 1]], bool)
    all_of_them = spread(eligible, 7)
    assert all_of_them.used.tolist() == [True] * 5 + [False] * 2
    assert all_of_them.episode[:5].tolist() == [0, 0, 1, 1, 1]
    assert spread(eligible, 2).time.tolist() == [1, 1]


def test_error_by_depth_is_the_noise_that_the_true_model_cannot_know(noisy):
    """mean: std of sum_{i<h} A^i w; sampled: sqrt(2) of it; rewards see the state one step earlier."""
    found = errors_by_depth(exact_ensemble(), noisy, 6, 1600, KEY)
    steps = noisy.transitions.next_observation[noisy.inside].astype(float)
    reward_std = np.std(noisy.transitions.reward[noisy.inside])
    covariance = np.zeros((2, 2))
    for h in range(6):
        reward = np.sqrt(C @ covariance @ C + REWARD_NOISE**2) / reward_std
        twice = np.sqrt(2.0) * reward
        assert found["reward_mean"][h] == pytest.approx(reward, rel=0.08)
        assert found["reward_sampled"][h] == pytest.approx(twice, rel=0.08)
        covariance = A @ covariance @ A.T + np.diag(NOISE**2)
        floor = np.sqrt(np.mean(np.diag(covariance) / np.var(steps, axis=0)))
        assert found["mean"][h] == pytest.approx(floor, rel=0.08)
        assert found["sampled"][h] == pytest.approx(np.sqrt(2.0) * floor, rel=0.08)
    assert found["depths"] == [1, 2, 3, 4, 5, 6]
    assert found["starts"] == [1600 - 4 * h for h in range(6)]


def test_error_by_depth_of_a_known_bias_is_exact():
    """Without noise, a drift b leads h steps on to the error sum_{i<h} A^i b; no episode lasts longer than 5."""
    steps = recorded(LinearWorld(5, noise=0.0))
    model = exact_ensemble(drift=0.1, predict_change=False, scale=(2.0, 3.0, 0.5), mean=0.7)
    found = errors_by_depth(model, steps, 6, 64, KEY)
    deviation = np.std(steps.transitions.next_observation[steps.inside].astype(float), axis=0)
    error = np.zeros(2)
    for h in range(5):
        error = A @ error + 0.1
        assert found["mean"][h] == pytest.approx(np.sqrt(np.mean((error / deviation) ** 2)), rel=1e-3)
    assert found["starts"] == [20, 16, 12, 8, 4, 0]
    assert [found[name][-1] for name in ("mean", "sampled", "reward_mean", "reward_sampled")] == [None] * 4


def test_replays_count_up_to_where_the_model_breaks_down():
    steps = recorded(LinearWorld(60, noise=0.0))
    whole, some, none = (
        errors_by_depth(biased(floor=floor), steps, 6, 64, KEY) for floor in (-1e9, 0.0, 1e6)
    )
    assert [each["lost_sampled"] for each in (whole, none)] == [0.0, 1.0]
    assert 0.0 < some["lost_sampled"] < 1.0
    assert some["sampled"] == pytest.approx([0.0] * 6, abs=1e-5)
    assert none["sampled"] == [None] * 6
    assert none["mean"] is None


@pytest.mark.parametrize(
    "shape",
    [{}, {"predict_change": False}, {"scale": (2.0, 3.0, 0.5), "mean": 0.7}],
    ids=["published", "next observation", "standardised"],
)
def test_calibration_of_the_true_model(noisy, shape):
    found = calibration(*exact_ensemble(**shape), noisy, 1600)
    assert found["coverage_50"] == pytest.approx(0.5, abs=0.03)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert found["reward_coverage_50"] == pytest.approx(0.5, abs=0.05)
    assert found["variance_ratio"] == pytest.approx(1.0, abs=0.06)
    entropy = 0.5 * np.log(2 * np.pi * np.e) + np.mean(np.log([REWARD_NOISE, *NOISE]))
    assert found["negative_log_likelihood"] == pytest.approx(entropy, abs=0.04)


def test_calibration_shows_overconfidence(noisy):
    found = calibration(*exact_ensemble(overconfidence=4.0), noisy, 1600)
    assert found["coverage_50"] == pytest.approx(2 * norm.cdf(norm.ppf(0.75) / 4) - 1, abs=0.03)
    assert found["coverage_90"] == pytest.approx(2 * norm.cdf(norm.ppf(0.95) / 4) - 1, abs=0.03)
    assert found["variance_ratio"] == pytest.approx(1 / 16, rel=0.06)


def test_calibration_of_a_mixture_by_hand():
    """Elites at -1 and 1 with deviation 1, truth 0.5: u = (Phi(1.5) + Phi(-0.5)) / 2, variance 2, error 0.25."""
    mean = np.array([-1.0, 1.0])[:, None, None]
    found = _calibrated(np.array([[0.5]]), mean, np.ones((2, 1, 1)), reward=True)
    assert found["variance_ratio"] == pytest.approx(2.0 / 0.25)
    density = np.mean(norm.pdf([1.5, 0.5]))
    assert found["negative_log_likelihood"] == pytest.approx(-np.log(density))
    assert found["coverage_50"] == float(abs(np.mean(norm.cdf([1.5, -0.5])) - 0.5) < 0.25)


@pytest.mark.parametrize(("length", "horizon"), [(60, 25), (15, 15)])
def test_the_exploitation_gap_of_a_known_bias(length, horizon):
    """A model that pays 0.1 too much a step gains 0.1 times the horizon, or the shorter episode."""
    agent, policy = agent_and_policy()
    steady = recorded(LinearWorld(length, noise=0.0), noise=False)
    found = exploitation(biased(0.1), agent, policy, steady, 25, 64, KEY)
    assert found["gap"] == pytest.approx(0.1 * horizon, rel=1e-3)
    assert found["standard_error"] < 1e-3
    assert found["horizon"] == horizon
    assert found["imagined"] - found["real"] == pytest.approx(found["gap"], abs=1e-6)
    assert found["starts"] == (64 if length == 60 else 4)
    assert found["lost"] == 0.0


def test_the_exploitation_gap_counts_the_life_that_only_the_model_grants():
    """Every real step pays 1 until death after 10; the model pays 1 for all 25 steps from times 0 to 9."""
    agent, policy = agent_and_policy()
    steady = recorded(LinearWorld(10, dies=True, reward=1.0), noise=False)
    found = exploitation(biased(1.0, factor=0.0), agent, policy, steady, 25, 64, KEY)
    assert found["real"] == pytest.approx(5.5)
    assert found["gap"] == pytest.approx(25 - 5.5)
    assert found["starts"] == 40


def test_nothing_follows_a_terminal_state_in_the_model():
    agent, policy = agent_and_policy(value=7.0, temperature=0.5, scale=0.5)
    model = biased(2.0, factor=0.0, end=1e6)
    found = critic_bias_in_imagination(model, agent, policy, imagined_ring(), 512, 0.05, 100, KEY)
    assert found is not None
    assert found["soft_return"] == pytest.approx(0.5 * 2.0)
    steady = recorded(LinearWorld(60, noise=0.0), noise=False)
    assert exploitation(model, agent, policy, steady, 25, 64, KEY)["imagined"] == pytest.approx(2.0)


def test_rollouts_on_which_the_model_breaks_down_are_left_out():
    agent, policy = agent_and_policy()
    steady = recorded(LinearWorld(60, noise=0.0), noise=False)
    broken = exploitation(biased(floor=1e6), agent, policy, steady, 25, 64, KEY)
    assert broken["gap"] is None
    assert broken["lost"] == 1.0
    some = exploitation(biased(floor=0.0), agent, policy, steady, 25, 64, KEY)
    assert 0.0 < some["lost"] < 1.0
    assert some["gap"] == pytest.approx(0.0, abs=1e-4)


def test_a_constant_critic_on_a_constant_reward():
    """Bias c - r / (1 - g): exactly so before a terminal state; else less the critic's own part g^n of it."""
    c, r, g = 30.0, 2.0, 0.9
    agent, policy = agent_and_policy(value=c, scale=0.5)
    truth, left = c - 0.5 * r / (1 - g), np.arange(1, 51)
    found = critic_bias_in_reality(agent, policy, recorded(LinearWorld(50, True, reward=r)), 0.05, KEY)
    returns = np.mean(0.5 * r * (1 - g**left) / (1 - g))
    assert found["bias"] == pytest.approx(c - returns, rel=1e-5)
    assert found["normalised_bias"] == pytest.approx((c - returns) / returns, rel=1e-5)
    assert found["rows"] == 4 * 50
    found = critic_bias_in_reality(agent, policy, recorded(LinearWorld(50, reward=r)), 0.05, KEY)
    known = left[g**left < 0.05]
    assert found["rows"] == 4 * len(known)
    assert found["bias"] == pytest.approx(truth * np.mean(1 - g**known), rel=1e-5)
    model, ring = biased(r, factor=0.0), imagined_ring()
    imagined = critic_bias_in_imagination(model, agent, policy, ring, 512, 0.05, 100, KEY)
    assert imagined is not None
    assert imagined["bias"] == pytest.approx(truth * (1 - g ** known[0]), rel=1e-4)
    assert imagined["value"] == c
    assert imagined["lost"] == 0.0


def test_the_soft_return_holds_the_entropy_that_the_policy_earns():
    """Rewards 0 and entropy H from the second action on: the soft return is (1 - g^n) g t H / (1 - g)."""
    agent, policy = agent_and_policy(temperature=0.5, log_std=-3.0)
    log_prob = sample_action(policy.actor, jnp.zeros((200_000, 2), jnp.float32), KEY)[1]
    worth = 0.9 * 0.5 * -float(jnp.mean(log_prob)) / (1 - 0.9)
    real = critic_bias_in_reality(agent, policy, recorded(LinearWorld(400, reward=0.0)), 1e-3, KEY)
    model, ring = biased(factor=0.0), imagined_ring()
    imagined = critic_bias_in_imagination(model, agent, policy, ring, 512, 0.05, 100, KEY)
    assert imagined is not None
    assert real["soft_return"] == pytest.approx(worth, rel=0.05)
    assert imagined["soft_return"] == pytest.approx(worth * (1 - 0.9**29), rel=0.02)


def test_the_standard_error_takes_episodes_as_independent(noisy):
    """Soft returns by the definition; the error is that of four means of equally many steps."""
    agent, policy = agent_and_policy(value=1.0)
    found = critic_bias_in_reality(agent, policy, noisy, 1e-4, KEY)
    known = 400 - int(np.ceil(np.log(1e-4) / np.log(0.9))) + 1
    reward = noisy.transitions.reward.astype(float)
    returns = np.array([[row[t:] @ 0.9 ** np.arange(400 - t) for t in range(known)] for row in reward])
    assert found["soft_return"] == pytest.approx(np.mean(returns), abs=1e-3)
    assert found["standard_error"] == pytest.approx(np.std(returns.mean(1), ddof=1) / 2, rel=1e-2)


def test_the_true_system_of_a_linear_quadratic_task_exploits_nothing():
    """Not an ensemble: no mean replay and no calibration; one-step errors are sqrt(2) of the noise, the gap is 0."""
    world = make("mbpo/LinearQuadratic-v0", {"system": "laplacian3", "episode_length": 60})
    agent = SoftActorCritic(3, 3, -3.0, (8,), 0.5)
    model = FittedModel(TrueModel.of(world.gym.unwrapped), None)
    extent = SMALL._replace(episodes=4, mean_episodes=6, depth_starts=64, gap_starts=128)
    policy = agent.init(jax.random.key(1))
    found = diagnose(world, model, agent, policy, None, 0, extent)
    assert found["calibration"] is None
    assert found["model_error"]["mean"] is None
    steps = gather(world, agent, policy, 4, 60, 0)
    deviation = np.std(steps.transitions.next_observation[steps.inside].astype(float), axis=0)
    noise = np.diag(world.gym.unwrapped.system.W)
    floor = np.sqrt(2 * np.mean(noise / deviation**2))
    assert found["model_error"]["sampled"][0] == pytest.approx(floor, rel=0.2)
    gap = found["exploitation"]
    assert abs(gap["gap"]) < 4 * gap["standard_error"]
    assert found["critic_real"]["bias"] is not None


def test_what_cannot_be_told_is_none():
    agent, policy = agent_and_policy(discount=0.99)
    ring = imagined_ring(0)
    found = diagnose(LinearWorld(40), None, agent, policy, ring, 0, SMALL)
    assert [found[name] for name in ("model_error", "calibration", "exploitation", "critic_imagined")] == (
        [None] * 4
    )
    assert found["critic_real"]["bias"] is None
    assert found["critic_real"]["rows"] == 0
    assert critic_bias_in_imagination(biased(), agent, policy, ring, 4, 0.05, 1000, KEY) is None
    assert critic_bias_in_imagination(biased(), agent, policy, imagined_ring(), 4, 0.05, 100, KEY) is None
    undiscounted = critic_bias_in_reality(
        *agent_and_policy(discount=1.0), recorded(LinearWorld(9)), 0.05, KEY
    )
    assert undiscounted["rows"] == 0


def test_the_numbers_depend_on_the_arguments_alone():
    agent, policy = agent_and_policy()
    model, ring, world = exact_ensemble(), imagined_ring(), LinearWorld(30)
    first = diagnose(world, model, agent, policy, ring, 5, SMALL)
    assert diagnose(world, model, agent, policy, ring, 5, SMALL) == first
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    other = diagnose(LinearWorld(30), model, agent, policy, ring, 6, SMALL)
    assert other["exploitation"] != first["exploitation"]


def test_nothing_compiles_again_when_episodes_and_data_grow():
    agent, policy = agent_and_policy()
    model = exact_ensemble()
    diagnose(LinearWorld(30), model, agent, policy, imagined_ring(10), 0, SMALL)
    compiled, ring, changed = [], imagined_ring(40), jax.tree.map(lambda leaf: leaf + 1, policy)
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "compile" in name else None
    )
    diagnose(LinearWorld(50), model, agent, changed, ring, 1, SMALL)
    diagnose(LinearWorld(20, dies=True), model, agent, policy, ring, 2, SMALL)
    assert compiled == []
    jax.jit(lambda x: x + 3)(jnp.float32(1))
    assert compiled != []
