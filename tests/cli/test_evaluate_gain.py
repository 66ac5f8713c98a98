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


@pytest.mark.parametrize(
    "gain", ["[[1]]", "[[1, 2, 3]]", "1 2", "[[1, NaN]]", "[[1, null]]", '"K"', "[1, 2]", "[[]]"]
)
def test_bad_gains_are_one_sentence(capsys, gain):
    status, out, err = run(capsys, "double_integrator", "--gain", gain, "--json")
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "gain" in err
