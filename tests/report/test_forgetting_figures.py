"""The figures of the study of forgetting, from a JSON object with made-up numbers."""

import copy
from xml.etree import ElementTree

from mbpo.report.studies.forgetting import pictures
from mbpo.studies.forgetting import NOISES
from mbpo.studies.forgetting_text import COLUMNS

NAMES = [f"forgetting-{name}" for name in ("gap", "error", "grid", "regret", "control")]
LEARNERS = ("gradient descent (published step)", "gradient descent (scaled step)", "least squares")
CONTROL = ("MBPO", "certainty equivalence, unlimited data", "best gain found")


def row(**values):
    return {name: values.get(name) for name in COLUMNS}


def ends(name, value):
    return {name: value, f"{name}_low": 0.9 * value, f"{name}_high": 1.1 * value}


def result(systems=("here",), controlled=("there",)):
    rows = []
    for system in systems:
        for process, observation in NOISES:
            for order in (1, 2, 3, 4):
                gap, floor = 0.3 * 0.25**order if process else 0.3 / order, process + observation
                rows.append(
                    row(
                        part="order", system=system, process=process, observation=observation, order=order, runs=7,
                        rate=0.5, kalman=floor, error=floor + gap, exact_gap=gap, learned=floor + 2 * gap,
                        persistence=floor + 0.2, **ends("gap", gap),
                    )
                )  # fmt: skip
        for place, (process, observation) in enumerate((p, o) for p in (0.1, 0.5) for o in (0.1, 0.2, 0.3)):
            noise = {"process": process, "observation": observation, "order": 2, "runs": 3}
            rows.append(row(part="noise", system=system, ratio=1.0 + 0.05 * place, **noise))
        for learner in LEARNERS:
            for time in (50, 500):
                bound = 100.0 if "published" in learner else None
                values = {"learner": learner, "time": time, "order": 2, "runs": 7, "bound": bound}
                rows.append(row(part="regret", system=system, **values, **ends("regret", 0.1 * time)))
    for system in controlled:
        for learner in CONTROL:
            for order in (1, 2):
                values = {"learner": learner, "order": order, "system": system, "part": "control"}
                if learner == "MBPO":
                    values |= {"runs": 8, "time": 1200, **ends("excess", 0.4 / order)}
                rows.append(row(**{"excess": 0.2 / order, **values}))
    return {"study": "forgetting", "systems": list(systems), "rows": rows}


def words(picture):
    return "".join(ElementTree.fromstring(picture.svg).itertext())


def test_five_figures_that_change_nothing_and_repeat():
    given = result()
    kept = copy.deepcopy(given)
    found = pictures(given)
    assert given == kept
    assert [picture.name for picture in found] == NAMES
    assert [picture.svg for picture in pictures(given)] == [picture.svg for picture in found]
    gap, error, grid, regret, control = (words(picture) for picture in found)
    for process, observation in NOISES:
        assert f"{process:g}, {observation:g}" in gap
    assert "0.5, 0.5 (own)" in gap
    assert "process 0.1, observation 1" in error
    assert "process 0.5" not in error
    assert "last output" in error
    assert "1.25" in grid
    assert "scaled step" in regret
    assert "√t" in regret
    assert "unlimited data" in control
    assert "noise 0.1, 1: 0.075 at s = 1, 0.00117 at s = 4, predicted factor 0.25" in found[0].description
    assert "from 1 at 0.1, 0.1 to 1.25 at 0.5, 0.3" in found[2].description
    assert "least squares 50" in found[3].description
    assert "MBPO 40 % at s = 1, 20 % at s = 2" in found[4].description
    assert "over 8 seeds after 1,200 real transitions" in found[4].caption
    assert found[4].title.endswith("there")


def test_several_systems_have_names_of_their_own():
    found = pictures(result(("a/b", "c & <d>"), ("a/b", "c & <d>")))
    tagged = [f"{name}-{tag}" for tag in ("1-a-b", "2-c----d-") for name in NAMES[:4]]
    assert [picture.name for picture in found] == [*tagged, f"{NAMES[4]}-1-a-b", f"{NAMES[4]}-2-c----d-"]
    for picture in found:
        picture.inline("x")


def test_missing_and_infinite_values_leave_gaps():
    given = result()
    for each in given["rows"]:
        if each["part"] == "order" and each["order"] > 2:
            each |= {"exact_gap": 0.0, "gap": 0.0, "gap_low": 0.0, "gap_high": 0.0}
        if each["part"] == "regret" and each["time"] == 50:
            each |= {"regret": -1.0, "regret_low": -2.0, "regret_high": 0.5}
        if each["part"] == "control" and each["order"] == 1:
            each |= {"excess": None, "excess_low": None, "excess_high": None}
        if each["part"] == "noise" and each["process"] == 0.1:
            each["ratio"] = None
    found = pictures(given)
    assert [picture.name for picture in found] == NAMES
    assert "MBPO not finite at s = 1" in found[4].description
    for picture in found:
        ElementTree.fromstring(picture.svg)


def test_without_rows_there_are_no_figures():
    assert pictures({"study": "forgetting", "systems": ["here"], "rows": []}) == []
    still = result()
    still["rows"] = [each | {"exact_gap": 0.0} for each in still["rows"] if each["part"] == "order"]
    assert [picture.name for picture in pictures(still)] == ["forgetting-error"]
