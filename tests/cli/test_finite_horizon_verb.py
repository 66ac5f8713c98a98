"""`mbpo finite-horizon`: the JSON contract, the folder, and one sentence for every kind of bad input."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mbpo.cli import finite_horizon
from mbpo.cli.parser import Parser, add_verbs, reject_unknown
from mbpo.errors import InputError
from mbpo.report.finite_horizon import study_files

FAST = ["--scenarios", "3", "--trajectories", "20", "--iterations", "5"]
KEYS = "system stock price horizon iterations scenarios seed projected optimal_cost first_cost methods"
METHOD_KEYS = """method step_size trajectories radius scenarios rollouts normalised_error iterations_to_1_percent
iterations_to_1_percent_p90 share_within share_at_end final stopped"""


def parser() -> Parser:
    """A command line with this verb alone, whether or not `mbpo` lists it."""
    top = Parser(prog="mbpo", description="")
    finite_horizon.add_finite_horizon(add_verbs(top))
    return top


def call(*arguments: str) -> None:
    args, unknown = parser().parse_known_args(["finite-horizon", *arguments])
    reject_unknown(args, unknown)
    args.run(args)


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    call(*arguments, "--json")
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    return json.loads(out)


def toml(path: Path, horizon: str = "horizon = 3\n") -> str:
    path.write_text(
        "A = [[1.0, 0.1], [0.0, 1.0]]\nB = [[0.0], [0.1]]\nQ = [[1.0, 0.0], [0.0, 1.0]]\nR = [[1.0]]\n"
        + horizon
    )
    return str(path)


def test_json_of_the_paper_s_exact_study(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json(capsys, "liquidation", "--method", "exact")
    assert list(result) == KEYS.split()
    (method,) = result["methods"]
    assert list(method) == METHOD_KEYS.split()
    assert (method["step_size"], method["trajectories"], method["radius"]) == (0.1, None, None)
    assert len(method["normalised_error"]["median"]) == 51
    assert method["iterations_to_1_percent"] == 10
    assert method["share_within"] == 1
    assert method["final"]["median"] == method["normalised_error"]["median"][-1]


def test_json_of_both_methods_and_another_stock(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json(capsys, "liquidation", "--stock", "JPM", "--price", "110", "--seed", "4", *FAST)
    assert (result["stock"], result["price"], result["scenarios"], result["seed"]) == ("JPM", 110, 3, 4)
    exact, noisy = result["methods"]
    assert (exact["method"], noisy["method"]) == ("exact", "zeroth-order")
    assert (noisy["step_size"], noisy["trajectories"], noisy["radius"]) == (0.05, 20, 0.6)
    assert noisy["rollouts"] == 5 * 10 * 20
    auto = run_json(capsys, "liquidation", "--stock", "JPM", "--step-size", "auto", *FAST)
    assert auto["methods"][0]["step_size"] > 1


def test_a_system_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json(capsys, toml(tmp_path / "mine.toml"), *FAST)
    assert (result["stock"], result["projected"], result["horizon"]) == (None, False, 3)
    assert all(method["radius"] is None or method["radius"] > 0 for method in result["methods"])


def test_a_diverging_study_prints_null_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json(capsys, "liquidation", "--step-size", "1e300", *FAST)
    for method in result["methods"]:
        assert method["normalised_error"]["median"][-1] is None
        assert method["stopped"] == method["scenarios"]
        assert method["iterations_to_1_percent"] is None
    assert "stopped" in study_files(result, ABOUT)["report.html"]
    call("liquidation", "--step-size", "1e300", *FAST)
    assert "did not come within 1 %" in " ".join(capsys.readouterr().out.split())


ABOUT = {"command": ["mbpo"], "versions": {}, "platform": "p", "devices": ["d"], "source": ""}


def test_the_folder_is_complete_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs" / "study"
    arguments = ["liquidation", *FAST, "--out", str(out)]
    result = run_json(capsys, *arguments)
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert names == {"config.json", "result.json", "report.html", "figures/normalised-error.svg"}
    assert json.loads((out / "result.json").read_text()) == result
    page = (out / "report.html").read_text()
    assert "<svg role=" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert list(out.parent.iterdir()) == [out]
    before = (out / "report.html").stat().st_mtime_ns
    call(*arguments)
    captured = capsys.readouterr()
    assert "already holds this study" in captured.err
    assert "AAPL at 100" in captured.out
    assert (out / "report.html").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="holds something else"):
        call(*arguments, "--seed", "1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        call("liquidation", *FAST, "--out", str(tmp_path / "full"))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


REFUSALS = {
    "no horizon": (["pendulum"], "pendulum has no horizon"),
    "unknown system": (["liquidaton"], "did you mean 'liquidation'?"),
    "stock": (["liquidation", "--stock", "APL"], "there is no stock 'APL', did you mean 'AAPL'?"),
    "stock elsewhere": (["pendulum", "--stock", "FB"], "--stock belongs to the system liquidation"),
    "price": (["liquidation", "--price", "0"], "--price: expected a positive finite number, got '0'"),
    "price too high": (["liquidation", "--price", "1e9"], "price must be a positive number up to 1e6"),
    "method": (["liquidation", "--method", "exat"], "--method: unknown 'exat', did you mean 'exact'?"),
    "iterations": (["liquidation", "--iterations", "0"], "--iterations: expected a whole number from 1 to"),
    "step": (
        ["liquidation", "--step-size", "nan"],
        "--step-size: expected a positive finite number, got 'nan'",
    ),
    "radius": (["liquidation", "--radius", "-1"], "--radius: expected a positive finite number, got '-1'"),
    "trajectories": (["liquidation", "--trajectories", "2.5"], "--trajectories: expected a whole number"),
    "scenarios": (["liquidation", "--scenarios", "0"], "--scenarios: expected a whole number"),
    "seed": (["liquidation", "--seed", "x"], "--seed: expected a whole number from 0"),
    "no meaning": (["liquidation", "--method", "exact", "--radius", "1"], "--radius has no meaning with"),
    "misspelt": (["liquidation", "--step", "1"], "unknown option '--step', did you mean '--step-size'?"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_write_nothing(case: str, tmp_path: Path) -> None:
    arguments, message = REFUSALS[case]
    with pytest.raises(InputError) as refused:
        call(*arguments, "--out", str(tmp_path / "out"))
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_options_read_are_options_declared() -> None:
    tree = ast.parse(inspect.getsource(finite_horizon))
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "args"
    }
    verb = next(action for action in parser()._actions if action.dest == "verb")
    assert read == {action.dest for action in verb.choices["finite-horizon"]._actions} - {"help"}


def test_declaring_the_verb_imports_neither_jax_nor_numpy() -> None:
    code = (
        "import sys, mbpo.cli.finite_horizon; "
        "sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'rich', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
