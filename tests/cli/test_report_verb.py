"""`mbpo report`: where the page goes, the JSON contract, both kinds of runs, and refusals."""

import json

import pytest

from mbpo.cli import execute
from mbpo.runs.folder import write_run
from synthetic_runs import synthetic_training
from synthetic_task_runs import mean_return, write_task_run

RUN_KEYS = [
    "run", "environment", "options", "termination", "preset", "changes", "seed", "steps", "done", "complete",
    "evaluations", "updates", "last_step", "last_return", "best_return", "best_step", "excess_cost",
    "excess_standard_error", "one_step_error", "seconds", "updates_per_second", "diagnostics",
]  # fmt: skip


def run_json(capsys, *arguments):
    assert execute(["report", *map(str, arguments), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def refused(capsys, *arguments):
    assert execute(["report", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def gain_run(tmp_path, algorithm):
    write_run(tmp_path / algorithm, synthetic_training(algorithm), ["mbpo", "train", algorithm])
    return tmp_path / algorithm


def test_one_run_on_a_task(capsys, tmp_path):
    run = write_task_run(tmp_path / "run", steps=7000)
    result = run_json(capsys, run)
    assert list(result) == ["report", "runs", "tasks"]
    assert result["report"] == str(run / "report.html")
    assert list(result["runs"][0]) == RUN_KEYS
    assert result["runs"][0]["last_return"] == mean_return(7000, 0)
    assert "paper on Hopper-v5" in (run / "report.html").read_text()


def test_several_runs_on_tasks(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        write_task_run(tmp_path / f"s{seed}", seed=seed, steps=7000)
    assert execute(["report", "s0", "s1"]) == 0
    out = capsys.readouterr().out
    assert "median of 2 seeds" in out
    assert "The page: report.html" in out
    assert (tmp_path / "report.html").exists()
    result = run_json(capsys, "s0", "s1", "--out", "sub/page.html")
    assert result["report"] == "sub/page.html"
    assert (tmp_path / "sub/page.html").read_bytes() == (tmp_path / "report.html").read_bytes()
    assert not (tmp_path / "s0/report.html").exists()


def test_runs_of_gains_get_their_own_page(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [gain_run(tmp_path, each) for each in ("mbpo", "policy-gradient")]
    result = run_json(capsys, *runs)
    assert list(result) == ["report", "runs", "findings"]
    assert [row["algorithm"] for row in result["runs"]] == ["mbpo", "policy-gradient"]
    assert result["findings"][0].startswith("double_integrator: MBPO")
    assert "In these systems the optimum" in (tmp_path / "report.html").read_text()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mbpo", "policy-gradient", "report.html"]
    assert execute(["report", str(runs[0])]) == 0
    assert "MBPO on double_integrator" in (runs[0] / "report.html").read_text()
    assert (runs[0] / "figures").is_dir()


def test_refusals(capsys, tmp_path):
    task, gain = write_task_run(tmp_path / "task", steps=7000), gain_run(tmp_path, "mbpo")
    assert "two kinds" in refused(capsys, task, gain)
    assert "is not a run: it has no config.json" in refused(capsys, tmp_path)
    assert "is not a run" in refused(capsys, tmp_path / "nowhere")
    assert "more than once" in refused(capsys, task, tmp_path / "." / "task")
    assert "is a directory" in refused(capsys, task, "--out", tmp_path)
    assert "did you mean '--out'" in refused(capsys, task, "--oot", "x")
    (gain / "arrays.safetensors").unlink()
    assert "not a complete run" in refused(capsys, gain)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"kind": "study"}', '{"kind": "task"}'])
def test_a_config_that_is_not_one(capsys, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    message = refused(capsys, tmp_path)
    assert "config.json" in message
    assert "Traceback" not in message
