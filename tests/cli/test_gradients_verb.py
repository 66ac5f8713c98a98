"""`mbpo gradients`: the JSON contract, the folder, and refusals that write nothing."""

import json

import numpy as np
import pytest

from mbpo.cli import execute
from mbpo.lqr import catalogue, exact
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.report.gradients import gradients_files
from mbpo.studies import gradients as study

KEYS = {
    "name", "unbiased", "mean", "relative_error", "max_z", "relative_std", "cosine", "effective_sample_fraction",
}  # fmt: skip
SMALL = ["scalar", "--horizon", "3", "--episodes", "40"]


def run_json(capsys, *arguments):
    assert execute(["gradients", *arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return out


def test_json_contract_and_byte_identity(capsys):
    first = run_json(capsys, *SMALL, "--seed", "5")
    assert run_json(capsys, *SMALL, "--seed", "5") == first
    result = json.loads(first)
    assert [each["name"] for each in result["estimators"]] == list(ESTIMATORS)
    assert all(set(each) >= KEYS for each in result["estimators"])
    assert (result["steps"], result["episodes"], result["seed"]) == (3, 40, 5)
    system = exact.resolved(catalogue.get("scalar"))
    args = system, np.array(result["gain"]), np.array(result["exploration"])
    np.testing.assert_allclose(result["exact_gradient"], exact.gradient(*args), rtol=1e-12)
    known = result["estimators"][-1]
    np.testing.assert_allclose(known["mean"], result["exact_gradient"], rtol=1e-9)
    assert result["behaviour_gain"] != result["gain"]
    other = json.loads(run_json(capsys, *SMALL, "--seed", "6"))
    assert other["exact_gradient"] == result["exact_gradient"]
    assert other["estimators"][0]["mean"] != result["estimators"][0]["mean"]


def test_what_is_given_is_what_is_used(capsys):
    gains = ["--gain", "[[-0.5]]", "--behaviour-gain", "[[-0.6]]", "--exploration", "0.5"]
    result = json.loads(run_json(capsys, *SMALL, *gains))
    assert (result["gain"], result["behaviour_gain"], result["exploration"]) == ([[-0.5]], [[-0.6]], [[0.25]])
    assert "report.html" in gradients_files(result, ABOUT)


ABOUT = {"command": ["mbpo"], "versions": {}, "platform": "p", "devices": ["d"], "source": ""}


def test_the_folder_is_complete_and_kept(capsys, tmp_path, monkeypatch):
    real = study.degradation
    monkeypatch.setattr(study, "degradation", lambda setting, seed, progress: [])
    out = tmp_path / "runs" / "bench"
    result = json.loads(run_json(capsys, *SMALL, "--out", str(out)))
    assert json.loads((out / "result.json").read_text()) == result
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    drawn = {"figures/bias-and-spread.svg", "figures/transitions-to-10-percent.svg", "figures/ratio-path.svg"}
    assert names == {"config.json", "result.json", "report.html"} | drawn
    assert list(out.parent.iterdir()) == [out]
    before = (out / "report.html").stat().st_mtime_ns
    assert execute(["gradients", *SMALL, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "already holds this study" in captured.err
    assert "importance-sampling" in captured.out
    assert (out / "report.html").stat().st_mtime_ns == before
    assert execute(["gradients", *SMALL, "--seed", "1", "--out", str(out)]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert real.__module__.startswith("mbpo.studies")


REFUSALS = {
    "not JSON": (["--gain", "0.5x"], "gain must be JSON rows"),
    "shape": (["--gain", "[[-0.5, 0.1]]"], "gain must"),
    "text": (["--gain", '[["a"]]'], "gain[0, 0] must be a real number"),
    "infinite": (["--gain", "[[NaN]]"], "gain must"),
    "unstable": (["--gain", "[[50]]"], "gain does not stabilise scalar: the spectral radius of A + B K is"),
    "unstable behaviour": (["--behaviour-gain", "[[50]]"], "behaviour-gain does not stabilise scalar"),
    "behaviour": (["--behaviour-gain", "[1]"], "behaviour-gain must"),
    "no exploration": (["--exploration", "0"], "exploration must be a positive finite number"),
    "negative": (["--exploration", "-1"], "exploration must be a positive finite number"),
    "not finite": (["--exploration", "NaN"], "exploration must be a positive finite number"),
    "not a covariance": (["--exploration", "[[-1]]"], "exploration must"),
    "wrong size": (["--exploration", "[[1, 0], [0, 1]]"], "exploration must"),
    "word": (["--exploration", "little"], "exploration must be a positive number or JSON rows"),
    "multiple": (["--episodes", "50"], "episodes must be a multiple of 20, got 50"),
    "few": (["--episodes", "20"], "--episodes: expected a whole number from 40"),
    "many": (["--episodes", "20000000"], "episodes must be a whole number from 40 to 1000000 (of 20 steps)"),
    "horizon": (["--horizon", "0"], "--horizon: expected a whole number from 1 to 1000"),
    "seed": (["--seed", "-1"], "--seed: expected a whole number from 0"),
    "misspelt": (["--episode", "40"], "unknown option '--episode', did you mean '--episodes'?"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_write_nothing(case, capsys, tmp_path):
    options, message = REFUSALS[case]
    assert execute(["gradients", "scalar", *options, "--out", str(tmp_path / "out"), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_out_that_holds_something_else_is_refused(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for out, words in ((tmp_path, "holds something else"), (tmp_path / "notes.txt", "is a file")):
        assert execute(["gradients", *SMALL, "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert words in captured.err
        assert len(captured.err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_unknown_system_is_refused(capsys):
    assert execute(["gradients", "scaler"]) == 2
    assert "did you mean 'scalar'?" in capsys.readouterr().err
