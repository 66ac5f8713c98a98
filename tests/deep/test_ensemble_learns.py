"""What the ensemble learns of a linear world: predictions, their noise, and where episodes end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ensemble_cases import outputs, ring_of, start_of

from mbpo.deep.ensemble import Ensemble

# Reward, observations and their noise have scales far apart; above x_0 = 10 an episode ends.
REPAIRED = Ensemble(
    2, 1, None, networks=3, elites=2, hidden=(16,), decays=(1e-5, 1e-5), learning_rate=0.01, batch_size=64,
    normalise_targets=True, predict_change=False,
)  # fmt: skip
SCALE, CENTRE = np.array([3.0, 0.02]), np.array([10.0, -4.0])
A, B = np.array([[0.9, 0.3], [-0.2, 0.7]]), np.array([0.4, -0.5])
fit_repaired = jax.jit(REPAIRED.fit)
mean_repaired = jax.jit(REPAIRED.mean_prediction)


def world(count, noise, seed):
    """Rows of z' = A z + B a + noise in z = (x - centre) / scale, reward 100 (z_0 - a), and targets without noise."""
    draw = np.random.default_rng(seed)
    z, action = draw.normal(size=(count, 2)), draw.uniform(-1, 1, (count, 1))
    exact = z @ A.T + action * B
    reward = 100 * (z[:, 0] - action[:, 0])
    following = CENTRE + SCALE * (exact + noise * draw.normal(size=(count, 2)))
    noisy = reward + 100 * noise * draw.normal(size=count)
    return CENTRE + SCALE * z, action, noisy, following, (reward, CENTRE + SCALE * exact)


def errors(state, rows, expected):
    """Mean squared errors of reward and next observation, in units of 100 and of the observations' scales."""
    reward, following = mean_repaired(state, *(jnp.asarray(each, jnp.float32) for each in rows[:2]))
    found = np.concatenate([np.asarray(reward)[:, None] / 100, np.asarray(following) / SCALE], axis=1)
    right = np.concatenate([expected[0][:, None] / 100, expected[1] / SCALE], axis=1)
    return np.mean((found - right) ** 2, axis=0)


@functools.cache
def learned(noise):
    """The state after three fits to 1,000 rows."""
    observation, action, reward, following, _ = world(1000, noise, 5)
    ring = ring_of(observation, action, reward, following, observation[:, 0] > 10, capacity=1024)
    state = start_of(REPAIRED, 6)
    for key in jax.random.split(jax.random.key(1), 3):
        state = fit_repaired(state, ring, key)
    return state


def test_predictions_are_the_truth_where_there_is_little_noise():
    rows = world(1000, 0.01, 7)
    assert (errors(learned(0.01), rows, rows[4]) < 0.03**2).all(), "three percent of each target's spread"


def test_errors_come_down_to_the_noise():
    noise = 0.5
    rows = world(1000, noise, 7)
    assert (errors(learned(noise), rows, rows[2:4]) < 1.15 * noise**2).all()


def test_predicted_deviations_are_those_of_the_noise():
    noise, state = 0.5, learned(0.5)
    rows = world(300, noise, 8)
    x = REPAIRED.standardised(state, *(jnp.asarray(each, jnp.float32) for each in rows[:2]))
    _, log_variance, _ = outputs(REPAIRED, state.heads, np.broadcast_to(x, (3, *x.shape)))
    deviation = np.exp(log_variance / 2) * np.asarray(state.targets.scale)
    ratio = np.median(deviation[np.asarray(state.elites)], axis=(0, 1)) / (noise * np.array([100.0, *SCALE]))
    np.testing.assert_allclose(ratio, np.ones(3), atol=0.15)


def test_targets_are_standardised_with_rows_of_the_fit():
    noise, state = 0.5, learned(0.5)
    rows = world(1000, noise, 5)
    targets = np.concatenate([rows[2][:, None], rows[3]], axis=1)
    away = (np.asarray(state.targets.mean) - targets.mean(axis=0)) / targets.std(axis=0)
    assert np.abs(away).max() < 0.1
    np.testing.assert_allclose(state.targets.scale, targets.std(axis=0), rtol=0.05)


def test_the_learned_termination_ends_episodes_where_the_world_does():
    state = learned(0.5)
    observation, action, *_ = world(1000, 0.0, 9)
    x = REPAIRED.standardised(state, jnp.asarray(observation, jnp.float32), jnp.asarray(action, jnp.float32))
    logit = outputs(REPAIRED, state.heads, np.broadcast_to(x, (3, *x.shape)))[2][
        np.asarray(state.elites), :, 0
    ]
    clear = np.abs(observation[:, 0] - 10) > 0.6
    over = np.broadcast_to(observation[:, 0] > 10, logit.shape)
    assert np.mean(((logit > 0) == over)[:, clear]) > 0.98
    assert np.mean((1 / (1 + np.exp(-logit)))[over]) > 0.85
