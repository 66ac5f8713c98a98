"""The page about runs on control tasks: its numbers are those of the metrics, in every state a run can be in."""

import json
import re
import statistics

import numpy as np
import pytest
from test_page import parse

from mbpo.errors import InputError
from mbpo.report.arm_figures import arm_figures, mean_times
from mbpo.report.diagnostics_figures import diagnostics_figures, errors_by_depth, moments
from mbpo.report.published import published, unlike
from mbpo.report.task_figures import excess_figure, floor_figure, learning_figure
from mbpo.report.task_measures import at, excess, grouped, pooled, solved
from mbpo.report.task_numbers import report_numbers, run_numbers
from mbpo.report.task_page import task_page, write_task_report
from mbpo.report.task_text import arm_findings, inner_findings
from mbpo.runs.task_record import read_task_run
from synthetic_task_runs import mean_return, write_task_run

LQ = {"environment": "mbpo/LinearQuadratic-v0", "name": "default", "options": {"system": "laplacian3"}}


@pytest.fixture
def runs(tmp_path):
    """Seeds 0, 1 and 4 of one request, the last one unfinished, and SAC alone."""
    folders = [
        write_task_run(tmp_path / f"s{seed}", seed=seed, steps=12_000, until=9000 if seed == 4 else None)
        for seed in (0, 1, 4)
    ]
    folders.append(write_task_run(tmp_path / "sac", name="sac", steps=12_000))
    return [read_task_run(folder) for folder in folders]


def one(tmp_path, **options):
    folder = write_task_run(tmp_path / "run", **options)
    record = read_task_run(folder)
    (task,) = grouped([record])
    return record, task, task.arms[0]


def words(tmp_path, runs):
    path = write_task_report(tmp_path / "out/page.html", runs)
    page = parse(path)
    return page, " ".join(" ".join(page.words).split()), path.read_text()


def test_the_page_stands_alone_and_speaks(tmp_path, runs):
    page, text, source = words(tmp_path, runs)
    assert all(load.startswith(("#", "data:")) for load in page.loads)
    assert not re.search(r"@import|url\((?!#)|https?:", source)
    assert len(page.ids) == len(set(page.ids))
    assert all(reference[1:] in page.ids for reference in page.loads if reference.startswith("#"))
    assert len(page.labels) == 1 + 7 + 3  # learning; all of the model's; SAC's agent, critics and time
    assert all(role == "img" and len(told) > 40 for role, told in page.labels)
    assert not re.search(r"#[0-9a-f]{6}\b", source.split("</style>")[1])  # every colour has a dark twin
    assert "nan" not in text.lower()
    assert "mbpo train Hopper-v5 --seed 4" in text
    assert "3.11.7" in text
    assert "a machine" in text


def test_seeds_of_one_request_share_a_curve(runs):
    (task,) = grouped(runs)
    assert [(arm.name, len(arm.runs)) for arm in task.arms] == [("paper", 3), ("sac", 1)]
    curve = pooled(task.arms[0].recorded, at("mean_return"))
    assert curve.steps.tolist() == list(range(6000, 12_001, 1000))
    assert curve.count.tolist() == [3] * 4 + [2] * 3
    assert curve.whole == 4
    for place, step in enumerate(curve.steps):
        seen = [mean_return(step, seed) for seed in ((0, 1, 4) if step <= 9000 else (0, 1))]
        expected = statistics.median(seen), min(seen), max(seen)
        assert (curve.middle[place], curve.low[place], curve.high[place]) == pytest.approx(expected)


def test_the_numbers_are_those_of_the_metrics(tmp_path, runs):
    _, text, _ = words(tmp_path, runs)
    median, low, high = (f"{mean_return(9000, seed):,.0f}" for seed in (1, 0, 4))
    assert f"mean return {median} ({low} to {high}) at step 9,000, median of 3 seeds" in text
    assert "Unfinished: seed 4 at step 9,000 of 12,000." in text
    assert "9,000 of 12,000 unfinished" in text
    assert f"{mean_return(12_000, 1):,.0f} step 12,000" in text
    lines = (runs[0].folder / "metrics.jsonl").read_text().splitlines()
    last, found = json.loads(lines[-1]), run_numbers(runs[0])
    assert (found["last_return"], found["last_step"]) == (last["mean_return"], last["env_steps"])
    assert found["best_return"] == max(json.loads(line)["mean_return"] for line in lines)
    assert found["diagnostics"] == last["diagnostics"]
    assert found["seconds"] == {"act": 3.5, "fit": 21.0, "imagine": 7.0, "improve": 28.0, "evaluate": 3.5}
    assert found["updates_per_second"] == pytest.approx(7000 * 20 / 63)


def test_the_json_pools_as_the_page_does(runs):
    result = report_numbers(runs)
    assert [row["seed"] for row in result["runs"]] == [0, 1, 4, 0]
    paper = result["tasks"][0]["arms"][0]
    assert paper["seeds"] == [0, 1, 4]
    assert paper["mean_return"]["median"][0] == pytest.approx(mean_return(6000, 1))
    assert paper["published"][0]["env_steps"] == 9000
    json.dumps(result, allow_nan=False)


def test_published_curves_are_those_of_the_family(tmp_path):
    methods = ["MBPO", "SAC", "REDQ", "CrossQ", "DHMBPO"]
    hopper = {series.method: series for series in published("Hopper")}
    assert list(hopper) == methods
    assert hopper["MBPO"].at(125_000) == 3280
    assert hopper["MBPO"].at(126_000) is None
    assert hopper["MBPO"].until(1000)[0].size == 0
    steps, mean = hopper["MBPO"].until(15_000)
    assert steps.tolist() == [10_000, 15_000]
    assert mean[1] == pytest.approx((328 + 529) / 2)
    assert published("Swimmer") == published("LinearQuadratic") == []
    _, task, arm = one(tmp_path, steps=40_000)
    svg = learning_figure(task, published("Hopper")).svg
    assert all(f">{method}<" in svg for method in methods)
    assert "MBPO 897" in " ".join(arm_findings(task, arm, published("Hopper")))


def test_a_task_without_published_curves_shows_none(tmp_path):
    run, task, _ = one(tmp_path, environment="Swimmer-v5", name="default", steps=8000)
    svg = learning_figure(task, published(run.family)).svg
    assert "MBPO" not in svg
    _, text, _ = words(tmp_path, [run])
    assert "Published means" not in text
    assert "published curves" not in text


def test_a_run_that_went_on_elsewhere_says_since_when(tmp_path):
    folder = write_task_run(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["resumed"] = [
        {
            "step": 7000,
            "versions": {"python": "3.12.3"},
            "platform": "another",
            "devices": ["cuda:0", "cuda:0"],
        }
    ]
    (folder / "config.json").write_text(json.dumps(config))
    _, text, _ = words(tmp_path, [read_task_run(folder)])
    assert f"{folder} after step 7,000 python 3.12.3 platform another devices cuda:0" in text


def test_other_versions_of_a_task_are_marked(tmp_path):
    walker, humanoid = published("Walker2d")[0], published("Humanoid")
    assert "friction" in unlike(walker, "Walker2d-v5", {})
    assert unlike(walker, "Walker2d-v5", {"xml_file": "walker2d.xml"}) == ""
    assert unlike(walker, "Walker2d-v4", {}) == ""
    full = {series.method: unlike(series, "Humanoid-v5", {}) for series in humanoid}
    assert full["CrossQ"] == ""
    assert "45 observations" in full["MBPO"]
    assert "348" in full["MBPO"]
    assert unlike(published("Ant")[0], "Ant-v5", {"include_cfrc_ext_in_observation": False}) == ""
    assert unlike(published("HalfCheetah")[0], "HalfCheetah-v5", {}) == ""
    _, task, _ = one(tmp_path, environment="Walker2d-v5", steps=30_000)
    picture = learning_figure(task, published("Walker2d"))
    assert ">MBPO*<" in picture.svg
    assert "comparable only between like versions" in picture.caption


def test_a_linear_quadratic_task_shows_the_distance_from_the_optimum(tmp_path):
    run, task, arm = one(tmp_path, **LQ, steps=10_000, exact=True)
    costs = pooled([run], excess)
    assert solved(costs) == 8000  # 400 / 8000
    assert solved(costs, 0.01) is None
    text = " ".join(arm_findings(task, arm, []))
    assert "excess cost 4 % ± 0.4 % (two standard errors), at or below 5 % since step 8,000" in text
    assert "0.6 % above the noise floor" in " ".join(inner_findings(arm))
    assert "5 %" in excess_figure(task).svg
    assert floor_figure(task) is not None
    _, page, _ = words(tmp_path, [run])
    assert "laplacian3" in page
    assert "excess cost at the end" in page


def test_a_policy_without_a_finite_cost_is_said_so(tmp_path):
    folder = write_task_run(tmp_path / "run", **LQ, steps=3000, exact=True)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record["exact"] |= {"excess_cost": None, "standard_error": None, "one_step_error": None}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    run = read_task_run(folder)
    (task,) = grouped([run])
    assert excess_figure(task) is None
    assert floor_figure(task) is None
    _, text, _ = words(tmp_path, [run])
    assert "no finite cost at the end" in text
    assert "nan" not in text.lower()


def test_one_evaluation_is_enough(tmp_path):
    run, task, arm = one(tmp_path, steps=20_000, until=6000)
    assert len(run.records) == 1
    assert learning_figure(task, published("Hopper")) is not None
    assert len(arm_figures(arm) + diagnostics_figures(arm)) == 7
    _, text, _ = words(tmp_path, [run])
    assert "One run, unfinished." in text


def test_a_run_without_an_evaluation_says_so(tmp_path):
    run, _, arm = one(tmp_path, steps=20_000, until=5000)
    (run.folder / "checkpoints/step-000003000").mkdir(parents=True)
    run = read_task_run(run.folder)
    assert run.done == 3000
    page, text, _ = words(tmp_path, [run])
    assert page.labels == []
    assert "no evaluation yet, seed 0 at step 3,000 of 20,000" in text
    assert "nothing to draw" in text
    assert inner_findings(arm) == []


def test_nothing_is_made_up_without_diagnostics_timings_or_model(tmp_path):
    run, _, arm = one(tmp_path, steps=8000, diagnose=False, timings=False)
    assert diagnostics_figures(arm) == []
    assert [picture.name for picture in arm_figures(arm)] == ["model", "agent"]
    assert mean_times(arm) is None
    assert run_numbers(run)["seconds"] is None
    folder = write_task_run(tmp_path / "sac", name="sac", steps=8000)
    (task,) = grouped([read_task_run(folder)])
    assert [picture.name for picture in arm_figures(task.arms[0])] == ["agent", "time"]
    assert [picture.name for picture in diagnostics_figures(task.arms[0])] == ["critic-bias"]


def test_a_diagnostic_that_is_not_known_is_left_out(tmp_path):
    folder = write_task_run(tmp_path / "run", steps=8000)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    records[0]["diagnostics"] = None
    records[1]["diagnostics"]["critic_real"] |= {"bias": None, "standard_error": None}
    records[1]["diagnostics"]["model_error"]["mean"][5:] = [None] * 15
    records[2]["diagnostics"]["exploitation"]["standard_error"] = None
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    (task,) = grouped([read_task_run(folder)])
    (arm,) = task.arms
    assert len(diagnostics_figures(arm)) == 4
    assert moments(arm, "mean") == [7000, 8000]
    assert np.isnan(errors_by_depth(arm, 7000, "mean")).tolist() == [False] * 5 + [True] * 15
    assert "real −6.4 ± 4 (below zero)" in " ".join(inner_findings(arm))


def test_changes_to_a_preset_are_told_and_tell_arms_apart(tmp_path):
    folders = [
        write_task_run(tmp_path / name, steps=7000, changes=changes)
        for name, changes in (
            ("a", {}),
            ("b", {"real_ratio": 0.5}),
            ("c", {"model_hidden": (50, 50, 50, 50, 50)}),
        )
    ]
    runs = [read_task_run(folder) for folder in folders]
    assert [run.changes() for run in runs] == [{}, {"real_ratio": 0.5}, {"model_hidden": [50] * 5}]
    (task,) = grouped(runs)
    assert len({arm.name for arm in task.arms}) == 3
    assert all(len(arm.name) <= 26 for arm in task.arms)
    assert "changed: real_ratio=0.5" in task_page(runs[1:2])


def test_drawing_twice_gives_the_same_bytes(runs):
    assert task_page(runs[:1]) == task_page(runs[:1])


def test_a_run_being_written_can_be_read(tmp_path):
    folder = write_task_run(tmp_path / "run", steps=8000)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"env_steps": 90')
    (folder / "timings.jsonl").write_text("")
    assert len(read_task_run(folder).records) == 3


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="at least one run"):
        task_page([])
    with pytest.raises(InputError, match="not a run"):
        read_task_run(tmp_path)
    folder = write_task_run(tmp_path / "run", steps=7000)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_task_report(tmp_path / "file/page.html", [read_task_run(folder)])
    (folder / "metrics.jsonl").write_text('{"env_steps": 6000}\n')
    with pytest.raises(InputError, match="has no 'updates'"):
        read_task_run(folder)
