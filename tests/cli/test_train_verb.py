"""`mbpo train`: the JSON contract, the folder, and refusals that write nothing."""

import json

import pytest

from mbpo.cli import execute
from mbpo.cli.train_gain import print_gain_result
from synthetic_runs import synthetic_training

KEYS = {"algorithm", "transitions", "gains", "excess_cost", "limit", "curve"}
SMALL = [
    "train",
    "scalar",
    "--algorithm",
    "certainty-equivalence",
    "--transitions",
    "300",
    "--seeds",
    "3",
    "--seed",
    "7",
]
ADDED = ("needed", "stood_still", "exploration_cost")  # to results, after the first versions


def test_json_contract_and_byte_identity(capsys):
    assert execute([*SMALL, "--json"]) == 0
    first = capsys.readouterr().out
    assert execute([*SMALL, "--json"]) == 0
    assert capsys.readouterr().out == first
    result = json.loads(first)
    assert set(result) >= KEYS
    assert result["transitions"] == 300
    assert len(result["gains"]) == len(result["excess_cost"]) == 3
    curve = result["curve"]
    assert len({len(curve[name]) for name in ("transitions", "median", "p10", "p90")}) == 1
    assert curve["transitions"][-1] == 300


def test_a_run_is_kept_and_resumed(capsys, tmp_path):
    out = tmp_path / "run"
    assert execute([*SMALL, "--out", str(out), "--json"]) == 0
    first = capsys.readouterr().out
    files = {path.name for path in out.iterdir()}
    assert {"config.json", "metrics.jsonl", "result.json", "report.html"} <= files
    written = (out / "metrics.jsonl").read_bytes()
    assert execute([*SMALL, "--out", str(out), "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == json.loads(first)
    assert "complete" in again.err
    assert (out / "metrics.jsonl").read_bytes() == written


def test_a_different_run_in_the_same_folder_is_refused(capsys, tmp_path):
    out = tmp_path / "run"
    assert execute([*SMALL, "--out", str(out), "--json"]) == 0
    capsys.readouterr()
    assert execute([*SMALL[:-1], "8", "--out", str(out), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--transitions", "-5"],
        ["--transitions", "many"],
        ["--transitions", "3"],
        ["--transitions", "500", "--seeds", "0"],
        ["--transitions", "500", "--seed", "-1"],
        ["--transitions", "500", "--real-ratio", "1.5"],
        ["--transitions", "500", "--real-ratio", "nan"],
        ["--transitions", "500", "--rollout-length", "0"],
        ["--transitions", "500", "--algorithm", "sacc"],
        ["--transitions", "500", "--improve", "nope"],
        ["--transitions", "500", "--algoritm", "mbpo"],
        [],
    ],
)
def test_bad_options_write_nothing(capsys, tmp_path, options):
    out = tmp_path / "run"
    assert execute(["train", "scalar", *options, "--out", str(out), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert not out.exists()


def test_results_of_earlier_versions_are_printed_without_what_they_lack(capsys):
    result = synthetic_training(rounds=40, transitions=4000, seeds=7).to_json()
    print_gain_result(result, None)
    assert "2,600 (2,000 to 3,300)" in capsys.readouterr().out
    print_gain_result({key: result[key] for key in result if key not in ADDED}, None)
    told = capsys.readouterr().out
    assert "median excess cost" in told
    assert "exploring costs" not in told
