"""The study of the real ratio: its table from made-up outcomes of a sweep, and what it says."""

import dataclasses
import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from exact_cases import random_system
from scipy.stats import binom

from mbpo.errors import InputError
from mbpo.lqr import catalogue
from mbpo.studies import real_ratio as study
from mbpo.studies import sweep
from mbpo.studies.real_ratio import Arm
from mbpo.studies.real_ratio_text import findings
from mbpo.studies.result import Request
from mbpo.studies.sweep import Effort, Outcome

SCALAR = catalogue.get("scalar")
SEEDS = 6
EFFORT = Effort.of(3000, study.ROUNDS, 4)
RATIOS = np.array(study.RATIOS)


def excess_of(knobs, transitions):
    """10/N times 1 + |ratio - 0.25| + planted error, and 1 to 2 times that by seed; a quarter as much where the model
    is explored more widely, and double where rows are fewer, [runs, rounds]."""
    middle = (np.asarray(knobs.ratio.first) + np.asarray(knobs.ratio.last)) / 2
    wrong = np.linalg.norm(knobs.error, axis=(1, 2))
    by_seed = 1 + np.tile(np.arange(SEEDS) / SEEDS, len(middle) // SEEDS)
    way = np.where(knobs.width > 1, 0.25, 1.0) * np.where(knobs.equal_rows, 1.0, 2.0)
    return ((1 + abs(middle - 0.25) + wrong) * by_seed * way)[:, None] * 10 / transitions


def made_up(knobs, effort=EFFORT, system=SCALAR):
    """An outcome of those excess costs, with model errors that tell the run and the round."""
    excess = excess_of(knobs, effort.transitions)
    shape = excess.shape
    error = np.arange(excess.size, dtype=float).reshape(shape)
    n, m = system.state_dim, system.action_dim
    return Outcome(excess, error, np.zeros(shape), np.zeros((*shape, m, n)), np.zeros((*shape, n, n + m)))


def outcome_for(every):
    return made_up(study.knobs_of(SCALAR, every, 3000, SEEDS, 0))


def test_planted_errors_have_their_size_and_one_direction_for_each_seed():
    system = random_system(3, 2, 0.9, 4)
    every = study.arms(4)
    knobs = study.knobs_of(system, every, 3000, SEEDS, 7)
    errors = np.asarray(knobs.error).reshape(len(every), SEEDS, 3, 5)
    truth = np.linalg.norm(np.concatenate([system.A, system.B], axis=1))
    for arm, own in zip(every, errors, strict=True):
        np.testing.assert_allclose(np.linalg.norm(own, axis=(1, 2)), arm.planted * truth, rtol=1e-12, atol=0)
    directions = [own / arm.planted for arm, own in zip(every, errors, strict=True) if arm.planted]
    for own in directions[1:]:
        np.testing.assert_allclose(own, directions[0], rtol=1e-12)
    apart = np.tensordot(directions[0], directions[0], axes=([1, 2], [1, 2])) / truth**2
    assert (abs(apart - np.eye(SEEDS)) < 0.95).all()  # each seed has its own
    other = np.asarray(study.knobs_of(system, every, 3000, SEEDS, 8).error)
    assert not np.allclose(other, np.asarray(knobs.error))


def test_knobs_follow_the_arms():
    every = [
        Arm(0.05, 1),
        Arm("rising", 5, exploration=4.0),
        Arm("falling", 20, equal_rows=False),
        Arm(1.0, 5, 0.3),
    ]
    knobs = study.knobs_of(SCALAR, every, 3000, 2, 0)
    np.testing.assert_array_equal(knobs.ratio.first, [0.05, 0.05, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(knobs.ratio.last, [0.05, 0.05, 1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(knobs.ratio.start, np.zeros(8))
    np.testing.assert_array_equal(knobs.ratio.end, np.full(8, 3000.0))
    np.testing.assert_array_equal(knobs.length, [1, 1, 5, 5, 20, 20, 5, 5])
    np.testing.assert_array_equal(knobs.width, [1, 1, 4, 4, 1, 1, 1, 1])
    np.testing.assert_array_equal(knobs.equal_rows, [True] * 4 + [False] * 2 + [True] * 2)
    assert [arm.ends for arm in every] == [(0.05, 0.05), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    assert [arm.imagined(EFFORT) for arm in every] == [2000, 2000, 2000, 2000]
    assert [Arm(0.5, length, equal_rows=False).imagined(EFFORT) for length in study.LENGTHS] == [
        100,
        500,
        2000,
    ]


def test_every_arm_is_there_once():
    for updates in study.UPDATES:
        every = study.arms(updates)
        assert len(set(every)) == len(every)
        usual = [
            arm for arm in every if not arm.planted and arm.equal_rows and arm.exploration == study.EQUAL
        ]
        assert len(usual) == len(study.LENGTHS) * (len(study.RATIOS) + len(study.SCHEDULES))
        wider = [arm for arm in every if arm.exploration != study.EQUAL]
        fewer = [arm for arm in every if not arm.equal_rows]
        for same in (wider, fewer):
            assert [arm.ratio for arm in same] == list(study.RATIOS)
            assert {(arm.length, arm.planted) for arm in same} == {(study.USUAL_LENGTH, 0.0)}
        assert all(arm.equal_rows for arm in wider)
        wrong = {arm.planted for arm in every if arm.planted}
        assert wrong == (set(study.PLANTED) if updates == study.USUAL_UPDATES else set())


def test_the_best_ratio_where_it_is_certain():
    rng = np.random.default_rng(0)
    noise = rng.lognormal(size=9)
    excess = np.stack(
        [noise + 0.1 * abs(i - 2) for i in range(6)]
    )  # one order for every seed, whatever its luck
    assert study.best_ratio(excess, RATIOS, 3) == (2, 0.25, 0.25)
    swapped = excess[:, ::-1]
    assert study.best_ratio(swapped, RATIOS, 3) == (2, 0.25, 0.25)


@pytest.mark.parametrize("good", [1, 4, 5, 6, 9])
def test_the_range_of_the_best_ratio_is_that_of_the_bootstrap(good):
    """The second row wins a resample when at least five of its nine draws are among its `good` seeds."""
    excess = np.stack([np.full(9, 1.0), np.where(np.arange(9) < good, 0.5, np.inf)])
    wins = float(binom.sf(4, 9, good / 9))
    best, low, high = study.best_ratio(excess, np.array([0.0, 1.0]), 5)
    assert best == int(good >= 5)
    for _ in range(2):
        assert study.best_ratio(excess, np.array([0.0, 1.0]), 5) == (best, low, high)
    assert min(abs(wins - 0.025), abs(wins - 0.975)) > 0.02
    assert (low, high) == (float(wins > 0.975), float(wins > 0.025))


def test_ties_and_infinities_choose_the_smallest_ratio():
    equal = np.ones((6, 7))
    assert study.best_ratio(equal, RATIOS, 0) == (0, 0.0, 0.0)
    assert study.best_ratio(np.full((6, 7), np.inf), RATIOS, 0) == (0, 0.0, 0.0)
    one = np.full((6, 7), np.inf)
    one[4] = 3.0
    assert study.best_ratio(one, RATIOS, 0) == (4, 0.75, 0.75)


def test_rows_of_training_are_the_outcome():
    every = study.arms(4)
    outcome = outcome_for(every)
    rows = study.training_rows("scalar", every, 4, EFFORT, SEEDS, outcome)
    assert len(rows) == 3 * len(every)
    assert all(list(row) == list(study.COLUMNS) for row in rows)
    at = [
        int(np.flatnonzero(EFFORT.transitions == n)[0])
        for n in dict.fromkeys(row["transitions"] for row in rows)
    ]
    assert at[-1] == study.ROUNDS - 1
    assert [int(abs(EFFORT.transitions - share * 3000).argmin()) for share in study.AMOUNTS] == at
    for number, arm in enumerate(every):
        for place, row in zip(at, rows[3 * number : 3 * number + 3], strict=True):
            own = outcome.excess_cost[number * SEEDS : (number + 1) * SEEDS, place]
            errors = outcome.model_error[number * SEEDS : (number + 1) * SEEDS, place]
            ratio = arm.ratio if isinstance(arm.ratio, str) else f"{arm.ratio:g}"
            assert (row["ratio"], row["rollout_length"], row["planted_error"]) == (
                ratio,
                arm.length,
                arm.planted,
            )
            assert (row["exploration"], row["imagined"]) == (arm.exploration, arm.imagined(EFFORT))
            assert (row["part"], row["system"], row["updates"], row["seeds"]) == (
                "training",
                "scalar",
                4,
                SEEDS,
            )
            assert row["transitions"] == EFFORT.transitions[place]
            assert row["excess"] == pytest.approx(np.median(own))
            assert (row["excess_low"], row["excess_high"]) == (own.min(), own.max())
            assert row["excess_p90"] == own.max()
            assert row["model_error"] == np.median(errors)
            assert row["unstable"] == 0.0


def test_rows_of_gains_that_do_not_stabilise():
    every = study.arms(1)
    outcome = outcome_for(every)
    outcome.excess_cost[: 4 * SEEDS, -1] = np.inf
    outcome.excess_cost[4 * SEEDS : 4 * SEEDS + 2, -1] = np.inf
    rows = study.training_rows("scalar", every, 1, EFFORT, SEEDS, outcome)
    last = [row for row in rows if row["transitions"] == 3000]
    for row in last[:4]:
        assert (row["excess"], row["excess_low"], row["excess_high"], row["excess_p90"]) == (None,) * 4
        assert row["unstable"] == 1.0
    assert last[4]["unstable"] == pytest.approx(1 / 3)
    assert last[4]["excess"] is not None
    assert last[4]["excess_high"] is None
    json.dumps(rows, allow_nan=False)


def test_the_best_rows_are_the_best_of_the_training_rows():
    every = study.arms(4)
    outcome = outcome_for(every)
    trained = study.training_rows("scalar", every, 4, EFFORT, SEEDS, outcome)
    rows = study.best_rows("scalar", every, 4, EFFORT, SEEDS, outcome, 0)
    settings = {(arm.length, arm.planted, arm.exploration, arm.equal_rows) for arm in every}
    assert len(rows) == 3 * len(settings)
    assert all(list(row) == list(study.COLUMNS) for row in rows)
    names = ("rollout_length", "planted_error", "exploration", "imagined", "transitions")
    for row in rows:
        alike = [
            each
            for each in trained
            if all(each[name] == row[name] for name in names) and each["ratio"] not in study.SCHEDULES
        ]
        best = min(alike, key=lambda each: each["excess"])
        assert row["ratio"] == best["ratio"] == "0.25"
        assert (row["best_low"], row["best_high"]) == (0.25, 0.25)  # the order is the same for every seed
        same = ("excess", "excess_low", "excess_high", "model_error", "seeds", "updates")
        assert [row[name] for name in same] == [best[name] for name in same]


def test_what_the_study_cannot_handle():
    def refuse(words, system=SCALAR, transitions=3000, seeds=32):
        with pytest.raises(InputError, match=words):
            study.check(system, transitions, seeds)

    refuse("without a horizon", dataclasses.replace(SCALAR, horizon=5))
    refuse("the optimal cost is 0", dataclasses.replace(SCALAR, W=[[0.0]]))
    refuse("needs at least 52 of them, got 51", transitions=51)
    refuse("at least 2 of them, got 1", seeds=1)
    study.check(SCALAR, 52, 2)
    with pytest.raises(InputError, match="needs at least 52"):
        study.run([SCALAR], Request(transitions=10), print)


@pytest.fixture
def nothing_is_run(monkeypatch):
    """In the place of every sweep a made-up outcome, and of every gradient the truth with known errors; the knobs and
    keys that each was asked for."""
    asked = []

    def swept(setup, shared, knobs, keys, cost, progress):
        asked.append((knobs, keys))
        for _ in range(sweep.chunks(len(keys))):
            progress("")
        return made_up(knobs, shared, setup.system)

    def estimated(shared, knobs, counts, gain, keys):
        asked.append((knobs, keys))
        spread = np.array([0.1, -0.1, 0.3, -0.3])
        return np.broadcast_to((1.5 + spread)[None, :, None, None] * -2.0, (len(counts), 4, *gain.shape))

    monkeypatch.setattr(sweep, "base", lambda setup, effort: effort)
    monkeypatch.setattr(sweep, "sweep", swept)
    monkeypatch.setattr(study, "estimates", estimated)
    monkeypatch.setattr(study, "prepare", lambda system, optimum: SimpleNamespace(system=system))
    monkeypatch.setattr(study, "measuring_gain", lambda setup, optimum: optimum.gain)
    monkeypatch.setattr(study.exact, "natural_gradient", lambda system, gain: np.full((1, 1), -4.0))
    return asked


def test_arms_that_are_compared_differ_in_the_ratio_alone(nothing_is_run):
    """Trained or measured, and whatever other knobs there may be: the first arm of its kind has the same ones."""
    study.run([SCALAR], Request(seeds=SEEDS), lambda _: None)
    every = [*map(study.arms, study.UPDATES), study.MEASURED * len(study.AMOUNTS)]
    for arms, (knobs, keys) in zip(every, nothing_is_run, strict=True):
        others = [
            knobs.ratio.start,
            knobs.ratio.end,
            *knobs._replace(ratio=None)[1:],
            jax.random.key_data(keys),
        ]
        by_arm = [np.asarray(each).reshape(len(arms), SEEDS, -1) for each in others]
        ends = np.stack([knobs.ratio.first, knobs.ratio.last]).reshape(2, len(arms), SEEDS)
        kinds = [study._beside(arm) for arm in arms]
        for number, (arm, kind) in enumerate(zip(arms, kinds, strict=True)):
            for each in by_arm:
                np.testing.assert_array_equal(each[number], each[kinds.index(kind)])
            np.testing.assert_array_equal(ends[:, number], np.tile(np.array(arm.ends)[:, None], SEEDS))
        for kind in set(kinds):
            alike = [arm.ratio for arm in arms[: len(set(arms))] if study._beside(arm) == kind]
            assert alike in ([*study.RATIOS], [*study.RATIOS, *study.SCHEDULES])


def test_a_study_of_made_up_sweeps(nothing_is_run):
    systems = [SCALAR, dataclasses.replace(SCALAR, name="other", A=[[0.9]])]
    request, told = Request(seeds=SEEDS), []
    result = study.run(systems, request, told.append)
    assert len(told) == study.steps(systems, request)
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["systems"] == ["scalar", "other"]
    assert {row["system"] for row in result.rows} == {"scalar", "other"}
    gradients = [row for row in result.rows if row["part"] == "gradient"]
    assert len(gradients) == 2 * 3 * len(study.MEASURED)
    for row in gradients:
        assert row["bias"] == pytest.approx(0.5)
        assert row["persistent"] == pytest.approx(0.0, abs=1e-12)
        assert row["noise"] == pytest.approx(math.sqrt(0.2 / 3))
        assert row["error"] == pytest.approx(math.sqrt(0.25 + 0.05))
    assert len(result.findings) == 8
    assert study.run(systems, request, lambda _: None) == result


def test_findings_of_a_made_up_study(nothing_is_run):
    best, ways, planted, gradient = study.run([SCALAR], Request(seeds=SEEDS), lambda _: None).findings
    assert best.startswith(
        "scalar, 3,000 real transitions, 6 seeds, equal exploration: the least median excess cost is 0.47 % (95 %: "
    )
    fewer, wider = ways.split(". ")
    assert fewer.startswith("Imagining 500 rows instead of 2,000, the least median is 0.94 % (95 %: ")
    assert wider.startswith(
        "Exploring 4 times as widely inside the model, the least median is 0.12 % (95 %: "
    )
    for each in (fewer, wider.removesuffix(".")):
        assert each.endswith(", at a ratio of 0.25 (0.25 to 0.25)")
    assert (
        "at a ratio of 0.25 (the best ratio lies between 0.25 and 0.25 in 95 % of bootstrap samples)" in best
    )
    assert "imagined data alone reach 0.59 % (95 %: " in best
    assert "real data alone 0.83 % (95 %: " in best
    assert planted.endswith(
        "over 6 seeds) is, by the size of the error: 3 %: 0.25 (0.25 to 0.25); 10 %: 0.25 (0.25 to 0.25); 30 %: 0.25 "
        "(0.25 to 0.25)."
    )
    assert gradient.startswith(
        "At one gain, over 6 sets of data, the gradient of a batch errs with imagined data alone"
    )
    assert (
        gradient.count(
            "by 55 % (bias 50 %, 95 %: 50 % to 50 %; 0 % shared by all batches of one set of data; "
        )
        == 2
    )


def test_findings_where_every_median_is_infinite(nothing_is_run):
    rows = study.run([SCALAR], Request(seeds=SEEDS), lambda _: None).rows
    names = ("excess", "excess_low", "excess_high", "excess_p90")
    lost = [row | dict.fromkeys(names) if row["part"] != "gradient" else row for row in rows]
    best, planted, _ = findings(lost, study.USUAL_LENGTH, study.USUAL_UPDATES)
    assert best == (
        "scalar, 3,000 real transitions, 6 seeds, equal exploration: the median excess cost is infinite at every "
        "ratio, as most gains do not stabilise."
    )
    assert "3 %: none, as every median is infinite; 10 %: none" in planted
    some = [row if row["ratio"] != "1" else row | dict.fromkeys(names) for row in rows]
    some = [row if row["part"] == "training" else old for row, old in zip(some, rows, strict=True)]
    best, *_ = findings(some, study.USUAL_LENGTH, study.USUAL_UPDATES)
    assert best.endswith("real data alone no finite excess (most gains do not stabilise).")


def around(part, middle, spread=0.2, **about):
    """A row with a median and an interval that many times `spread` to either side; None: nothing finite."""
    values = dict.fromkeys(("excess", "excess_low", "excess_high"))
    if middle is not None:
        values |= {
            "excess": middle,
            "excess_low": middle * (1 - spread),
            "excess_high": middle * (1 + spread),
        }
    usual = {"rollout_length": 5, "updates": 4, "transitions": 3000, "seeds": 8, "planted_error": 0.0,
             "exploration": 1.0, "imagined": 2000}  # fmt: skip
    return dict.fromkeys(study.COLUMNS) | usual | {"part": part} | values | about


def rows_of(system, best, ends, fewer, wider, errors, planted):
    """Rows of one system at the usual length and updates and at all of the data.

    best, fewer, wider: least median, its ratio and the range of the best ratio; ends: medians at ratios 0 and 1;
    errors: bias, persistent and noise at both; planted: the best ratio by the size of the error.
    """
    rows = []
    ways = [(best, {}), (fewer, {"imagined": 500}), (wider, {"exploration": 4.0})]
    for (middle, ratio, low, high), way in ways:
        rows.append(around("best", middle, ratio=ratio, best_low=low, best_high=high, **way))
    rows += [around("training", each, ratio=ratio) for ratio, each in zip("01", ends, strict=True)]
    parts = ("bias", "persistent", "noise")
    for ratio, each in zip("01", errors, strict=True):
        named = dict(zip(parts, each, strict=True))
        rows.append(around("gradient", None, ratio=ratio, **named) | {"updates": None})
    for size, ratio in planted.items():
        rows.append(around("best", None if ratio is None else 0.1, ratio=ratio or "0", planted_error=size))
    return [row | {"system": system} for row in rows]


def five_systems():
    """Mixtures are best on a (surely) and b, real data on c, imagined data on d, and nothing is finite on e."""
    mixed, even = (0.01, "0.25", 0.05, 0.5), (0.02, "0.5", 0.0, 0.75)
    real, imagined = (0.04, "1", 0.75, 1.0), (0.01, "0", 0.0, 0.0)
    lost = (None, "0", 0.0, 0.0)
    a = rows_of("a", mixed, (0.04, 0.02), mixed, (0.005, "0.25", 0.0, 0.5), [(0.1, 0.3, 0.1), (0.05, 0.2, 0.2)],
                {0.03: "0.75", 0.3: "1"})  # fmt: skip
    b = rows_of("b", even, (0.02, 0.025), even, (0.005, "0", 0.0, 0.25), [(0.2, 0.3, 0.1), (0.3, 0.2, 0.4)],
                {0.03: "0", 0.3: "1"})  # fmt: skip
    c = rows_of("c", real, (None, 0.04), real, (0.08, "0.5", 0.25, 1.0), [(0.3, 0.5, 0.1), (0.05, 0.2, 0.2)],
                {0.03: "1", 0.3: "0.75"})  # fmt: skip
    d = rows_of("d", imagined, (0.01, 0.03), (0.02, "0", 0.0, 0.0), lost, [(0.4, 0.7, 0.1), (0.05, 0.2, 0.4)],
                {0.03: "0.5", 0.3: "1"})  # fmt: skip
    e = rows_of(
        "e", lost, (None, None), lost, lost, [(9.0, 9.0, 9.0), (0.1, 0.1, 0.1)], {0.03: None, 0.3: "1"}
    )
    return [*a, *b, *c, *d, *e]


def test_findings_about_many_systems_count_them():
    """Intervals are a fifth to either side, so that medians lie apart where one is twice the other, and not 0.02 and
    0.025."""
    rows = five_systems()
    other = [row | {"excess": 7.0, "ratio": "0.05"} for row in rows]
    other = [row | {"rollout_length": 20} for row in other] + [row | {"transitions": 400} for row in other]
    ends, fewer, wider, why, planted = findings([*other, *rows], 5, 4)
    assert ends == (
        "5 systems, 3,000 real transitions, 8 seeds each (on e every median is infinite), equal exploration: a mixture "
        "has the least median excess cost on 2 of 4 (a, b), and in 95 % of bootstrap samples on 1 of 4 (a). Between "
        "the two ends, real data alone end below imagined data alone on 2 of 4 (a, c) and above on 1 of 4 (d), "
        "counting those whose 95 % intervals do not meet."
    )
    assert fewer == (
        "Imagining 500 rows instead of 2,000 divides the least median excess cost by 0.5 to 1 (median 1): beyond both "
        "intervals it is lower on 0 of 4 and higher on 1 of 4 (d); the best ratio is then 0.25 or less on 2 of 4 "
        "(a, d)."
    )
    assert wider == (
        "Exploring 4 times as widely inside the model divides the least median excess cost by 0.5 to 4 (median 2): "
        "beyond both intervals it is lower on 2 of 3 (not on c) and higher on 1 of 3 (c); the best ratio is then 0.25 "
        "or less on 2 of 3 (not on c)."
    )
    assert why == (
        "Why: at one gain and equal exploration, the parts of a batch's gradient error with imagined data alone "
        "against real data alone, medians over systems: bias 25 % against 5 %, larger with imagined data on 3 of 4 "
        "(not on b); persistent 40 % against 20 %, larger with imagined data on 4 of 4; noise 10 % against 30 %, "
        "larger with imagined data on 0 of 4."
    )
    assert planted == (
        "With a model whose [A B] stays wrong however much data it sees, the best ratio is 0.75 or 1, by the size of "
        "the error: 3 %: on 2 of 4 (a, c); 30 %: on 5 of 5."
    )


def test_findings_about_many_systems_where_nothing_is_finite():
    lost = [row | dict.fromkeys(("excess", "excess_low", "excess_high")) for row in five_systems()]
    assert findings(lost, 5, 4) == [
        "5 systems, 3,000 real transitions, 8 seeds each: the median excess cost is infinite at every ratio."
    ]
