"""The study of the published bounds: what its table says, against the theorems and figures computed elsewhere."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr import bounds, catalogue, optimum
from mbpo.lqr.coordinates import exploration_covariance
from mbpo.studies import bound
from mbpo.studies.result import Request

SCALAR = replace(catalogue.get("scalar"), discount=0.8, initial_gain=[[-0.3]])
LAPLACIAN = catalogue.get("laplacian3")


def quiet(_):
    pass


@pytest.fixture(scope="module")
def laplacian():
    told: list[str] = []
    request = Request(seeds=24, transitions=2000, seed=3)
    result = bound.run([LAPLACIAN, SCALAR], request, told.append)
    assert len(told) == bound.steps([LAPLACIAN, SCALAR], request) == 20
    return result


def cells(result, name):
    return [row for row in result.rows if row["system"] == name and row["k"] == row["best_k_43"]]


def test_the_table_is_json_and_nothing_is_violated(laplacian):
    text = json.dumps(laplacian.to_json(), allow_nan=False)
    assert json.loads(text)["columns"]["eps_m_low"] == "lower end of the 95 % interval of eps_m"
    assert {row["violations"] for row in laplacian.rows} == {0}
    assert len(cells(laplacian, "laplacian3")) == len(cells(laplacian, "scalar")) == 9
    assert len(laplacian.findings) == 2
    assert all("24 models" in each and "95 % interval" in each for each in laplacian.findings)
    assert laplacian.findings[0].startswith("No gap exceeds its bound, but ")
    for row in laplacian.rows:
        for name in row:
            if name + "_low" in row and row[name] is not None:
                low, high = row[name + "_low"], row[name + "_high"]
                assert low <= row[name] <= high, name


def test_the_model_error_falls_like_the_root_of_the_transitions(laplacian):
    for row in cells(laplacian, "laplacian3"):
        if row["transitions"] >= 200:
            assert row["eps_m"] * np.sqrt(row["transitions"]) == pytest.approx(1.5, rel=0.08)


def test_rows_follow_from_the_theorems_and_the_recommended_lengths(laplacian):
    for row in laplacian.rows:
        g = laplacian.settings["systems"][row["system"]]["discount"]
        longest, k = laplacian.settings["systems"][row["system"]]["longest"], row["k"]
        curve = bounds.theorem_43(row["eps_m_current"], row["eps_pi"], g, longest)
        assert row["bound_43"] == pytest.approx(curve[k], rel=1e-12)
        assert row["bound_42"] == pytest.approx(
            bounds.theorem_42(row["eps_m"], row["eps_pi"], g, k)[k], rel=1e-12
        )
        assert row["bound_41"] == pytest.approx(bounds.theorem_41(row["eps_m"], row["eps_pi"], g), rel=1e-12)
        assert row["best_k_43"] == int(curve.argmin())
        assert row["looseness_43"] == pytest.approx(row["bound_43"] / row["gap"], rel=1e-9)
        alike = [
            each
            for each in laplacian.rows
            if all(each[n] == row[n] for n in ("system", "transitions", "share"))
        ]
        best = next(each for each in alike if each["k"] == row["best_k"])
        assert best["gap"] <= (1 + 1e-6) * min(each["gap"] for each in alike)
        enough = next(each for each in alike if each["k"] == row["enough_k"])
        assert enough["gap"] <= 1.1 * best["gap"]
        assert row["enough_k"] <= row["best_k"]
        assert all(each["gap"] > 1.1 * best["gap"] * 0.999 for each in alike if each["k"] < row["enough_k"])
    exact = [row for row in laplacian.rows if row["k"] == 0]
    assert all(row["gap_low"] == row["gap"] == row["gap_high"] for row in exact)  # no model enters


def test_a_figure_computed_elsewhere_with_less_exploration():
    """laplacian3, exploration 0.5, a fifth of the way to the optimum: eps_pi .131."""
    best, K_D = optimum.solve(LAPLACIAN), optimum.default_gain(LAPLACIAN)
    found = bounds.evaluate(
        LAPLACIAN,
        LAPLACIAN.A,
        LAPLACIAN.B,
        K_D,
        K_D + 0.2 * (best.gain - K_D),
        0.25 * np.eye(3),
        15.0,
        0.95,
        0,
    )
    assert found.eps_pi == pytest.approx(0.131, abs=1e-3)
    assert np.linalg.eigvalsh(exploration_covariance(LAPLACIAN, best)).min() > 0.25


def test_the_same_request_gives_the_same_rows_whatever_else_is_asked(laplacian):
    request = Request(seeds=24, transitions=2000, seed=3)
    again = bound.run([SCALAR], request, quiet)
    assert again.rows == [row for row in laplacian.rows if row["system"] == "scalar"]
    other = bound.run([SCALAR], replace(request, seed=4), quiet)
    assert other.rows != again.rows


def test_few_transitions_one_seed_and_a_policy_that_does_not_move():
    still = replace(SCALAR, initial_gain=optimum.solve(SCALAR).gain)
    request = Request(seeds=1, transitions=20)
    result = bound.run([still], request, quiet)
    assert sorted({row["transitions"] for row in result.rows}) == [4, 20]
    for row in result.rows:
        assert (row["eps_pi"], row["slope"], row["violations"]) == (0.0, None, 0)
    assert len(result.rows) == len({(r["transitions"], r["share"], r["k"]) for r in result.rows})


def test_what_the_study_cannot_handle():
    def refuse(system, words, **changes):
        with pytest.raises(InputError, match=words):
            bound.run([system], Request(**changes), quiet)

    refuse(catalogue.get("liquidation"), "not a finite horizon")
    refuse(replace(LAPLACIAN, W=np.diag([1.0, 0.0, 1.0])), "W must be positive definite")
    refuse(SCALAR, "at least 4 transitions, got 3", transitions=3)
    refuse(SCALAR, "at least 1 seed", seeds=0)
    refuse(replace(SCALAR, initial_gain=None), "needs stable closed loops, but 0 % of the way")
