"""A fit in steps: weights, hold-out, loss, decay, deviations; and the differentiable step against the other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ensemble_cases import ring_of

from mbpo.deep import ensemble_steps
from mbpo.deep.ensemble import LEAST_DEVIATION, Ensemble
from mbpo.deep.networks import forward, layer_norm

KEY = jax.random.key(3)
CAPACITY, NOISE = 600, (0.05, 0.3, 0.1)


def never(observation, action, following):
    return jnp.bool_(False)


PART = Ensemble(
    2,
    1,
    never,
    networks=3,
    elites=2,
    hidden=(24, 24),
    decays=(1e-4, 1e-4, 1e-4),
    learning_rate=3e-3,
    batch_size=64,
    normalise_targets=True,
    homoscedastic=True,
    layer_norms=(1.0, 0.1),
    fit_steps=400,
)


def world(count, seed=0):
    """x' = x + (tanh x_2 + a, -x_1 / 2) + noise, reward x_1 - a + noise, with known deviations."""
    draw = np.random.default_rng(seed)
    x, a = draw.normal(size=(count, 2)) * [2.0, 0.5] + [1.0, 0.0], draw.uniform(-1, 1, (count, 1))
    noise = draw.normal(size=(count, 3)) * NOISE
    change = np.stack([np.tanh(x[:, 1]) + a[:, 0], -x[:, 0] / 2], axis=1) + noise[:, 1:]
    reward = x[:, 0] - a[:, 0] + noise[:, 0]
    rows = (np.float32(each) for each in (x, a, reward, x + change))
    return ring_of(*rows, capacity=CAPACITY)


@pytest.fixture(scope="module")
def fitted():
    """The first fit of 500 rows, compiled once."""
    fit = jax.jit(PART.fit)
    start = PART.init(KEY)
    return fit, start, fit(start, world(500), jax.random.key(1))


def test_the_deviations_of_the_noise_are_learned(fitted):
    """Within a quarter, although the logarithm starts at -1 for each; what the means still miss counts as noise."""
    fit, _, state = fitted
    for seed in (2, 3):
        state = fit(state, world(500), jax.random.key(seed))
    deviation = np.exp(np.asarray(state.heads.log_deviation)) + LEAST_DEVIATION
    found = deviation * np.asarray(state.targets.scale)
    np.testing.assert_allclose(found.mean(axis=0), NOISE, rtol=0.25)
    floor = (np.array(NOISE) / np.asarray(state.targets.scale)) ** 2
    assert np.asarray(state.holdout_error).max() < 1.5 * floor.mean()


def test_a_row_keeps_its_weights_and_its_place_in_the_hold_out(fitted):
    _, start, _ = fitted
    _, few = ensemble_steps._prepared(PART, start, world(300))
    _, many = ensemble_steps._prepared(PART, start, world(500))
    np.testing.assert_array_equal(few.weight, many.weight)
    outs = [set(np.asarray(rows.order[: int(rows.held_out)]).tolist()) for rows in (few, many)]
    assert outs[0] == {each for each in outs[1] if each < 300}
    assert 0.05 * 500 < len(outs[1]) < 0.16 * 500
    for rows, count in ((few, 300), (many, 500)):
        assert int(rows.held_out + rows.training) == count
        assert set(np.asarray(rows.order[:count]).tolist()) == set(range(count))
    weight = np.asarray(many.weight)
    assert weight.mean() == pytest.approx(1.0, abs=0.1)
    assert weight.std() == pytest.approx(1.0, abs=0.1), "exponential"
    assert abs(np.corrcoef(weight.T)[0, 1]) < 0.1, "each network has its own"


def test_the_hold_out_is_limited(monkeypatch):
    monkeypatch.setattr(ensemble_steps, "HOLDOUT_MOST", 20)
    _, rows = ensemble_steps._prepared(PART, PART.init(KEY), world(500))
    assert int(rows.held_out) == 20


def test_rows_held_out_do_not_move_the_networks(fitted):
    """Other rewards in the hold-out change the loss there, and the scale of targets, but not a network otherwise."""
    part = dataclasses.replace(PART, normalise_targets=False, fit_steps=5)
    start, ring = part.init(KEY), world(500)
    _, rows = ensemble_steps._prepared(part, start, ring)
    out = rows.order[: int(rows.held_out)]
    data = ring.data._replace(reward=ring.data.reward.at[out].add(5.0))
    one, other = (part.fit(start, each, KEY) for each in (ring, ring._replace(data=data)))
    jax.tree.map(np.testing.assert_array_equal, one.heads, other.heads)
    assert (np.asarray(other.steps.after) > np.asarray(one.steps.after)).all()


def test_the_loss_is_the_weighted_likelihood(fitted):
    _, _, state = fitted
    _, rows = ensemble_steps._prepared(PART, state, world(500))
    index = jnp.arange(90).reshape(3, 30)
    taken = rows._replace(
        inputs=rows.inputs[index],
        targets=rows.targets[index],
        terminal=rows.terminal[index],
        weight=rows.weight[index, jnp.arange(3)[:, None]],
    )
    mean = np.float64(forward(state.heads.layers, taken.inputs, jax.nn.silu, PART.layer_norms))
    sigma = np.exp(np.float64(state.heads.log_deviation))[:, None] + LEAST_DEVIATION
    each = 0.5 * ((np.float64(taken.targets) - mean) / sigma) ** 2 + np.log(sigma)
    expected = (np.float64(taken.weight) * each.sum(axis=-1)).mean(axis=1).sum()
    assert float(ensemble_steps.loss(PART, state.heads, taken, ())) == pytest.approx(expected, rel=1e-4)


def test_decay_is_decoupled_and_the_deviation_has_a_rate_of_its_own():
    """At a gradient of zero, whose Adam step is zero, weights shrink by rate x decay and nothing else does."""
    part = dataclasses.replace(PART, decays=(0.1, 0.2, 0.3))
    start = part.init(KEY)
    zero = jax.tree.map(jnp.zeros_like, start.heads)
    heads, _ = ensemble_steps._descended(part, zero, start.optimiser, start.heads)
    for layer, before, decay in zip(heads.layers, start.heads.layers, part.decays, strict=True):
        np.testing.assert_allclose(layer.weight, before.weight * (1 - 3e-3 * decay), rtol=1e-6)
        np.testing.assert_array_equal(layer.bias, before.bias)
    ones = jax.tree.map(jnp.ones_like, start.heads)
    heads, _ = ensemble_steps._descended(PART, ones, start.optimiser, start.heads)
    moved = np.asarray(start.heads.log_deviation - heads.log_deviation)
    rate = 3e-3
    expected = rate * (10 * 1.0 + ensemble_steps.DEVIATION_DECAY * np.asarray(start.heads.log_deviation))
    np.testing.assert_allclose(moved, expected, rtol=1e-4)
    bias = np.asarray(start.heads.layers[0].bias - heads.layers[0].bias)
    np.testing.assert_allclose(bias, rate, rtol=1e-4)


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    part = dataclasses.replace(PART, hidden=(64, 64), dropout=(0.25, 0.01))
    pool = jax.random.bits(KEY, (ensemble_steps.POOL,), jnp.uint16)
    masks = ensemble_steps._masks(part, pool, jax.random.key(9))
    for mask, share in zip(masks, part.dropout, strict=True):
        assert mask.shape == (3, 64, 64)
        assert np.mean(mask == 0) == pytest.approx(share, abs=0.02)
        assert np.mean(mask) == pytest.approx(1.0, abs=0.03)
    assert not np.array_equal(masks[0] == 0, masks[1] == 0)


def test_layer_norm_is_the_known_one_and_soft_for_a_large_epsilon():
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    for epsilon in (1e-5, 0.1, 1.0):
        expected = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + epsilon)
        np.testing.assert_allclose(layer_norm(jnp.asarray(x), epsilon), expected, rtol=1e-4, atol=1e-6)
    small = 1e-3 * x
    np.testing.assert_allclose(
        layer_norm(jnp.asarray(small), 1.0), small - small.mean(axis=1, keepdims=True), atol=1e-8
    )


def test_elites_have_the_least_loss_and_a_fit_is_told(fitted):
    fit, _, state = fitted
    order = np.argsort(np.asarray(state.steps.after))
    np.testing.assert_array_equal(state.elites, order[:2])
    assert (np.asarray(state.steps.after) < np.asarray(state.steps.before)).all()
    assert int(state.epochs) == PART.fit_steps
    again = fit(state, world(500), jax.random.key(7))
    np.testing.assert_allclose(again.steps.before, state.steps.after, rtol=1e-3, atol=1e-3)


def test_a_fit_that_is_not_finite_changes_nothing(fitted):
    fit, _, state = fitted
    ring = world(500)
    ring = ring._replace(data=ring.data._replace(reward=ring.data.reward.at[3].set(jnp.nan)))
    broken = fit(state, ring, KEY)
    jax.tree.map(np.testing.assert_array_equal, broken.heads, state.heads)
    jax.tree.map(np.testing.assert_array_equal, broken.optimiser, state.optimiser)
    assert np.isinf(broken.holdout_error).all()


def test_following_is_stepping_in_distribution(fitted):
    """Means and deviations over 4000 draws; the reward is the elites' mean."""
    _, _, state = fitted
    observation = jnp.tile(jnp.array([[1.5, -0.3]], jnp.float32), (4000, 1))
    action = jnp.full((4000, 1), 0.4, jnp.float32)
    followed = PART.follow(state, observation, action, KEY)
    stepped, valid = PART.step(state, observation, action, jax.random.split(KEY, 4000))
    assert bool(valid.all())
    for ours, theirs in ((followed.observation, stepped.next_observation),):
        ours, theirs = np.float64(ours), np.float64(theirs)
        error = theirs.std(axis=0) / np.sqrt(4000)
        assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 6 * error).all()
        np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), rtol=0.1)
    assert len(np.unique(np.asarray(followed.reward).round(4))) <= 2, "one mean for each elite"
    assert np.std(np.float64(stepped.reward)) > 3 * np.std(np.float64(followed.reward))
    assert not bool(followed.terminal.any())


def test_each_elite_follows_its_own_block_drawn_afresh(fitted):
    _, _, state = fitted
    observation = jnp.tile(jnp.array([[1.5, -0.3]], jnp.float32), (7, 1))  # does not divide by two
    action = jnp.full((7, 1), 0.4, jnp.float32)
    rewards = np.stack(
        [np.asarray(PART.follow(state, observation, action, key).reward) for key in jax.random.split(KEY, 12)]
    )
    assert (rewards[:, :4] == rewards[:, :1]).all()
    assert (rewards[:, 4:] == rewards[:, 4:5]).all()
    assert (rewards[:, 0] != rewards[:, 4]).all(), "different elites"
    assert len(np.unique(rewards[:, 0])) == 2, "by chance"


def test_the_derivative_of_a_step_is_that_of_its_difference_quotient(fitted):
    _, _, state = fitted
    observation, action = jnp.array([[0.7, 0.2]], jnp.float32), jnp.array([[0.1]], jnp.float32)

    def outcome(action):
        followed = PART.follow(state, observation, action, KEY)
        return followed.reward[0] + followed.observation[0].sum()

    step = 1e-2
    quotient = (outcome(action + step) - outcome(action - step)) / (2 * step)
    assert float(jax.grad(outcome)(action)[0, 0]) == pytest.approx(float(quotient), rel=0.02)


def test_options_that_do_not_fit_are_refused():
    for changes, said in (
        ({"layer_norms": (1.0,)}, "layer_norms"),
        ({"dropout": (0.1,)}, "dropout"),
        ({"dropout": (0.1, 0.1), "fit_steps": None}, "fit_steps"),
    ):
        with pytest.raises(ValueError, match=said):
            dataclasses.replace(PART, **changes)
