"""The figures of the study of the real ratio, from a JSON object with made-up numbers."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mbpo.report import palette
from mbpo.report.palette import colour
from mbpo.report.studies import real_ratio
from mbpo.report.studies.gradient_errors import ERRORS
from mbpo.report.studies.real_ratio import pictures
from mbpo.studies.real_ratio import COLUMNS

NAMES = [f"real-ratio-{name}" for name in ("excess", "exploration", "lengths", "gradient", "best")]
RATIOS = ("1", "0", "0.5")  # in no order
SCHEDULES = ("rising", "falling")
BLUE = colour("mbpo")
EQUAL = {"exploration": 1.0, "imagined": 2000}
OTHERS = (EQUAL | {"imagined": 500}, EQUAL | {"exploration": 4.0})


def row(**values):
    return {name: values.get(name) for name in COLUMNS}


def training_row(ratio, **about):
    share = {"rising": 0.6, "falling": 0.4}.get(ratio) or float(ratio)
    excess = (0.1 + share) * (1 + about["planted_error"]) / about["transitions"] * 10 / about["updates"]
    excess /= about["rollout_length"] * about["exploration"] * about["imagined"] / 2000
    return row(
        **about, part="training", ratio=ratio, model_error=0.05, excess=excess, excess_low=0.5 * excess,
        excess_high=2 * excess, excess_p90=1.5 * excess, unstable=0.0,
    )  # fmt: skip


def gradient_row(ratio, **about):
    share = float(ratio)
    bias = 0.2 * (1 - share) * about["exploration"] + about["planted_error"]
    return row(
        **about, part="gradient", ratio=ratio, bias=bias, bias_low=0.0, bias_high=0.5,
        persistent=10 / about["transitions"], noise=0.1 + share, error=1.4,
    )  # fmt: skip


def best_row(ratio, **about):
    error = max(about["planted_error"], 1 / about["transitions"])
    return row(
        **about, part="best", ratio=ratio, model_error=error, excess=0.01, excess_low=0.005, excess_high=0.02,
        best_low=0.0, best_high=1.0,
    )  # fmt: skip


def result(systems=("here",), amounts=(100, 1000), seeds=8):
    rows = []
    for system, amount in itertools.product(systems, amounts):
        same = {"system": system, "transitions": amount, "seeds": seeds}
        for length, updates in itertools.product((1, 5, 20), (1, 4)):
            knobs = {"rollout_length": length, "updates": updates}
            for planted in (0.0, 0.1, 0.3) if (length, updates) == (5, 4) else (0.0,):
                about = same | knobs | EQUAL | {"planted_error": planted}
                rows += [training_row(ratio, **about) for ratio in (*RATIOS, *(() if planted else SCHEDULES))]
                rows.append(best_row("0.5" if planted else "0", **about))
            for other in OTHERS if length == 5 else ():
                about = same | knobs | other | {"planted_error": 0.0}
                rows += [training_row(ratio, **about) for ratio in RATIOS] + [best_row("1", **about)]
        cases = [(1, 0.0, EQUAL), (5, 0.0, EQUAL), (5, 0.1, EQUAL), *[(5, 0.0, other) for other in OTHERS]]
        for length, planted, way in cases:
            about = same | way | {"rollout_length": length, "planted_error": planted}
            rows += [gradient_row(ratio, **about) for ratio in RATIOS]
    return {"study": "real-ratio", "systems": list(systems), "seeds": seeds, "rows": rows}


def of(given, **wanted):
    return [each for each in given["rows"] if all(each[name] == value for name, value in wanted.items())]


def usual(given, **wanted):
    return of(given, **{"rollout_length": 5, "planted_error": 0.0} | EQUAL | wanted)


def along(rows, name):
    """What a line shows: a column by constant ratio, in the ratio's order."""
    constant = sorted((float(each["ratio"]), each[name]) for each in rows if each["ratio"] in RATIOS)
    return np.array(constant, float)


def draw(given):
    """The pictures, and the figures behind them."""
    figures, write = [], real_ratio.to_svg
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_ratio, "to_svg", lambda figure: figures.append(figure) or write(figure))
        return pictures(given), figures


@pytest.fixture(scope="module")
def plain():
    """A result that has everything, its pictures and its figures."""
    given = result()
    return given, *draw(given)


def lines(axes, tint, count):
    """The data of marked lines of so many points in one colour."""
    return [
        np.asarray(each.get_xydata())
        for each in axes.get_lines()
        if each.get_color() == tint
        and each.get_marker() not in ("None", "x")
        and len(each.get_xdata()) == count
    ]


def test_five_figures_that_change_nothing_and_repeat(plain):
    given, found, _ = plain
    assert result() == given
    assert [picture.name for picture in found] == NAMES
    assert [picture.svg for picture in pictures(given)] == [picture.svg for picture in found]
    for picture in found:
        assert picture.title.endswith(": here")
        assert "8 seeds" in picture.caption
        assert "Left out" not in picture.caption
        assert "Crosses" not in picture.caption
    assert "5 steps and 4 updates a round" in found[0].caption
    assert "a ratio rising or falling" in found[0].caption
    assert (
        "1,000 real transitions (0: 0.005 %, 0.5: 0.03 %, 1: 0.055 %, rising: 0.035 %" in found[0].description
    )
    assert "1× · 500 imagined rows (0: 0.02 %, 0.5: 0.12 %, 1: 0.22 %)" in found[1].description
    assert "0.5: 0.0075 %, 1: 0.014 %)." in found[1].description  # 4× · 2,000
    assert "after 1,000 real transitions" in found[1].caption
    assert "1 update a round: length 1 (0: 0.1 %" in found[2].description
    assert "1,000 real transitions, model kept 10 % wrong, at 0: bias 30 %" in found[3].description
    assert "1,000 transitions, model error 30 %: 0.5" in found[4].description


def test_the_pictures_are_svg_in_colours_that_the_page_can_change(plain):
    _, found, _ = plain
    for picture, expected in zip(
        found, ("falling", "4× · 2,000", "4 updates a round", "fitted model", "kept wrong"), strict=True
    ):
        assert expected in "".join(ElementTree.fromstring(picture.svg).itertext())
        assert set(re.findall(r"#[0-9a-f]{6}\b", picture.svg)) <= set(palette.variables())


def test_excess_cost_is_that_of_the_rows(plain):
    given, _, drawn = plain
    (axes,) = drawn[0].axes
    for amount, tint in ((100, colour("mbpo-simple")), (1000, BLUE)):
        rows = usual(given, part="training", updates=4, transitions=amount)
        (line,) = lines(axes, tint, 3)
        np.testing.assert_array_equal(line, along(rows, "excess"))
        (beside,) = lines(axes, tint, 2)
        assert beside[:, 0].min() > 1.1  # in a column of their own
        expected = [each["excess"] for name in SCHEDULES for each in rows if each["ratio"] == name]
        np.testing.assert_array_equal(beside[:, 1], expected)
    bands = [
        path.vertices for each in axes.collections for path in each.get_paths() if len(path.vertices) > 4
    ]
    rows = usual(given, part="training", updates=4, transitions=1000)
    for name in ("excess_low", "excess_high"):
        edge = along(rows, name)
        assert any(all(np.isclose(band, point).all(axis=1).any() for point in edge) for band in bands)


def test_other_ways_to_imagine_have_lines_at_all_of_the_data(plain):
    given, _, drawn = plain
    (axes,) = drawn[1].axes
    ways = zip((OTHERS[0], EQUAL, OTHERS[1]), ("dyna", "mbpo", "off-pac"), strict=True)
    for way, name in ways:
        (line,) = lines(axes, colour(name), 3)
        rows = usual(given, part="training", updates=4, transitions=1000, **way)
        np.testing.assert_array_equal(line, along(rows, "excess"))


def test_one_way_to_imagine_needs_no_figure_of_its_own():
    given = result()
    given["rows"] = of(given, **EQUAL)
    assert [picture.name for picture in pictures(given)] == [
        name for name in NAMES if "exploration" not in name
    ]


def test_lengths_and_updates_have_lines_and_panels_at_all_of_the_data(plain):
    given, _, drawn = plain
    for axes, updates in zip(drawn[2].axes, (1, 4), strict=True):
        for length, tint in ((1, colour("dyna")), (5, BLUE), (20, colour("off-pac"))):
            rows = of(
                given,
                part="training",
                rollout_length=length,
                updates=updates,
                transitions=1000,
                planted_error=0.0,
                **EQUAL,
            )
            (line,) = lines(axes, tint, 3)
            np.testing.assert_array_equal(line, along(rows, "excess"))


def test_gradient_errors_are_those_of_the_usual_length(plain):
    given, _, drawn = plain
    cases = ((100, 0.0), (1000, 0.0), (1000, 0.1))
    for axes, (amount, planted) in zip(drawn[3].axes, cases, strict=True):
        rows = usual(given, part="gradient", transitions=amount, planted_error=planted)
        for name in ("bias", "persistent", "noise"):
            (line,) = lines(axes, ERRORS[name][0], 3)
            np.testing.assert_array_equal(line, along(rows, name))


def test_the_best_ratio_is_hollow_where_the_model_is_kept_wrong(plain):
    given, _, drawn = plain
    (axes,) = drawn[4].axes
    marks = [each for each in axes.get_lines() if each.get_marker() == "o" and len(each.get_xdata()) == 1]
    rows = sorted(
        of(given, part="best", rollout_length=5, updates=4, transitions=1000, **EQUAL),
        key=lambda each: each["model_error"],
    )
    places = np.concatenate([each.get_xydata() for each in marks])
    np.testing.assert_allclose(places[:, 0], [each["model_error"] for each in rows], rtol=0.05)
    np.testing.assert_array_equal(places[:, 1], [0.0, 0.5, 0.5])
    inside = [each.get_markerfacecolor() for each in marks]
    assert inside == [BLUE, palette.PAPER[0], palette.PAPER[0]]
    ranges = [path.vertices[:, 1] for each in axes.collections for path in each.get_paths()]
    np.testing.assert_array_equal(ranges, [(0.0, 1.0)] * 6)


def test_several_systems_with_one_seed_and_one_amount_of_data():
    found, drawn = draw(result(("a/b", "c & <d>"), amounts=(1000,), seeds=1))
    assert [picture.name for picture in found] == [
        f"{name}-{tag}" for tag in ("1-a-b", "2-c----d-") for name in NAMES
    ]
    assert found[-1].title.endswith(": c & <d>")
    assert "over 1 seed," in found[0].caption
    assert len(drawn[3].axes) == 2  # the least of the data are the most
    assert pictures({"study": "real-ratio", "systems": ["none"], "rows": []}) == []


def test_what_is_not_finite_is_left_out_and_said():
    given = result()
    for ratio in ("0.5", "falling"):
        (lost,) = usual(given, part="training", updates=4, transitions=1000, ratio=ratio)
        lost |= {"excess": None, "excess_low": None, "excess_high": None}
    (undefined,) = usual(given, part="gradient", transitions=100, ratio="0")
    undefined |= {"bias": None, "bias_low": None, "bias_high": None}
    (nowhere,) = usual(given, part="best", updates=4, transitions=100)
    nowhere["excess"] = None
    found, drawn = draw(given)
    (axes,) = drawn[0].axes
    (line,) = lines(axes, BLUE, 3)
    np.testing.assert_array_equal(np.isnan(line[:, 1]), [False, True, False])
    crosses = [
        float(x)
        for each in axes.get_lines()
        for x in each.get_xdata()
        if each.get_marker() == "x" and each.get_color() == BLUE
    ]
    assert crosses[0] == 0.5
    assert crosses[1] > 1.1
    for picture, lost in ((found[0], 2), (found[1], 1), (found[2], 2)):
        assert f"Crosses: no finite median, as most gains do not stabilise ({lost})" in picture.caption
    assert "0.5: not finite" in found[0].description
    assert "Left out: 1 undefined values" in found[3].caption
    assert "Left out: 1 settings" in found[4].caption


def test_nothing_finite_at_all_leaves_no_best_ratio():
    given = result()
    for each in given["rows"]:
        each |= {name: None for name in COLUMNS if name.startswith(("excess", "bias", "model"))}
        each |= {"persistent": None, "noise": None, "error": None}
    found = pictures(given)
    assert [picture.name for picture in found] == NAMES[:4]
    assert all(ElementTree.fromstring(picture.svg) is not None for picture in found)
