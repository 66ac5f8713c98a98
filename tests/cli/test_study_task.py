"""`mbpo study` on a control task: what is refused before any work, and the folder, with training left out."""

import json
import os

import pytest

from mbpo.cli import execute
from mbpo.cli.study_task import StudyTask, runs_folder, task_of
from mbpo.core import threads
from mbpo.errors import InputError
from mbpo.presets import TaskSettings
from mbpo.runs.task_folder import open_folder
from mbpo.studies import task_sweep
from mbpo.studies.task_sweep import NO_MODEL, SWEEPS

TASK = "InvertedPendulum-v5"
SMALL = ["study", "real-ratio", TASK, "--seeds", "2", "--transitions", "60", "--set", "batch_size=8"]


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threads, "keep_compiled_programs", lambda: None)
    monkeypatch.setenv("PJRT_NPROC", os.environ["PJRT_NPROC"])  # put back afterwards
    monkeypatch.setattr(task_sweep, "train_task", lambda *_: pytest.fail("trained"))
    return tmp_path


@pytest.fixture
def trained(monkeypatch):
    """Runs that take no time: each evaluation returns its ratio's share of 100 and its seed."""
    found = []

    def train(request, folder, watch, command):
        watch(task_sweep.TaskProgress(request.steps, request.steps, "training", None))
        folder.mkdir(parents=True, exist_ok=True)
        open_folder(folder, request, command)
        found.append(folder.name)
        settings = request.settings
        record = {
            "env_steps": request.steps, "updates": 1, "mean_return": 100 * settings.real_ratio + request.seed,
            "returns": [0.0], "agent": {}, "realised_ratio": settings.real_ratio,
        }  # fmt: skip
        if settings.model != "none":
            record["model"] = {"holdout_error": [0.5], "elites": [0], "epochs": 1}
        (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")

    monkeypatch.setattr(task_sweep, "train_task", train)
    return found


def assert_refused(capsys, words, message):
    assert execute([*words, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mbpo study: ")
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1


REFUSALS = {
    "two tasks": (["real-ratio", TASK, "Hopper-v5"], f"takes that one alone, got {TASK} and Hopper-v5"),
    "twice": (["real-ratio", TASK, TASK], f"takes that one alone, got {TASK} and {TASK}"),
    "a mixture": (["rollout-length", "scalar", TASK], f"takes that one alone, got {TASK} and scalar"),
    "another study": (["bound", TASK], f"bound is not made on control tasks such as {TASK}"),
    "sample efficiency": (
        ["sample-efficiency", TASK, "--preset", "paper"],
        "only real-ratio and rollout-length are",
    ),
    "hidden": (["forgetting", "Pendulum-v1"], "forgetting is not made on control tasks"),
    "preset of a system": (
        ["real-ratio", "laplacian3", "--preset", "paper"],
        "--preset belongs to a control task",
    ),
    "set of a system": (["rollout-length", "--set", "batch_size=8"], "--set belongs to a control task"),
    "set of another study": (["bound", "scalar", "--set", "x=1"], "--set belongs to a control task"),
    "no such task": (["real-ratio", "InvertedPendlum-v5"], "did you mean 'InvertedPendulum-v5'?"),
    "no such preset": (["real-ratio", TASK, "--preset", "papper"], "did you mean 'paper'?"),
    "no preset": (["real-ratio", TASK, "--preset", ""], "unknown preset ''"),
    "not the paper's": (["real-ratio", "Pendulum-v1", "--preset", "paper"], "no settings for Pendulum-v1"),
    "no model": (["real-ratio", TASK, "--preset", "sac"], "asks what a model does"),
    "no such setting": (["real-ratio", TASK, "--set", "batchsize=8"], "did you mean 'batch_size'?"),
    "no value": (["real-ratio", TASK, "--set", "batch_size"], "expected key=value"),
    "what the study sets": (
        ["real-ratio", TASK, "--set", "real_ratio=1"],
        "the study real-ratio tries several",
    ),
    "lengths": (["rollout-length", TASK, "--set", "length_last=3"], "the study rollout-length tries several"),
    "few steps": (["real-ratio", TASK, "--transitions", "10"], "expected more than the 10 of the warm-up"),
    "long warm-up": (["real-ratio", TASK, "--set", "warmup_steps=9000"], "expected more than the 9000"),
    "one seed": (["real-ratio", TASK, "--seeds", "1"], "--seeds: expected a whole number from 2"),
    "many seeds": (["real-ratio", TASK, "--seed", "2147483647"], "expected 3 seeds up to 2147483647"),
    "memory": (["rollout-length", TASK, "--set", "branches=200000000"], "lower branches"),
    "true": (["real-ratio", TASK, "--set", "model=true"], "needs a linear-quadratic task"),
    "no such variant": (["real-ratio", "Ant-v5", "--variant", "truncted"], "did you mean 'truncated'?"),
    "no such rule": (["real-ratio", TASK, "--termination", "nowhere:rule"], "nowhere"),
    "no option": (["real-ratio", TASK, "--env-option", "speed=3"], "speed"),
    "system missing": (["real-ratio", "mbpo/LinearQuadratic-v0"], "without the option"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_write_nothing(case, capsys, here):
    words, message = REFUSALS[case]
    assert_refused(capsys, ["study", *words], message)
    assert not list(here.iterdir())


def test_one_word_ending_in_a_version_asks_for_a_task():
    assert task_of("real-ratio", [], {}) is None
    assert task_of("bound", ["scalar", "mine-v5.toml"], {"preset": None}) is None
    assert task_of("real-ratio", ["mine:Own-v0"], {}) == StudyTask("mine:Own-v0", "default")
    given = {
        "preset": "paper",
        "set": ["a=1", "b=2"],
        "env_option": ["c=3"],
        "variant": "v",
        "termination": "never",
    }
    task = task_of("rollout-length", [TASK], given)
    assert task == StudyTask(TASK, "paper", ("a=1", "b=2"), ("c=3",), "v", "never")
    assert task.words() == [
        TASK, "--preset", "paper", "--set", "a=1", "--set", "b=2", "--env-option", "c=3", "--variant", "v",
        "--termination", "never",
    ]  # fmt: skip
    for name in given:
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')} belongs"):
            task_of("real-ratio", [], {name: given[name]})


def test_runs_lie_beside_the_study(here):
    assert str(runs_folder("runs/one")) == str(runs_folder("runs/one/")) == "runs/one-runs"
    assert runs_folder(".") == here.parent / f"{here.name}-runs"


def test_the_study_is_kept_and_its_command_repeats_it(trained, capsys, here):
    assert execute([*SMALL, "--set", "networks=3", "--set", "elites=2", "--out", "deep/out", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    names = [*(f"ratio-{each}" for each in ("0", "0.05", "0.25", "0.5", "1")), "no-model"]
    assert trained == [f"{name}-seed-{seed}" for name in names for seed in (0, 1)]
    assert {each.name for each in (here / "deep").iterdir()} == {"out", "out-runs"}
    assert {each.name for each in (here / "deep" / "out-runs").iterdir()} == set(trained)
    files = {
        str(each.relative_to(here / "deep/out")) for each in (here / "deep/out").rglob("*") if each.is_file()
    }
    assert files == {
        "config.json", "result.json", "table.csv", "report.html", "figures/learning.svg", "figures/final-return.svg",
    }  # fmt: skip
    assert "12 of 12 runs: no model, seed 1" in captured.err
    assert (result["report"], result["study"]) == ("deep/out/report.html", "real-ratio")
    settings = result["settings"]
    assert (settings["task"], settings["preset"], settings["batch_size"]) == (TASK, "default", 8)
    assert (settings["warmup_steps"], settings["evaluate_every"], settings["diagnose"]) == (20, 10, False)
    assert [row["return"] for row in result["rows"]] == [0.5, 5.5, 25.5, 50.5, 100.5, 100.5]
    config = json.loads((here / "deep/out/config.json").read_text())
    assert config["system"] == [TASK]
    kept = json.loads((here / "deep/out-runs/no-model-seed-1/config.json").read_text())
    assert kept["command"] == config["command"]
    assert execute([*config["command"][1:], "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result
    assert "already holds this study, complete" in captured.err
    assert len(trained) == 12


def test_options_of_the_task_reach_every_run_and_may_stand_before_it(trained, capsys, here):
    more = ["--env-option", "system=scalar", "--termination", "never", "--seeds", "2", "--transitions", "60"]
    assert execute(["study", "real-ratio", *more, "--out", "out", "mbpo/LinearQuadratic-v0", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["settings"]["options"] == {"system": "scalar"}
    for each in (here / "out-runs").iterdir():
        request = json.loads((each / "config.json").read_text())["request"]
        assert (request["options"], request["termination"]) == ({"system": "scalar"}, "never")
    other = ["--env-option", "system=pendulum", *more[2:], "--out", "out", "mbpo/LinearQuadratic-v0"]
    assert_refused(capsys, ["study", "real-ratio", *other], "holds something else")


@pytest.mark.parametrize(
    "other",
    [["--seeds", "3"], ["--preset", "repaired"], ["--set", "networks=6"], ["--transitions", "66"]],
    ids=" ".join,
)
def test_another_study_in_the_same_folder_is_refused(other, trained, capsys):
    assert execute([*SMALL, "--out", "out", "--json"]) == 0
    capsys.readouterr()
    assert_refused(capsys, [*SMALL, *other, "--out", "out"], "holds something else")
    assert len(trained) == 12


def test_runs_of_another_study_are_refused_before_any_work(trained, capsys, here):
    assert execute([*SMALL, "--out", "out"]) == 0
    (here / "out").rename(here / "elsewhere")
    capsys.readouterr()
    assert_refused(
        capsys, [*SMALL, "--set", "networks=6", "--out", "out"], "holds a run with networks 7, not 6"
    )
    assert len(trained) == 12


def test_the_page_is_told_of_for_people(trained, capsys, here):
    assert (
        execute(["study", "rollout-length", TASK, "--preset", "paper", "--seeds", "2", "--transitions", "60"])
        == 0
    )
    assert f"The page: runs/study-rollout-length-{TASK}-paper/report.html" in capsys.readouterr().out
    assert (here / f"runs/study-rollout-length-{TASK}-paper-runs/length-15-seed-1/config.json").is_file()
    assert (
        "When to trust the model"
        in (here / f"runs/study-rollout-length-{TASK}-paper/report.html").read_text()
    )


def test_a_study_goes_on_with_the_threads_it_began_with(trained, monkeypatch, here):
    monkeypatch.setenv("PJRT_NPROC", "5")
    assert execute([*SMALL, "--out", "out"]) == 0
    for given, used in (("3", "3"), (None, "5")):  # what the user sets wins
        (here / "out").rename(here / f"before-{used}")
        monkeypatch.delenv("PJRT_NPROC") if given is None else monkeypatch.setenv("PJRT_NPROC", given)
        assert execute([*SMALL, "--out", "out"]) == 0
        assert os.environ["PJRT_NPROC"] == used


def test_what_the_arms_decide_are_settings():
    names = set(TaskSettings.__dataclass_fields__)
    assert all(sweep.decided <= names for sweep in SWEEPS.values())
    assert NO_MODEL in {arm.value for arm in SWEEPS["real-ratio"].arms}
