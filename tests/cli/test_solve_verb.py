"""`mbpo solve` and `mbpo systems`: the JSON contract, and one sentence for every kind of bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mbpo import __version__
from mbpo.cli import execute, main
from mbpo.cli.output import plain
from mbpo.lqr import catalogue
from mbpo.lqr.optimum import solve
from mbpo.lqr.system import LinearQuadratic

GOOD = {
    "A": "[[1.0, 0.1], [0.0, 1.0]]",
    "B": "[[0.0], [0.1]]",
    "Q": "[[1.0, 0.0], [0.0, 1.0]]",
    "R": "[[1.0]]",
}


def toml(**changes: str | None) -> str:
    table = {**GOOD, **changes}
    return "".join(f"{key} = {value}\n" for key, value in table.items() if value is not None)


BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "not TOML": ("A = [[1.0]", "is not TOML"),
    "not UTF-8": (b"name = '\xff'\n", "is not UTF-8 text (byte 8)"),
    "empty": ("", "missing A, B, Q, R"),
    "missing R": (toml(R=None), "missing R"),
    "unknown key": (toml(discout="0.9"), "unknown key 'discout', did you mean 'discount'?"),
    "table for a matrix": (toml(A=None) + "[A]\nrows = 2\n", "A must be a matrix of numbers, got"),
    "scalar": (toml(R="1.0"), "write a 1x1 matrix as [[1.0]]"),
    "row": (toml(B="[0.0, 0.1]"), "B must be a list of rows"),
    "ragged": (toml(Q="[[1.0, 0.0], [0.0]]"), "Q must have rows of one length"),
    "text entry": (toml(A="[['1', 0], [0, 1]]"), "A[0, 0] must be a real number"),
    "empty matrix": (toml(A="[]"), "A must have at least one row"),
    "A not square": (toml(A="[[1.0, 0.1]]"), "A must be square"),
    "B wrong shape": (toml(B="[[0.1]]"), "B must have shape [2, 1]"),
    "R wrong shape": (toml(R=GOOD["Q"]), "R must have shape [1, 1]"),
    "NaN": (toml(A="[[1.0, nan], [0.0, 1.0]]"), "A[0, 1] is nan"),
    "infinite": (toml(B="[[0.0], [-inf]]"), "B[1, 0] is -inf"),
    "asymmetric Q": (toml(Q="[[1.0, 0.5], [0.0, 1.0]]"), "Q must be symmetric, but Q[0, 1] = 0.5"),
    "asymmetric W": (toml(W="[[1.0, 0.5], [0.0, 1.0]]"), "W must be symmetric"),
    "indefinite Q": (toml(Q="[[1.0, 0.0], [0.0, -2.0]]"), "the eigenvalue -2"),
    "R not definite": (toml(R="[[0.0]]"), "R must be positive definite"),
    "indefinite W": (toml(W="[[1.0, 2.0], [2.0, 1.0]]"), "W must be positive semidefinite"),
    "indefinite X0": (toml(initial_covariance="[[-1.0, 0.0], [0.0, 1.0]]"), "initial_covariance must be"),
    "discount above 1": (toml(discount="1.5"), "discount must be a number strictly between 0 and 1"),
    "discount negative": (toml(discount="-0.5"), "discount must be"),
    "horizon zero": (toml(horizon="0"), "horizon must be a whole number"),
    "horizon real": (toml(horizon="2.5"), "horizon must be a whole number"),
    "two objectives": (toml(discount="0.9", horizon="3"), "exclude each other"),
    "terminal without horizon": (toml(terminal_cost=GOOD["Q"]), "terminal_cost needs a horizon"),
    "gain wrong shape": (toml(initial_gain="[[1.0]]"), "initial_gain must have shape [1, 2]"),
    "name not text": (toml(name="3"), "name must be a string"),
    "unreachable mode": (toml(A="[[1.2, 0.0], [0.0, 1.0]]"), "not stabilisable: the mode λ = 1.2"),
    "unseen mode": (
        toml(A="[[1.0, 0.0], [0.5, 0.5]]", B="[[1.0], [0.0]]", Q="[[0.0, 0.0], [0.0, 0.0]]"),
        "not detectable: the mode λ = 1 ",
    ),
    "overflow": (
        toml(A="[[1e10, 0], [0, 1]]", horizon="200", terminal_cost=GOOD["Q"]),
        "overflows",
    ),
}

BAD_ARGUMENTS: dict[str, tuple[list[str], str]] = {
    "no verb": ([], "VERB"),
    "misspelt verb": (["slove", "pendulum"], "unknown 'slove', did you mean 'solve'?"),
    "no system": (["solve"], "SYSTEM"),
    "two systems": (["solve", "pendulum", "scalar"], "unexpected argument 'scalar'"),
    "misspelt option": (["solve", "pendulum", "--jsn"], "unknown option '--jsn', did you mean '--json'?"),
    "abbreviated option": (["solve", "pendulum", "--js"], "unknown option '--js'"),
    "option with a value": (["solve", "pendulum", "--json=1"], "--json"),
    "misspelt name": (["solve", "pendulm"], "did you mean 'pendulum'?"),
    "no such file": (["solve", "nowhere/mine.toml"], "there is no such file"),
    "directory": (["solve", "."], "is a directory"),
    "empty name": (["solve", ""], "there is no system ''"),
    "null byte": (["solve", "a\0b.toml"], "cannot be read"),
    "argument to systems": (["systems", "pendulum"], "unexpected argument 'pendulum'"),
}


def assert_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, err = capsys.readouterr()
    assert left.value.code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("mbpo")
    assert message in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_sentence(*BAD_ARGUMENTS[case], capsys)


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = BAD_FILES[case]
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_one_sentence(["solve", "mine.toml", "--json"], message, capsys)
    assert_one_sentence(["solve", "mine.toml"], "mine", capsys)


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    assert execute(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.mark.parametrize("name", ["boeing747", "pendulum_discounted", "liquidation"])
def test_json_carries_every_bit(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    best = solve(catalogue.get(name))
    result = run_json(["solve", name, "--json"], capsys)
    assert list(result)[:7] == ["system", "objective", "gain", "value", "cost", "spectral_radius", "residual"]
    for key in ("gain", "value", "cost", "spectral_radius", "residual"):
        np.testing.assert_array_equal(result[key], getattr(best, key))
    assert result["objective"] == best.objective
    assert ("gains" in result) == (best.gains is not None)
    if best.gains is not None:
        np.testing.assert_array_equal(result["gains"], best.gains)


def test_a_file_gives_the_same_answer_as_the_catalogue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "copy.toml"
    path.write_text(catalogue.get("cartpole").to_toml(), encoding="utf-8")
    assert run_json(["solve", str(path), "--json"], capsys) == run_json(
        ["solve", "cartpole", "--json"], capsys
    )


def test_tables_say_the_sign_convention_and_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["solve", "pendulum"]) == 0
    out = capsys.readouterr().out
    for word in ("u = +K x", "0.172600754545", "-18.5391", "average cost per step"):
        assert word in out


def test_systems_lists_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    listed = run_json(["systems", "--json"], capsys)["systems"]
    assert tuple(row["name"] for row in listed) == catalogue.names()
    assert all(row["source"] for row in listed)
    assert execute(["systems"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in catalogue.names())


def test_json_has_no_nan() -> None:
    assert plain({"a": np.array([1.0, np.nan]), "b": [np.float64(np.inf), np.int64(2)]}) == {
        "a": [1.0, None],
        "b": [None, 2],
    }
    with pytest.raises(TypeError):
        plain(object())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"mbpo {__version__}\n"


def test_interrupt_leaves_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(name: str) -> LinearQuadratic:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "resolve", interrupt)
    assert execute(["solve", "pendulum"]) == 130
    assert capsys.readouterr().err == "mbpo: interrupted\n"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_imports_neither_jax_nor_numpy() -> None:
    code = """
import sys, mbpo, mbpo.cli
try:
    mbpo.cli.main(["--help"])
except SystemExit:
    print([name for name in ("jax", "numpy", "scipy", "rich") if name in sys.modules], file=sys.stderr)
"""
    done = run_python(code)
    assert done.stderr == "[]\n"
    assert "solve" in done.stdout


def test_solve_does_not_import_jax() -> None:
    code = "import sys, mbpo.cli; mbpo.cli.execute(['solve', 'pendulum']); sys.exit('jax' in sys.modules)"
    assert run_python(code).returncode == 0


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "mbpo", "systems", "--json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == ""
