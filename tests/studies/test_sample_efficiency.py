"""The study of sample efficiency: its table from made-up trainings, and its limits against closed forms."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.stats import chi2

from mbpo.errors import InputError
from mbpo.lqr import catalogue
from mbpo.lqr.algorithms import ALGORITHMS
from mbpo.studies import sample_efficiency as study
from mbpo.studies.result import Request
from mbpo.studies.sample_efficiency_text import findings
from synthetic_runs import synthetic_training

SCALAR = catalogue.get("scalar")
LAW = (1e-4, 6e-4)
SYSTEMS = [
    dataclasses.replace(SCALAR, name=name, A=[[a]]) for name, a in (("one", 1.1), ("two", 1.2), ("six", 0.6))
]


def quiet(_):
    pass


def test_rows_of_a_learner():
    """20/N (1 + s/10) for seeds s = 0 .. 6: the median is 26/N, every level is an exact number of transitions."""
    training = synthetic_training(rounds=40, transitions=4000, seeds=7)
    rows = study.learner_rows("mbpo", training, LAW)
    assert all(list(row) == list(study.COLUMNS) for row in rows)
    end, curve = rows[0], rows[1:]
    assert {row["part"] for row in curve} == {"curve"}
    assert (end["part"], end["system"], end["algorithm"], end["seeds"]) == (
        "learner",
        "double_integrator",
        "mbpo",
        7,
    )
    assert [row["transitions"] for row in curve] == sorted({row["transitions"] for row in curve})
    assert (curve[0]["transitions"], curve[-1]["transitions"], end["transitions"]) == (100, 4000, 4000)
    assert len(curve) <= study.SHOWN + 1
    for row in rows:
        n = row["transitions"]
        assert row["excess"] == pytest.approx(26 / n)
        ends = row["excess_low"], row["excess_high"]
        assert ends == pytest.approx((20 / n, 32 / n))  # seven seeds: the extremes
        assert row["excess_p90"] == pytest.approx(32 / n)
        assert row["unstable"] == 0.0
        assert row["limit"] == pytest.approx(5 / n)
        assert row["over_limit"] == pytest.approx(26 / 5)
        assert (row["law_median"], row["law_p90"]) == pytest.approx([each * 4000 / n for each in LAW])
    assert [end[f"{name}_10"] for name in ("to", "to_low", "to_high", "to_p90")] == [300, 200, 400, 400]
    assert [end[f"{name}_1"] for name in ("to", "to_low", "to_high", "to_p90")] == [
        2600,
        2000,
        3300,
        3300,
    ]  # the last is above 1 % by rounding at 3200
    assert (end["first"], curve[0]["first"]) == (100, None)
    assert all(end[f"{name}_0.1"] is None for name in ("to", "to_low", "to_high", "to_p90"))
    assert all(row["to_1"] is None for row in curve)
    few = study.learner_rows("mbpo", synthetic_training(rounds=40, transitions=4000, seeds=5), LAW)
    assert few[0]["excess"] == pytest.approx(24 / 4000)
    for row in few:
        names = ("excess_low", "excess_high", "to_low_10", "to_high_10", "to_low_1", "to_high_1")
        assert all(row[name] is None for name in names)
    even = study.learner_rows("mbpo", synthetic_training(seeds=6, unstable=3), LAW)[0]
    assert even["excess"] is None  # exactly half do not stabilise


def test_what_is_infinite_is_none():
    end = study.learner_rows(
        "mbpo", synthetic_training(unstable=1, rounds=40, transitions=4000, seeds=7), LAW
    )[0]
    assert (end["unstable"], end["excess"]) == (pytest.approx(1 / 7), pytest.approx(26 / 4000))
    assert end["excess_high"] is end["excess_p90"] is end["to_high_1"] is end["to_p90_1"] is None
    assert (end["to_1"], end["to_low_1"]) == (2600, 2000)
    lost = study.learner_rows("dpg", synthetic_training("dpg", unstable=3), (math.inf, math.inf))
    for row in lost:
        assert row["law_median"] is row["law_p90"] is None
    assert lost[0]["excess"] is lost[0]["over_limit"] is lost[0]["to_10"] is None
    assert lost[0]["unstable"] == 0.6
    json.dumps(lost, allow_nan=False)


@pytest.mark.parametrize("limit", [0.0, math.inf])
def test_over_a_limit_that_is_zero_or_infinite_there_is_nothing(limit):
    training = dataclasses.replace(synthetic_training(), limit_curve=np.full(12, limit))
    row = study.learner_rows("mbpo", training, LAW)[0]
    assert row["over_limit"] is None
    assert row["limit"] == (limit if limit == 0.0 else None)


def best_of(a, b, q=1.0, r=1.0):
    """Value and gain of the scalar system, by the quadratic that the Riccati equation becomes; complex-safe."""
    half = (r - q * b**2 - a**2 * r) / (2 * b**2)
    P = -half + (half**2 + q * r / b**2) ** 0.5
    return P, -a * b * P / (r + b**2 * P)


def test_limits_of_the_scalar_system_are_the_closed_forms():
    """c = H/2 tr(DK Sigma_z^-1 DK' W) with H = 2 Sigma (r + P), and 2 m sqrt(tau T), both over J* = P W."""
    total = 10_000
    a, W = 1.1, 1.0
    P, K = best_of(a, 1.0)
    S = P * W / (1 + P)  # exploring costs what the optimum costs
    step = 1e-30j
    DK = np.array([best_of(a + step, 1.0)[1].imag, best_of(a, 1.0 + step)[1].imag]) / 1e-30
    _, first = best_of(a, 1.0, r=100.0)
    Sigma = (W + S) / (1 - (a + first) ** 2)
    Sigma_z = np.array([[Sigma, first * Sigma], [first * Sigma, first**2 * Sigma + S]])
    at_optimum = W / (1 - (a + K) ** 2)
    c = at_optimum * (1 + P) * W * (DK @ np.linalg.solve(Sigma_z, DK))
    offline, regret = study.limit_rows(SCALAR, total)
    assert list(offline) == list(regret) == list(study.COLUMNS)
    assert {(row["part"], row["system"], row["transitions"]) for row in (offline, regret)} == {
        ("limit", "scalar", total)
    }
    assert (offline["algorithm"], regret["algorithm"]) == ("offline", "regret")
    assert offline["excess"] == pytest.approx(c / (P * W) / total, rel=1e-8)
    for name, share in (("law_median", 0.5), ("law_p90", 0.9)):
        assert offline[name] == pytest.approx(offline["excess"] * chi2.ppf(share, 1), rel=1e-8)
    for level, share in (("10", 0.1), ("1", 0.01), ("0.1", 0.001)):
        assert offline[f"to_{level}"] == math.ceil(c / (P * W) / share)
    tau = W * P * (a + K) * at_optimum * (a + K) * P
    assert regret["excess"] == pytest.approx(2 * math.sqrt(tau / total) / (P * W), rel=1e-8)
    assert study._law(SCALAR, total) == (offline["law_median"], offline["law_p90"])


def test_limits_that_do_not_exist_are_left_out():
    """Liquidation leaves its state where it is: no stationary state, no average cost."""
    liquidation = catalogue.get("liquidation")
    assert study.limit_rows(liquidation, 1000) == []
    assert study._law(liquidation, 1000) == (math.inf, math.inf)


def test_which_learners():
    few = study.learners([SCALAR, SCALAR])
    assert few[: len(study.HEADLINE)] == study.HEADLINE
    assert len(few) == len(set(few))
    configured = [dataclasses.replace(ALGORITHMS[name], summary="", choices=()) for name in few]
    assert len(set(configured)) == len(few)  # no two learn in the same way
    for name in few[len(study.HEADLINE) :]:
        assert not ALGORITHMS[name].uses_model
    assert {"reinforce", "mis", "zeroth-order-2"} < set(few)
    assert not {"known", "exact-advantage", "off-pac", "pathwise", "zeroth-order-2-common"} & set(few)
    assert study.learners([SCALAR] * 3) == study.MANY_SYSTEMS


def test_what_the_study_cannot_handle():
    def refuse(system, words, **changes):
        with pytest.raises(InputError, match=words):
            study.run([SCALAR, system], Request(**changes), quiet)

    refuse(dataclasses.replace(SCALAR, horizon=5, terminal_cost=[[7.0]]), "one gain for all stages")
    refuse(dataclasses.replace(SCALAR, W=[[0.0]]), "the optimal cost is 0")
    refuse(SCALAR, "policy-gradient needs at least 1600 real transitions on scalar", transitions=1599)
    refuse(SCALAR, "seeds", seeds=-1)


def trainings_of(systems, every, progress):
    """In the place of training: MBPO ends at 24/N, and policy gradient at ten times as much."""
    found = {}
    for group in study._groups(systems):
        for name in every:
            progress(name)
            for i in group:
                rate = 10.0 if name == "policy-gradient" else 1.0
                made = synthetic_training(
                    "mbpo", "scalar", seeds=every[name].seeds, rate=rate, rounds=50, transitions=10_000
                )
                found[i, name] = dataclasses.replace(made, system=systems[i], settings=every[name])
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_the_result_of_made_up_trainings(count, monkeypatch):
    monkeypatch.setattr(study, "_train_all", trainings_of)
    systems, told = SYSTEMS[:count], []
    names, learners = [system.name for system in systems], list(study.learners(systems))
    result = study.run(systems, Request(seeds=6, seed=4), told.append)
    assert len(told) == study.steps(systems, Request()) == len(learners)  # one program for all
    text = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(text)["systems"] == names
    assert result.settings == {"transitions": 10_000, "seed": 4, "learners": learners}
    assert {row["system"] for row in result.rows} == set(names)
    ends = [row for row in result.rows if row["part"] == "learner"]
    assert [(row["system"], row["algorithm"]) for row in ends] == [(a, b) for a in names for b in learners]
    assert sum(row["part"] == "limit" for row in result.rows) == 2 * count
    assert ("3 systems" if count == 3 else "one") in result.title
    assert all("6 seeds" in each for each in result.findings)
    assert len(result.findings) == (3 if count == 3 else 4)
    again = study.run(systems, Request(seeds=6, seed=4), quiet)
    assert again == result


def test_systems_of_one_shape_share_a_program():
    systems = [
        catalogue.get(name) for name in ("scalar", "boeing747", "scalar", "pendulum", "double_integrator")
    ]
    assert study._groups(systems) == [[0, 2], [1], [3, 4]]
    discounted = dataclasses.replace(SCALAR, discount=0.9)
    assert study._groups([SCALAR, discounted]) == [[0], [1]]


def rows_of(**systems):
    """Ends of mbpo and policy-gradient, by system: what they need to 10 %, 1 % and 0.1 %."""
    base = dict.fromkeys(study.COLUMNS) | {
        "part": "learner", "transitions": 10_000, "seeds": 16, "excess": 0.01, "excess_low": 0.005,
        "excess_high": 0.02, "unstable": 0.0, "limit": 0.005, "over_limit": 2.0,
    }  # fmt: skip
    return [
        base
        | {"system": system, "algorithm": name}
        | {
            f"{end}_{level}": at
            for level, at in zip(study.LEVELS, needed, strict=True)
            for end in ("to", "to_low", "to_high")
        }
        for system, pair in systems.items()
        for name, needed in zip(("mbpo", "policy-gradient"), pair, strict=True)
    ]


def test_findings_on_one_system():
    rows = rows_of(a=((300, 600, 5000), (600, 9000, None)))
    rows[1]["to_high_1"] = None
    one, saved, limit = findings(rows)
    assert one == (
        "a, 16 seeds: median real transitions to 1 % excess cost, with their 95 % intervals: mbpo 600 (600 to 600), "
        "policy-gradient 9,000 (9,000 to more than 10,000)."
    )
    assert saved == (
        "Policy gradient on real data needs 15 (90 %: 15 to unbounded) times the transitions of MBPO to the finest of "
        "10 %, 1 % and 0.1 % that both reach (16 seeds each)."
    )
    assert limit == (
        "After 10,000 transitions the median excess cost of MBPO is at most 1.5 times the limit on 0 of 1 systems (16 "
        "seeds each); the farthest is a with 2.00 times: 1 % (95 %: 0.5 % to 2 %) against 0.5 %."
    )


def test_findings_on_many_systems_say_who_did_not_arrive():
    never = (None, None, None)
    rows = rows_of(
        a=((300, 600, 5000), (600, 9000, None)),
        b=((300, 600, 5000), never),
        c=(never, (600, 700, None)),
        d=((300, None, None), (900, None, None)),
    )
    rows[4] |= {"excess": None, "excess_high": None, "over_limit": None, "unstable": 0.75}
    saved, limit = findings(rows)
    assert "needs 3 to 15 times" in saved
    assert "the middle one of 2 systems 15, 90 %: 15 to 15; 16 seeds each" in saved
    assert saved.endswith(
        "; on 1 policy gradient did not reach 10 % with the data it had; on 1 MBPO did not reach 10 % with the data it "
        "had."
    )
    assert "on 0 of 3 systems" in limit


def test_findings_where_nothing_is_finite():
    never = (None, None, None)
    rows = rows_of(a=(never, never), b=(never, never))
    for row in rows:
        row |= {"excess": None, "excess_low": None, "excess_high": None, "over_limit": None, "limit": None}
    told = findings(rows)
    assert told[0].endswith("mbpo more than 10,000, policy-gradient more than 10,000.")
    assert told[2] == (
        "On no system did policy gradient on real data and MBPO both reach 10 % (16 seeds each); on 2 policy gradient "
        "did not reach 10 % with the data it had; on 2 MBPO did not reach 10 % with the data it had."
    )
    assert len(told) == 3  # nothing about the limit
