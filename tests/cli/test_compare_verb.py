"""`mbpo compare`: the folder, the JSON contract, resuming, and refusals that write nothing."""

import dataclasses
import json

import pytest

from mbpo.cli import compare, execute, many_runs
from mbpo.cli.many_runs import Run
from mbpo.lqr import catalogue
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.lqr.train import Settings
from mbpo.report.palette import label
from mbpo.runs.folder import write_run
from synthetic_runs import synthetic_training

ROW_KEYS = [
    "system", "algorithm", "improve", "transitions",
    *(f"to_{level}_percent{end}" for level in (10, 1) for end in ("", "_low", "_high", "_at_most")),
    "excess_cost", "limit", "unstable",
]  # fmt: skip
KEYS = ["report", "system", "transitions", "seeds", "seed", "finding", "runs"]


@pytest.fixture
def trained(monkeypatch):
    """Made-up trainings in the place of real ones; the list of what was trained."""
    done = []

    def fake(runs, step):
        for run in runs:
            training = synthetic_training(run.settings.algorithm, run.system.name, run.settings.seeds)
            training = dataclasses.replace(training, settings=run.settings)
            write_run(run.folder, training, run.command, replace=True)
            done.append(run.folder.name)
            step(str(run))

    monkeypatch.setattr(compare, "train_all", fake)
    return done


def run_json(capsys, *arguments):
    assert execute(["compare", *arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_two_algorithms_end_to_end(capsys, tmp_path):
    out = tmp_path / "out"
    names = "certainty-equivalence,known"
    options = ["--transitions", "2000", "--algorithms", names, "--seeds", "2", "--out", str(out)]
    result = run_json(capsys, "scalar", *options)
    assert list(result) == KEYS
    assert [result[name] for name in ("system", "transitions", "seeds", "seed")] == ["scalar", 2000, 2, 0]
    assert result["report"] == str(out / "report.html")
    assert all(list(row) == ROW_KEYS for row in result["runs"])
    assert [(row["algorithm"], row["improve"]) for row in result["runs"]] == [
        ("certainty-equivalence", None),
        ("known", "known"),
    ]
    assert {path.name for path in (out / "runs").iterdir()} == {"certainty-equivalence", "known"}
    assert "mbpo train scalar --algorithm known --transitions 2000" in (out / "report.html").read_text()
    kept = json.loads((out / "runs/certainty-equivalence/result.json").read_text())
    assert kept["median_excess_cost"] == result["runs"][0]["excess_cost"]


def test_the_default_is_every_estimator_and_what_has_a_model(capsys, tmp_path, trained):
    out = tmp_path / "out"
    result = run_json(capsys, "double_integrator", "--transitions", "3000", "--out", str(out))
    asked = ["mbpo", "certainty-equivalence", *ESTIMATORS]
    assert trained == asked
    assert [row["algorithm"] for row in result["runs"]] == asked
    page = (out / "report.html").read_text()
    assert all(f"</span>{label(name)}</th>" in page for name in asked)
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"double_integrator-excess-cost.svg", "double_integrator-final-spread.svg"} <= figures
    excess = (out / "figures/double_integrator-excess-cost.svg").read_text()
    assert all(label(name) in excess for name in asked)


def test_a_complete_run_is_not_trained_again(capsys, tmp_path, trained):
    out = tmp_path / "out"
    options = ["double_integrator", "--transitions", "3000", "--seeds", "3", "--out", str(out)]
    first = run_json(capsys, *options, "--algorithms", "mbpo,mbpo:mis")
    assert trained == ["mbpo", "mbpo-mis"]
    assert [(row["algorithm"], row["improve"]) for row in first["runs"]] == [("mbpo", "dpg"), ("mbpo", "mis")]
    page = (out / "report.html").read_text()
    assert "MBPO, mis" in page
    assert "mbpo train double_integrator --algorithm mbpo --improve mis --transitions 3000" in page
    before = (out / "runs/mbpo/metrics.jsonl").stat().st_mtime_ns
    second = run_json(capsys, *options, "--algorithms", "mbpo,mbpo:mis,reinforce")
    assert trained == ["mbpo", "mbpo-mis", "reinforce"]
    assert second["runs"][:2] == first["runs"]
    assert (out / "runs/mbpo/metrics.jsonl").stat().st_mtime_ns == before
    assert execute(["compare", *options, "--algorithms", "mbpo"]) == 0
    captured = capsys.readouterr()
    assert "already holds 1 of 1 runs" in captured.err
    assert "report.html" in " ".join(captured.out.split())
    assert (
        execute(["compare", *options[:1], "--transitions", "4000", *options[3:], "--algorithms", "mbpo"]) == 2
    )
    assert "holds a run with transitions" in capsys.readouterr().err
    assert len(trained) == 3


def test_the_default_folder_is_named_after_the_system(capsys, tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_json(capsys, "double_integrator", "--transitions", "3000", "--algorithms", "dpg")
    assert result["report"] == "runs/compare-double_integrator/report.html"


REFUSALS = {
    "unknown": (["--transitions", "3000", "--algorithms", "mbpo,sacc"], "there is no algorithm 'sacc'"),
    "unknown estimator": (["--transitions", "3000", "--algorithms", "mbpo:miss"], "did you mean 'mis'?"),
    "solves outright": (
        ["--transitions", "3000", "--algorithms", "certainty-equivalence:mis"],
        "improve has no",
    ),
    "not its own": (["--transitions", "3000", "--algorithms", "reinforce:mis"], "not mis"),
    "empty": (["--transitions", "3000", "--algorithms", "mbpo,,dpg"], "separated by commas"),
    "no estimator": (["--transitions", "3000", "--algorithms", "mbpo:"], "no estimator after the colon"),
    "twice": (["--transitions", "3000", "--algorithms", "dpg,mbpo,dpg"], "'dpg' more than once"),
    "too few": (["--transitions", "900", "--algorithms", "mbpo,gpomdp"], "gpomdp needs at least 1600 real"),
    "none": (["--transitions", "0", "--algorithms", "mbpo"], "transitions must be a whole number"),
    "seeds": (["--transitions", "3000", "--seeds", "0"], "seeds must be a whole number"),
    "seed": (["--transitions", "3000", "--seed", "-1"], "seed must be a whole number"),
    "number": (["--transitions", "many"], "--transitions"),
    "absent": ([], "--transitions"),
    "misspelt": (["--transitions", "3000", "--algorithm", "mbpo"], "did you mean '--algorithms'?"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_train_and_write_nothing(case, capsys, tmp_path, trained):
    options, message = REFUSALS[case]
    assert execute(["compare", "double_integrator", *options, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert trained == []
    assert not list(tmp_path.iterdir())


def test_branches_need_an_objective_without_a_horizon(capsys, tmp_path, trained):
    path = tmp_path / "mine.toml"
    path.write_text("A = [[1.0]]\nB = [[1.0]]\nQ = [[1.0]]\nR = [[1.0]]\nW = [[1.0]]\nhorizon = 10\n")
    out = tmp_path / "out"
    options = ["--transitions", "3000", "--algorithms", "mbpo,mbpo:gpomdp", "--out", str(out)]
    assert execute(["compare", str(path), *options]) == 2
    assert "improve gpomdp with mbpo needs an objective without a horizon" in capsys.readouterr().err
    assert trained == []
    assert not out.exists()


def test_a_folder_that_cannot_be_used(capsys, tmp_path, trained):
    (tmp_path / "file").write_text("mine")
    options = ["double_integrator", "--transitions", "3000", "--algorithms", "mbpo"]
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert execute(["compare", *options, "--out", str(out)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    (tmp_path / "out/runs/mbpo").mkdir(parents=True)
    (tmp_path / "out/runs/mbpo/notes.txt").write_text("mine")
    assert execute(["compare", *options, "--out", str(tmp_path / "out")]) == 2
    assert "not empty and not a run" in capsys.readouterr().err
    assert trained == []


def test_the_command_of_a_run_repeats_it(tmp_path):
    settings = Settings("mbpo", 500, 2, 7, improve="mis")
    run = Run(tmp_path / "x", catalogue.get("scalar"), "scalar", settings)
    assert " ".join(run.command) == (
        f"mbpo train scalar --algorithm mbpo --improve mis --transitions 500 --seeds 2 --seed 7 --out {tmp_path}/x"
    )
    assert str(run) == "mbpo:mis on scalar"
    assert many_runs.PROCESSES == 2
