"""The page of `mbpo gradients` from results with made-up numbers, null wherever they may be null."""

import copy
import math
import re
from xml.etree import ElementTree

import pytest
from test_page import Page

from mbpo.lqr.gradients import ESTIMATORS
from mbpo.report import palette
from mbpo.report.drawing import per_cent, spaced
from mbpo.report.gradient_figures import short
from mbpo.report.gradients import estimator_row, findings, gradients_files
from mbpo.report.palette import label
from mbpo.report.ticks import power

ABOUT = {
    "command": ["mbpo", "gradients", "two words"],
    "versions": {"numpy": "2.0"},
    "platform": "here",
    "devices": ["one", "two"],
    "source": "a <source>",
}
FIGURES = {
    "bias-and-spread", "transitions-to-10-percent", "degradation-horizon", "degradation-exploration",
    "degradation-distance", "effective-sample", "ratio-path",
}  # fmt: skip
MATRIX = [[-0.25, 0.0], [1.5, 2.0]]


def row(name, **changes):
    """What a bench says about one estimator; std 2^place, bias 5 % where it is biased."""
    estimator, place = ESTIMATORS[name], list(ESTIMATORS).index(name)
    std = 0.0 if name == "known" else 2.0 ** (place / 2)
    biased = not estimator.unbiased
    closed = name in ("dpg", "off-pac", "pathwise") or name.startswith("zeroth")
    base = {
        "name": name,
        "summary": estimator.summary,
        "data": estimator.data,
        "unbiased": estimator.unbiased,
        "note": estimator.condition,
        "mean": MATRIX,
        "standard_error": MATRIX,
        "relative_error": 0.01,
        "max_z": 9.0 if biased else 1.0,
        "relative_bias": 0.05 if biased and closed else 0.0,
        "relative_std": std,
        "cosine": 0.99,
        "exact_fraction": 0.25 if estimator.data == "past" else None,
        "transitions_to_10_percent": 2000 * std**2,
        "natural_error": 1e-14,
        "gauss_newton_error": None,
        "effective_sample_fraction": 0.5 if estimator.weights else 1.0,
        "closed_form_mean": MATRIX if closed else None,
        "max_z_closed_form": 1.5 if closed else None,
    }
    return base | changes


def sweep(values, slope):
    rows = {}
    for place, name in enumerate(name for name in ESTIMATORS if name != "known"):
        grows = slope if ESTIMATORS[name].replays else 0.0
        std = [2.0 ** (place / 2) * value**grows for value in values]
        fraction = [
            max(1.0 - 0.2 * at, 1e-6) if ESTIMATORS[name].weights else 1.0 for at in range(len(values))
        ]
        rows[name] = {
            "relative_std": std, "relative_error": std, "relative_bias": std, "effective_sample_fraction": fraction,
        }  # fmt: skip
    return {"values": values, "estimators": rows}


def made_up(**changes):
    share = [at / 10 for at in range(11)]
    base = {
        "system": "two_states",
        "objective": "average",
        "horizon": None,
        "discount": None,
        "steps": 20,
        "episodes": 4000,
        "seed": 3,
        "gain": MATRIX,
        "behaviour_gain": MATRIX,
        "exploration": MATRIX,
        "cost": 12.5,
        "exact_gradient": MATRIX,
        "z_threshold": 4.5,
        "perturbation_radius": 0.1,
        "weight_second_moment": 1.5,
        "estimators": [row(name) for name in ESTIMATORS],
        "degradation": {
            "horizon": sweep([5.0, 10.0, 20.0, 40.0], 0.5),
            "exploration": sweep([0.1, 0.3, 1.0, 3.0], -1.0),
            "distance": sweep([0.01, 0.02, 0.04], 1.0),
        },
        "ratio_path": {
            "share": share,
            "half": [0.2] * 11,
            "infinite": [0.9] * 10 + [None],
            "remaining": [1.0 - each for each in share],
            "stabilising": [False] + [True] * 10,
        },
    }
    return copy.deepcopy(base) | changes


def page_of(files):
    page = Page()
    page.feed(files["report.html"])
    page.close()
    assert page.open == []
    return page


def words_of(files):
    return " ".join(" ".join(page_of(files).words).split())


def test_the_page_stands_alone_and_shows_every_figure():
    files = gradients_files(made_up(), ABOUT)
    assert set(files) == {"report.html"} | {f"figures/{name}.svg" for name in FIGURES}
    page, text = page_of(files), files["report.html"]
    assert all(load.startswith(("#", "data:")) for load in page.loads)
    assert not re.search(r"@import|url\((?!#)|https?:", text)
    assert len(page.ids) == len(set(page.ids))
    assert all(load[1:] in page.ids for load in page.loads if load.startswith("#"))
    assert len(page.labels) == len(FIGURES)
    assert all(role == "img" and len(words) > 40 for role, words in page.labels)
    assert "mbpo gradients &#39;two words&#39;" in text
    assert "A &lt;source&gt;." in text
    for name, svg in files.items():
        assert name == "report.html" or ElementTree.fromstring(svg).tag.endswith("svg")


def test_the_table_says_everything_about_every_estimator():
    text = words_of(gradients_files(made_up(), ABOUT))
    for name, estimator in ESTIMATORS.items():
        assert label(name) in text
        assert f"{name}: {estimator.summary}" in text
    assert "no closed form: the mean of such a ratio has no closed form" in text
    assert "exact 25 %" in text
    assert "4.5: all unbiased estimators together do, with probability 0.999 (80 entries)" in text
    assert "average cost per step" in text
    shown = estimator_row(row("reinforce"), 4.5)
    assert (shown["unbiased"], shown["own"], shown["natural"]) == (
        "yes",
        "its mean is the gradient",
        "< 1e-6",
    )
    assert (shown["newton"], shown["needed"], shown["told"]) == ("–", "2,000", False)


def test_the_finding_is_computed_from_the_numbers():
    rows = [
        row("reinforce", transitions_to_10_percent=50_000.0),
        row("expected", transitions_to_10_percent=100.0),
        row("dpg", transitions_to_10_percent=400.0, relative_bias=0.07),
        row("importance-sampling", transitions_to_10_percent=1_000_000.0),
        row("truncated", relative_bias=1.3, transitions_to_10_percent=None),
        row("known"),
    ]
    first, second, third = findings(made_up(estimators=rows))
    assert first == (
        "Expected gradient needs the fewest transitions for a gradient with 10 % error: 100; of those told nothing "
        "about the system DPG, 400. REINFORCE needs 500 and importance sampling needs 10,000 times as many as "
        "expected gradient."
    )
    assert second.endswith("all |z| are below 4.5.")
    assert third == "Biased: truncated ratios by 130 %, DPG by 7 %."


@pytest.mark.parametrize("changes", [{"max_z": 5.0}, {"max_z": None}])
def test_a_mean_that_is_not_the_gradient_is_named(changes):
    rows = [row("reinforce", **changes), row("dpg", max_z_closed_form=7.0), row("gpomdp")]
    result = made_up(estimators=rows)
    sentence = findings(result)[1]
    assert "REINFORCE" in sentence
    assert "DPG (7)" in sentence
    assert "GPOMDP" not in sentence
    assert gradients_files(result, ABOUT)["report.html"].count('class="above"') == 2


def test_an_untestable_estimator_is_neither_right_nor_wrong():
    rows = [row("reinforce"), row("importance-sampling", unbiased=None, max_z=20.0, note="E w^2 is infinite")]
    result = made_up(estimators=rows, weight_second_moment=None)
    assert findings(result)[1].endswith("Untestable, for the size of their weights: importance sampling.")
    text = words_of(gradients_files(result, ABOUT))
    assert "untestable E w^2 is infinite" in text
    assert "ratio infinite" in text


def test_without_a_gradient_nothing_relative_is_drawn():
    nothing = dict.fromkeys(
        ("relative_error", "relative_bias", "relative_std", "cosine", "transitions_to_10_percent")
    )
    rows = [row(name, **nothing) for name in ESTIMATORS]
    bare = {"degradation": None, "ratio_path": None, "objective": "discount", "discount": 0.9, "cost": None}
    files = gradients_files(made_up(estimators=rows, **bare), ABOUT)
    assert set(files) == {"report.html"}
    text = words_of(files)
    assert "The exact gradient is zero to rounding" in text
    assert "discount 0.9" in text
    assert not re.search(r"\bnan\b|\bNone\b", text)


def test_missing_points_leave_gaps():
    result = made_up(objective="horizon", horizon=20)
    for axis in result["degradation"].values():
        for each in axis["estimators"].values():
            for field in each.values():
                field[-1] = None
        axis["estimators"]["mis"]["relative_std"] = [None] * len(axis["values"])
    files = gradients_files(result, ABOUT)
    assert {f"figures/{name}.svg" for name in FIGURES} < set(files)
    assert "MIS" not in files["figures/degradation-horizon.svg"]
    assert "total cost over 20 steps" in files["report.html"]
    result["ratio_path"]["half"] = result["ratio_path"]["infinite"] = [0.0] * 11
    assert "figures/ratio-path.svg" not in gradients_files(result, ABOUT)


def test_exact_fractions_are_marked_where_they_are_known():
    result = made_up()
    distance = result["degradation"]["distance"]["estimators"]
    distance["importance-sampling"]["exact_fraction"] = [1.0, 0.7, None]
    assert "Bars: the exact 1/E w²" in words_of(gradients_files(result, ABOUT))
    assert "Bars:" not in words_of(gradients_files(made_up(), ABOUT))


def test_drawing_twice_gives_the_same_bytes():
    assert gradients_files(made_up(), ABOUT) == gradients_files(made_up(), ABOUT)


def test_every_estimator_has_a_name_and_a_colour_of_its_own():
    assert set(ESTIMATORS) <= set(palette.LABELS) & set(palette.COLOURS)
    assert len(palette.variables()) == len(palette.COLOURS) + 6
    assert len(set(palette.LABELS.values())) == len(palette.LABELS)
    assert (label("mbpo:mis"), palette.colour("mbpo:mis")) == ("MBPO, mis", palette.colour("mis"))
    assert (palette.variable("mbpo:mis"), palette.variable("unknown")) == ("--mis", "--other")


def test_numbers_in_words():
    assert [short(value) for value in (1133, 57012, 999_999, 5228850, 34.4e6, 1.6e11, 2e13)] == [
        "1,133", "57,000", "1 million", "5.2 million", "34 million", "160 billion", "2.0e13",
    ]  # fmt: skip
    assert [power(value) for value in (0.01, 30, 1000, 30_000, 4.2e-4)] == [
        "0.01",
        "30",
        "10³",
        "3·10⁴",
        "4.2·10⁻⁴",
    ]
    assert [per_cent(value) for value in (0.01, 0.00012, 1.0, 1.34, 3.0, 0.999, 12.0)] == [
        "1 %", "0.012 %", "100 %", "130 %", "300 %", "100 %", "1,200 %",
    ]  # fmt: skip


def test_names_are_moved_apart_in_their_order_and_no_farther_than_needed():
    heights = [0.5, 0.52, 0.1, 0.99, 1.0]
    moved = spaced(heights, 0.1, 0.0, 1.0)
    assert math.isclose(moved[1] - moved[0], 0.1)
    assert math.isclose(moved[0] + moved[1], 1.02)
    assert moved[2] == 0.1
    assert math.isclose(moved[4], 1.0)
    assert math.isclose(moved[3], 0.9)
    assert spaced([0.5, 0.5, 0.5], 0.9, 0.0, 1.0) == [1.0, 0.5, 0.0]
