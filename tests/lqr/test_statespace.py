"""python-control's StateSpace: kept when discrete, sampled with a zero-order hold when continuous."""

import sys

import control
import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr import catalogue
from mbpo.lqr.statespace import from_statespace, to_statespace

Q, R = np.eye(2), np.eye(1)


def continuous() -> control.StateSpace:
    return control.ss([[0.0, 1.0], [2.0, -0.3]], [[0.0], [1.5]], np.eye(2), np.zeros((2, 1)))


@pytest.mark.parametrize("name", catalogue.names())
def test_there_and_back(name: str) -> None:
    system = catalogue.get(name)
    back = from_statespace(to_statespace(system), system.Q, system.R)
    np.testing.assert_array_equal(back.A, system.A)
    np.testing.assert_array_equal(back.B, system.B)


def test_continuous_is_sampled_as_python_control_does() -> None:
    ss = continuous()
    expected = control.c2d(ss, 0.07, method="zoh")
    system = from_statespace(ss, Q, R, dt=0.07, discount=0.9, name="sampled")
    np.testing.assert_allclose(system.A, expected.A, rtol=1e-12)
    np.testing.assert_allclose(system.B, expected.B, rtol=1e-12)
    assert (system.name, system.objective) == ("sampled", "discount")


def test_sampling_time_is_carried() -> None:
    assert to_statespace(catalogue.get("pendulum"), 0.05).dt == 0.05
    assert to_statespace(catalogue.get("pendulum")).dt is True


@pytest.mark.parametrize(
    ("make", "dt", "message"),
    [
        (continuous, None, "explicit dt"),
        (continuous, 0, "positive"),
        (continuous, -1.0, "positive"),
        (continuous, float("nan"), "positive"),
        (lambda: control.c2d(continuous(), 0.1), 0.2, "at odds"),
        (lambda: control.ss(np.eye(2), np.ones((2, 1)), np.eye(2), np.zeros((2, 1)), None), None, "dt=True"),
        (lambda: np.eye(2), None, "StateSpace, got a ndarray"),
    ],
)
def test_refuses(make, dt: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_statespace(make(), Q, R, dt=dt)


def test_names_the_extra_when_python_control_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "control", None)
    with pytest.raises(InputError, match=r"mbpo\[control\]"):
        to_statespace(catalogue.get("scalar"))
