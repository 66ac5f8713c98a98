"""Hidden systems: valid or refused in a sentence, read from TOML, and simulated with the covariances they claim."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr.hidden import HiddenSystem, hidden_names, load_hidden, resolve_hidden, simulate
from mbpo.lqr.kalman import state_covariances

GOOD: dict[str, Any] = {
    "A": [[0.9, 0.1], [0.0, 0.5]], "C": [[1.0, 1.0]], "W": [[1.0, 0.0], [0.0, 0.0]], "V": [[0.0]],
}  # fmt: skip
CONTROL: dict[str, Any] = {"B": [[0.0], [1.0]], "Qy": [[1.0]], "R": [[2.0]]}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "A not square": ({"A": [[1.0, 0.0]]}, r"A must be square, got shape \[1, 2\]"),
    "C": ({"C": [[1.0]]}, r"C must have shape \[1, 2\], got shape \[1, 1\]"),
    "no W": ({"W": None}, "W must be a matrix"),
    "W": ({"W": [[1.0]]}, r"W must have shape \[2, 2\], got shape \[1, 1\]"),
    "V": ({"V": np.eye(2)}, r"V must have shape \[1, 1\], got shape \[2, 2\]"),
    "asymmetric W": ({"W": [[1.0, 0.5], [0.0, 1.0]]}, "W must be symmetric"),
    "negative V": ({"V": [[-1.0]]}, "V must be positive semidefinite.* eigenvalue -1"),
    "X0": ({"initial_covariance": -np.eye(2)}, "initial_covariance must be positive semidefinite"),
    "NaN": ({"C": [[1.0, float("nan")]]}, r"C\[0, 1\] is nan"),
    "B": ({**CONTROL, "B": [[1.0]]}, r"B must have shape \[2, 1\], got shape \[1, 1\]"),
    "Qy": ({**CONTROL, "Qy": np.eye(2)}, r"Qy must have shape \[1, 1\]"),
    "Q": ({**CONTROL, "Q": [[1.0]]}, r"Q must have shape \[2, 2\]"),
    "R": ({**CONTROL, "R": [[0.0]]}, "R must be positive definite"),
    "R's shape": ({**CONTROL, "R": np.eye(2)}, r"R must have shape \[1, 1\]"),
    "cost without B": ({**CONTROL, "B": None}, "Qy is a cost of control, which needs an input matrix B"),
    "cost without R": ({**CONTROL, "R": None}, "Qy is given without R"),
    "R alone": ({**CONTROL, "Qy": None}, "R is given without a cost"),
    "name": ({"name": "two\nlines"}, "name must be one line of text"),
    "source": ({"source": 1}, "source must be a string, got 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    changes, words = BAD[case]
    with pytest.raises(InputError, match=words):
        HiddenSystem(**{**GOOD, **changes})


def test_a_valid_system_keeps_read_only_matrices_and_defaults():
    system = HiddenSystem(**GOOD, **CONTROL)
    assert (system.state_dim, system.output_dim, system.input_dim, system.has_cost) == (2, 1, 1, True)
    assert np.array_equal(system.initial_covariance, np.eye(2))
    with pytest.raises(ValueError, match="read-only"):
        system.A[0, 0] = 1.0
    forecast = HiddenSystem(**GOOD)
    assert (forecast.input_dim, forecast.has_cost) == (0, False)


def test_noise_is_scaled_as_a_standard_deviation():
    quieter = HiddenSystem(**{**GOOD, "V": [[4.0]]}).with_noise(3.0, 0.5)
    assert np.array_equal(quieter.W, [[9.0, 0.0], [0.0, 0.0]])
    assert np.array_equal(quieter.V, [[1.0]])


@pytest.mark.parametrize("name", hidden_names())
def test_named_systems_are_found_and_have_a_source(name):
    system = resolve_hidden(name)
    assert system.name == name
    assert system.source


def test_the_papers_system():
    system = resolve_hidden("kozdoba")
    assert np.array_equal(system.A, np.diag([0.999, 0.5]))
    assert np.array_equal(system.C, [[1.0, 1.0]])
    assert np.array_equal(np.sqrt(system.W), 0.5 * np.eye(2))
    assert np.array_equal(np.sqrt(system.V), [[0.5]])


def test_the_pendulum_is_sampled_exactly():
    from scipy.linalg import expm

    continuous = np.array([[0.0, 1.0, 0.0], [-2.0, -0.2, 1.0], [0.0, 0.0, 0.0]])
    system = resolve_hidden("pendulum")
    assert np.allclose(np.hstack([system.A, system.B]), expm(0.1 * continuous)[:2], rtol=0, atol=1e-15)


def test_a_file_is_read_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        "A = [[0.5]]\nC = [[1.0]]\nW = [[1.0]]\nV = [[2]]\nB = [[1.0]]\nR = [[1.0]]\nQ = [[3.0]]\n"
    )
    for system in (resolve_hidden(str(path)), resolve_hidden(path), load_hidden(path)):
        assert system.name == "mine"
        assert np.array_equal(system.V, [[2.0]])
        assert np.array_equal(system.Q, [[3.0]])


FILES = {
    "not TOML": ("A = ", "is not TOML"),
    "unknown key": ("A = [[1.0]]\nF = [[1.0]]\n", "unknown key 'F'"),
    "missing": ("A = [[1.0]]\nC = [[1.0]]\n", r"missing W, V \(a hidden system needs A, C, W, V\)"),
    "not valid": (
        "A = [[1.0]]\nC = [[1.0]]\nW = [[1.0]]\nV = [[-1.0]]\n",
        "toml: V must be positive semidef",
    ),
    "too deep": ("A = " + "[" * 3000, "nested too deeply|is not TOML"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_refused_with_its_path(case, tmp_path):
    text, words = FILES[case]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        resolve_hidden(str(path))


def test_what_cannot_be_found_or_read(tmp_path):
    with pytest.raises(InputError, match="there is no hidden system 'kozdobs', did you mean 'kozdoba'"):
        resolve_hidden("kozdobs")
    with pytest.raises(InputError, match="there is no such file"):
        resolve_hidden(str(tmp_path / "nothing.toml"))
    with pytest.raises(InputError, match="is a directory, expected a TOML file"):
        resolve_hidden(Path(tmp_path))
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        resolve_hidden(str(tmp_path / "x.toml"))


def test_simulated_outputs_have_the_covariances_of_the_system():
    system = HiddenSystem(**{**GOOD, "V": [[0.3]], "initial_covariance": [[2.0, 0.5], [0.5, 1.0]]})
    runs, steps = 20_000, 4
    outputs = simulate(system, steps, runs, 1)
    assert np.array_equal(outputs, simulate(system, steps, runs, 1))
    assert not np.array_equal(outputs, simulate(system, steps, runs, 2))
    Sigma = state_covariances(system, steps)
    for t in range(steps):
        expected = (system.C @ Sigma[t] @ system.C.T + system.V).item()
        assert abs(np.mean(outputs[:, t] ** 2) / expected - 1) < 4 * np.sqrt(2 / runs)
    lagged = (system.C @ system.A @ system.A @ Sigma[1] @ system.C.T).item()
    product = outputs[:, 3, 0] * outputs[:, 1, 0]
    assert abs(product.mean() - lagged) < 4 * product.std() / np.sqrt(runs)


def test_inputs_reach_the_outputs_one_step_later():
    system = HiddenSystem(
        **{**GOOD, "W": np.zeros((2, 2)), "initial_covariance": np.zeros((2, 2)), "B": [[1.0], [0.0]]}
    )
    inputs = np.zeros((1, 4, 1))
    inputs[0, 1] = 1.0
    assert np.allclose(simulate(system, 4, 1, 0, inputs)[0, :, 0], [0.0, 0.0, 1.0, 0.9])
