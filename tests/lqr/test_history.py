"""Learning on histories: the world that shows them, the model padded with zeros, and what is learned."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning_cases import ring_of

from mbpo.core.types import Transition
from mbpo.errors import InputError
from mbpo.lqr.hidden import HiddenSystem, resolve_hidden
from mbpo.lqr.history import HistoryEnvironment, HistoryModel, HistoryState, train_on_history, used_entries
from mbpo.lqr.model import LeastSquares, contracts, plausible_models
from mbpo.lqr.output_feedback import whole

PENDULUM = resolve_hidden("pendulum")
QUIET = HiddenSystem(
    [[0.9, 0.3, 0.0], [0.0, 0.8, 0.2], [0.1, 0.0, 0.7]], [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], np.zeros((3, 3)),
    np.zeros((2, 2)), B=[[0.0], [0.0], [1.0]], Qy=np.diag([1.0, 2.0]), R=[[3.0]], name="quiet",
)  # fmt: skip


def test_entries_of_a_shorter_history():
    assert used_entries(QUIET, 2, 3).tolist() == [True] * 4 + [False] * 2 + [True, False]
    assert used_entries(PENDULUM, 1, 3).tolist() == [True, False, False, False, False]
    assert used_entries(PENDULUM, 3, 3).all()


@pytest.mark.parametrize(("order", "longest"), [(1, 1), (3, 3), (2, 3)])
def test_a_step_without_noise_is_that_of_the_whole_system(order, longest):
    used = used_entries(QUIET, order, longest)
    at, n = whole(QUIET, order), 3
    random = np.random.default_rng(0)
    x, h, u = random.standard_normal(3), random.standard_normal(int(used.sum())), random.standard_normal(1)
    h[:2] = QUIET.C @ x
    shown = np.zeros(len(used))
    shown[used] = h
    with jax.enable_x64(True):
        world = HistoryEnvironment.of(QUIET, used, 100.0)
        state = HistoryState(jnp.asarray(x), jnp.asarray(shown))
        step = eqx.filter_jit(world.step)(state, jnp.asarray(u), jax.random.key(0))
    expected = at.A @ np.concatenate([x, h]) + at.B @ u
    assert np.asarray(step.state.x) == pytest.approx(expected[:n])
    assert np.asarray(step.state.history)[used] == pytest.approx(expected[n:])
    assert np.array_equal(np.asarray(step.state.history)[~used], np.zeros((~used).sum()))
    assert np.asarray(step.transition.observation) == pytest.approx(shown)
    assert np.asarray(step.transition.next_observation)[used] == pytest.approx(expected[n:])
    cost = h[0] ** 2 + 2 * h[1] ** 2 + 3 * u[0] ** 2
    assert float(step.transition.reward) == pytest.approx(-cost)
    assert bool(step.valid)
    assert not bool(step.transition.terminal)


def test_noise_and_start_have_their_covariances_and_steps_beyond_the_limit_are_refused():
    count = 4000

    @eqx.filter_jit
    def look(world, keys):
        origin = HistoryState(jnp.zeros(2), jnp.zeros(1))
        far = world.step(HistoryState(jnp.full(2, 50.0), jnp.full(1, 50.0)), jnp.ones(1), keys[0])
        steps = jax.vmap(lambda key: world.step(origin, jnp.zeros(1), key))(keys)
        return jax.vmap(world.reset)(keys), steps, far

    with jax.enable_x64(True):
        world = HistoryEnvironment.of(PENDULUM, used_entries(PENDULUM, 1, 1), 1.0)
        start, steps, far = look(world, jax.random.split(jax.random.key(0), count))
    seen = np.asarray(steps.state.history)[:, 0]
    for values, variance in (
        (np.asarray(start.x)[:, 0], 1.0),
        (np.asarray(start.history)[:, 0], 1.0025),
        (np.asarray(steps.state.x)[:, 1], 0.04),
        (seen, 1e-4 + 0.0025),
    ):
        assert abs(np.mean(values**2) / variance - 1) < 4 * np.sqrt(2 / count)
    assert not bool(far.valid)
    assert float(far.transition.reward) == 0.0
    assert np.array_equal(np.asarray(far.transition.next_observation), [0.0])


def test_a_padded_model_is_the_short_one_and_sure_of_its_zeros():
    used = used_entries(PENDULUM, 1, 2)
    random = np.random.default_rng(1)
    x, u = random.standard_normal((50, 1)), random.standard_normal((50, 1))
    after = 0.5 * x + u + 0.1 * random.standard_normal((50, 1))
    short = np.linalg.lstsq(np.concatenate([x, u], axis=1), after, rcond=None)[0]
    now, then = (np.concatenate([each, np.zeros((50, 2))], axis=1) for each in (x, after))

    @eqx.filter_jit
    def fit(model, rows, key):
        fitted = model.fit(model.init(key), ring_of(rows), key)
        A, B = plausible_models(fitted, 20, key)
        imagined, _ = model.step(fitted, rows.observation, rows.action, jax.random.split(key, 50))
        return fitted, A, B, contracts(A), imagined.next_observation

    with jax.enable_x64(True):
        no = jnp.zeros(50, bool)
        rows = Transition(jnp.asarray(now), jnp.asarray(u), jnp.zeros(50), jnp.asarray(then), no, no)
        numbers = (jnp.eye(3), jnp.eye(1), jnp.asarray(1e3), jnp.asarray(1e-9))
        model = HistoryModel(LeastSquares(*numbers, learn_cost=False), jnp.asarray(used, jnp.float64))
        padded, A, B, stable, imagined = fit(model, rows, jax.random.key(0))
    assert np.asarray(padded.A)[0, 0] == pytest.approx(short[0, 0], rel=1e-7)
    assert np.asarray(padded.B)[0] == pytest.approx(short[1], rel=1e-7)
    assert np.array_equal(np.asarray(padded.A)[1:], np.zeros((2, 3)))
    assert np.array_equal(np.asarray(padded.W)[1:], np.zeros((2, 3)))
    assert np.abs(np.asarray(A)[:, 0, 1:]).max() < 0.2
    assert bool(stable.all())
    assert np.asarray(B)[:, 0].std() > 0
    assert np.array_equal(np.asarray(imagined)[:, 1:], np.zeros((50, 2)))
    assert np.asarray(imagined)[:, 0].std() > 0


REFUSED = {
    "algorithm": ({"algorithm": "dyna"}, "'dyna' does not learn on histories"),
    "nothing to control": ({"system": resolve_hidden("kozdoba")}, "kozdoba: control needs B, R"),
    "hidden cost": (
        {"system": HiddenSystem([[0.5]], [[1.0]], [[1.0]], [[1.0]], B=[[1.0]], Q=[[1.0]], R=[[1.0]])},
        "learning needs a cost of what is seen: give Qy, and no Q",
    ),
    "no start": ({"system": resolve_hidden("double_integrator")}, "no history gain of order 1"),
    "too short": ({"transitions": 7}, "transitions: a history of order 1 needs at least 8, got 7"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned_is_said(case):
    changes, words = REFUSED[case]
    asked = {"system": PENDULUM, "order": 1, "transitions": 1000, "seeds": 2, "seed": 0, "algorithm": "mbpo"}
    with pytest.raises(InputError, match=words):
        train_on_history(**{**asked, **changes})


@pytest.mark.slow
def test_more_outputs_leave_less_excess_and_padding_changes_no_method():
    found = {
        order: train_on_history(PENDULUM, order, 1000, 4, 0, "certainty-equivalence", longest=4)
        for order in (2, 4)
    }
    for order, each in found.items():
        assert each.gains.shape == (4, len(each.transitions), 1, 2 * order - 1)
        assert each.transitions[-1] == 1000
        assert (each.excess[np.isfinite(each.excess)] > -1e-9).all()
    assert 0.01 < np.median(found[4].excess[:, -1]) < 0.3
    assert 0.8 < np.median(found[2].excess[:, -1]) < 3
    again = train_on_history(PENDULUM, 4, 1000, 4, 0, "certainty-equivalence", longest=4)
    assert np.array_equal(again.gains, found[4].gains)
