"""Every term of the three bounds against plain loops and Monte Carlo; the theorems themselves on random systems."""

from dataclasses import replace

import numpy as np
import pytest
from exact_cases import SYSTEMS, exploration, random_system, some_gain
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from mbpo.errors import InputError
from mbpo.lqr import optimum
from mbpo.lqr.bounds import best_length_43, evaluate, theorem_41, theorem_42, theorem_43, trivial_bound
from mbpo.lqr.reference import lyapunov

DISCOUNT, LONGEST = 0.6, 6


def case(system, models, seed, error=0.05):
    """A data gain, another gain, S, and random models near the truth."""
    rng = np.random.default_rng(seed)
    K_D, S = some_gain(system), exploration(system)
    K = K_D + 0.5 * (optimum.solve(system).gain - K_D)
    A = system.A + error * rng.normal(size=(models, *system.A.shape))
    B = system.B + error * rng.normal(size=(models, *system.B.shape))
    return A, B, K_D, K, S


MONTE_CARLO = {
    "random": (random_system(3, 2, 1.1, 5), 20.0),
    "double_integrator": (replace(SYSTEMS["double_integrator"], W=0.05 * np.eye(2)), 3.0),
}


class Sampled:
    """The same terms from simulated states: samples of a return `[size]`, or of the TV of one step `[T, size]`."""

    def __init__(self, system, A, B, K_D, K, S, scale, steps=30, size=20_000):
        self.system, self.K_D, self.K, self.S, self.scale, self.steps = system, K_D, K, S, scale, steps
        self.real, self.model, self.size = (system.A, system.B), (A, B), size
        self.rng = np.random.default_rng(7)
        self.W, self.explore = np.linalg.cholesky(system.W), np.linalg.cholesky(S)

    def start(self):
        root = np.linalg.cholesky(self.system.initial_covariance)
        return self.rng.normal(size=(self.size, len(root))) @ root.T

    def act(self, x, K):
        return x @ K.T + self.rng.normal(size=(self.size, len(K))) @ self.explore.T

    def move(self, x, u, world):
        return x @ world[0].T + u @ world[1].T + self.rng.normal(size=x.shape) @ self.W.T

    def reward(self, x):
        u = self.act(x, self.K)
        cost = np.sum((x @ self.system.Q) * x, 1) + np.sum((u @ self.system.R) * u, 1)
        return np.exp(-cost / (2 * self.scale)) - 0.5

    def eta(self, world):
        x, total = self.start(), np.zeros(self.size)
        for t in range(self.steps):
            total += DISCOUNT**t * self.reward(x)
            x = self.move(x, self.act(x, self.K), world)
        return total

    def eta_branch(self, k):
        x, total = self.start(), np.zeros(self.size)
        for j in range(self.steps - k):
            branch = x
            for i in range(k):
                if j == 0:
                    total += DISCOUNT**i * self.reward(branch)
                branch = self.move(branch, self.act(branch, self.K), self.model)
            total += DISCOUNT ** (j + k) * self.reward(branch)
            x = self.move(x, self.act(x, self.K_D), self.real)
        return total

    def steps_of(self, K, difference, V):
        """TV of each sample at each step of the chain of K in the real system."""
        x, found, root = self.start(), [], np.linalg.inv(np.linalg.cholesky(V))
        for _ in range(self.steps):
            u = self.act(x, K)
            found.append(erf(np.linalg.norm(difference(x, u) @ root.T, axis=1) / np.sqrt(8)))
            x = self.move(x, u, self.real)
        return np.stack(found)

    def model_error(self, K):
        dA, dB = self.model[0] - self.real[0], self.model[1] - self.real[1]
        return self.steps_of(K, lambda x, u: x @ dA.T + u @ dB.T, self.system.W)

    def policy_shift(self):
        return self.steps_of(self.K_D, lambda x, u: x @ (self.K - self.K_D).T, self.S)


@pytest.mark.parametrize("name", MONTE_CARLO)
def test_monte_carlo_gives_every_term(name):
    system, scale = MONTE_CARLO[name]
    A, B, K_D, K, S = case(system, 1, 1)
    found = evaluate(system, A[0], B[0], K_D, K, S, scale, DISCOUNT, LONGEST)
    sampled = Sampled(system, A[0], B[0], K_D, K, S, scale)
    returns = {
        "eta": (found.eta, sampled.eta(sampled.real)),
        "eta_model": (found.eta_model, sampled.eta(sampled.model)),
        **{k: (found.eta_branch[k], sampled.eta_branch(k)) for k in (0, 3)},
    }
    for term, (exact, samples) in returns.items():
        error = samples.mean() - float(exact)
        assert abs(error) < 4.5 * samples.std() / np.sqrt(len(samples)), term
        assert abs(error) < 0.01 * trivial_bound(DISCOUNT) / 2, term
    for term, exact, samples in (
        ("eps_m", found.eps_m, sampled.model_error(K_D)),
        ("eps_m_current", found.eps_m_current, sampled.model_error(K)),
        ("eps_pi", found.eps_pi, sampled.policy_shift()),
    ):
        worst = samples[int(samples.mean(1).argmax())]
        assert abs(worst.mean() - float(exact)) < 4.5 * worst.std() / np.sqrt(len(worst)), term
        assert worst.mean() == pytest.approx(float(exact), rel=0.01), term


def plain_reward(system, Sigma, K, S, scale):
    both = np.concatenate([np.eye(len(Sigma)), K])
    Sigma_z = both @ Sigma @ both.T
    Sigma_z[len(Sigma) :, len(Sigma) :] += S
    C = np.zeros_like(Sigma_z)
    C[: len(Sigma), : len(Sigma)], C[len(Sigma) :, len(Sigma) :] = system.Q, system.R
    return np.linalg.det(np.eye(len(C)) + Sigma_z @ C / scale) ** -0.5 - 0.5


@pytest.mark.parametrize("name", ["laplacian3", "boeing747", "unstable"])
def test_plain_loops_give_the_same_returns(name):
    system, steps = SYSTEMS[name], 70
    A, B, K_D, K, S = case(system, 2, 2, 0.01)
    found = evaluate(system, A, B, K_D, K, S, 30.0, DISCOUNT, LONGEST)
    for i in range(2):

        def step(Sigma, gain, A=system.A, B=system.B):
            F = A + B @ gain
            return F @ Sigma @ F.T + B @ S @ B.T + system.W

        def worth(Sigma):
            return plain_reward(system, Sigma, K, S, 30.0)

        real = model = past = system.initial_covariance
        eta, eta_model, eta_branch = 0.0, 0.0, np.zeros(LONGEST + 1)
        for t in range(steps):
            eta, eta_model = eta + DISCOUNT**t * worth(real), eta_model + DISCOUNT**t * worth(model)
            eta_branch[t + 1 :] += DISCOUNT**t * worth(model)
            branch = past
            for k in range(LONGEST + 1):
                eta_branch[k] += DISCOUNT ** (t + k) * worth(branch)
                branch = step(branch, K, A[i], B[i])
            real, model, past = step(real, K), step(model, K, A[i], B[i]), step(past, K_D)
        np.testing.assert_allclose(found.eta, eta, rtol=0, atol=1e-11)
        np.testing.assert_allclose(found.eta_model[i], eta_model, rtol=0, atol=1e-11)
        np.testing.assert_allclose(found.eta_branch[i], eta_branch, rtol=0, atol=1e-11)


def test_published_formulas_with_numbers_put_in():
    assert float(theorem_41(0.033, 0.131, 0.95)) == pytest.approx(0.95 * 0.295 / 0.0025 + 2 * 0.131 / 0.05)
    at = theorem_42(0.1, 0.2, 0.5, 2)
    np.testing.assert_allclose(
        at, [0.4 + 1.2, 0.2 + 1.0 + 2 * 0.5, 0.1 + 0.9 + 4 * 0.5]
    )  # g^(k+1) eps_pi / .25, (g^k + 2) eps_pi / .5, k (eps_m + 2 eps_pi) / .5
    np.testing.assert_allclose(theorem_43(0.1, 0.2, 0.5, 2), [0.4 + 0.4, 0.2 + 0.2 + 0.2, 0.1 + 0.1 + 0.4])
    assert trivial_bound(0.95) == pytest.approx(20.0)


@given(
    st.floats(0, 1), st.one_of(st.just(0.0), st.floats(1e-9, 1)), st.floats(0.05, 0.99), st.integers(0, 200)
)
def test_best_lengths(eps_pi, eps_m, discount, longest):
    curve = theorem_43(eps_m, eps_pi, discount, longest)
    best = best_length_43(eps_m, eps_pi, discount, longest)
    assert 0 <= best <= longest
    assert curve[best] <= curve.min() * (1 + 1e-12)
    assert int(theorem_42(eps_m, eps_pi, discount, longest).argmin()) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 0.97), st.floats(0.001, 1.0), st.floats(0.1, 100))
def test_no_gap_exceeds_its_bound(seed, discount, error, scale):
    system = random_system(1 + seed % 3, 1 + seed % 2, 0.3 + (seed % 7) / 5, seed)
    found = evaluate(system, *case(system, 5, seed, error), scale, discount, 12)
    assert found.violations == 0
    assert np.isfinite(found.eta_branch).all()
    assert (found.gap_branch <= trivial_bound(discount)).all()
    shrunk = replace(found, bound_43=0.0 * found.bound_43)
    assert shrunk.violations == found.gap_branch.size  # so that a violation would be seen


def test_a_perfect_model_and_the_policy_of_the_data_leave_nothing():
    system = SYSTEMS["double_integrator"]
    _, _, K_D, K, S = case(system, 1, 0)
    same = evaluate(system, system.A, system.B, K_D, K_D, S, 5.0, 0.9, 30)
    assert same.eps_pi == float(same.eps_m) == float(same.eps_m_current) == 0.0
    np.testing.assert_allclose(same.eta_branch, same.eta, atol=1e-12)
    for bound in (same.bound_41, same.bound_42, same.bound_43):
        np.testing.assert_array_equal(bound, 0.0)
    moved = evaluate(system, system.A, system.B, K_D, K, S, 5.0, 0.9, 200)
    np.testing.assert_allclose(moved.eta_model, moved.eta, atol=1e-12)
    assert (np.diff(moved.bound_43) < 0).all()
    assert moved.gap_branch[0] > 1e-2
    assert moved.gap_branch[-1] < 1e-8


def test_long_branches_are_model_rollouts_and_many_models_are_single_ones():
    system = SYSTEMS["laplacian3"]
    A, B, K_D, K, S = case(system, 6, 4)
    A, B = A.reshape(2, 3, 3, 3), B.reshape(2, 3, 3, 3)
    many = evaluate(system, A, B, K_D, K, S, 10.0, DISCOUNT, 140)
    np.testing.assert_allclose(many.eta_branch[..., -1], many.eta_model, atol=1e-12)
    one = evaluate(system, A[1, 2], B[1, 2], K_D, K, S, 10.0, DISCOUNT, 140)
    assert one.eps_m.shape == ()
    for field in ("eta_model", "eta_branch", "eps_m", "eps_m_current", "bound_41", "bound_42", "bound_43"):
        np.testing.assert_allclose(getattr(one, field), getattr(many, field)[1, 2], rtol=1e-12, err_msg=field)


def test_maxima_over_time_reach_from_the_start_to_the_limit():
    base = SYSTEMS["double_integrator"]
    A, B, K_D, K, S = case(base, 1, 3)
    D = np.linalg.inv(np.linalg.cholesky(S)) @ (K - K_D)
    F = base.A + base.B @ K_D
    limit = lyapunov(F, base.W + base.B @ S @ base.B.T)
    for start in (0 * limit, limit, 50 * limit):
        system = replace(base, initial_covariance=start)
        found = evaluate(system, A[0], B[0], K_D, K, S, 5.0, 0.9, 0)
        largest = max(float((D @ Sigma @ D.T)[0, 0]) for Sigma in (start, limit))
        assert found.eps_pi == pytest.approx(2 / np.pi * np.arctan(np.sqrt(largest) / 2), rel=1e-9)


def test_an_unstable_model_has_the_lowest_reward_in_the_end():
    system = SYSTEMS["laplacian3"]
    _, _, K_D, K, S = case(system, 1, 0)
    for growth in (1.3, 50.0, 1e9):
        found = evaluate(system, growth * np.eye(3), system.B, K_D, K, S, 15.0, 0.95, 100)
        assert np.isfinite(found.eta_branch).all()
        assert found.violations == 0
    assert -10.0 < float(found.eta_model) < -9.0
    assert float(found.eps_m) == pytest.approx(1.0)


def test_what_cannot_be_bounded_is_refused():
    system = SYSTEMS["laplacian3"]
    A, B, K_D, K, S = case(system, 1, 0)
    rest = (S, 1.0, 0.9, 3)
    with pytest.raises(InputError, match="finite horizon"):
        evaluate(replace(system, horizon=5), A, B, K_D, K, *rest)
    with pytest.raises(InputError, match="W must be positive definite"):
        evaluate(replace(system, W=np.diag([1.0, 1.0, 0.0])), A, B, K_D, K, *rest)
    with pytest.raises(InputError, match=r"gain must stabilise it, got spectral radius 1\.02"):
        evaluate(system, A, B, K_D, 0 * K, *rest)
    with pytest.raises(InputError, match="data_gain must stabilise it"):
        evaluate(system, A, B, 0 * K, K, *rest)
    with pytest.raises(InputError, match="models must be finite"):
        evaluate(system, A[:, :2], B, K_D, K, *rest)
    with pytest.raises(InputError, match="models must be finite"):
        evaluate(system, A * np.inf, B, K_D, K, *rest)
    with pytest.raises(InputError, match="exploration must be positive definite"):
        evaluate(system, A, B, K_D, K, 0 * S, *rest[1:])
    for numbers in ((0.0, 0.9, 3), (1.0, 1.0, 3), (1.0, 0.9, -1)):
        with pytest.raises(InputError, match="expected 0 < discount < 1"):
            evaluate(system, A, B, K_D, K, S, *numbers)
