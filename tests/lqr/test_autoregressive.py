"""Online regressions against batch solutions, steps computed by hand, and bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbpo.errors import InputError
from mbpo.lqr.autoregressive import (
    PUBLISHED_DIVISORS,
    PUBLISHED_RADIUS,
    fixed_forecasts,
    gradient_descent,
    least_squares_online,
    regressors,
    stacked,
)
from mbpo.lqr.hidden import HiddenSystem, resolve_hidden, simulate

OUTPUTS = np.random.default_rng(0).standard_normal((3, 30, 2))
INPUTS = np.random.default_rng(1).standard_normal((3, 30, 1))


def test_regressors_are_the_newest_first_then_the_inputs():
    z = regressors(OUTPUTS, 2, INPUTS)
    assert z.shape == (3, 30, 6)
    expected = np.concatenate([OUTPUTS[:, 6], OUTPUTS[:, 5], INPUTS[:, 6], INPUTS[:, 5]], axis=1)
    assert np.array_equal(z[:, 7], expected)
    assert np.array_equal(z[:, 0], np.zeros((3, 6)))
    with pytest.raises(InputError, match="order of at least 1, got 0"):
        regressors(OUTPUTS, 0)


def test_recursive_least_squares_is_ridge_regression_on_what_was_seen():
    learned = least_squares_online(OUTPUTS, 2, ridge=0.5, inputs=INPUTS)
    z = regressors(OUTPUTS, 2, INPUTS)
    for run in range(3):
        ridge = 0.5 * np.mean(np.sum(OUTPUTS[run, :2] ** 2, axis=1))
        for t in (2, 3, 17, 30):
            seen, answers = z[run, 2:t], OUTPUTS[run, 2:t]
            theta = np.linalg.solve(seen.T @ seen + ridge * np.eye(6), seen.T @ answers).T
            if t < 30:
                assert learned.forecasts[run, t] == pytest.approx(theta @ z[run, t], abs=1e-10)
            else:
                assert learned.coefficients[run] == pytest.approx(theta, abs=1e-10)
    assert np.array_equal(learned.forecasts[:, :2], np.zeros((3, 2, 2)))


def test_units_do_not_matter_to_least_squares():
    scaled = least_squares_online(1e6 * OUTPUTS, 2).forecasts
    assert scaled == pytest.approx(1e6 * least_squares_online(OUTPUTS, 2).forecasts, rel=1e-9)


def test_two_steps_of_gradient_descent_by_hand():
    outputs = np.array([[[1.0], [2.0], [3.0]]])
    learned = gradient_descent(outputs, 1, radius=100.0)
    first = 0.0 + 2 * 1.0 * (2.0 - 0.0) * 1.0  # step 1^(-1/2)
    second = first + 2 * 2**-0.5 * (3.0 - first * 2.0) * 2.0
    assert learned.forecasts[0, :, 0] == pytest.approx([0.0, 0.0, 2 * first])
    assert learned.coefficients[0, 0, 0] == pytest.approx(second)
    assert learned.slopes[0] == pytest.approx([0.0, 4.0, abs(2 * (3 - 2 * first) * 2)])
    slower = gradient_descent(outputs, 1, radius=100.0, divisor=10.0)
    first = 2 / 10 * 2.0
    assert slower.coefficients[0, 0, 0] == pytest.approx(first + 2 * 2**-0.5 / 10 * (3.0 - first * 2.0) * 2.0)
    for wrong in ({"radius": 0.0}, {"divisor": -1.0}):
        with pytest.raises(InputError, match="radius and divisor must be positive"):
            gradient_descent(outputs, 1, **wrong)
    scaled = gradient_descent(outputs, 1, radius=100.0, scaled=True)
    first = 2 * 2.0 / 2  # |z|^2 = 1
    assert scaled.coefficients[0, 0, 0] == pytest.approx(first + 2 * 2**-0.5 / 8 * (3 - first * 2) * 2)


def test_coefficients_stay_in_the_ball():
    learned = gradient_descent(10 * OUTPUTS, 2, radius=0.7)
    norms = np.sqrt(np.sum(learned.coefficients**2, axis=(1, 2)))
    assert norms == pytest.approx(np.full(3, 0.7))


@pytest.mark.parametrize("learn", [gradient_descent, least_squares_online])
def test_a_forecast_knows_only_the_past(learn):
    changed = OUTPUTS.copy()
    changed[:, 20:] += 5.0
    before, after = (learn(each, 3, inputs=INPUTS).forecasts for each in (OUTPUTS, changed))
    assert np.array_equal(before[:, :21], after[:, :21])
    assert not np.array_equal(before[:, 21], after[:, 21])


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0), scaled=st.booleans())
@settings(max_examples=25, deadline=None)
def test_regret_against_the_best_in_the_ball_keeps_to_zinkevichs_bound(seed, scale, scaled):
    """(2 D)^2 / (2 eta_T) + sum eta_t |g_t|^2 / 2 with the steps that were taken; the steps never grow."""
    outputs = scale * np.cumsum(np.random.default_rng(seed).standard_normal((1, 60, 1)), axis=1)
    radius, z = 1.5, regressors(outputs, 2)[0]
    learned = gradient_descent(outputs, 2, radius=radius, scaled=scaled)
    losses = np.sum((outputs - learned.forecasts)[0, 2:] ** 2)
    comparator = np.linalg.lstsq(z[2:], outputs[0, 2:], rcond=None)[0].T
    comparator *= min(1.0, radius / np.linalg.norm(comparator))
    best = np.sum((outputs[0, 2:] - z[2:] @ comparator.T) ** 2)
    eta = np.arange(2, 60) ** -0.5
    if scaled:
        eta = eta / (2 * np.maximum.accumulate(np.sum(z[2:] ** 2, axis=1)))
    bound = (2 * radius) ** 2 / (2 * eta[-1]) + np.sum(eta * learned.slopes[0, 2:] ** 2) / 2
    assert losses - best <= bound * (1 + 1e-9)


def test_inputs_are_learned_from():
    """A noiseless second-order system is forecast without error by ARX(2) once it has seen enough."""
    nothing = np.zeros((2, 2))
    system = HiddenSystem([[1.2, 1.0], [-0.5, 0.0]], [[1.0, 0.0]], nothing, [[0.0]], B=[[1.0], [0.5]])
    inputs = np.random.default_rng(3).standard_normal((4, 80, 1))
    outputs = simulate(system, 80, 4, 0, inputs)
    learned = least_squares_online(outputs, 2, ridge=1e-9, inputs=inputs)
    assert learned.forecasts[:, 20:] == pytest.approx(outputs[:, 20:], abs=1e-5)
    assert learned.coefficients[:, 0] == pytest.approx(np.tile([1.2, -0.5, 1.0, 0.5], (4, 1)), abs=1e-6)
    without = least_squares_online(outputs, 2, ridge=1e-9)
    assert np.mean((without.forecasts - outputs)[:, 20:] ** 2) > 0.1


def test_fixed_coefficients():
    coefficients = np.arange(8.0).reshape(2, 2, 2)
    made = fixed_forecasts(OUTPUTS, coefficients)
    by_hand = coefficients[:, 0] @ OUTPUTS[1, 8] + coefficients[:, 1] @ OUTPUTS[1, 7]
    assert made[1, 9] == pytest.approx(by_hand)
    assert stacked(coefficients).shape == (2, 4)


def test_the_published_step_overshoots_on_the_papers_system():
    """2 eta_t |z_t|^2 is about 9 at t = 500, so the coefficients swing from one end of the ball to the other; with
    c = 2500 they have hardly moved."""
    outputs = simulate(resolve_hidden("kozdoba"), 500, 20, 0)
    errors = {
        name: np.mean((outputs - made.forecasts)[:, 250:] ** 2)
        for name, made in {
            "published": gradient_descent(outputs, 2),
            "slow": gradient_descent(outputs, 2, divisor=2500.0),
            "wide": gradient_descent(outputs, 2, radius=10.0),
            "scaled": gradient_descent(outputs, 2, scaled=True),
            "least squares": least_squares_online(outputs, 2),
        }.items()
    }
    assert (PUBLISHED_RADIUS, PUBLISHED_DIVISORS) == (
        1.0,
        (1.0, 2500.0),
    )  # of testIdentification, not of test_AR
    assert errors["wide"] > 10 * errors["published"] > 1000
    assert errors["least squares"] < errors["scaled"] < 1.3 < 2 < errors["slow"] < 20
