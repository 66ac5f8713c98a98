"""A fit of the ensemble watched row by row: bootstrap, hold-out, early stopping, snapshots, elites, warm start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ensemble_cases import RecordedFit, outputs, ring_of, start_of

from mbpo.deep import ensemble_fit
from mbpo.deep.ensemble import Ensemble

N, HELD_OUT, CAPACITY = 90, 18, 128


def never(observation, action, following):
    return jnp.bool_(False)


PART = Ensemble(
    2, 1, never, hidden=(8,), decays=(1e-4, 1e-3), learning_rate=0.03, batch_size=20, patience=3
)  # 72 training rows: the last batch of an epoch is not full


def rows(seed):
    draw = np.random.default_rng(seed)
    observation, action = draw.normal(size=(N, 2)) * [3.0, 0.2] + [1.0, -2.0], draw.uniform(-1, 1, (N, 1))
    following = observation + 0.5 * np.tanh(observation[:, ::-1]) + action + 0.3 * draw.normal(size=(N, 2))
    return tuple(np.float32(each) for each in (observation, action, np.arange(N) / PART_ID, following))


PART_ID = RecordedFit.ID


class Watched:
    """One fit and what was seen of it."""

    def __init__(self, fit, state, seed):
        self.rows = rows(seed)
        self.state = fit(state, ring_of(*self.rows, capacity=CAPACITY), jax.random.key(seed))
        self.batches, self.errors, self.epochs = fit.batches, np.array(fit.errors), fit.epochs()
        self.holdout = np.setdiff1d(np.arange(N), np.concatenate(self.epochs, axis=None))


@pytest.fixture(scope="module")
def fits():
    """Two fits in a row, the second from where the first ended."""
    fit = RecordedFit(PART)
    first = Watched(fit, start_of(PART), 1)
    second = Watched(fit, first.state, 2)
    assert fit.compiled._cache_size() == 1
    return first, second


def test_every_epoch_uses_each_bootstrap_row_once_in_an_order_of_its_own(fits):
    for seen in fits:
        assert len(seen.epochs) > 4
        assert all(ids.shape == (7, N - HELD_OUT) for ids in seen.epochs)
        drawn = np.sort(seen.epochs[0], axis=1)
        for ids in seen.epochs[1:]:
            np.testing.assert_array_equal(np.sort(ids, axis=1), drawn)  # drawn once, not every epoch
        for one, other in zip(seen.epochs[:-1], seen.epochs[1:], strict=True):
            assert np.mean(one == other) < 0.15, "rows are shuffled afresh"
        assert np.mean(np.diff(seen.epochs[0], axis=1) == 1) < 0.15


def test_the_bootstrap_differs_between_networks_and_between_fits(fits):
    counts = [[np.bincount(ids, minlength=N) for ids in seen.epochs[0]] for seen in fits]
    every = np.array(counts).reshape(14, N)
    for i in range(14):
        for j in range(i):
            assert np.mean(every[i] == every[j]) < 0.75
    distinct = np.mean(every > 0, axis=1) * N / (N - HELD_OUT)
    np.testing.assert_allclose(distinct.mean(), 1 - np.exp(-1.0), atol=0.05)
    assert every.max() > 2, "with replacement"


def test_hold_out_rows_are_a_fifth_shared_and_never_trained_on(fits):
    first, second = fits
    assert len(first.holdout) == len(second.holdout) == HELD_OUT
    assert set(first.holdout) != set(second.holdout), "split anew by every fit"


def test_all_batches_but_the_last_are_full(fits):
    for seen in fits:
        sizes = [int(weight.sum()) for _, weight in seen.batches[:4]]
        assert sizes == [20, 20, 20, 12]


def test_inputs_are_standardised_with_the_training_rows_of_the_fit(fits):
    for seen in fits:
        training = np.setdiff1d(np.arange(N), seen.holdout)
        x = np.concatenate(seen.rows[:2], axis=1)[training].astype(np.float64)
        np.testing.assert_allclose(seen.state.inputs.mean, x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(seen.state.inputs.scale, x.std(axis=0), rtol=1e-5)
        np.testing.assert_array_equal(seen.state.targets.mean, np.zeros(3))
        np.testing.assert_array_equal(seen.state.targets.scale, np.ones(3))


def followed(errors, patience):
    """What early stopping keeps of a history of hold-out errors: best errors, their epochs, and the epochs run."""
    best, at, waiting = np.full(errors.shape[1], np.inf), np.zeros(errors.shape[1], int), 0
    for epoch, error in enumerate(errors):
        better = (error < 0.99 * best) | np.isinf(best)
        best, at = np.where(better, error, best), np.where(better, epoch, at)
        waiting = 0 if better.any() else waiting + 1
        if waiting > patience:
            return best, at, epoch + 1
    return best, at, None


def test_a_fit_stops_when_no_network_has_improved_by_one_percent_for_longer_than_patience(fits):
    for seen in fits:
        best, at, epochs = followed(seen.errors, PART.patience)
        assert epochs == len(seen.errors) == int(seen.state.epochs)
        np.testing.assert_array_equal(seen.state.holdout_error, best)
        assert at.max() == epochs - PART.patience - 2


def test_each_network_returns_to_its_own_best_snapshot(fits):
    for seen in fits:
        best, at, _ = followed(seen.errors, PART.patience)
        others = seen.errors[at.max()]
        assert np.unique(at).size > 2, "networks are best at different epochs"
        assert np.sum(np.abs(others / best - 1) > 1e-3) > 2, (
            "so one snapshot of all would be another ensemble"
        )
        observation, action, reward, following = (each[seen.holdout].astype(np.float64) for each in seen.rows)
        x = np.concatenate([observation, action], axis=1) - np.float64(seen.state.inputs.mean)
        targets = np.concatenate([reward[:, None], following - observation], axis=1)
        mean, _, _ = outputs(PART, seen.state.heads, (x / np.float64(seen.state.inputs.scale))[None])
        np.testing.assert_allclose(np.mean((mean - targets) ** 2, axis=(1, 2)), best, rtol=1e-4)


def test_elites_are_the_networks_with_the_smallest_hold_out_errors(fits):
    for seen in fits:
        np.testing.assert_array_equal(seen.state.elites, np.argsort(seen.state.holdout_error)[:5])


def test_a_fit_starts_from_the_networks_and_the_moments_of_the_last(fits):
    first, second = fits
    adam = second.state.optimiser[0]
    assert int(adam.count) == len(first.batches) + len(second.batches)
    assert second.errors[0].mean() < 0.7 * first.errors[0].mean()
    assert second.errors[0].max() < 1.6 * first.state.holdout_error.max()


def test_a_fit_runs_no_more_than_most_epochs():
    part = Ensemble(1, 1, never, 2, 1, (), (0.0,), learning_rate=1e-3, patience=50, most_epochs=4)
    draw = np.random.default_rng(0)
    x, u = draw.normal(size=(40, 1)), draw.normal(size=(40, 1))
    state = jax.jit(part.fit)(start_of(part), ring_of(x, u, x[:, 0], x + u), jax.random.key(0))
    assert int(state.epochs) == 4
    assert int(state.optimiser[0].count) == 4, "a batch larger than the data is one step"


def test_a_coordinate_that_never_changes_is_not_scaled():
    """Rounding gives 0.45 a standard deviation of 1e-6 when the mean is summed as it stands."""
    rows = jnp.full((400, 2), 0.45, jnp.float32).at[:, 1].set(jnp.arange(400, dtype=jnp.float32))
    mean, scale = ensemble_fit._affine(rows, jnp.ones(400, jnp.float32).at[300:].set(0.0))
    assert (float(mean[0]), float(scale[0])) == (np.float32(0.45), 1.0)
    np.testing.assert_allclose([mean[1], scale[1]], [149.5, np.std(np.arange(300))], rtol=1e-5)
