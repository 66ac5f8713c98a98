"""The study of the rollout length: its variants, its table from made-up outcomes of a sweep, and what it says."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from mbpo.errors import InputError
from mbpo.lqr import bounds, catalogue, optimum
from mbpo.studies import rollout_length as study
from mbpo.studies import sweep
from mbpo.studies.result import Request
from mbpo.studies.rollout_length_text import findings
from mbpo.studies.sweep import Outcome

SCALAR = catalogue.get("scalar")
LAPLACIAN = catalogue.get("laplacian3")
SEEDS = 6


def radius_of(system):
    return float(abs(np.linalg.eigvals(system.A)).max())


def test_variants_are_scaled_to_their_radius():
    system = dataclasses.replace(LAPLACIAN, initial_gain=-0.3 * np.eye(3))
    kept = dataclasses.asdict(system)
    found = study._variants(system)
    own = radius_of(system)
    assert list(found) == sorted([own, *study.RADII])
    assert found[own] is system
    for name, value in dataclasses.asdict(system).items():
        np.testing.assert_array_equal(value, kept[name])
    for radius, variant in found.items():
        assert radius_of(variant) == pytest.approx(radius, rel=1e-12)
        if radius != own:
            assert variant.initial_gain is None  # it was meant for another system
            np.testing.assert_allclose(variant.A, system.A * (radius / own), rtol=1e-15)
            same = dataclasses.replace(variant, A=system.A, initial_gain=system.initial_gain)
            for name, value in dataclasses.asdict(same).items():
                np.testing.assert_array_equal(value, kept[name])


def test_a_radius_that_is_there_already_is_not_added():
    near = dataclasses.replace(SCALAR, A=[[0.905]])
    assert list(study._variants(near)) == [0.5, 0.905, 1.05]


def test_variants_that_cannot_be_learned_are_left_out():
    """What B does not reach may be stable, but not beyond 1; and there is nothing to scale in A = 0."""
    unreached = dataclasses.replace(
        SCALAR,
        A=np.diag([0.6, 0.25]),
        B=[[0.0], [1.0]],
        Q=np.eye(2),
        W=np.eye(2),
        initial_covariance=np.eye(2),
    )
    assert list(study._variants(unreached)) == [0.5, 0.6, 0.9]
    assert list(study._variants(dataclasses.replace(SCALAR, A=[[0.0]]))) == [0.0]


def test_the_best_length_where_it_is_certain():
    noise = np.random.default_rng(0).lognormal(size=9)
    excess = np.stack([noise + 0.1 * abs(i - 3) for i in range(len(study.LENGTHS))])
    assert study._best_length(excess, 3) == (3, 10, 10)
    excess[3] = np.inf
    assert study._best_length(excess, 3) == (2, 5, 5)  # as good as the length after it


def test_the_range_of_the_best_length_holds_what_is_as_good():
    excess = np.random.default_rng(1).lognormal(size=(len(study.LENGTHS), 15))
    best, low, high = study._best_length(excess, 3)
    assert best == int(np.median(excess, axis=1).argmin())
    assert low <= study.LENGTHS[best] <= high
    assert low < high
    assert study._best_length(excess, 3) == (best, low, high)


def test_ties_and_infinities_choose_the_shortest_length():
    for value in (1.0, np.inf):
        assert study._best_length(np.full((len(study.LENGTHS), 5), value), 0) == (0, 1, 1)


def outcome_of(system, gains, models):
    """An outcome with those gains [runs, rounds, m, n] and models [runs, rounds, n, n+m]."""
    shape = gains.shape[:2]
    nothing = np.zeros(shape)
    return Outcome(nothing, nothing, nothing, gains, models)


@pytest.fixture(scope="module")
def learned():
    """Six runs of three rounds on the way to the optimum of laplacian3, with models that get better."""
    rng, best = np.random.default_rng(2), optimum.solve(LAPLACIAN).gain
    setup = SimpleNamespace(system=LAPLACIAN, gain=optimum.default_gain(LAPLACIAN), exploration=np.eye(3))
    share = np.array([0.5, 0.8, 0.9])[None, :, None, None]
    gains = setup.gain + share * (best - setup.gain) + 0.01 * rng.normal(size=(6, 3, 3, 3))
    noise = 0.03 * rng.normal(size=(6, 3, 3, 6)) / np.sqrt([1, 10, 100])[None, :, None, None]
    truth = np.concatenate([LAPLACIAN.A, LAPLACIAN.B], axis=1)
    return setup, gains, truth + noise


def by_hand(setup, gains, models, run, at, discount):
    """The k where the curve of theorem 4.3 is least, 0 to 40."""
    before = setup.gain if at == 0 else gains[run, at - 1]
    model, S, scale = models[run, at], setup.exploration, optimum.solve(setup.system).cost
    found = bounds.evaluate(
        setup.system, model[:, :3], model[:, 3:], before, gains[run, at], S, scale, discount, 40
    )
    return int(found.bound_43.argmin())


@pytest.mark.parametrize(("at", "discount"), [(0, None), (1, None), (2, None), (1, 0.8)])
def test_the_theorem_is_asked_about_the_gain_that_gathered_the_data(learned, at, discount):
    setup, gains, models = learned
    system = dataclasses.replace(LAPLACIAN, discount=discount)
    setup = SimpleNamespace(system=system, gain=setup.gain, exploration=setup.exploration)
    best, runs = optimum.solve(system), range(6)
    lengths = [by_hand(setup, gains, models, run, at, discount or 0.95) for run in runs]
    outcome = outcome_of(system, gains, models)
    assert study._recommended(setup, best, outcome, runs, at) == {
        "theorem": sorted(lengths)[2], "theorem_low": min(lengths), "theorem_high": max(lengths),
    }  # fmt: skip
    assert np.median(lengths) > 0
    one = study._recommended(setup, best, outcome, range(2, 3), at)
    assert one == {"theorem": lengths[2], "theorem_low": None, "theorem_high": None}


def test_runs_without_a_stabilising_gain_do_not_count(learned):
    setup, gains, models = learned
    gains = gains.copy()
    gains[[0, 3], 1] = 3.0 * np.eye(3)
    outcome = outcome_of(LAPLACIAN, gains, models)
    best = optimum.solve(LAPLACIAN)
    kept = [by_hand(setup, gains, models, run, 1, 0.95) for run in (1, 2, 4)]
    assert study._recommended(setup, best, outcome, range(5), 1)["theorem"] == sorted(kept)[1]
    assert study._recommended(setup, best, outcome, [0, 3], 1) == {}
    flat = SimpleNamespace(
        system=dataclasses.replace(LAPLACIAN, W=np.diag([1.0, 1.0, 0.0])),
        gain=setup.gain,
        exploration=setup.exploration,
    )
    assert study._recommended(flat, best, outcome, range(5), 1) == {}


def test_what_the_study_cannot_handle():
    def refuse(words, system, **changes):
        with pytest.raises(InputError, match=words):
            study.run([SCALAR, system], Request(**changes), print)

    refuse("without a horizon", dataclasses.replace(SCALAR, horizon=5))
    refuse("the optimal cost is 0", dataclasses.replace(SCALAR, W=[[0.0]]))
    refuse("needs at least 52 of them, got 51", SCALAR, transitions=51)
    refuse("at least 2 of them, got 1", SCALAR, seeds=1)


def made_up(system, effort, knobs, seeds):
    """Excess costs that are least at length 10, and with a planted error at length 2, and double with equally many
    branches, with exact models."""
    best = np.where(np.linalg.norm(knobs.error, axis=(1, 2)) > 0, 2.0, 10.0)
    by_seed = 1 + np.tile(np.arange(seeds) / seeds, len(best) // seeds)
    excess = (1 + abs(np.log(knobs.length / best))) * by_seed * np.where(knobs.equal_rows, 1.0, 2.0)
    excess = excess[:, None] * 10 / effort.transitions
    shape = excess.shape
    truth = np.concatenate([system.A, system.B], axis=1)
    gain = optimum.solve(system).gain + 0.1 / np.arange(1, shape[1] + 1)[:, None, None]
    models = np.broadcast_to(truth, (*shape, *truth.shape)) + knobs.error[:, None]
    error = np.arange(excess.size, dtype=float).reshape(shape)
    return Outcome(excess, error, np.zeros(shape), np.broadcast_to(gain, (*shape, *gain.shape[1:])), models)


@pytest.fixture
def nothing_is_run(monkeypatch):
    """In the place of every sweep a made-up outcome, and of every gradient the truth with a known error; the knobs and
    keys that each was asked for."""
    asked = []

    def swept(setup, shared, knobs, keys, cost, progress):
        asked.append((knobs, keys))
        for _ in range(sweep.chunks(len(keys))):
            progress("")
        return made_up(setup.system, shared, knobs, SEEDS)

    def estimated(shared, knobs, counts, gain, keys):
        asked.append((knobs, keys))
        return np.full((len(counts), 4, *gain.shape), -1.5)

    def prepared(system, best):
        return SimpleNamespace(system=system, gain=optimum.default_gain(system), exploration=np.eye(1))

    monkeypatch.setattr(sweep, "base", lambda setup, effort: effort)
    monkeypatch.setattr(study, "JUDGED", SEEDS)
    monkeypatch.setattr(sweep, "sweep", swept)
    monkeypatch.setattr(study, "estimates", estimated)
    monkeypatch.setattr(study, "prepare", prepared)
    monkeypatch.setattr(study, "measuring_gain", lambda setup, best: setup.gain)
    monkeypatch.setattr(study.exact, "natural_gradient", lambda system, gain: np.full((1, 1), -2.0))
    return asked


def test_arms_that_are_compared_differ_in_the_length_alone(nothing_is_run):
    """Trained or measured, and whatever other knobs there may be: all lengths beside each other have the same ones."""
    study.run([SCALAR], Request(seeds=SEEDS), lambda _: None)
    kinds = [(arm.planted, arm.equal_rows) for arm in study._arms()]
    assert len(set(kinds)) == len(study.PLANTED) * len(study.EQUAL)
    for knobs, keys in nothing_is_run:
        others = [*jax.tree.leaves(knobs._replace(length=None)), jax.random.key_data(keys)]
        by_arm = [np.asarray(each).reshape(len(kinds), SEEDS, -1) for each in others]
        lengths = np.reshape(knobs.length, (len(kinds), SEEDS))
        for number, kind in enumerate(kinds):
            for each in by_arm:
                np.testing.assert_array_equal(each[number], each[kinds.index(kind)])
        for kind in set(kinds):
            alike = [lengths[number] for number in range(len(kinds)) if kinds[number] == kind]
            np.testing.assert_array_equal(alike, np.repeat(np.array(study.LENGTHS)[:, None], SEEDS, axis=1))


def test_a_study_of_made_up_sweeps(nothing_is_run):
    request, told = Request(seeds=SEEDS), []
    result = study.run([SCALAR], request, told.append)
    assert len(told) == study.steps([SCALAR], request)
    json.dumps(result.to_json(), allow_nan=False)
    assert all(list(row) == list(study.COLUMNS) for row in result.rows)
    radii, most = [0.5, 0.9, 1.05, 1.1], 3000
    assert sorted({row["radius"] for row in result.rows}) == pytest.approx(radii)
    assert {row["own_radius"] for row in result.rows if row["radius"] < 1.1 - 1e-9} == {False}
    lengths, best = ([row for row in result.rows if row["part"] == part] for part in ("length", "best"))
    assert len(lengths) == len(radii) * 2 * 2 * 2 * len(study.LENGTHS)
    assert len(best) == len(radii) * 2 * 2 * 2
    names = ("radius", "planted_error", "transitions", "equal")
    for row in best:
        alike = [each for each in lengths if all(each[name] == row[name] for name in names)]
        assert len(alike) == len(study.LENGTHS)
        least = min(alike, key=lambda each: each["excess"])
        assert row["rollout_length"] == least["rollout_length"] == (2 if row["planted_error"] else 10)
        assert row["best_low"] == row["best_high"] == row["rollout_length"]
        assert [row[name] for name in ("excess", "excess_low", "excess_high")] == [
            least[name] for name in ("excess", "excess_low", "excess_high")
        ]
        usual = next(each for each in alike if each["rollout_length"] == 5)
        assert row["model_error"] == usual["model_error"]
        assert (row["theorem"] == 40) == (row["planted_error"] == 0.0)  # the longest, with an exact model
    for row in lengths:
        assert row["bias"] == row["error"] == pytest.approx(0.5)
        assert row["noise"] == row["persistent"] == pytest.approx(0.0)
        assert row["excess"] == pytest.approx(
            (1 + abs(np.log(row["rollout_length"] / (2 if row["planted_error"] else 10)))) * (17 / 12) * 10
            / row["transitions"] * {"rows": 1, "branches": 2}[row["equal"]]
        )  # fmt: skip
    assert max(row["transitions"] for row in best) == most
    assert study.run([SCALAR], request, lambda _: None) == result


def test_findings_of_a_made_up_study(nothing_is_run):
    result = study.run([SCALAR], Request(seeds=SEEDS), lambda _: None)
    fitted, fitted_branches, wrong, wrong_branches, theorem = result.findings
    for told, equal, least in ((fitted, "rows", "0.47 %"), (fitted_branches, "branches", "0.94 %")):
        assert told.startswith(
            f"scalar, 3,000 real transitions, 6 seeds, a fitted model, equally many {equal}: the best length is 10 "
            f"(10 to 10 in 95 % of bootstrap samples) with a median excess cost of {least} (95 %: "
        )
    for told, equal in ((wrong, "rows"), (wrong_branches, "branches")):
        assert (
            f"a model that stays 10 % wrong, equally many {equal}: the best length is 2 (2 to 2 in 95 % of bootstrap "
            "samples)"
        ) in told
    assert theorem.startswith(
        "Over 32 settings of system, spectral radius, planted error, data and what is equal, with 6 seeds each, "
    )


def best_row(theorem, low=2, high=10, spread=0, **changes):
    ends = {} if theorem is None else {"theorem_low": theorem - spread, "theorem_high": theorem + spread}
    values = {
        "part": "best", "system": "a", "radius": 1.0, "own_radius": False, "planted_error": 0.0, "transitions": 3000,
        "rollout_length": 5, "seeds": 8, "excess": 0.01, "excess_low": 0.005, "excess_high": None, "best_low": low,
        "best_high": high, "theorem": theorem, "equal": "rows",
    }  # fmt: skip
    return dict.fromkeys(study.COLUMNS) | values | ends | changes


def test_findings_count_the_theorems_choices():
    rows = [best_row(k) for k in (0, 1, 2, 5, 10, 11, None)]
    rows += [best_row(1, spread=1), best_row(12, spread=2), best_row(13, spread=2)]
    rows.append(best_row(40, low=1, high=1, excess=None, excess_low=None))  # there is no best length
    (theorem,) = findings(rows)
    assert theorem == (
        "Over 9 settings of system, spectral radius, planted error, data and what is equal, with 8 seeds each, the "
        "95 % interval of the length that theorem 4.3 recommends meets the lengths that are best in 95 % of bootstrap "
        "samples in 5, lies below them in 2 and above them in 2."
    )
    assert findings([best_row(None)]) == []
    assert findings([best_row(3, theorem_low=None, theorem_high=None)]) == []  # too few seeds for an interval


def test_findings_about_the_system_itself():
    own = {"own_radius": True, "seeds": 8}
    one = best_row(
        None, part="length", rollout_length=1, excess=0.02, excess_low=0.01, excess_high=0.03, **own
    )
    other = one | {"equal": "branches", "excess": 0.5}
    (told,) = findings([other, one, best_row(None, **own), best_row(None, transitions=400, **own)])
    assert told == (
        "a, 3,000 real transitions, 8 seeds, a fitted model, equally many rows: the best length is 5 (2 to 10 in 95 % "
        "of bootstrap samples) with a median excess cost of 1 % (95 %: 0.5 % to unbounded), against 2 % (95 %: 1 % to "
        "3 %) at length 1."
    )
    (told,) = findings([one | {"excess": None}, best_row(None, **own)])
    assert told.endswith("against no finite value at length 1.")
    nothing = {"excess": None, "excess_low": None}
    (told,) = findings([one | nothing, best_row(3, **own, **nothing)])
    assert told == (
        "a, 3,000 real transitions, 8 seeds, a fitted model, equally many rows: the median excess cost is infinite at "
        "every length, as most gains do not stabilise."
    )


def pair(system, best, one, low, **changes):
    """The best row of a system's own radius, with this median and this least length, and its row of length 1."""
    about = {"system": system, "own_radius": True} | changes
    row = best_row(None, low=low, excess=best, **about)
    return [row, row | {"part": "length", "rollout_length": 1, "excess": one}]


def test_findings_about_many_systems_count_them():
    rows = [
        *pair("a", 0.01, 0.02, 2),
        *pair("b", 0.01, 0.01, 1),
        *pair("c", 0.01, 0.05, 5),
        *pair("d", 0.02, 0.06, 2),
    ]
    rows += pair("e", None, None, 1)
    worse = {"equal": "branches", "planted_error": 0.1}
    for system, best in (("a", 0.1), ("b", 0.2), ("c", None)):
        rows += pair(system, best, None, 2, **worse)
    rows += pair("a", None, None, 1, equal="branches")
    rows += pair("a", 0.01, 9.0, 40, own_radius=False, radius=0.5) + pair("a", 0.01, 9.0, 40, transitions=400)
    assert findings(rows) == [
        (
            "With the fitted model, equally many rows, 3,000 real transitions, 8 seeds on each of 4 systems: the best "
            "length lies above 1 in 95 % of bootstrap samples on 3; at length 1 the median excess cost is 2.5 times "
            "(median) that at the best length; on e it is infinite at every length."
        ),
        (
            "With a model that stays 10 % wrong, equally many branches, 3,000 real transitions, 8 seeds on each of 2 "
            "systems: the best length lies above 1 in 95 % of bootstrap samples on 2; at length 1 the median excess "
            "cost is infinite on most; on c it is infinite at every length."
        ),
    ]


def test_of_two_systems_each_has_a_sentence():
    told = findings([*pair("a", 0.01, 0.02, 2), *pair("b", 0.01, 0.01, 1)])
    assert [each.split(",")[0] for each in told] == ["a", "b"]
