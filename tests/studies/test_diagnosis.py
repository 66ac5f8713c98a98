"""The diagnosis: every claim as an assertion on its experiment, the page, and the verb's refusals."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import mbpo
from mbpo.cli.diagnosis import add_diagnosis
from mbpo.cli.parser import Parser, add_verbs
from mbpo.errors import InputError
from mbpo.lqr import catalogue, exact
from mbpo.lqr.optimum import default_gain, solve
from mbpo.report.diagnosis.page import pictures, write_diagnosis
from mbpo.report.diagnosis.section import percent
from mbpo.studies.diagnosis import (
    attribution,
    diagnose,
    ending,
    identification,
    reach,
    reference,
    silence,
    variance,
)
from mbpo.studies.diagnosis import learner as rebuilt
from mbpo.studies.diagnosis.learner import Course, Habits
from mbpo.studies.diagnosis.world import FAILED, excess_of, mean_of, rollouts

DOCUMENT = Path(mbpo.__file__).parents[2] / "docs/why-the-gaussian-hack-failed.md"
SMALL_COURSE = Course(rounds=12, trajectories=10, length=20)
SMALL = diagnose.Effort(
    directions=20,
    scores=10,
    loops=4,
    episodes=4,
    fits=3,
    sizes=(100, 1_000),
    regressions=4,
    batches=3,
    batch=200,
    horizons=(10,),
    runs=2,
    course=SMALL_COURSE,
    systems=("laplacian3",),
    algorithms=("policy-gradient",),
)


@pytest.fixture(scope="module")
def references():
    return reference.reference_gains()


def test_the_continuous_gain_is_no_reference(references):
    row = references.of(FAILED)
    np.testing.assert_allclose(np.diag(row.continuous_gain), [1.71734423, 2.95253427, 1.79613291], rtol=1e-8)
    assert row.optimal_cost == pytest.approx(1.1135416, rel=1e-7)
    assert row.continuous_plus == pytest.approx(5.2243, rel=1e-4)
    assert row.continuous_minus == pytest.approx(5.0212, rel=1e-4)
    for name in ("double_integrator", "laplacian3", "pendulum", "boeing747"):
        other = references.of(name)
        assert np.isinf([other.continuous_plus, other.continuous_minus, other.discrete_wrong_sign]).all()


def test_the_documented_table_is_the_one_measured(references):
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    shown = {name: (optimal, *rest.split(" | ")) for name, optimal, rest in rows}
    assert set(shown) == set(reference.REFERENCE_SYSTEMS)
    for row in references.rows:
        words = (f"{cost:.5g}" if np.isfinite(cost) else "unstable" for cost in row.costs.values())
        assert shown[row.system] == (f"{row.optimal_cost:.5g}", *words)


def test_the_continuous_formula_is_right_for_its_own_matrices(references):
    for name in ("double_integrator", "pendulum"):
        row = references.of(name)
        assert 0 < row.continuous_own / row.optimal_cost - 1 < 0.01


def test_doing_nothing_is_nearly_optimal_on_the_system_that_failed():
    flat = reference.landscape(FAILED, seed=1, directions=50)
    assert flat.zero == pytest.approx(2.70e-5, rel=1e-3)
    assert flat.condition == pytest.approx(100, rel=0.01)
    assert flat.transitions_to_beat_zero > 100_000
    assert (flat.highest / flat.lowest > 100).all()  # at one distance
    assert reference.landscape("laplacian3", seed=1, directions=5).condition < 1.03


def test_the_excess_near_the_optimum_is_the_quadratic_form_of_the_hessian():
    system = catalogue.get(FAILED)
    best = solve(system)
    D = 1e-3 * np.random.default_rng(0).standard_normal(best.gain.shape)
    predicted = D.ravel() @ np.asarray(exact.hessian(system, best.gain)) @ D.ravel() / 2 / best.cost
    assert excess_of(best.gain + D, system, best.cost) == pytest.approx(predicted, rel=1e-2)


def test_the_ends_at_a_distance_are_eigenvalues_near_the_optimum_and_no_direction_lies_outside_them():
    flat = reference.landscape(FAILED, seed=1, directions=20)
    at = int(np.argmin(np.abs(flat.distances - 0.1)))
    assert flat.lowest[at] == pytest.approx(9.09e-5, abs=1e-7)
    assert flat.highest[at] == pytest.approx(9.11e-3, abs=1e-5)
    assert "between 0.0091 % and 0.911 %" in DOCUMENT.read_text()
    other = reference.landscape("laplacian3", seed=1, directions=20)
    for found in (flat, other):
        system = catalogue.get(found.system)
        best = solve(system)
        eigenvalues = np.linalg.eigvalsh(np.asarray(exact.hessian(system, best.gain)))
        d = found.distances[0]
        assert found.lowest[0] == pytest.approx(d**2 / (2 * best.cost) * eigenvalues[0], rel=0.02)
        assert found.highest[0] == pytest.approx(d**2 / (2 * best.cost) * eigenvalues[-1], rel=0.02)
        drawn = np.random.default_rng(2).standard_normal((2_000, *best.gain.shape))
        drawn /= np.linalg.norm(drawn, axis=(1, 2), keepdims=True)
        for place in range(0, len(found.distances), 4):
            excess = excess_of(best.gain + found.distances[place] * drawn, system, best.cost)
            assert found.lowest[place] <= excess.min() * (1 + 1e-9)
            assert found.highest[place] >= excess.max() * (1 - 1e-9)


@pytest.fixture(scope="module")
def silent():
    return silence.silent_score(seed=1, repetitions=60, trajectories=40)


def test_the_gradient_on_policy_is_exactly_zero_without_sampling(silent):
    assert (silent.exact["on_policy"] == 0).all()
    assert silent.sampled["on_policy"].min() > 1


def test_the_step_on_old_data_flees_the_old_gain_and_not_the_cost(silent):
    away, downhill = silent.exact_means["with_old"], silent.exact_means["with_descent"]
    assert away.value - away.margin > 0.98
    assert abs(downhill.value) < 2 * downhill.margin


def test_the_loop_runs_away_in_jumps():
    found = silence.stampede(seed=1, repetitions=8, episodes=30)
    assert np.median(found.moved[:, -1]) > 2
    assert np.median(found.cost[:, -1]) > 1.2 * np.median(found.cost[:, 0])
    assert found.jump > 0.6
    np.testing.assert_allclose(found.moved[:, 0], 0)


def test_sampling_alone_does_not_save_the_loop():
    found = silence.stampede(seed=1, repetitions=8, episodes=30, sampled=True)
    assert found.overflowed >= 6


def test_the_score_is_the_derivative_of_the_density():
    """The gradient of stored trajectories is that of the mean of ratio times cost, by finite differences."""
    system, rng = catalogue.get("double_integrator"), np.random.default_rng(0)
    old, S = default_gain(system), np.array([[0.3]])
    rows = rollouts(system, old, np.linalg.cholesky(S), rng.standard_normal((5, 2)), 4, rng)
    weight, inverse = rebuilt.weights(system, rows, "total"), np.linalg.inv(S)
    stored = rebuilt.summarise(rows, weight, old, inverse)
    gain = old + 0.05

    def mean(K):
        density = [np.exp(-np.sum((rows.u - rows.x @ each.T) ** 2, axis=(1, 2)) / 0.6) for each in (K, old)]
        return np.mean(density[0] / density[1] * weight[:, 0])

    for entry in np.eye(2)[:, None, :]:
        slope = (mean(gain + 1e-6 * entry) - mean(gain - 1e-6 * entry)) / 2e-6
        assert np.sum(rebuilt.gradient(stored, gain, inverse, True) * entry) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("name", identification.MODEL_SYSTEMS)
def test_without_exploration_only_the_closed_loop_is_learned(name):
    sizes = (300, 10_000)
    silent, explored = (
        identification.identification(name, sigma, seed=1, repetitions=6, sizes=sizes)
        for sigma in (0.0, identification.EXPLORATION)
    )
    assert (silent.condition > 1e7).all()  # infinite, or finite by rounding
    assert (explored.condition < 20).all()
    assert (silent.B[:, -1] > 0.4).all()
    assert np.median(silent.B[:, -1] / silent.B[:, 0]) > 0.8
    assert np.median(silent.closed_loop[:, -1] / silent.closed_loop[:, 0]) < 0.3
    assert np.median(explored.B[:, -1] / explored.B[:, 0]) < 0.3
    if name != FAILED:
        assert np.isinf(silent.excess).all()
        assert explored.excess[:, -1].max() < 0.01


def test_a_cost_on_the_next_state_is_recovered_from_the_next_state_only():
    found = identification.cost_regression(FAILED, seed=1, repetitions=10)
    assert np.abs(found.right - found.truth).max() < 1e-10
    wrong, truth = np.median(found.wrong, axis=0)[:3], found.truth[:3]
    assert wrong.max() / wrong.min() < 1.5  # all about equal, where the truth spans two decades
    assert wrong[0] < 0.4 * truth[0]
    assert wrong[2] > 5 * truth[2]
    other = identification.cost_regression("laplacian3", seed=1, repetitions=5)
    assert other.wrong_excess.min() > 1e-4
    assert np.abs(other.right_excess).max() < 1e-10


@pytest.mark.parametrize("name", variance.VARIANCE_SYSTEMS)
def test_baselines_and_causality_cut_the_noise_without_bias(name):
    noise = variance.gradient_noise(name, seed=3, batches=8, batch=4_000)
    size = {each: mean.value for each, mean in noise.spread.items()}
    assert size["ratio × total cost"] > size["total cost"] > size["cost-to-go"]
    assert size["cost-to-go"] > 2 * size["cost-to-go − value"] > 4 * size["advantage"]
    for off, expected in noise.bias.values():
        assert off < 3.5 * expected


def test_clipping_moves_the_mean_and_more_without_a_baseline():
    found = variance.clipping("laplacian3", seed=3, batches=8, batch=4_000)
    at = found.clips.index(1.0)
    total, baseline = found.total[at], found.baseline[at]
    assert total.value - 1 > 8 * total.margin / 2.36  # standard errors, of 8 batches
    assert 1 - baseline.value > 8 * baseline.margin / 2.36
    assert abs(total.value - 1) > 3 * abs(baseline.value - 1)
    assert abs(found.baseline[-1].value - 1) < 0.05


def test_old_data_reach_a_small_part_of_the_way():
    for found in reach.reaches():
        assert found.half < found.infinite < 0.3 * found.needed


def test_a_short_horizon_with_terminal_cost_Q_has_another_optimum():
    found = ending.ending("double_integrator", (10, 50))
    np.testing.assert_allclose(found.with_Q, [3.3808, 0.01471], rtol=1e-3)
    assert found.with_P.max() < 1e-9
    assert found.slope < 1e-6
    assert np.isinf(ending.ending("pendulum", (10,)).with_Q[0])


def test_repairs_help_one_after_the_other():
    curves = {each.learner: each for each in attribution.repaired("laplacian3", seed=1, repetitions=6)}
    assert list(curves) == list(attribution.REPAIRS)
    first = curves["as it was"].median[0]
    end = [curve.median[-1] for curve in curves.values()]
    assert end[0] > 0.99 * first  # the best that it can do is not to move
    assert end[1] > 0.5 * first
    assert end[-1] < 0.05 * first
    assert end[-1] < min(end[:-1]) / 3


def test_an_advantage_is_not_replayed():
    with pytest.raises(ValueError, match="current gain"):
        Habits(credit="advantage")


def test_the_same_seed_gives_the_same_numbers():
    for part in ("silence", "stampede", "noises", "repairs"):
        first, again = (diagnose.run_part(part, 5, SMALL) for _ in range(2))
        assert str(first) == str(again)
    assert str(diagnose.run_part("silence", 6, SMALL)) != str(diagnose.run_part("silence", 5, SMALL))


def test_intervals_and_percentages_in_words():
    assert mean_of(np.array([1.0, 3.0])) == pytest.approx((2.0, 12.706), rel=1e-4)
    words = [percent(value) for value in (1.3, 0.12, 0.0561, 5.6e-7, 0.0, np.inf)]
    assert words == ["130 %", "12 %", "5.6 %", "0.000056 %", "0 %", "unstable"]


@pytest.fixture(scope="module")
def small():
    return diagnose.diagnose(0, SMALL)


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("diagnosis")
    assert write_diagnosis(out, small, ["mbpo", "diagnosis", "--out", "a b"]) == out / "diagnosis.html"
    return out


@pytest.fixture(scope="module")
def drawn(small):
    return [each for group in pictures(small).values() for each in group]


class Page(HTMLParser):
    """Loads, ids and links of a page, and whether its tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.ids, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag, attrs):
        self.note(attrs)

    def note(self, attrs):
        self.loads += [
            value for key, value in attrs if key in {"src", "srcset", "href", "xlink:href", "data"}
        ]
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_stands_alone_and_says_what_was_found(folder, drawn):
    text, page = (folder / "diagnosis.html").read_text(), Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert all(load.startswith(("#", "data:")) for load in page.loads)
    assert all(load[1:] in page.ids for load in page.loads if load.startswith("#"))
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"@import|url\((?!#)|https?:", text)
    assert "mbpo diagnosis --out &#39;a b&#39;" in text
    assert "prefers-color-scheme: dark" in text
    words = " ".join(page.words)
    assert "1.1135" in words
    assert not re.search(r"\bnan\b", words)
    assert text.count("<figure>") == len(drawn)


def test_every_figure_is_saved_and_every_number_is_in_the_result(folder, drawn):
    files = {file.name: file for file in (folder / "figures").iterdir()}
    assert set(files) == {f"{each.name}.svg" for each in drawn}
    for each in drawn:
        assert ElementTree.parse(files[f"{each.name}.svg"]).getroot().tag.endswith("svg")
        assert files[f"{each.name}.svg"].read_text() == each.svg  # drawing twice gives the same bytes
    result = json.loads((folder / "result.json").read_text())
    assert set(result) == {field.name for field in dataclasses.fields(diagnose.Diagnosis)}
    assert result["references"]["rows"][0]["system"] == FAILED
    assert result["references"]["rows"][1]["zero"] is None
    assert {each["learner"] for each in result["curves"]} == {*attribution.REPAIRS, "policy-gradient"}


def test_every_figure_says_how_often_it_was_repeated(drawn):
    for each in drawn:
        assert re.search(r"repetitions|runs|trajectories|directions|[Ee]xact", each.caption), each.name


@pytest.mark.parametrize(
    ("options", "sentence"), [(["--out", "{}/file"], "is a file"), (["--seed", "-1"], "seed")]
)
def test_bad_input_is_refused_before_anything_runs(options, sentence, tmp_path):
    (tmp_path / "file").write_text("")
    parser = Parser("mbpo", "")
    add_diagnosis(add_verbs(parser))
    args = parser.parse_args(["diagnosis", *(each.format(tmp_path) for each in options)])
    with pytest.raises(InputError, match=sentence):
        args.run(args)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_page_that_cannot_be_written_is_one_sentence(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_diagnosis(tmp_path / "file", small, ["mbpo", "diagnosis"])
