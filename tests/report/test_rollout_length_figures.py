"""The figures of the study of the rollout length, from a JSON object with made-up numbers."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mbpo.report import palette
from mbpo.report.studies import rollout_length
from mbpo.report.studies.curves import excess_limits
from mbpo.report.studies.gradient_errors import ERRORS
from mbpo.report.studies.rollout_length import pictures
from mbpo.studies.rollout_length import COLUMNS

NAMES = [f"rollout-length-{name}" for name in ("excess", "gradient", "theorem")]
LENGTHS = (1, 5, 40)
OWN = 0.95
CASES = [(0.0, "rows"), (0.0, "branches"), (0.1, "rows"), (0.1, "branches")]


def row(**values):
    return {name: values.get(name) for name in COLUMNS}


def length_row(k, **about):
    scale = 0.1 * (1 + about["radius"]) * (1 + about["planted_error"]) * 100 / about["transitions"]
    excess = scale / k * (1 if about["equal"] == "rows" else 2)
    return row(
        **about, part="length", rollout_length=k, model_error=0.05, excess=excess, excess_low=0.5 * excess,
        excess_high=2 * excess, unstable=0.0, bias=0.0 if k == 5 else 0.02 * k, bias_low=0.0, bias_high=0.03 * k + 0.1,
        persistent=0.3 + 0.01 * k, noise=2.0 / k, error=2.5 / k + 0.3,
    )  # fmt: skip


def best_row(**about):
    theorem = 0 if about["transitions"] > 100 else 17
    return row(
        **about, part="best", rollout_length=5, model_error=0.05, excess=0.01, excess_low=0.005, excess_high=0.02,
        best_low=1, best_high=40, theorem=theorem, theorem_low=theorem, theorem_high=2 * theorem,
    )  # fmt: skip


def result(systems=("here",), amounts=(100, 1000), seeds=8):
    rows = []
    for system in systems:
        for radius in (0.5, OWN):
            for amount in amounts:
                for planted, equal in CASES:
                    about = {
                        "system": system, "radius": radius, "own_radius": radius == OWN, "transitions": amount,
                        "planted_error": planted, "equal": equal, "seeds": seeds,
                    }  # fmt: skip
                    rows += [length_row(k, **about) for k in LENGTHS] + [best_row(**about)]
    return {"study": "rollout-length", "systems": list(systems), "seeds": seeds, "rows": rows}


def of(given, **wanted):
    return [each for each in given["rows"] if all(each[name] == value for name, value in wanted.items())]


def draw(given):
    """The pictures, and the figures behind them."""
    figures, write = [], rollout_length.to_svg
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout_length, "to_svg", lambda figure: figures.append(figure) or write(figure))
        return pictures(given), figures


@pytest.fixture(scope="module")
def plain():
    """A result that has everything, its pictures and its figures."""
    given = result()
    return given, *draw(given)


def lines(axes, tint):
    """The data of the marked lines in one colour."""
    return [
        np.asarray(each.get_xydata())
        for each in axes.get_lines()
        if each.get_color() == tint and each.get_marker() not in ("None", "x")
    ]


def bars(axes):
    """The ends of vertical lines, by place."""
    return {
        round(float(path.vertices[0][0]), 6): tuple(path.vertices[:, 1])
        for each in axes.collections
        for path in each.get_paths()
        if len(path.vertices) == 2
    }


def test_three_figures_that_change_nothing_and_repeat(plain):
    given, found, _ = plain
    assert result() == given
    assert [picture.name for picture in found] == NAMES
    assert [picture.svg for picture in pictures(given)] == [picture.svg for picture in found]
    for picture in found:
        assert picture.title.endswith(": here")
        assert "8 seeds" in picture.caption
        assert "Left out" not in picture.caption
        assert "Crosses" not in picture.caption
    for words in (
        "model kept 10 % wrong, equally many rows, radius 0.5 (1: 1.7 %, 5: 0.33 %, 40: 0.041 %)",
        "model kept 10 % wrong, equally many branches, radius 0.5 (1: 3.3 %, 5: 0.66 %, 40: 0.083 %)",
    ):
        assert words in found[0].description
    assert "Equally many rows." in found[1].caption
    assert found[2].caption.startswith("With equally many rows.")
    assert (
        "1,000 real transitions, fitted model, at 40: bias 80 %, persistent 70 %, noise 5 %"
        in found[1].description
    )
    assert "radius 0.95, 100 transitions, fitted model: 5 (1 to 40) and 17" in found[2].description


def test_the_pictures_are_svg_in_colours_that_the_page_can_change(plain):
    _, found, _ = plain
    for picture in found:
        text = "".join(ElementTree.fromstring(picture.svg).itertext())
        assert "k of an imagined branch" in text
        assert set(re.findall(r"#[0-9a-f]{6}\b", picture.svg)) <= set(palette.variables())


def test_excess_cost_is_that_of_the_rows_at_all_of_the_data(plain):
    given, _, drawn = plain
    for axes, (planted, equal), dash in zip(drawn[0].axes, CASES, ("-", "-", "--", "--"), strict=True):
        for radius, (tint, _) in ((0.5, rollout_length.OTHERS[0]), (OWN, rollout_length.OWN)):
            rows = of(
                given, part="length", radius=radius, planted_error=planted, equal=equal, transitions=1000
            )
            (line,) = lines(axes, tint)
            np.testing.assert_allclose(line[:, 0], LENGTHS, rtol=0.05)  # set apart a little
            np.testing.assert_array_equal(line[:, 1], [each["excess"] for each in rows])
            shown = [bars(axes)[round(x, 6)] for x in line[:, 0]]
            np.testing.assert_allclose(shown, [(each["excess_low"], each["excess_high"]) for each in rows])
        marked = [each for each in axes.get_lines() if each.get_marker() in ("o", "s")]
        assert {each.get_linestyle() for each in marked} == {dash}


def test_gradient_errors_are_those_of_the_own_radius(plain):
    given, _, drawn = plain
    cases = ((100, 0.0), (1000, 0.0), (1000, 0.1))
    for axes, (amount, planted) in zip(drawn[1].axes, cases, strict=True):
        about = {"planted_error": planted, "equal": "rows", "transitions": amount}
        rows = of(given, part="length", own_radius=True, **about)
        for name in ("bias", "persistent", "noise"):
            (line,) = lines(axes, ERRORS[name][0])
            np.testing.assert_array_equal(line, [(each["rollout_length"], each[name]) for each in rows])
        low, top = axes.get_ylim()
        assert low == 0.0
        assert top > 2.8


def test_best_lengths_stand_beside_the_theorems(plain):
    _, _, drawn = plain
    (axes,) = drawn[2].axes
    tint, _ = rollout_length.BEST
    best = [line for line in lines(axes, tint) if len(line) == 1]
    np.testing.assert_allclose(np.concatenate(best), [(np.sqrt(5), height) for height in range(8)])
    chosen = np.concatenate(lines(axes, rollout_length.THEOREM[0]))
    tinted = [each for each in axes.get_lines() if each.get_color() == rollout_length.THEOREM[0]]
    spans = np.stack([each.get_xdata() for each in tinted if len(each.get_xdata()) == 2])
    np.testing.assert_allclose(spans**2, [[17, 34], [17, 34], [0, 0], [0, 0]] * 2, atol=1e-12)
    np.testing.assert_allclose(chosen[:, 0] ** 2, [17, 17, 0, 0] * 2, atol=1e-12)
    ranges = [
        each.get_xdata() for each in axes.get_lines() if len(each.get_xdata()) == 2 and each.get_alpha()
    ]
    np.testing.assert_allclose(ranges, [np.sqrt([1, 40])] * 8)


def test_several_systems_with_one_seed_and_one_amount_of_data():
    found, drawn = draw(result(("a/b", "a b"), amounts=(1000,), seeds=1))
    assert [picture.name for picture in found] == [
        f"{name}-{tag}" for tag in ("1-a-b", "2-a-b") for name in NAMES
    ]
    assert found[-1].title.endswith(": a b")
    assert "over 1 seed," in found[0].caption
    assert len(drawn[1].axes) == 2  # the least of the data are the most
    assert pictures({"study": "rollout-length", "systems": ["none"], "rows": []}) == []


def test_what_is_not_finite_is_left_out_and_said():
    given = result()
    usual = of(given, part="length", own_radius=True, planted_error=0.0, equal="rows", transitions=1000)
    (lost,) = (each for each in usual if each["rollout_length"] == 5)
    lost |= {
        "excess": None,
        "excess_high": None,
        "bias": None,
        "bias_low": None,
        "bias_high": None,
        "noise": None,
    }
    for each in of(given, part="best", own_radius=True, transitions=1000):
        each |= {"excess": None, "excess_low": None, "excess_high": None}
    for each in of(given, part="best", radius=0.5):
        each["theorem"] = None
    found, drawn = draw(given)
    tint = rollout_length.OWN[0]
    axes = drawn[0].axes[0]
    (line,) = lines(axes, tint)
    np.testing.assert_array_equal(np.isnan(line[:, 1]), [False, True, False])
    (cross,) = [
        each
        for each in axes.get_lines()
        if each.get_marker() == "x" and len(each.get_xdata()) and each.get_color() == tint
    ]
    assert cross.get_xdata()[0] == line[1, 0]
    assert bars(axes)[round(line[1, 0], 6)] == pytest.approx((lost["excess_low"], axes.get_ylim()[1]))
    assert "no finite median, as most gains do not stabilise (1)" in found[0].caption
    assert "5: not finite, 40: 0.049 %)" in found[0].description
    assert "Left out: 2 undefined values" in found[1].caption
    assert "no length has a finite median excess (2)" in found[2].caption
    assert "length is undefined (4)" in found[2].caption
    strip = drawn[2].axes[0]
    assert sum(len(each) == 1 for each in lines(strip, rollout_length.BEST[0])) == 6
    assert len(lines(strip, rollout_length.THEOREM[0])) == 4


def test_nothing_finite_at_all_still_draws():
    given = result()
    for each in given["rows"]:
        each |= {name: None for name in COLUMNS if name.startswith(("excess", "bias", "theorem", "best"))}
        each |= {"persistent": None, "noise": None, "error": None}
    found = pictures(given)
    assert [picture.name for picture in found] == NAMES
    assert all(ElementTree.fromstring(picture.svg) is not None for picture in found)


def test_the_axis_holds_medians_but_not_every_interval():
    about = {"radius": 0.5, "planted_error": 0.0, "equal": "rows", "transitions": 100, "seeds": 8}
    rows = [length_row(1, **about) for _ in range(2)]
    rows[0] |= {"excess": 0.1, "excess_low": 1e-9, "excess_high": 1e9}
    rows[1] |= {"excess": 0.3, "excess_low": 0.05, "excess_high": None}
    low, high = excess_limits(rows)
    assert low == pytest.approx(0.05 / 1.3)
    assert high == pytest.approx(0.3 * 1.3)
    rows.append(rows[0] | {"excess": None})
    low, high = excess_limits(rows)
    assert np.log(0.39 / low) / np.log(high / low) == pytest.approx(1 / 1.2)  # room for crosses


def test_an_excess_of_zero_lies_on_the_edge_and_is_told():
    given = result()
    usual = of(given, part="length", own_radius=True, planted_error=0.0, equal="rows", transitions=1000)
    usual[2]["excess"] = 0.0
    found, drawn = draw(given)
    assert "zero to rounding (1)" in found[0].caption
    (line,) = lines(drawn[0].axes[0], rollout_length.OWN[0])
    assert line[2, 1] == drawn[0].axes[0].get_ylim()[0]
