"""The page of a study from a result with made-up numbers."""

import re
import sys
import types
from xml.etree import ElementTree

import pytest
from test_page import Page

from mbpo.report import studies
from mbpo.report.drawing import Picture, new_figure, style, to_svg
from mbpo.report.palette import COLOURS
from mbpo.report.studies import pictures_of
from mbpo.report.studies.page import MOST_ROWS, main_columns, settings_words, study_files, words

ABOUT = {
    "command": ["mbpo", "study", "two words", "--seeds", "1234"],
    "versions": {"numpy": "2.0"},
    "platform": "here",
    "devices": ["one", "two"],
    "sources": {"scalar": "a <source>", "own": ""},
}


def row(place):
    return {
        "system": "scalar" if place % 2 else "a & b",
        "error": 0.0123456 * (place + 1),
        "error_low": 0.01,
        "error_high": None if place == 2 else 0.02,
        "count": 20_000 + place,
        "beaten": place == 0,
        "lonely_low": None,
    }


def made_up(count=3, **changes):
    base = {
        "study": "made-up",
        "title": "Is <this> a study?",
        "question": "How much of 5 % is half?",
        "systems": ["scalar", "own"],
        "seeds": 1234,
        "settings": {
            "seeds": 1234,
            "real_ratios": [0.05, 1.0],
            "sizes": [200, 20_000],
            "nothing": None,
            "gain": [[1.0, -0.5], [0.0, 2.0]],
            "systems": {"scalar": {"first_gain": [0.25], "deep": {"er": True}}, "own": {"discount": 0.95}},
            "empty": {},
        },
        "findings": ["Half is 2.5 % (1,234 seeds).", "Nothing <else>."],
        "caveats": ["Beware of 5 %."],
        "columns": {name: f"what {name} & co mean" for name in row(0)},
        "rows": [row(place) for place in range(count)],
    }
    return base | changes


def picture(name):
    with style():
        figure, (axes,) = new_figure(2.0)
        axes.plot([0, 1], [0, 1], color=COLOURS["mbpo"][0])
        svg = to_svg(figure)
    return Picture(
        name, f"Title of {name}", "A <caption>.", f"A line that rises from nought to one: {name}.", svg
    )


def page_of(files):
    page = Page()
    page.feed(files["report.html"])
    page.close()
    assert page.open == []
    return page


def words_of(files):
    return " ".join(" ".join(page_of(files).words).split())


def test_the_page_stands_alone_and_shows_everything():
    files = study_files(made_up(), ABOUT, [picture("one"), picture("two")])
    assert set(files) == {"report.html", "figures/one.svg", "figures/two.svg"}
    page, text = page_of(files), files["report.html"]
    assert all(load.startswith(("#", "data:")) for load in page.loads)
    assert not re.search(r"@import|url\((?!#)|https?:", text)
    assert len(page.ids) == len(set(page.ids))
    assert all(load[1:] in page.ids for load in page.loads if load.startswith("#"))
    assert [role for role, _ in page.labels] == ["img", "img"]
    assert set(re.findall(r"href=\"([^#d][^\"]*)\"", text)) == {"table.csv"}
    assert COLOURS["mbpo"][0] not in text.split("</style>")[1]
    for name in ("one", "two"):
        assert ElementTree.fromstring(files[f"figures/{name}.svg"]).tag.endswith("svg")
    seen = words_of(files)
    for expected in (
        "Is <this> a study?", "How much of 5 % is half?", "scalar, own; 1,234 seeds.", "Half is 2.5 % (1,234 seeds).",
        "Nothing <else>.", "Beware of 5 %.", "A <caption>.", "Title of two", "a <source>",
        "mbpo study 'two words' --seeds 1234", "platform here", "devices one, two", "numpy 2.0",
    ):  # fmt: skip
        assert expected in seen
    assert "seeds 1,234" in seen
    assert text.count("<dt>seeds</dt>") == 1
    assert "prefers-color-scheme: dark" in text


def test_the_table_has_every_number_and_meaning():
    text = words_of(study_files(made_up(), ABOUT, []))
    assert "system error count beaten lonely_low a & b 0.01235 0.01 to 0.02 20,000 yes –" in text
    assert "scalar 0.02469 0.01 to 0.02 20,001 no –" in text
    assert "0.03704 0.01 to –" in text
    for name in main_columns(made_up()["columns"]):
        assert f"{name} what {name} & co mean" in text
    below = "below it, error_low to error_high: what error_low & co mean; what error_high & co mean"
    assert below in text
    assert text.count("below it") == 1
    assert "Figures" not in text


def test_ends_are_shown_with_what_they_are_the_ends_of():
    names = ["a", "a_low", "a_high", "b", "b_low", "c_low", "c_high"]
    assert main_columns(dict.fromkeys(names, "")) == ["a", "b", "b_low", "c_low", "c_high"]


@pytest.mark.parametrize(("count", "told"), [(MOST_ROWS, False), (MOST_ROWS + 1, True)])
def test_a_long_table_is_shortened(count, told):
    files = study_files(made_up(count), ABOUT, [])
    assert files["report.html"].count("<tr>") == MOST_ROWS + 1
    assert (
        f"The first 400 of {count} rows; table.csv , beside this page, has all" in words_of(files)
    ) is told


def test_an_empty_study_still_has_a_page():
    text = words_of(study_files(made_up(rows=[], caveats=[], settings={}), ABOUT, []))
    assert "1,234 seeds" in text
    assert "Before you rely on it" not in text


def test_settings_in_words():
    assert list(settings_words(made_up()["settings"])) == [
        ("seeds", "1,234"),
        ("real ratios", "0.05, 1"),
        ("sizes", "200, 20000"),
        ("nothing", "–"),
        ("gain", "(1, -0.5), (0, 2)"),
        ("systems: scalar: first gain", "0.25"),
        ("systems: scalar: deep", "er yes"),
        ("systems: own", "discount 0.95"),
        ("empty", "none"),
    ]
    assert [words(value) for value in (None, True, 1234567, 1e-12, 0.5, -12345.6, 1e7, "x")] == [
        "–", "yes", "1,234,567", "1e-12", "0.5", "-12,346", "1e+07", "x",
    ]  # fmt: skip


def test_the_figures_come_from_the_module_of_the_study(monkeypatch):
    module = types.SimpleNamespace(pictures=lambda result: [result["title"]])
    monkeypatch.setitem(sys.modules, f"{studies.__name__}.made_up", module)
    assert pictures_of(made_up()) == ["Is <this> a study?"]


def test_drawing_twice_gives_the_same_bytes():
    first, second = (study_files(made_up(), ABOUT, [picture("one")]) for _ in range(2))
    assert first == second
