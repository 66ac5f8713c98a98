"""`mbpo study`: the JSON contract, the folder, and refusals that write nothing, with a study that costs nothing."""

import ast
import csv
import inspect
import json
import os
import random
import sys
import tomllib
import types

import pytest

from mbpo.cli import build_parser, execute
from mbpo.cli import study as verb
from mbpo.cli.study_task import ONLY_TASKS
from mbpo.errors import InputError
from mbpo.lqr import catalogue
from mbpo.lqr.hidden import hidden_names, load_hidden, resolve_hidden
from mbpo.lqr.toml_file import dump_toml
from mbpo.report.drawing import Picture
from mbpo.studies import named
from mbpo.studies.named import STUDIES, NamedStudy, systems_of
from mbpo.studies.result import StudyResult

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1" width="1pt"><g id="a"/></svg>'
COLUMNS = {
    "system": "which system",
    "draw": "a random number, half when divided by two",
    "draw_low": "the lower end of its interval",
    "draw_high": "the upper end of its interval",
    "nothing": "never there",
}
SMALL = ["study", "coin-toss", "scalar", "--seeds", "3", "--transitions", "40"]


class CoinToss:
    """A study by the name of coin-toss: two random numbers for each system and seed."""

    DEFAULT_SEEDS = 5
    DEFAULT_TRANSITIONS = 100

    def __init__(self):
        self.done, self.runs = [], 0

    def steps(self, systems, request):
        return len(systems) * request.seeds

    def run(self, systems, request, progress):
        self.runs += 1
        if request.transitions == 13:
            raise InputError("13 transitions cannot be divided")
        draw, rows = random.Random(request.seed), []
        for system in systems:
            for seed in range(request.seeds):
                ends = {"draw": draw.random() / 3, "draw_low": 0.0, "draw_high": 1 / 3}
                rows.append({"system": system.name, **ends, "nothing": None})
                progress(f"{system.name}, [{seed}]")
                self.done.append(seed)
        return StudyResult(
            study="coin-toss",
            title="Tosses of a [bold]coin[/bold]",
            question="Is it fair?",
            systems=[system.name for system in systems],
            seeds=request.seeds,
            settings={"transitions": request.transitions, "seed": request.seed},
            findings=[f"It is <fair> in 95 % of {request.seeds} seeds."],
            caveats=["A coin has two sides."],
            columns=COLUMNS,
            rows=rows,
        )


@pytest.fixture(autouse=True)
def coin(monkeypatch, tmp_path):
    study = CoinToss()
    picture = Picture("tosses", "Tosses", "What fell.", "What fell, again and again, with a coin.", SVG)
    entry = NamedStudy("coin-toss", "is a coin fair", "coin_toss", "quadratic", ("scalar",))
    monkeypatch.setitem(STUDIES, "coin-toss", entry)
    monkeypatch.setitem(sys.modules, "mbpo.studies.coin_toss", study)
    drawn = types.SimpleNamespace(pictures=lambda result: [picture])
    monkeypatch.setitem(sys.modules, "mbpo.report.studies.coin_toss", drawn)
    monkeypatch.chdir(tmp_path)
    return study


def run_json(capsys, *arguments):
    assert execute([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_the_folder_is_complete_and_the_same_request_gives_the_same_table(capsys, tmp_path, coin):
    first, second = tmp_path / "deep" / "first", tmp_path / "second"
    result = run_json(capsys, *SMALL, "--seed", "4", "--out", str(first))
    run_json(capsys, *SMALL, "--seed", "4", "--out", str(second))
    assert coin.runs == 2
    assert coin.done == [0, 1, 2] * 2
    names = {str(path.relative_to(first)) for path in first.rglob("*") if path.is_file()}
    assert names == {"config.json", "result.json", "table.csv", "report.html", "figures/tosses.svg"}
    assert list(first.parent.iterdir()) == [first]
    for name in ("table.csv", "result.json", "figures/tosses.svg"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (result.pop("report"), result.pop("table")) == (f"{first}/report.html", f"{first}/table.csv")
    assert json.loads((first / "result.json").read_text()) == result
    with (first / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["draw"]) for row in rows] == [row["draw"] for row in result["rows"]]
    assert [row["nothing"] for row in rows] == [""] * 3
    other = run_json(capsys, *SMALL, "--seed", "5", "--out", str(tmp_path / "other"))
    assert other["rows"] != result["rows"]


def test_the_config_repeats_the_study(capsys, tmp_path):
    out = tmp_path / "out"
    run_json(capsys, "study", "coin-toss", "--out", str(out))
    config = json.loads((out / "config.json").read_text())
    assert config["settings"] == {"study": "coin-toss", "seeds": 5, "transitions": 100, "seed": 0}
    assert config["system"] == [catalogue.get("scalar").to_toml()]
    assert config["command"][:3] == ["mbpo", "study", "coin-toss"]
    assert set(config) >= {"versions", "platform", "devices", "sources"}
    written = (out / "report.html").stat().st_mtime_ns
    assert execute(config["command"][1:]) == 0
    assert (out / "report.html").stat().st_mtime_ns == written


def test_a_complete_study_is_not_done_again(capsys, tmp_path, coin):
    out = tmp_path / "out"
    result = run_json(capsys, *SMALL, "--out", str(out))
    assert execute([*SMALL, "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result
    assert captured.err == f"{out} already holds this study, complete\n"
    assert coin.runs == 1


@pytest.mark.parametrize("name", ["config.json", "result.json", "table.csv", "report.html"])
def test_a_damaged_study_is_left_alone(capsys, tmp_path, coin, name):
    out = tmp_path / "out"
    run_json(capsys, *SMALL, "--out", str(out))
    if name == "result.json":
        (out / name).write_text('{"study": ')
    else:
        (out / name).unlink()
    assert execute([*SMALL, "--out", str(out), "--json"]) == 2
    assert_refused(capsys, "holds something else")
    assert coin.runs == 1


def test_tables_for_people(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "60")
    assert execute(["study", "coin-toss", "scalar", "laplacian3", "--seeds", "15"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "Tosses of a [bold]coin[/bold]",
        "- It is <fair> in 95 % of 15 seeds.",
        "- A coin has two sides.",
    ]
    assert sum(line.split()[:1] == ["scalar"] for line in lines) == 15
    assert sum(line.split()[:1] == ["laplacian3"] for line in lines) == 5
    folder = "runs/study-coin-toss-scalar-laplacian3"
    assert lines[-2:] == [
        f"10 more rows and 2 more columns in {folder}/table.csv",
        f"The page: {folder}/report.html",
    ]
    assert (tmp_path / folder / "report.html").is_file()
    assert all(len(line) <= 60 for line in lines[:-2])


def test_columns_that_do_not_fit_are_counted(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "16")
    assert execute(["study", "coin-toss"]) == 0
    out = capsys.readouterr().out
    assert "4 more columns in runs/study-coin-toss-scalar/table.csv" in out
    assert "nothing" not in out


def test_folders_are_named_after_study_and_systems():
    name = verb.default_folder
    assert name("bound", ["a/b c", "d.e", "f"]) == "runs/study-bound-a-b-c-d-e-f"
    assert name("bound", ["a", "b", "c", "d"]) == "runs/study-bound-a-and-3-more"
    assert len(name("bound", ["x" * 300])) < 120


def assert_refused(capsys, message):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip().startswith("mbpo study: ")
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1


REFUSALS = {
    "no study": ([], "required: NAME"),
    "unknown study": (["coin-tos"], "there is no study 'coin-tos', did you mean 'coin-toss'?"),
    "no such system": (["coin-toss", "scaler"], "did you mean 'scalar'?"),
    "no such file": (["coin-toss", "mine.toml"], "mine.toml: there is no such file"),
    "hidden system": (["coin-toss", "kozdoba"], "there is no system 'kozdoba'"),
    "seen system": (["forgetting", "laplacian3"], "there is no hidden system 'laplacian3'"),
    "twice": (["coin-toss", "scalar", "laplacian3", "scalar"], "two systems are named 'scalar'"),
    "one seed": (["coin-toss", "--seeds", "1"], "--seeds: expected a whole number from 2 to 10000, got '1'"),
    "many seeds": (["coin-toss", "--seeds", "10001"], "--seeds: expected a whole number"),
    "half a seed": (["coin-toss", "--seeds", "2.5"], "--seeds: expected a whole number"),
    "few": (
        ["coin-toss", "--transitions", "9"],
        "--transitions: expected a whole number from 10 to 100000000",
    ),
    "many": (["coin-toss", "--transitions", "100000001"], "--transitions: expected a whole number"),
    "words": (["coin-toss", "--transitions", "many"], "got 'many'"),
    "negative": (["coin-toss", "--seed", "-1"], "--seed: expected a whole number from 0 to 2147483647"),
    "large": (["coin-toss", "--seed", "2147483648"], "--seed: expected a whole number"),
    "misspelt": (["coin-toss", "--transition", "40"], "did you mean '--transitions'?"),
    "by the study": (["coin-toss", "--transitions", "13"], "13 transitions cannot be divided"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_write_nothing(case, capsys, tmp_path):
    options, message = REFUSALS[case]
    assert execute(["study", *options, "--out", str(tmp_path / "out"), "--json"]) == 2
    assert_refused(capsys, message)
    assert not list(tmp_path.iterdir())


def test_an_out_that_cannot_be_used_is_refused_before_any_work(capsys, tmp_path, coin):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for out, words in (
        (tmp_path, "holds something else"),
        (notes, "is a file"),
        (notes / "below", "is a file"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        assert execute([*SMALL, "--out", str(out), "--json"]) == 2
        assert_refused(capsys, words)
    assert coin.runs == 0
    assert list(tmp_path.iterdir()) == [notes]


@pytest.mark.parametrize("closed", ["out", "."])
def test_an_out_that_cannot_be_written_is_refused_before_any_work(
    closed, capsys, monkeypatch, tmp_path, coin
):
    out = tmp_path / "out"
    out.mkdir()
    may, refused = os.access, (tmp_path / closed).resolve()
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != str(refused) and may(path, mode))
    assert execute([*SMALL, "--out", str(out), "--json"]) == 2
    assert_refused(capsys, "is not writable")
    assert coin.runs == 0
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_out_behind_a_link_is_filled(capsys, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there")
    run_json(capsys, *SMALL, "--out", str(tmp_path / "here"))
    assert (tmp_path / "there" / "report.html").is_file()
    assert (tmp_path / "here").is_symlink()


@pytest.mark.parametrize(
    "other", [["--seed", "1"], ["--seeds", "4"], ["--transitions", "41"], ["laplacian3"]], ids=" ".join
)
def test_another_study_in_the_same_folder_is_refused(other, capsys, tmp_path, coin):
    out = ["--out", str(tmp_path / "out"), "--json"]
    assert execute([*SMALL, *out]) == 0
    capsys.readouterr()
    asked = [*SMALL[:3], *other, *SMALL[3:]] if other[0] == "laplacian3" else [*SMALL, *other]
    assert execute([*asked, *out]) == 2
    assert_refused(capsys, "holds something else")
    assert coin.runs == 1


def test_an_interrupted_study_leaves_nothing(capsys, monkeypatch, tmp_path, coin):
    def interrupted(systems, request, progress):
        progress("one")
        raise KeyboardInterrupt

    monkeypatch.setattr(coin, "run", interrupted)
    assert execute([*SMALL, "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_not_finite_is_null_and_empty(capsys, monkeypatch, tmp_path, coin):
    toss = coin.run

    def infinite(systems, request, progress):
        result = toss(systems, request, progress)
        result.rows[0]["draw"], result.rows[1]["draw"] = float("inf"), float("nan")
        return result

    monkeypatch.setattr(coin, "run", infinite)
    result = run_json(capsys, *SMALL, "--out", str(tmp_path / "out"))
    assert [row["draw"] for row in result["rows"][:2]] == [None, None]
    assert "inf" not in (tmp_path / "out" / "table.csv").read_text()


def test_what_cannot_be_learned_is_left_out_and_said(capsys, monkeypatch, tmp_path):
    everything = NamedStudy("coin-toss", "is a coin fair", "coin_toss", "quadratic", ())
    monkeypatch.setitem(STUDIES, "coin-toss", everything)
    result = run_json(capsys, "study", "coin-toss", "--seeds", "2")
    assert set(catalogue.names()) - set(result["systems"]) == {"liquidation"}
    (note,) = result["caveats"][1:]
    assert note.startswith("liquidation is left out: training learns one gain for all stages")
    first, count = result["systems"][0], len(result["systems"]) - 1
    assert result["report"] == f"runs/study-coin-toss-{first}-and-{count}-more/report.html"
    assert note in (tmp_path / result["report"]).read_text()


def test_systems_are_found_by_name_and_by_file(tmp_path):
    forgetting = STUDIES["forgetting"]
    for name in hidden_names():
        path = tmp_path / f"{name}.toml"
        path.write_text(dump_toml(resolve_hidden(name)))
        again = load_hidden(path)
        assert dump_toml(again) == dump_toml(resolve_hidden(name))
        assert tomllib.loads(path.read_text())["A"] == again.A.tolist()
        (system,), notes = systems_of(forgetting, [str(path)])
        assert (system.name, notes) == (name, [])
    mine = tmp_path / "mine.toml"
    mine.write_text(catalogue.get("laplacian3").to_toml())
    with pytest.raises(InputError, match="two systems are named 'laplacian3'"):
        systems_of(STUDIES["bound"], ["laplacian3", str(mine)])
    assert [system.name for system in systems_of(forgetting, [])[0]] == ["kozdoba"]


def test_options_read_are_options_declared():
    tree = ast.parse(inspect.getsource(verb))
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "args"
    }
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    assert read == {action.dest for action in verbs.choices["study"]._actions} - {"help", *ONLY_TASKS}
    assert all(name in verbs.choices["study"].epilog for name in STUDIES)


@pytest.mark.parametrize("name", sorted(set(STUDIES) - {"coin-toss"}))
def test_every_named_study_keeps_the_contract(name):
    module = named.load(named.named(name))
    assert 2 <= module.DEFAULT_SEEDS <= 10_000
    assert 10 <= module.DEFAULT_TRANSITIONS <= 100_000_000
    assert list(inspect.signature(module.steps).parameters) == ["systems", "request"]
    assert list(inspect.signature(module.run).parameters) == ["systems", "request", "progress"]
