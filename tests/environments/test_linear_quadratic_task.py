"""The task and the true model against A, B, W, Q, R, and the limits and starts they are given."""

from dataclasses import replace

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbpo.environments import make
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.environments.true_model import TrueModel, noise_floor
from mbpo.errors import InputError
from mbpo.lqr import catalogue, exact
from mbpo.lqr.reference import spectral_radius
from mbpo.lqr.system import LinearQuadratic

TWO = catalogue.get("double_integrator")
ROOT = np.array([[1.0], [0.5]])
SINGULAR = replace(TWO, W=0.1 * ROOT @ ROOT.T)
SYSTEMS = [TWO, SINGULAR, catalogue.get("boeing747"), catalogue.get("pendulum_discounted")]


def within(sample: np.ndarray, covariance: np.ndarray, errors: float = 4.5) -> None:
    """`sample` `[N, n]` has mean 0 and `covariance`, within so many standard errors of Gaussian moments."""
    count = len(sample)
    mean_error = np.sqrt(np.diag(covariance) / count)
    spread = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / count)
    assert (np.abs(sample.mean(axis=0)) <= errors * mean_error + 1e-6).all()
    assert (np.abs(sample.T @ sample / count - covariance) <= errors * spread + 1e-6).all()


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_moments_and_reward_of_one_step(system):
    task = LinearQuadraticTask(system)
    task.reset(seed=0)
    rng = np.random.default_rng(1)
    x, u = rng.normal(size=system.state_dim), rng.uniform(-1, 1, system.action_dim) * task.action_limit
    steps = []
    for _ in range(3_000):
        task.reset(options={"state": x})
        seen, reward, terminated, _, _ = task.step(u)
        assert reward == -(x @ system.Q @ x + u @ system.R @ u)
        assert not terminated
        assert seen.dtype == np.float32
        steps.append(task.state - (system.A @ x + system.B @ u))
    within(np.array(steps), system.W)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_the_start_is_stationary_or_the_given_one(system):
    task = LinearQuadraticTask(system)
    task.reset(seed=0)
    starts = np.array([(task.reset(), task.state)[1] for _ in range(3_000)])
    expected = system.initial_covariance
    if system.objective == "average":
        expected = np.asarray(exact.state_covariance(system, task.optimum.gain))
    within(starts, expected)


@pytest.mark.parametrize("name", catalogue.names())
def test_every_system_in_the_catalogue_is_a_task(name):
    environment = make("mbpo/LinearQuadratic-v0", {"system": name})
    task = environment.gym.unwrapped
    system = catalogue.get(name)
    assert (environment.observation_size, environment.action_size) == (system.state_dim, system.action_dim)
    assert not environment.terminates
    assert environment.max_episode_steps == (system.horizon or 200)
    assert (task.action_limit > 0).all()
    assert (task.state_limit > 0).all()
    lengths, cost = [], []
    for seed in range(5):
        x, ended, time = environment.reset(seed), False, 0
        while not ended:
            K = task.optimum.gain if task.optimum.gains is None else task.optimum.gains[time]
            step = environment.step(np.clip(K @ x / task.action_limit, -1, 1))
            assert not step.terminal
            x, ended, time = step.observation, step.truncated, time + 1
            cost.append(-step.reward)
        lengths.append(time)
    assert lengths == [environment.max_episode_steps] * 5
    if system.objective == "average":
        assert 0.3 < np.mean(cost) / task.optimum.cost < 3
        K = task.optimum.gain
        Sigma = np.asarray(exact.state_covariance(system, K))
        limit = 4 * np.sqrt(np.diag(K @ Sigma @ K.T))
        if spectral_radius(system.A) > 1:
            limit = np.maximum(limit, 0.6 * np.abs(K) @ task.state_limit)
        np.testing.assert_allclose(task.action_limit, limit, rtol=1e-6)
        np.testing.assert_allclose(task.state_limit, 6 * np.sqrt(np.diag(Sigma)), rtol=1e-6)


def test_leaving_the_limits_truncates():
    task = LinearQuadraticTask(TWO, state_limit=[3.0, 5.0], action_limit=2.0)
    task.reset(seed=0, options={"state": [2.9, 4.0]})
    _, reward, terminated, truncated, info = task.step(np.zeros(1))
    assert (terminated, truncated, info["outside"]) == (False, True, True)
    assert np.isfinite(reward)
    np.testing.assert_array_equal(task.state_limit, [3.0, 5.0])


def test_actions_are_clipped_and_charged_as_clipped():
    task = LinearQuadraticTask(TWO, action_limit=2.0)
    answers = []
    for action in (2.0, 50.0):
        task.reset(seed=0, options={"state": [0.1, 0.2]})
        answers.append(task.step(np.array([action]))[:2])
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert answers[0][1] == answers[1][1]


def test_a_horizon_is_the_episode_and_its_terminal_cost_is_told():
    system = catalogue.get("liquidation")
    task = LinearQuadraticTask(system)
    task.reset(seed=0)
    for _ in range(system.horizon):
        _, _, _, truncated, info = task.step(task.optimum.gain @ task.state)
    assert truncated
    x = task.state
    assert info["terminal_cost"] == pytest.approx(x @ system.terminal_cost @ x)


@pytest.mark.parametrize(
    "change",
    [
        {"W": np.zeros((2, 2))},
        {"W": np.zeros((2, 2)), "initial_covariance": np.zeros((2, 2))},
        {"W": np.diag([0.0, 1e-12])},
        {"W": 1e12 * np.eye(2)},
        {"discount": 0.5},
        {"discount": 0.5, "A": np.diag([1.3, 1.2])},
        {"B": np.array([[0.0, 0.0], [0.1, 0.0]]), "R": np.eye(2)},
        {"horizon": 3},
        {"horizon": 1, "terminal_cost": np.zeros((2, 2))},
    ],
    ids=str,
)
def test_limits_are_positive_whatever_is_singular(change):
    initial = {"initial_gain": None} if "B" in change else {}
    environment = make("mbpo/LinearQuadratic-v0", {"system": replace(TWO, **initial, **change)})
    task = environment.gym.unwrapped
    for limit in (task.action_limit, task.state_limit):
        assert (limit > 0).all()
        assert np.isfinite(limit).all()
    environment.reset(0)
    assert environment.step(np.zeros(environment.action_size)).truncated is (task.system.horizon == 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"system": "pendulm"}, "no system 'pendulm' .* did you mean 'pendulum'"),
        ({"system": "missing.toml"}, "missing.toml: there is no such file"),
        ({"system": 3}, "system must be a name in the catalogue"),
        ({}, "cannot be made without the option 'system'"),
        (
            {"system": "scalar", "episode_length": 0},
            "episode_length must be a whole number of at least 1, got 0",
        ),
        ({"system": "scalar", "episode_length": 2.5}, "episode_length must be a whole number"),
        ({"system": "liquidation", "episode_length": 11}, "episode_length must be the system's horizon 10"),
        ({"system": "scalar", "action_limit": 0.0}, "action_limit must be positive"),
        ({"system": "scalar", "action_limit": float("nan")}, "action_limit must be positive"),
        ({"system": "pendulum", "state_limit": [1.0, 2.0, 3.0]}, "one for each of the 2 coordinates"),
        ({"system": "pendulum", "state_limit": "wide"}, "state_limit must be a positive number"),
        ({"system": "pendulum", "limit": 1}, "no option 'limit', the valid names are|did you mean"),
    ],
)
def test_options_are_checked(options, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        make("mbpo/LinearQuadratic-v0", options)
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)


def test_a_system_from_a_file_and_one_without_an_optimum(tmp_path):
    (tmp_path / "mine.toml").write_text(TWO.to_toml())
    path = str(tmp_path / "mine.toml")
    assert make("mbpo/LinearQuadratic-v0", {"system": path}).observation_size == 2
    hopeless = LinearQuadratic([[2.0]], [[0.0]], [[1.0]], [[1.0]])
    with pytest.raises(InputError, match="reach"):
        make("mbpo/LinearQuadratic-v0", {"system": hopeless})


def test_gymnasium_s_own_checker_is_content():
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make("mbpo/LinearQuadratic-v0", system="pendulum", disable_env_checker=True)
    with pytest.warns(UserWarning, match=r"Box|symmetric|render"):
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_the_true_model_is_the_task(system):
    task = LinearQuadraticTask(system)
    model = TrueModel.of(task)
    count, rng = 20_000, np.random.default_rng(0)
    x = rng.normal(size=system.state_dim).astype(np.float32)
    a = rng.uniform(-1, 1, system.action_dim).astype(np.float32)
    batch = jnp.asarray(np.tile(x, (count, 1))), jnp.asarray(np.tile(a, (count, 1)))
    state = model.fit(model.init(jax.random.key(0)), None, jax.random.key(0))
    step, valid = eqx.filter_jit(model.step)(state, *batch, jax.random.split(jax.random.key(1), count))
    assert {leaf.dtype for leaf in jax.tree.leaves(step)} == {jnp.dtype("float32"), jnp.dtype("bool")}
    u = a * task.action_limit
    within(np.asarray(step.next_observation, np.float64) - (system.A @ x + system.B @ u), system.W)
    np.testing.assert_allclose(step.reward, -(x @ system.Q @ x + u @ system.R @ u), rtol=1e-5)
    np.testing.assert_array_equal(step.action, batch[1])
    assert valid.all()
    assert not (step.terminal | step.truncated).any()
    floor = noise_floor(system)
    np.testing.assert_array_equal(floor.covariance, system.W)
    assert floor.trace == pytest.approx(np.trace(system.W))


def test_the_true_model_keeps_no_step_beyond_the_limit():
    task = LinearQuadraticTask(TWO)
    far = jnp.asarray(np.array([[0.0, 0.0], [2.0, 1e30]]) * task.state_limit, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    step, valid = TrueModel.of(task).step(None, far, jnp.zeros((2, 1), jnp.float32), keys)
    assert valid.tolist() == [True, False]
    assert np.isfinite(np.asarray(step.next_observation)).all()
    assert np.isfinite(np.asarray(step.reward)).all()
