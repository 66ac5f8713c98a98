"""A problem without an optimum is refused, and the mode at fault is named."""

from dataclasses import replace

import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr.optimum import solve
from mbpo.lqr.system import LinearQuadratic

ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
INTEGRATORS = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
IMPOSSIBLE = {
    "unreachable mode": (
        np.diag([1.2, 0.5]),
        [[0.0], [1.0]],
        np.eye(2),
        r"not stabilisable.*λ = 1\.2 .*\(1, 0\)",
    ),
    "unreachable on the circle": (
        np.diag([-1.0, 0.5]),
        [[0.0], [1.0]],
        np.eye(2),
        r"not stabilisable.*λ = -1 ",
    ),
    "no input at all": ([[1.5]], [[0.0]], [[1.0]], r"not stabilisable.*λ = 1\.5 "),
    "unreachable rotation": (
        np.block([[np.array([[0.0, 1.1], [-1.1, 0.0]]), np.zeros((2, 1))], [np.zeros((1, 2)), np.eye(1)]]),
        [[0.0], [0.0], [1.0]],
        np.eye(3),
        r"not stabilisable.*λ = 0 \+ 1\.1i",
    ),
    "one input for two equal modes": (
        1.1 * np.eye(2),
        [[1.0], [2.0]],
        np.eye(2),
        r"not stabilisable.*λ = 1\.1 ",
    ),
    "unreachable integrator chain": (
        ROTATION @ INTEGRATORS @ ROTATION.T,
        ROTATION @ [[1.0], [0.0], [1.0]],
        np.eye(3),
        r"not stabilisable.*λ = 1 ",
    ),
    "unseen mode": (
        np.diag([1.2, 0.5]),
        np.eye(2),
        np.diag([0.0, 1.0]),
        r"not detectable.*λ = 1\.2 .*\(1, 0\)",
    ),
    "unseen on the circle": (np.diag([1.0, 0.5]), np.eye(2), np.diag([0.0, 1.0]), r"not detectable.*λ = 1 "),
    "no cost": ([[1.0]], [[1.0]], [[0.0]], r"not detectable.*λ = 1 "),
    "unseen integrator chain": (
        ROTATION @ INTEGRATORS @ ROTATION.T,
        np.eye(3),
        ROTATION @ np.diag([0.0, 1.0, 1.0]) @ ROTATION.T,
        r"not detectable.*λ = 1 ",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_names_the_mode_that_fails(case: str) -> None:
    A, B, Q, message = IMPOSSIBLE[case]
    system = LinearQuadratic(A, B, Q, np.eye(np.shape(B)[1]), name="mine")
    with pytest.raises(InputError, match=f"^mine: .*{message}"):
        solve(system)
    with pytest.raises(InputError, match="terminal_cost"):
        solve(replace(system, horizon=5))
    terminal = np.eye(system.state_dim)
    assert np.isfinite(solve(replace(system, horizon=5, terminal_cost=terminal)).cost)


def test_the_discount_is_named_where_it_moves_the_circle() -> None:
    with pytest.raises(InputError, match=r"1/sqrt\(discount\) = 1\.05409"):
        solve(LinearQuadratic([[1.2]], [[0.0]], [[1.0]], [[1.0]], discount=0.9))


def test_a_stable_mode_need_not_be_reached_or_seen() -> None:
    assert solve(LinearQuadratic([[0.5]], [[0.0]], [[0.0]], [[1.0]])).cost == 0
