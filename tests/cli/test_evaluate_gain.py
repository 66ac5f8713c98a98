"""`mbpo evaluate-gain` and the JSON it promises."""

import json

import numpy as np
import pytest

from mbpo.cli import execute
from mbpo.lqr import catalogue
from mbpo.lqr.optimum import solve


def run(capsys, *arguments):
    status = execute(["evaluate-gain", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_optimal_gain_has_no_excess_and_no_gradient(capsys):
    gain = solve(catalogue.get("pendulum")).gain.tolist()
    status, out, _ = run(capsys, "pendulum", "--gain", json.dumps(gain), "--json")
    result = json.loads(out)
    assert status == 0
    assert result["excess_cost"] == pytest.approx(0, abs=1e-12)
    assert np.max(np.abs(result["gradient"])) < 1e-10


def test_gradient_is_that_of_the_cost(capsys):
    gain, step = np.array([[-0.7, -1.2]]), 1e-6

    def at(K):
        return json.loads(run(capsys, "double_integrator", "--gain", json.dumps(K.tolist()), "--json")[1])

    for j in range(2):
        offset = np.zeros((1, 2))
        offset[0, j] = step
        slope = (at(gain + offset)["cost"] - at(gain - offset)["cost"]) / (2 * step)
        assert at(gain)["gradient"][0][j] == pytest.approx(slope, rel=1e-6)


def test_unstable_gain_has_null_cost(capsys):
    status, out, _ = run(capsys, "double_integrator", "--gain", "[[1, 1]]", "--json")
    result = json.loads(out)
    assert status == 0
    assert result["cost"] is None
    assert result["gradient"] is None
    assert result["spectral_radius"] > 1
    assert "infinite" in run(capsys, "double_integrator", "--gain", "[[1, 1]]")[1]


UNDETECTABLE = """
A = [[1.2, 0.0], [0.0, 0.5]]
B = [[1.0], [0.0]]
Q = [[0.0, 0.0], [0.0, 1.0]]
R = [[1.0]]
"""


def test_a_finite_cost_is_given_where_no_optimum_is_certified(capsys, tmp_path):
    path = tmp_path / "unseen.toml"
    path.write_text(UNDETECTABLE)
    status, out, _ = run(capsys, str(path), "--gain", "[[-0.6, 0.0]]", "--json")
    result = json.loads(out)
    assert status == 0
    # F = diag(0.6, 0.5), P = diag(0.36 / (1 - 0.36), 1 / (1 - 0.25)), dJ/dK = 2 (K + F P) / (1 - 0.36)
    assert result["cost"] == pytest.approx(0.5625 + 4 / 3, rel=1e-14)
    assert result["gradient"][0] == pytest.approx([2 * (-0.6 + 0.6 * 0.5625) / 0.64, 0], rel=1e-13)
    assert result["spectral_radius"] == pytest.approx(0.6, rel=1e-14)
    assert result["optimal_cost"] is None
    assert result["excess_cost"] is None
    assert result["no_optimum"].startswith("unseen: (A, Q) is not detectable: the mode λ = 1.2 ")
    out = run(capsys, str(path), "--gain", "[[-0.6, 0.0]]")[1]
    for word in ("1.89583333333", "none", "not detectable", "Gradient"):
        assert word in out


def test_a_horizon_needs_a_known_terminal_cost_even_for_a_gain(capsys, tmp_path):
    path = tmp_path / "unseen.toml"
    path.write_text(UNDETECTABLE + "horizon = 5\n")
    status, _, err = run(capsys, str(path), "--gain", "[[-0.6, 0.0]]")
    assert status == 2
    assert "terminal_cost" in err
    path.write_text(UNDETECTABLE + "horizon = 5\nterminal_cost = [[1.0, 0.0], [0.0, 1.0]]\n")
    result = json.loads(run(capsys, str(path), "--gain", "[[-0.6, 0.0]]", "--json")[1])
    assert result["excess_cost"] > 0
    assert result["no_optimum"] is None


@pytest.mark.parametrize(
    ("gain", "hinted"),
    [("[[0.917, 1.682]]", True), ("[[-0.917, -1.682]]", False), ("[[0, 0]]", False), ("[[50, 50]]", False)],
)
def test_a_gain_of_the_other_sign_is_pointed_out(capsys, gain, hinted):
    result = json.loads(run(capsys, "double_integrator", "--gain", gain, "--json")[1])
    out = run(capsys, "double_integrator", "--gain", gain)[1]
    assert (result["hint"] is not None) == hinted
    assert ("-K stabilises" in out) == hinted
    if hinted:
        assert "spectral radius 0.917044" in result["hint"]
        assert "u = -Kx" in result["hint"]


@pytest.mark.parametrize(
    "gain", ["[[1]]", "[[1, 2, 3]]", "1 2", "[[1, NaN]]", "[[1, null]]", '"K"', "[1, 2]", "[[]]"]
)
def test_bad_gains_are_one_sentence(capsys, gain):
    status, out, err = run(capsys, "double_integrator", "--gain", gain, "--json")
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "gain" in err
