"""The study of forgetting: the numbers of a small run against their own formulas, and sentences that say them."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr import intervals, kalman
from mbpo.lqr.autoregressive import gradient_descent
from mbpo.lqr.hidden import HiddenSystem, resolve_hidden, simulate
from mbpo.lqr.history import HistoryTraining
from mbpo.lqr.output_feedback import best_history_gain, lqg_cost
from mbpo.studies import forgetting
from mbpo.studies.forgetting_text import COLUMNS, _missing, findings
from mbpo.studies.result import Request

SMALL = Request(seeds=12, transitions=80, seed=3)
OWN = HiddenSystem(
    [[0.8, 0.5], [0.0, 0.6]], [[1.0, 0.0], [1.0, 1.0]], np.eye(2), 0.5 * np.eye(2), name="mine"
)


@pytest.fixture(scope="module")
def short():
    """Few cells, orders and resamples, and training that answers at once: excess 1 / order, infinite for one seed."""
    asked = []

    def trained(system, order, transitions, seeds, seed, algorithm, longest):
        asked.append((system.name, order, transitions, seeds, seed, algorithm, longest))
        costs = lqg_cost(system) * (1 + np.full((seeds, 1), 1.0) / order)
        costs[0] = np.inf
        return HistoryTraining(np.array([transitions]), np.zeros((seeds, 1, 1, 1)), costs, lqg_cost(system))

    changes = {
        "GRID": (0.5, 1.0),
        "EXACT": (1, 2),
        "TRAINED": (2, 1),
        "RESAMPLES": 100,
        "train_on_history": trained,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 100)
        for name, value in changes.items():
            patch.setattr(forgetting, name, value)
        yield asked


@pytest.fixture(scope="module")
def paper(short):
    """The paper's system, what was trained, and what was said on the way."""
    short.clear()
    result, said = ran([resolve_hidden("kozdoba")])
    return result, list(short), said


def ran(systems, request=SMALL):
    said = []
    return forgetting.run(systems, request, said.append), said


def pick(result, **wanted):
    return [row for row in result.rows if all(row[name] == value for name, value in wanted.items())]


def test_the_papers_system_by_every_part(paper):
    system = resolve_hidden("kozdoba")
    result, asked, said = paper
    assert len(said) == forgetting.steps([system], SMALL) == 5
    assert asked == [("pendulum", order, 1200, 8, 3, "mbpo", 2) for order in (2, 1)]
    json.dumps(result.to_json(), allow_nan=False)
    assert {type(value) for row in result.rows for value in row.values()} <= {int, float, str, type(None)}
    assert [len(pick(result, part=part)) for part in ("order", "noise", "regret", "control")] == [
        60,
        4,
        16,
        6,
    ]
    window = (40, 80)
    for process, observation in forgetting.NOISES:
        noisy = replace(system, W=process**2 * np.eye(2), V=[[observation**2]])
        rows = pick(result, part="order", process=process, observation=observation)
        assert [row["order"] for row in rows] == list(range(1, 11))
        for row in rows:
            exact = kalman.best_autoregression(noisy, row["order"], window)
            assert row["error"] == pytest.approx(exact.error, rel=1e-9)
            assert row["exact_gap"] == pytest.approx(exact.gap, rel=1e-7)
            assert row["kalman"] == pytest.approx(kalman.kalman_error(noisy, window), rel=1e-9)
            assert row["rate"] == pytest.approx(kalman.forgetting_rate(noisy), rel=1e-7)
            assert row["gap_low"] <= row["gap"] <= row["gap_high"]
            assert row["gap"] == pytest.approx(exact.gap, rel=0.6)
            assert (row["factor"] is None) == (row["order"] <= 5)
        last = rows[-1]
        assert last["factor"] == pytest.approx((last["exact_gap"] / rows[4]["exact_gap"]) ** 0.2)
        assert last["pace"] == pytest.approx((last["gap"] / rows[4]["gap"]) ** 0.2)
        assert last["pace_low"] <= last["pace"] <= last["pace_high"]
        if process > 0 and observation < 1:
            assert last["factor"] == pytest.approx(last["rate"] ** 2, rel=0.01)
    without = pick(result, part="order", process=0.0)[-1]
    assert without["factor"] > 0.8
    for row in pick(result, part="noise"):
        assert row["ratio"] == pytest.approx(row["error"] / row["kalman"])
        assert row["learned_ratio"] == pytest.approx(row["learned"] / row["kalman_realised"])
        assert row["runs"] == 12


def test_regret_is_the_sum_of_what_is_lost(paper):
    system, result = resolve_hidden("kozdoba"), paper[0]
    outputs = simulate(system, 80, 12, 3)
    best = (outputs - kalman.forecasts(system, outputs))[:, :, 0] ** 2
    made = gradient_descent(outputs, 2)
    lost = (outputs - made.forecasts)[:, :40, 0] ** 2 - best[:, :40]
    row = pick(result, learner="gradient descent (published step)", time=40)[0]
    assert row["regret"] == pytest.approx(lost.sum(axis=1).mean())
    assert row["bound"] == pytest.approx(
        2 * (1 + np.mean(np.abs(outputs).max(axis=1)[:, 0] ** 2)) * math.sqrt(40)
    )
    assert row["guarantee"] > row["regret"]
    assert pick(result, learner="least squares", time=80)[0]["regret"] < row["regret"]


def test_control_is_measured_against_lqg(paper):
    result, pendulum = paper[0], resolve_hidden("pendulum")
    for order in (1, 2):
        best = pick(result, part="control", order=order, learner="best gain found")[0]
        assert best["excess"] == pytest.approx(best_history_gain(pendulum, order)[1] / lqg_cost(pendulum) - 1)
        learned = pick(result, part="control", order=order, learner="MBPO")[0]
        assert learned["excess"] == pytest.approx(1 / order)
        assert (learned["excess_high"], learned["unstable"]) == (None, 0.125)  # one of eight is lost
        assert (learned["runs"], learned["time"]) == (8, 1200)


def test_the_same_request_gives_the_same_rows_and_another_seed_others(short):
    few = Request(seeds=3, transitions=40, seed=3)
    rows = [ran([OWN], replace(few, seed=seed))[0].rows for seed in (3, 3, 4)]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_a_system_of_ones_own_with_two_outputs(short):
    result, said = ran([OWN])
    assert len(said) == forgetting.steps([OWN], SMALL)
    rows = pick(result, part="order", system="mine", process=0.5, observation=0.5)
    assert rows[0]["kalman"] == pytest.approx(kalman.kalman_error(OWN, (40, 80)), rel=1e-12)
    assert all(later["exact_gap"] < earlier["exact_gap"] for earlier, later in pairwise(rows))
    assert result.findings[0].startswith(
        "mine, 12 runs: the gap between the best AR(s) and the Kalman filter falls"
    )
    assert list(result.rows[0]) == list(COLUMNS)


def test_what_cannot_be_controlled_is_left_out_with_a_reason(short):
    double = resolve_hidden("double_integrator")
    result, said = ran([double])
    assert len(said) == forgetting.steps([double], SMALL)
    assert {row["order"] for row in pick(result, part="control")} == {2}
    assert any(
        "Control from 1 output is left out: double_integrator: no history gain" in each
        for each in result.caveats
    )
    hidden_cost = replace(double, Q=np.eye(2), Qy=None)
    assert forgetting.steps([hidden_cost], SMALL) == 3
    assert not pick(ran([hidden_cost])[0], part="control")


def test_findings_say_what_the_rows_say(paper):
    found = paper[0]
    rows = pick(found, part="order", process=0.5)
    assert len(found.findings) == 3
    assert f"falls from {rows[0]['gap']:.3g} (95 %: {rows[0]['gap_low']:.3g} to" in found.findings[0]
    assert f"predicts {rows[-1]['rate'] ** 2:.3g}" in found.findings[0]
    assert "12 runs" in found.findings[1]
    assert "by least squares" in found.findings[1]
    assert "MBPO on the last s outputs costs more than LQG" in found.findings[2]
    assert "s = 1: 100 % (95 %: 100 % to unbounded; unlimited data 460 %)" in found.findings[2]
    assert "8 seeds" in found.findings[2]


def test_findings_bear_missing_values():
    row = dict.fromkeys(COLUMNS)
    rows = [
        row | {"part": "order", "system": "x", "process": 0.5, "observation": 0.5, "order": s, "runs": 6, "rate": 0.0}
        | {f"{name}{end}": 0.0 for name in ("gap", "learned_gap") for end in ("", "_low", "_high")}
        for s in (1, 2)
    ]  # fmt: skip
    rows += [{**each, "process": 0.0} for each in rows]
    lost = {f"regret{end}": 1.0 for end in ("", "_low", "_high")}
    rows.append(
        row
        | lost
        | {"part": "regret", "system": "x", "learner": "least squares", "time": 40, "order": 2, "runs": 6}
    )
    about = {"part": "control", "system": "x", "order": 1}
    rows.append(row | about | {"learner": "MBPO", "runs": 6, "time": 50})
    rows.append(row | about | {"learner": "certainty equivalence, unlimited data"})
    said = findings(rows)
    assert "falls from 0 (95 %: 0 to 0) at s = 1 to 0 (95 %: 0 to 0) at s = 2." in said[0]
    assert said[2].endswith(
        "no finite value (95 %: unbounded to unbounded; unlimited data no finite value)."
    )  # and no word of what is missing, without the best gain
    for each in rows:
        each["runs"] = 5
    said = findings(rows)
    assert "falls from 0 (too few seeds for an interval) at s = 1" in said[0]
    assert "no finite value (too few seeds for an interval; unlimited data" in said[2]


def test_what_is_missing_is_told_from_the_rows():
    """On the pendulum two outputs could nearly do as well as LQG, and three can: an unbiased model is missing."""
    pendulum = resolve_hidden("pendulum")
    exact = [row for order in (1, 2, 3) for row in forgetting._control_limits(pendulum, order)]
    excess = {(row["learner"][:4], row["order"]): row["excess"] for row in exact}
    assert excess["best", 2] == pytest.approx(0.024, abs=1e-3)
    assert excess["best", 3] == pytest.approx(0, abs=1e-9)
    assert excess["cert", 2] == pytest.approx(1.327, abs=1e-3)
    assert excess["cert", 3] == pytest.approx(0.405, abs=1e-3)
    told = _missing([(s, 1.01 * excess["cert", s], excess["cert", s], excess["best", s]) for s in (1, 2, 3)])
    assert told == (
        " The best gain found on s outputs is above LQG by 360 % at s = 1, 2.4 % at s = 2, 0 % at s = 3: what is "
        "missing most is memory at s = 1 and an unbiased model at s = 2, 3."
    )
    assert _missing([(1, 0.5, 0.1, 0.1), (2, None, 0.1, 0.0), (3, None, None, 0.0)]).endswith(
        "is data at s = 1, 2 and an unbiased model at s = 3."
    )
    assert _missing([(1, 0.5, 0.1, None)]) == ""


REFUSED = {
    "short": (OWN, Request(transitions=20), "transitions: forgetting needs at least 40, got 20"),
    "growing": (replace(OWN, A=np.diag([1.2, 0.5])), Request(), "radius 1.2, so that .* 1,000,000-fold over 500"),
    "nothing": (
        replace(OWN, W=np.zeros((2, 2)), V=np.zeros((2, 2))), Request(), "mine: W and V leave nothing to forecast",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_forecast_is_said(case):
    system, request, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        ran([system], request)
