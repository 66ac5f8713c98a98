"""Studies on control tasks: a tiny pair through real training, and everything else from records made up."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from scipy.stats import trim_mean

from mbpo.errors import InputError
from mbpo.lqr.intervals import interquartile_mean_interval
from mbpo.presets import override, preset
from mbpo.report.studies import pictures_of
from mbpo.runs.metrics import read_metrics
from mbpo.studies import task_sweep
from mbpo.studies.result import Request, to_csv
from mbpo.studies.task_sweep import SWEEPS, Arm, holdout, planned, run_task, shortened, steps_task, summary
from mbpo.studies.task_sweep_text import number
from runs.task_cases import request

TASK = request(environment="Pendulum-v1")
ASKED = Request(seeds=3, transitions=60, seed=5)
STEPS = (20, 40, 60)
LEVEL = {
    "0": 10.0,
    "0.05": 50.0,
    "0.25": 40.0,
    "0.5": 30.0,
    "1": 20.0,
    "no model": 20.0,
    1: 4,
    2: 6,
    5: 9,
    15: 1,
}


def record(value, seed, step):
    """An evaluation: the arm's level, more with every seed and step; elites are networks 2 and 0."""
    found = {
        "env_steps": step,
        "mean_return": LEVEL[value] + seed + step / 10,
        "realised_ratio": 0.04 + 0.01 * seed,
    }
    if value != "no model":
        found["model"] = {"holdout_error": [0.3, 9.0, 0.1 + seed], "elites": [2, 0]}
    return found


def records(study, seeds=3):
    return {
        arm.value: [[record(arm.value, seed, step) for step in STEPS] for seed in range(seeds)]
        for arm in SWEEPS[study].arms
    }


@pytest.fixture(params=sorted(SWEEPS))
def study(request):
    return request.param


def test_the_arms_differ_in_what_is_asked_about_and_in_nothing_else(study, tmp_path):
    runs = planned(study, TASK, ASKED, tmp_path)
    assert len(runs) == steps_task(study, ASKED) == {"real-ratio": 18, "rollout-length": 12}[study]
    assert len({run.folder for run in runs}) == len(runs)
    assert {(run.request.seed, run.request.steps) for run in runs} == {(5, 60), (6, 60), (7, 60)}
    free = {"real_ratio", "model"} if study == "real-ratio" else {"length_first", "length_last"}
    for run in runs:
        changed = dataclasses.asdict(run.request.settings).items() - dataclasses.asdict(TASK.settings).items()
        assert {key for key, _ in changed} <= free
        same = dataclasses.replace(run.request, settings=TASK.settings, steps=TASK.steps, seed=TASK.seed)
        assert same == TASK


def test_a_ratio_of_one_keeps_its_model_and_no_model_has_as_many_updates(tmp_path):
    settings = {run.folder.name: run.request.settings for run in planned("real-ratio", TASK, ASKED, tmp_path)}
    whole, without = settings["ratio-1-seed-5"], settings["no-model-seed-5"]
    assert (whole.real_ratio, whole.model, without.real_ratio, without.model) == (
        1.0,
        "ensemble",
        1.0,
        "none",
    )
    assert {each.updates_per_step for each in settings.values()} == {TASK.settings.updates_per_step}
    assert [settings[f"ratio-{each}-seed-7"].real_ratio for each in ("0", "0.05", "0.25", "0.5")] == [
        0,
        0.05,
        0.25,
        0.5,
    ]


def test_lengths_are_constant(tmp_path):
    runs = planned("rollout-length", TASK, ASKED, tmp_path)
    lengths = [(run.request.settings.length_first, run.request.settings.length_last) for run in runs[::3]]
    assert lengths == [(1, 1), (2, 2), (5, 5), (15, 15)]


def test_the_defaults_are_filled_in(study, tmp_path):
    assert planned(study, TASK, Request(seed=2**31 - 3), tmp_path)[2].request.seed == 2**31 - 1
    runs = planned(study, TASK, Request(), tmp_path)
    assert {(run.request.seed, run.request.steps) for run in runs} == {(seed, 2000) for seed in range(3)}


@pytest.mark.parametrize(
    ("name", "changes", "asked", "words"),
    [
        ("bound", {}, ASKED, "no study 'bound' on a control task"),
        ("real-ratio", {"model": "none"}, ASKED, "asks what a model does"),
        ("rollout-length", {"model": "none"}, ASKED, "asks what a model does"),
        ("real-ratio", {}, Request(seeds=1), "seeds: expected at least 2, got 1"),
        ("real-ratio", {}, Request(seeds=0), "seeds: expected at least 2, got 0"),
        ("real-ratio", {}, Request(seeds=3, seed=2**31 - 2), "seed: expected 3 seeds up to 2147483647"),
    ],
)
def test_what_has_no_meaning_is_refused(name, changes, asked, words, tmp_path):
    task = dataclasses.replace(TASK, settings=dataclasses.replace(TASK.settings, **changes))
    with pytest.raises(InputError, match=words):
        run_task(name, task, asked, tmp_path / "runs", ["mbpo"], pytest.fail)
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_another_run_is_refused_before_any_training(monkeypatch, tmp_path):
    monkeypatch.setattr(task_sweep, "train_task", lambda *_: pytest.fail("trained"))
    last = planned("real-ratio", TASK, ASKED, tmp_path)[-1]
    last.folder.mkdir()
    (last.folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no-model-seed-7 is not empty and not a run"):
        run_task("real-ratio", TASK, ASKED, tmp_path, ["mbpo"], pytest.fail)


@pytest.mark.parametrize("seeds", [3, 6])
def test_rows_are_what_the_records_say(study, seeds):
    column = SWEEPS[study].column
    result = summary(study, TASK, dataclasses.replace(ASKED, seeds=seeds), records(study, seeds))
    arms = [arm.value for arm in SWEEPS[study].arms]
    assert [(row[column], row["env_steps"]) for row in result.rows] == list(itertools.product(arms, STEPS))
    for row in result.rows:
        returns = LEVEL[row[column]] + np.arange(seeds) + row["env_steps"] / 10
        np.testing.assert_allclose(row["return"], trim_mean(returns, 0.25), rtol=1e-12)
        ends = interquartile_mean_interval(returns)[1:] if seeds == 6 else (None, None)
        assert (row["return_low"], row["return_high"]) == ends
        assert (row["part"], row["system"], row["seeds"]) == ("training", "Pendulum-v1", seeds)
        np.testing.assert_allclose(row["realised_ratio"], 0.035 + 0.005 * seeds, rtol=1e-12)
        errors = [row[name] for name in ("model_error", "model_error_low", "model_error_high")]
        if row[column] == "no model":
            assert errors == [None, None, None]
        else:
            expected = [0.7, None, None] if seeds == 3 else [1.45, 0.2, 2.7]
            assert errors == [None if each is None else pytest.approx(each) for each in expected]
    json.dumps(result.to_json(), allow_nan=False)


def test_the_settings_tell_task_preset_and_what_was_held_equal(study):
    settings = summary(study, TASK, ASKED, records(study)).settings
    assert (settings["task"], settings["preset"]) == ("Pendulum-v1", "default")
    assert (settings["transitions"], settings["seed"]) == (60, 5)
    told = {"real-ratio": "real_ratio", "rollout-length": "length_first"}[study]
    assert told not in settings
    assert settings["batch_size"] == 16
    assert settings["model"] == "ensemble"


def test_the_same_records_give_the_same_table_and_another_seed_another(study):
    first, second = (summary(study, TASK, ASKED, records(study, 8)) for _ in range(2))
    assert to_csv(first.columns, first.rows) == to_csv(second.columns, second.rows)
    assert first.findings == second.findings


def test_the_findings_say_which_ratio_is_best_and_how_the_others_compare():
    result = summary("real-ratio", TASK, ASKED, records("real-ratio"))
    best, compared, errors = result.findings
    assert best == (
        "Pendulum-v1, 60 real steps, 3 seeds: the greatest interquartile-mean return is 57 (too few seeds for an "
        "interval), at a ratio of 0.05, which is the best of 5, ties included, in 100 % of bootstrap samples over the "
        "seeds."
    )
    assert compared == (
        "On the same 3 seeds a ratio of 0.05 returns 30 more than a ratio of 1 and 40 more than a ratio of 0; too few "
        "seeds for an interval."
    )
    assert "ends between 0.7 (too few seeds for an interval) with" in errors
    assert "medians over 3 seeds" in errors
    best, compared, errors = summary(
        "real-ratio", TASK, dataclasses.replace(ASKED, seeds=6), records("real-ratio", 6)
    ).findings
    low, high = interquartile_mean_interval(56 + np.arange(6.0))[1:]
    assert f"return is 58.5 (95 %: {number(low)} to {number(high)}), at a ratio of 0.05" in best
    assert compared == (
        "On the same 6 seeds a ratio of 0.05 returns 30 more than a ratio of 1 (the difference, 95 %: 30 to 30) and 40 "
        "more than a ratio of 0 (the difference, 95 %: 40 to 40); 2 of these 2 intervals leave out 0."
    )
    assert "ends between 1.45 (95 %: 0.2 to 2.7) with" in errors


def test_the_findings_about_lengths():
    result = summary("rollout-length", TASK, ASKED, records("rollout-length"))
    best, compared, _ = result.findings
    assert "is 16 (too few seeds for an interval), at a length of 5, which is the best of 4" in best
    assert "a length of 1 returns 2 less than a length of 2" in compared
    assert "3 more than a length of 15; too few seeds for an interval." in compared


def test_ties_and_luck_are_told():
    found = records("real-ratio")
    for seed, value in enumerate((100.0, 0.0, 0.0)):
        found["0"][seed][-1]["mean_return"] = value
    for value in ("0.05", "0.25", "0.5", "1"):
        for seed in range(3):
            found[value][seed][-1]["mean_return"] = 30.0
    best, compared, _ = summary("real-ratio", TASK, ASKED, found).findings
    assert "is 33.3 (too few seeds for an interval), at a ratio of 0, which is the best of 5" in best
    share = float(best.partition("in ")[2].partition(" %")[0].rpartition(" ")[2]) / 100
    likely = 1 - (2 / 3) ** 3  # the lucky seed is drawn at least once, and one draw of it suffices
    assert abs(share - likely) < 4 * np.sqrt(likely * (1 - likely) / 2000) + 0.005
    assert compared.endswith("too few seeds for an interval.")
    found["0"][0][-1]["mean_return"] = 90.0
    best, *_ = summary("real-ratio", TASK, ASKED, found).findings
    every = "a ratio of 0, a ratio of 0.05, a ratio of 0.25, a ratio of 0.5 and a ratio of 1"
    assert f"at {every}, one of which is the best of 5, ties included, in 100 % of" in best


def test_caveats_speak_of_few_seeds_only_when_they_are_few():
    few, many = (
        summary("real-ratio", TASK, dataclasses.replace(ASKED, seeds=n), records("real-ratio", n))
        for n in (3, 10)
    )
    assert few.caveats[0].startswith("3 seeds are too few for an interval")
    assert "covered in 75 % of studies" in few.caveats[0]
    assert many.caveats[0] == "Intervals are Student's, of a mean without its extremes."
    assert "too few" not in many.findings[1]
    assert any("the same on 3 of 3 seeds" in caveat for caveat in few.caveats)
    assert not any(
        "no model" in caveat
        for caveat in summary("rollout-length", TASK, ASKED, records("rollout-length")).caveats
    )


def test_an_error_that_is_not_known_leaves_the_row_empty():
    found = records("real-ratio")
    found["0.5"][1][-1]["model"]["holdout_error"][2] = None
    assert holdout(found["0.5"][1][-1]) is None
    rows = summary("real-ratio", TASK, ASKED, found).rows
    empty = [(row["ratio"], row["env_steps"]) for row in rows if row["model_error"] is None]
    assert empty == [("0.5", 60), *itertools.product(["no model"], STEPS)]


def test_the_interquartile_mean_is_not_moved_by_one_run():
    values = np.random.default_rng(0).normal(size=20)
    found = interquartile_mean_interval(np.append(values[1:], 1e9))
    assert found.estimate < found.high < 2.0


@pytest.mark.parametrize(
    ("preset_name", "task", "steps", "warmup", "every"),
    [
        ("paper", "InvertedPendulum-v5", 1500, 500, 250),
        ("default", "InvertedPendulum-v5", 2000, 666, 250),
        ("default", "Hopper-v5", 997, 332, 166),
        ("paper", "Hopper-v5", 1_000_000, 5000, 1000),
        ("default", "Pendulum-v1", 20, 10, 2),
    ],
)
def test_a_preset_is_made_to_fit_the_steps(preset_name, task, steps, warmup, every):
    usual = preset(preset_name, task)
    settings = override(usual, shortened(usual.warmup_steps, usual.evaluate_every, steps))
    assert (settings.warmup_steps, settings.evaluate_every, settings.diagnose) == (warmup, every, False)
    assert (
        dataclasses.replace(
            settings, warmup_steps=usual.warmup_steps, evaluate_every=usual.evaluate_every, diagnose=True
        )
        == usual
    )


def test_figures_show_every_arm(study):
    result = summary(study, TASK, ASKED, records(study)).to_json()
    learning, final = pictures_of(json.loads(json.dumps(result)))
    assert (learning.name, final.name) == ("learning", "final-return")
    for arm in SWEEPS[study].arms:
        words = (
            "no model" if arm.value == "no model" else f"{SWEEPS[study].column.split('_')[-1]} {arm.value}"
        )
        assert f">{words}<" in learning.svg
        first, last = (LEVEL[arm.value] + 1 + step / 10 for step in (20, 60))
        assert f"{words} from {first:g} to {last:g}" in learning.description
        assert f"{words} {last:g}" in final.description
    assert pictures_of(result)[0].svg == learning.svg
    assert all("3 seeds, too few for an interval" in each.caption for each in (learning, final))
    result = summary(study, TASK, dataclasses.replace(ASKED, seeds=6), records(study, 6)).to_json()
    for each in pictures_of(result):
        assert "over 6 seeds and its 95 % interval" in each.caption
    row = result["rows"][-1]
    ends = f"{number(row['return'])}, {number(row['return_low'])} to {number(row['return_high'])}"
    assert ends in each.description


def test_numbers_in_words():
    assert [number(value) for value in (0.0, 0.012345, -3.14159, 999.4, 1234.5)] == [
        "0",
        "0.0123",
        "-3.14",
        "999",
        "1,234",
    ]


class Interrupted(Exception):
    """Stands for a kill inside a test."""


@pytest.mark.slow
def test_real_runs_go_on_where_the_study_stopped_and_are_not_repeated(monkeypatch, tmp_path):
    without = {
        "real_ratio": 1.0,
        "model": "none",
    }  # without a model little has to be compiled, and once for both
    arms = (Arm("1", "a ratio of 1", "ratio-1", without), Arm("no model", "no model", "no-model", without))
    small = dataclasses.replace(SWEEPS["real-ratio"], arms=arms, reference="1", against=("no model",))
    monkeypatch.setitem(SWEEPS, "real-ratio", small)
    task = request("evaluation_episodes=1", "agent_hidden=8", environment="Pendulum-v1")
    asked, told = Request(seeds=2, transitions=40, seed=3), []

    def stop(words):
        told.append(words)
        if len(told) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_task("real-ratio", task, asked, tmp_path, ["mbpo", "again"], stop)
    assert told == ["a ratio of 1, seed 3", "a ratio of 1, seed 4", "no model, seed 3"]
    trained, told = [], []
    result = run_task(
        "real-ratio",
        task,
        asked,
        tmp_path,
        ["mbpo"],
        told.append,
        lambda run, at: trained.append((run.words, at.done)),
    )
    assert len(told) == steps_task("real-ratio", asked) == 4
    assert list(dict.fromkeys(trained)) == [("no model, seed 4", step) for step in range(41)]
    folders = {f"{arm}-seed-{seed}" for arm in ("ratio-1", "no-model") for seed in (3, 4)}
    assert {each.name for each in tmp_path.iterdir()} == folders
    config = json.loads((tmp_path / "ratio-1-seed-3" / "config.json").read_text())
    assert (config["kind"], config["command"]) == ("task", ["mbpo", "again"])
    ends = [
        read_metrics(tmp_path / f"ratio-1-seed-{seed}" / "metrics.jsonl")[-1]["mean_return"]
        for seed in (3, 4)
    ]
    assert [(row["ratio"], row["env_steps"]) for row in result.rows] == [
        (value, step) for value in ("1", "no model") for step in (30, 40)
    ]
    assert result.rows[1]["return"] == pytest.approx(np.mean(ends), rel=1e-12)
    assert (result.rows[1]["return_low"], result.rows[1]["return_high"]) == (None, None)  # of two seeds
    assert result.rows[1]["realised_ratio"] == 1.0
    assert any("the same on 2 of 2 seeds" in caveat for caveat in result.caveats)
