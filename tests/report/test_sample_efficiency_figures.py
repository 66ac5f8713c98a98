"""The figures of the study of sample efficiency, from JSON objects with made-up numbers."""

import copy
import functools
import json
import math
import re
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes

from mbpo.report.palette import LABELS, colour
from mbpo.report.studies.sample_efficiency import pictures
from mbpo.report.studies.sample_efficiency_catalogue import GREY, MAIN
from mbpo.studies.sample_efficiency import COLUMNS, HEADLINE, LEVELS

TOTAL = 10_000
SHOWN = (400, 1000, 3000, TOTAL)
OTHERS = ("gpomdp", "mis", "zeroth-order-1", "zeroth-order-2")
NAMES = (*MAIN, "plain-reinforce", *OTHERS)
FIRST = dict(zip(NAMES, (0.7, 0.8, 0.4, 40.0, 3.0, 90.0, 150.0, 80.0, 60.0, 300.0, 200.0), strict=True))
C = 0.5  # of the offline limit c/N
ENDS = ("to", "to_low", "to_high", "to_p90")


def row(**values):
    assert set(values) <= set(COLUMNS), set(values) - set(COLUMNS)
    return {name: values.get(name) for name in COLUMNS}


def learner(system, name, part, count, **changes):
    """Median excess FIRST/N, half and twice of it at the ends of the interval, three times at the 90th percentile."""
    middle = FIRST[name] / count
    values = {
        "part": part, "system": system, "algorithm": name, "transitions": count, "seeds": 16, "excess": middle,
        "excess_low": middle / 2, "excess_high": 2 * middle, "excess_p90": 3 * middle, "unstable": 0.0,
        "limit": C / count, "over_limit": FIRST[name] / C, "law_median": 0.4 * C / count, "law_p90": 2.5 * C / count,
    }  # fmt: skip
    if part == "learner":
        for level, share in LEVELS.items():
            for end, factor in zip(ENDS, (1.0, 0.5, 2.0, 3.0), strict=True):
                at = math.ceil(factor * FIRST[name] / share)
                values[f"{end}_{level}"] = at if at <= TOTAL else None
    return row(**values | {key: value for key, value in changes.items() if key in values})


def limits_of(system):
    to = {f"to_{level}": math.ceil(C / share) for level, share in LEVELS.items()}
    law = {"law_median": 0.4 * C / TOTAL, "law_p90": 2.5 * C / TOTAL}
    same = {"part": "limit", "system": system, "transitions": TOTAL}
    return [
        row(**same, algorithm="offline", excess=C / TOTAL, **law, **to),
        row(**same, algorithm="regret", excess=0.013),
    ]


def result(systems, names=HEADLINE, limited=True, **changes):
    rows = []
    for system in systems:
        rows += limits_of(system) if limited else []
        for name in names:
            rows.append(learner(system, name, "learner", TOTAL, **changes))
            rows += [learner(system, name, "curve", count, **changes) for count in SHOWN]
    return {"study": "sample-efficiency", "systems": list(systems), "rows": rows}


def empty(given):
    """The same with every number that may be missing left out."""
    kept = ("part", "system", "algorithm", "transitions", "seeds", "unstable")
    return given | {
        "rows": [{key: row[key] if key in kept else None for key in row} for row in given["rows"]]
    }


def drawn(given):
    """The figures, and what was drawn with `Axes.plot` in data coordinates: colour, x and y."""
    calls, plot = [], Axes.plot

    def recorded(axes, *args, **options):
        lines = plot(axes, *args, **options)
        if options.get("transform") is None:
            calls.extend(
                (each.get_color(), each.get_xdata().tolist(), each.get_ydata().tolist()) for each in lines
            )
        return lines

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Axes, "plot", recorded)
        return pictures(given), calls


@functools.cache
def first_time(case):
    """A case drawn once for all tests."""
    return drawn(CASES[case])


def of(calls, name):
    return [(x, y) for tint, x, y in calls if tint == colour(name)]


def words(picture):
    return " ".join(
        "".join(each.itertext())
        for each in ElementTree.fromstring(picture.svg).iter()
        if each.tag.endswith("}text")
    )


ELEVEN = [f"system & <{i}>" for i in range(11)]
CASES = {
    "one": result(["scalar"], (*HEADLINE, *OTHERS)),
    "two": result(["a/b", "c & <d>"], ("mbpo", "dpg")),
    "eleven": result(ELEVEN),
}
NAMES = {
    "one": ["sample-efficiency-curves", "sample-efficiency-needed"],
    "two": [
        f"sample-efficiency-{each}-{tag}" for tag in ("1-a-b", "2-c----d-") for each in ("curves", "needed")
    ],
    "eleven": ["sample-efficiency-overview", "sample-efficiency-over-limit"],
}


def test_the_main_learners_are_those_of_the_study():
    assert HEADLINE[: len(MAIN)] == MAIN


@pytest.mark.parametrize("case", CASES)
def test_figures_repeat_and_change_nothing(case):
    given = json.loads(json.dumps(CASES[case]))
    kept = copy.deepcopy(given)
    found = pictures(given)
    assert given == kept
    assert found == first_time(case)[0]
    assert [each.name for each in found] == NAMES[case]
    for each in found:
        assert ElementTree.fromstring(each.svg).tag.endswith("svg")
        assert re.fullmatch(r"[a-z0-9-]+", each.name)
        assert "None" not in each.caption + each.description + words(each)
        assert "nan" not in re.findall(r"\w+", each.svg + each.caption + each.description)


@pytest.mark.parametrize("case", CASES)
def test_nothing_breaks_where_every_number_is_missing(case):
    given = empty(CASES[case])
    if case == "two":
        given["rows"] = [row for row in given["rows"] if row["part"] != "limit"]
    found = pictures(given)
    assert [each.name for each in found] == NAMES[case]
    for each in found:
        ElementTree.fromstring(each.svg)
        assert "None" not in each.caption + each.description + words(each)
    if case == "eleven":
        assert words(found[0]).count("not reached") == 1
        assert "MBPO not reached" in found[0].description
        assert "limit none" in found[0].description
        assert "MBPO undefined" in found[1].description
        assert "undefined" in words(found[1])
    else:
        count = len({row["algorithm"] for row in given["rows"] if row["part"] == "curve"})
        assert (
            f"Crosses: no finite median, as most gains do not stabilise ({count * len(SHOWN)})."
            in found[0].caption
        )
        assert "no limit law here" in found[0].caption
        assert "Dashed" not in found[0].caption
        assert "MBPO infinite" in found[0].description
        assert words(found[1]).count("not reached") == 3 * count
        assert "Offline data have no limit here." in found[1].caption


@pytest.mark.parametrize("count", [1, 2, 3])
def test_without_rows_there_are_no_figures(count):
    assert pictures({"study": "sample-efficiency", "systems": ["a", "b", "c"][:count], "rows": []}) == []


def test_curves_are_the_rows():
    found, calls = first_time("one")
    for name, first in FIRST.items():
        own = of(calls, name)
        for factor in (1, 3):
            assert (list(SHOWN), pytest.approx([factor * first / count for count in SHOWN])) in own
        assert LABELS[name] in words(found[0])
    grey = [(x, y) for tint, x, y in calls if tint == GREY and len(x) > 4]
    assert len(grey) == 3 * 4  # three limits on each of four panels
    scale = [(0.4 * C, 1.0), (2.5 * C, 1.0), (0.013 * TOTAL**0.5, 0.5)]
    for (x, y), (constant, power) in zip(grey, 4 * scale, strict=True):
        assert y == pytest.approx([constant / each**power for each in x])
    for title in ("main learners", "likelihood ratios", "importance sampling", "cost differences"):
        assert title in words(found[0])
    for limit in ("limit: median", "limit: p90", "regret limit"):
        assert words(found[0]).count(limit) == 4
    assert "MBPO 0.007 %; " in found[0].description
    assert "Limits there: mean 0.005 %" in found[0].description.replace(
        "median 0.002 %, 90th percentile 0.013 %, ", ""
    )
    assert "regret 1.3 %" in found[0].description


def test_transitions_needed_are_the_rows():
    found, calls = first_time("one")
    seen = words(found[1])
    for level, share in LEVELS.items():
        limit = math.ceil(C / share)
        assert f"limit {limit:,}" in seen
        for height, name in enumerate(FIRST):
            at, low, high, p90 = (learner("", name, "learner", TOTAL)[f"{end}_{level}"] for end in ENDS)
            own = of(calls, name)
            assert ([TOTAL if at is None else at], [height]) in own
            if low is not None:
                assert ([low, TOTAL if high is None else high], [height] * 2) in own
            if p90 is not None:
                assert ([p90], [height]) in own
            if at is not None:
                assert f"{at:,}" in seen
    assert seen.count("not reached") == 10  # seven do not reach 0.1 %, three of them not 1 % either
    assert "policy gradient 400, 4,000, not reached; " in found[1].description
    assert "the limit 5, 50, 500." in found[1].description


def test_an_interval_without_an_upper_end_and_a_half_unstable_learner():
    given = result(["scalar"], ("mbpo",))
    for each in given["rows"]:
        if each["part"] != "limit":
            each["excess_high"] = each["excess_p90"] = None
        if each["part"] == "curve" and each["transitions"] == 400:
            each["excess"] = each["excess_low"] = None
        if each["part"] == "learner":
            each |= {
                "to_high_1": None,
                "to_p90_1": None,
                "to_0.1": None,
                "to_high_0.1": None,
                "unstable": 0.25,
            }
    found, calls = drawn(given)
    assert "Crosses: no finite median, as most gains do not stabilise (1)." in found[0].caption
    assert "MBPO 0.007 % (25 % unstable)" in found[0].description
    own = of(calls, "mbpo")
    assert ([TOTAL], [0]) in own
    assert ([35, TOTAL], [0, 0]) in own  # to 1 %
    assert ([350, TOTAL], [0, 0]) in own  # to 0.1 %, where the median is not reached
    assert words(found[1]).count("not reached") == 1


def test_zero_excess_is_told():
    zero = {"excess": 0.0, "excess_low": -1e-17, "over_limit": 0.0}
    found = pictures(result(["scalar"], MAIN[:2], **zero))
    assert f"On the lower edge: zero to rounding ({2 * len(SHOWN)})." in found[0].caption
    found = pictures(result(["a", "b", "c"], MAIN[1:], **zero))
    assert "On the left edge: zero to rounding (6)." in found[1].caption


def test_the_catalogue_is_the_rows():
    given = result(ELEVEN)
    hard = next(each for each in given["rows"] if each["part"] == "learner" and each["system"] == ELEVEN[4])
    hard |= {"to_1": None, "to_high_1": None, "to_p90_1": None, "excess": None, "excess_high": None}
    hard |= {"over_limit": None, "unstable": 0.625}
    given["rows"] = [row for row in given["rows"] if (row["part"], row["system"]) != ("limit", ELEVEN[7])]
    found, calls = drawn(given)
    for system in ELEVEN:
        assert system in words(found[0])
        assert system in words(found[1])
    for name in MAIN:
        at = [x for x, _ in of(calls, name) if len(x) == 1]
        assert at.count([math.ceil(FIRST[name] / 0.01)]) >= 10
    ticks = [(x, y) for tint, x, y in calls if tint == GREY and len(x) == 2]
    assert [x for x, _ in ticks] == [[50, 50]] * 10
    assert [sum(y) / 2 for _, y in ticks] == [each for each in range(11) if each != 7]
    assert f"which there is not for {ELEVEN[7]}." in found[0].caption
    assert f"{ELEVEN[4]}: MBPO not reached; MBPO, simple 80" in found[0].description
    for name in MAIN[:3]:
        at = [x[0] for x, _ in of(calls, name) if len(x) == 1]
        assert at.count(pytest.approx(FIRST[name] / C)) == (10 if name == "mbpo" else 11)
        ends = [x for x, _ in of(calls, name) if len(x) == 2]
        assert ends.count(pytest.approx([FIRST[name] / C / 2, 2 * FIRST[name] / C])) >= 10
    assert words(found[1]).count("62 %") == 1
    assert f"{ELEVEN[4]}: MBPO undefined (62 % unstable); MBPO, simple 1.6" in found[1].description
    for name in MAIN[3:]:
        assert LABELS[name] not in words(found[1])
