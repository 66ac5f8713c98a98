import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from mbpo.cli.many_runs import run_rows
from mbpo.errors import InputError
from mbpo.lqr import exact
from mbpo.lqr.intervals import quantile_interval
from mbpo.report.figures import excess_figure, spread_figure
from mbpo.report.measures import finding, median_excess, transitions_to
from mbpo.report.page import write_report
from mbpo.report.pictures import excess_on_grid, gains_figure
from mbpo.runs.folder import write_run
from mbpo.studies.real_ratio import best_ratio
from synthetic_runs import synthetic_training

LOADING = {"src", "srcset", "href", "xlink:href", "action", "data", "poster"}
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Every load, every id, and whether each tag is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.ids, self.words, self.labels = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.note(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        self.note(tag, attrs)

    def note(self, tag, attrs):
        named = dict(attrs)
        self.loads += [value for key, value in attrs if key in LOADING and tag != "a"]
        self.ids += [named["id"]] if "id" in named else []
        if tag == "svg":
            self.labels.append((named.get("role"), named.get("aria-label")))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.replace("\N{NO-BREAK SPACE}", " "))


def record(tmp_path, algorithm="mbpo", **options):
    name = f"{algorithm}-{options.get('system', 'double_integrator')}"
    training = synthetic_training(algorithm, **options)
    return write_run(tmp_path / "runs" / name, training, ["mbpo", "train", algorithm])


def parse(path):
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


@pytest.fixture
def pair(tmp_path):
    slow = record(tmp_path, "policy-gradient", rate=20.0, transitions=60_000)
    return [record(tmp_path, rate=0.1), slow]


def test_the_page_stands_alone(tmp_path, pair):
    path = write_report(tmp_path / "out", pair, "A <title> & more", ["mbpo", "demo", "--out", "a b"])
    page, text = parse(path), path.read_text()
    assert all(load.startswith(("#", "data:")) for load in page.loads)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "https:" not in text
    assert "http:" not in text
    assert len(page.ids) == len(set(page.ids))
    assert all(reference[1:] in page.ids for reference in page.loads if reference.startswith("#"))
    assert "A &lt;title&gt; &amp; more" in text
    assert "mbpo demo --out &#39;a b&#39;" in text


def test_every_figure_tells_a_blind_reader_what_it_shows(tmp_path, pair):
    page = parse(write_report(tmp_path / "out", pair, "Title"))
    assert len(page.labels) == 6
    assert all(role == "img" and len(words) > 40 for role, words in page.labels)


def test_figures_are_saved_as_svg_that_parses(tmp_path, pair):
    write_report(tmp_path / "out", pair, "Title")
    files = sorted((tmp_path / "out/figures").iterdir())
    kinds = ("excess-cost", "final-spread", "gains", "model-error", "rollouts", "transitions-needed")
    assert [file.name for file in files] == [f"double_integrator-{kind}.svg" for kind in kinds]
    for file in files:
        assert ElementTree.parse(file).getroot().tag.endswith("svg")


def test_the_numbers_are_those_of_the_records(tmp_path, pair):
    fast, slow = pair
    assert transitions_to(fast, 0.01).middle == 300  # 2 * 1.2 / N <= 0.01
    assert transitions_to(slow, 0.01).middle == 50_000
    assert transitions_to(slow, 0.001).middle is None
    text = " ".join(parse(write_report(tmp_path / "out", pair, "Title")).words)
    sentence = (
        "MBPO came within 1 % of the optimal cost after 300 real transitions (median of 5 seeds); "
        "policy gradient needed 50,000: 167 times as many."
    )
    assert sentence in text
    assert "167×" in text
    assert "not reached" in text
    assert f"{100 * median_excess(fast)[-1]:.2g} %" in text
    assert np.__version__ in text


def test_exactly_half_of_the_seeds_unstable_is_an_unstable_median_everywhere(tmp_path):
    """In the JSON of a run, in its curve, in comparisons, studies, figures and sentences alike."""
    half, less = (synthetic_training(seeds=6, unstable=lost) for lost in (3, 2))
    found = half.to_json()
    assert found["median_excess_cost"] is found["curve"]["median"][-1] is None
    assert found["curve"]["p10"][-1] is not None
    assert less.to_json()["median_excess_cost"] == pytest.approx(20 / 1200 * 1.25)
    lost = record(tmp_path, seeds=6, unstable=3)
    assert run_rows([lost])[0]["excess_cost"] == median_excess(lost)[-1] == np.inf
    assert quantile_interval(half.excess_cost[:, -1]).columns("excess")["excess"] is None
    assert (
        best_ratio(np.stack([half.excess_cost[:, -1], less.excess_cost[:, -1]]), np.array([0.0, 1.0]), 0)[0]
        == 1
    )
    assert "medians at the end: MBPO unstable" in excess_figure([lost]).description
    text = " ".join(parse(write_report(tmp_path / "out", [lost], "Title")).words)
    assert "unstable" in text
    assert not re.search(r"\b(nan|inf)\b", text)


@pytest.mark.parametrize(("seeds", "unstable"), [(1, 0), (5, 2), (5, 5)])
def test_one_seed_and_unstable_seeds(tmp_path, seeds, unstable):
    runs = [record(tmp_path, name, seeds=seeds, unstable=unstable) for name in ("mbpo", "policy-gradient")]
    text = " ".join(parse(write_report(tmp_path / "out", runs, "Title")).words)
    assert f"{unstable} of {seeds}" in text
    assert ("one seed" in text) == (seeds == 1)
    assert "nan" not in text.lower().replace("finance", "")
    assert ("ended unstable" in finding(runs)) == (
        2 * unstable > seeds and transitions_to(runs[0], 0.1).middle is None
    )


def test_a_gain_with_more_entries_has_no_picture_in_the_plane(tmp_path):
    runs = [record(tmp_path, system="laplacian3")]
    assert gains_figure(runs) is None
    assert len(parse(write_report(tmp_path / "out", runs, "Title")).labels) == 5


def test_drawing_twice_gives_the_same_bytes(tmp_path, pair):
    for draw in (excess_figure, spread_figure):
        assert draw(pair).svg == draw(pair).svg
    pages = [write_report(tmp_path / name, pair, "Title").read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


def test_the_contours_are_the_exact_cost(tmp_path):
    run = record(tmp_path)
    K = run.optimal_gain[0]
    first, second = np.array([K[0], K[0] - 0.1, 5.0]), np.array([K[1], K[1] + 0.05])
    grid = excess_on_grid(run.system, first, second, run.optimal_cost)
    assert abs(grid[0, 0]) < 1e-12
    gain = np.array([[first[1], second[1]]])
    np.testing.assert_allclose(grid[1, 1], exact.excess_cost(run.system, gain, run.optimal_cost), rtol=1e-10)
    assert np.isinf(grid[:, 2]).all()


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="at least one run"):
        write_report(tmp_path, [], "Title")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "file", [record(tmp_path)], "Title")
