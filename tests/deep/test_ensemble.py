"""The ensemble's numbers against NumPy, its imagined steps against the law they are drawn from, and what it learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from ensemble_cases import outputs, random_layers, softplus, start_of

from mbpo.deep.ensemble import Affine, Ensemble, Heads
from mbpo.deep.ensemble_fit import Table, loss

DRAWS = 3000


def beyond_25(observation, action, following):
    return following[0] > 25.0


def never(observation, action, following):
    return jnp.bool_(False)


def test_networks_start_apart_with_truncated_weights_and_the_published_bounds():
    part = Ensemble(3, 2, never, hidden=(40, 40), decays=(0.0,) * 3)
    state = jax.jit(part.init)(jax.random.key(0))
    for layer, size in zip(state.heads.layers, (5, 40, 40), strict=True):
        weight = np.asarray(layer.weight)
        assert weight.shape[:2] == (7, size)
        assert np.abs(weight).max() <= 1 / np.sqrt(size), "cut at two deviations of 1 / (2 sqrt(in))"
        assert np.std(weight) == pytest.approx(0.88 / (2 * np.sqrt(size)), rel=0.1)
        assert not np.asarray(layer.bias).any()
    assert np.unique(np.asarray(state.heads.layers[0].weight)[:, 0, 0]).size == 7
    np.testing.assert_array_equal(state.heads.max_log_variance, np.full(4, 0.5))
    np.testing.assert_array_equal(state.heads.min_log_variance, np.full(4, -10.0))


@pytest.mark.parametrize("rule", [never, None])
def test_the_loss_is_the_published_one(rule):
    """Every layer has a decay of its own; rows of weight 0 do not count; log variances lie within their bounds."""
    part = Ensemble(2, 1, rule, 3, 2, (5, 4), (0.3, 0.02, 0.7))
    draw = np.random.default_rng(2)
    bounds = np.float32([0.4, 0.6, 0.9]), np.float32([-3.0, -5.0, -1.0])
    heads = Heads(random_layers(part, 1, 3.0), *map(jnp.asarray, bounds))
    x, y = np.float32(3 * draw.normal(size=(3, 6, 3))), np.float32(draw.normal(size=(3, 6, 3)))
    terminal, weight = np.float32(draw.integers(0, 2, (3, 6))), np.float32([1, 1, 1, 1, 0, 0])
    mean, log_variance, logit = outputs(part, heads, x)
    assert (log_variance >= bounds[1]).all()
    assert (log_variance <= bounds[0] + 0.2).all(), "up to what the softer lower bound adds"
    assert np.ptp(log_variance, axis=(0, 1)).min() > 0.4 * (bounds[0] - bounds[1]).min()
    terms = (mean - y) ** 2 / np.exp(log_variance) + log_variance
    expected = terms[:, :4].mean(axis=(1, 2)).sum() + 0.01 * np.sum(np.float64(bounds[0]) - bounds[1])
    for decay, layer in zip(part.decays, heads.layers, strict=True):
        expected += decay / 2 * np.sum(np.float64(layer.weight) ** 2)
    if rule is None:
        entropy = softplus(logit[..., 0]) - terminal * logit[..., 0]
        expected += entropy[:, :4].mean(axis=1).sum()
    found = jax.jit(functools.partial(loss, part))(heads, Table(x, y, terminal), weight)
    assert found == pytest.approx(expected, rel=1e-5)


def test_log_variances_never_leave_their_bounds():
    part = Ensemble(2, 1, never, 1, 1, (), (0.0,))
    heads = start_of(part).heads
    raw = np.float32([-1e4, -30.0, -5.0, 0.4, 30.0, 1e4])
    weight = np.zeros((1, 3, 6), np.float32)
    weight[0, 0, 3:] = 1.0
    heads = heads._replace(
        layers=(heads.layers[0]._replace(weight=weight, bias=np.zeros((1, 6), np.float32)),)
    )
    x = np.zeros((1, 6, 3), np.float32)
    x[0, :, 0] = raw
    found = np.asarray(part.predict(heads, jnp.asarray(x))[1])[0]
    assert (found >= -10).all()
    assert (found <= 0.5 + 1e-4).all()
    assert (np.diff(found, axis=0) >= 0).all()
    np.testing.assert_allclose(found[2], -5.0, atol=0.02)


# Imagined steps. The five elites of seven networks predict numbers so far apart that each step tells whose it is.
LEARNED = Ensemble(2, 1, None, hidden=(), decays=(0.0,))
RULED = dataclasses.replace(LEARNED, termination=beyond_25)
ELITES = np.array([6, 2, 0, 5, 3])


def apart(part):
    """Network e predicts about 10 e (1, 1, -1), each with its own slope and deviation, and terminates with its own
    probability; targets are standardised."""
    state = start_of(part)
    (layer,) = random_layers(part, 3, 0.3)
    bias = np.array(layer.bias)
    bias[:, :3] += 10 * np.arange(7)[:, None] * np.array([1, 1, -1])
    bias[:, 3:6] = 2 * np.log(0.1 * np.arange(1, 8))[:, None]
    weight = np.array(layer.weight)
    weight[:, :, 3:] = 0
    if part.learns_termination:
        bias[:, 6] = np.linspace(-2, 1, 7)
    layers = (layer._replace(weight=jnp.asarray(weight), bias=jnp.asarray(bias)),)
    targets = Affine(jnp.asarray([1.0, 2.0, 3.0], jnp.float32), jnp.asarray([2.0, 0.5, 3.0], jnp.float32))
    inputs = Affine(jnp.asarray([0.5, 0.0, 1.0], jnp.float32), jnp.asarray([2.0, 1.0, 0.5], jnp.float32))
    elites = jnp.asarray(ELITES, jnp.int32)
    return state._replace(
        heads=state.heads._replace(layers=layers), inputs=inputs, targets=targets, elites=elites
    )


@functools.partial(jax.jit, static_argnums=0)
def imagined(part, state, observation, action, key):
    keys = jax.random.split(key, (DRAWS, observation.shape[0]))
    rows, valid = jax.lax.map(lambda keys: part.step(state, observation, action, keys), keys)
    return rows.reward, rows.next_observation, rows.terminal, valid


def places(count):
    draw = np.random.default_rng(4)
    return np.float32(draw.normal(size=(count, 2))), np.float32(draw.uniform(-1, 1, (count, 1)))


def seen(part, count):
    """Whose step each imagined one is `[DRAWS, B]`, its standardised residuals, and its termination."""
    state, (observation, action) = apart(part), places(count)
    reward, following, terminal, valid = map(
        np.asarray, imagined(part, state, observation, action, jax.random.key(8))
    )
    assert valid.all()
    change = following - observation
    targets = np.concatenate([reward[..., None], change], axis=-1)
    standard = (targets - np.float64(state.targets.mean)) / np.float64(state.targets.scale)
    x = np.concatenate([observation, action], axis=1)
    x = np.broadcast_to((x - np.float64(state.inputs.mean)) / np.float64(state.inputs.scale), (7, count, 3))
    mean, log_variance, _ = outputs(part, state.heads, x)
    whose = np.abs(standard[:, None, :, 0] - mean[None, :, :, 0]).argmin(axis=1)
    row = np.arange(count)
    residual = (standard - mean[whose, row]) / np.exp(log_variance[whose, row] / 2)
    return whose, residual, terminal, following


def test_each_row_is_one_elite_s_gaussian_and_every_elite_is_as_likely():
    whose, residual, terminal, _ = seen(LEARNED, 10)
    assert set(np.unique(whose)) == set(ELITES)
    for row in range(10):
        assert scipy.stats.chisquare(np.bincount(whose[:, row], minlength=7)[np.sort(ELITES)]).pvalue > 1e-4
    together = np.mean(whose[:, 0] == whose[:, 1])
    assert together == pytest.approx(1 / 9, abs=0.03), "which rows share an elite is drawn afresh"
    counts = np.apply_along_axis(np.bincount, 1, whose, minlength=7)[:, ELITES]
    assert (counts == 2).all(), "all elites get equally many"
    for elite in ELITES:
        numbers = residual[whose == elite]
        np.testing.assert_allclose(numbers.mean(axis=0), np.zeros(3), atol=4.5 / np.sqrt(len(numbers)))
        np.testing.assert_allclose(np.cov(numbers.T), np.eye(3), atol=6.5 / np.sqrt(len(numbers)))
        ends = terminal[whose == elite].mean()
        right = 1 / (1 + np.exp(-np.linspace(-2, 1, 7)[elite]))
        assert ends == pytest.approx(right, abs=4.5 * np.sqrt(right * (1 - right) / len(numbers)))
    flat = residual.reshape(-1, 3)
    assert np.unique(flat[:, 0].round(5)).size > 0.9 * len(flat), "no noise is shared"


def test_rows_need_not_divide_among_the_elites():
    whose, residual, terminal, following = seen(RULED, 6)
    assert set(np.unique(whose)) <= set(ELITES)
    np.testing.assert_allclose(residual.reshape(-1, 3).std(axis=0), np.ones(3), atol=0.05)
    np.testing.assert_allclose(residual.mean(axis=0), np.zeros((6, 3)), atol=0.1)
    np.testing.assert_array_equal(terminal, following[..., 0] > 25)
    assert 0.1 < terminal.mean() < 0.9


def test_elites_get_equally_many_of_rows_that_do_not_divide_up_to_one():
    whose, _, _, _ = seen(RULED, 6)
    counts = np.apply_along_axis(np.bincount, 1, whose, minlength=7)[:, ELITES]
    assert np.ptp(counts, axis=1).max() <= 1
    assert scipy.stats.chisquare(counts.sum(axis=0)).pvalue > 1e-4


def test_a_row_that_is_not_finite_comes_out_as_not_valid_and_spoils_no_other():
    state, (observation, action) = apart(LEARNED), places(10)
    observation[3, 0], observation[4, 1], action[7, 0] = np.nan, np.inf, -np.inf
    reward, following, _, valid = imagined(LEARNED, state, observation, action, jax.random.key(9))
    np.testing.assert_array_equal(valid, np.broadcast_to(~np.isin(np.arange(10), (3, 4, 7)), (DRAWS, 10)))
    assert np.isfinite(reward).all()
    assert np.isfinite(np.asarray(following)[np.asarray(valid)]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])  # the last overflows where targets are scaled back
@pytest.mark.parametrize("output", [0, 2])
def test_what_a_network_that_diverged_predicts_is_not_valid(bad, output):
    state = apart(LEARNED)
    (layer,) = state.heads.layers
    layers = (layer._replace(bias=layer.bias.at[5, output].set(bad)),)
    state = state._replace(heads=state.heads._replace(layers=layers))
    reward, following, _, valid = imagined(LEARNED, state, *places(10), jax.random.key(9))
    assert (np.asarray(valid).sum(axis=1) == 8).all(), "the two rows of that network are lost"
    assert np.isfinite(reward).all()
    assert np.isfinite(following).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"elites": 8}, "between 1 and the 7 networks"), ({"decays": (0.0,)}, "one for each")],
)
def test_ensembles_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Ensemble(2, 1, never), **change)
