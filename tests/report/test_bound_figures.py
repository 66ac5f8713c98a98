"""The figures of the study of the published bounds, from a JSON object with made-up numbers."""

import copy
from xml.etree import ElementTree

from mbpo.report.studies.bound import pictures
from mbpo.studies.bound import COLUMNS, ESTIMATED

NAMES = ["bound-beside-truth", "bound-looseness", "bound-lengths"]


def row(system, transitions, share, k, **changes):
    values = {
        "system": system, "transitions": transitions, "share": share, "k": k, "trivial": 20.0, "best_k_42": 0,
        "best_k_43": 5, "best_k": 10, "enough_k": 1, "gap": 1.0 / (1 + k), "bound_42": 30.0 + 4 * k,
        "bound_43": 20.0 + (k - 5) ** 2, "looseness_41": 300.0, "looseness_42": 40.0 + k, "looseness_43": 60.0 + k,
    }  # fmt: skip
    values |= {name: 0.5 for name in COLUMNS if name not in values and not name.endswith(("_low", "_high"))}
    for name in ESTIMATED:
        width = 1 if name.startswith("best_k") else 0.1 * values[name]
        values |= {f"{name}_low": max(values[name] - width, 0), f"{name}_high": values[name] + width}
    return {name: (values | changes)[name] for name in COLUMNS}


def result(systems=("here",), sizes=(200, 2000, 20_000), **changes):
    rows = [
        row(system, size, share, k, **changes)
        for system in systems
        for size in sizes
        for share in (0.02, 0.2, 1.0)
        for k in (0, 1, 5, 10)
    ]
    return {"study": "bound", "systems": list(systems), "rows": rows}


def words(picture):
    return "".join(ElementTree.fromstring(picture.svg).itertext())


def test_three_figures_a_system_that_change_nothing_and_repeat():
    given = result()
    kept = copy.deepcopy(given)
    found = pictures(given)
    assert given == kept
    assert [picture.name for picture in found] == NAMES
    assert [picture.svg for picture in pictures(given)] == [picture.svg for picture in found]
    beside, loose, lengths = (words(picture) for picture in found)
    for text in (
        "2,000 transitions, 20 % of the way",
        "theorem 4.2",
        "theorem 4.3",
        "true error",
        "says nothing",
    ):
        assert text in beside
    assert "20,000 · 100 %" in loose
    assert "theorem 4.1" in loose
    assert "theorem 4.1" not in lengths
    assert "the truth from 1 to 0.0909" in found[0].description
    assert "200 transitions, 2 % of the way 65" in found[1].description  # at k = 5, as theorem 4.3 recommends
    assert "200 transitions, 2 % of the way 5 and 10" in found[2].description


def test_several_systems_have_names_of_their_own():
    found = pictures(result(("a/b", "c & <d>")))
    assert [picture.name for picture in found] == [f"{name}-{place}" for place in (1, 2) for name in NAMES]
    assert found[3].title.endswith("c & <d>")


def test_without_a_gap_or_with_one_size_there_is_less_to_show():
    nothing = {f"looseness_{each}{end}": None for each in (41, 42, 43) for end in ("", "_low", "_high")}
    zero = {name + end: 0.0 for name in ("gap", "bound_42", "bound_43") for end in ("", "_low", "_high")}
    still = {
        "best_k": 0,
        "best_k_low": 0,
        "best_k_high": 0,
        "best_k_43": 0,
        "best_k_43_low": 0,
        "best_k_43_high": 0,
    }
    found = pictures(result(sizes=(20,), **nothing, **zero, **still, enough_k=0))
    assert [picture.name for picture in found] == [NAMES[0], NAMES[2]]
