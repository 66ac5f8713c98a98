"""A system is valid or does not exist; TOML keeps every bit."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbpo.errors import InputError
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.toml_file import load_toml

EYE = [[1.0, 0.0], [0.0, 1.0]]
GOOD: dict[str, Any] = {"A": [[1.0, 0.1], [0.0, 1.0]], "B": [[0.0], [0.1]], "Q": EYE, "R": [[1.0]]}
NAN = float("nan")

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "scalar": ({"A": 1.0}, r"A must be a matrix, got the scalar 1\.0: write a 1x1 matrix as \[\[1\.0\]\]"),
    "row": ({"A": [1.0, 2.0]}, r"A must be a list of rows .* entry 0 is 1\.0"),
    "vector": ({"A": np.ones(2)}, r"A must be a matrix \(2-D\), got 1 dimension$"),
    "cube": ({"A": np.ones((2, 2, 2))}, "got 3 dimensions"),
    "ragged": ({"A": [[1.0, 0.0], [1.0]]}, "row 0 has 2 entries and row 1 has 1"),
    "empty": ({"A": []}, "A must have at least one row and one column"),
    "no input": ({"B": np.zeros((2, 0))}, "B must have at least one row and one column"),
    "text": ({"A": [[1.0, "x"], [0.0, 1.0]]}, r"A\[0, 1\] must be a real number, got 'x'"),
    "boolean": ({"Q": [[True, 0.0], [0.0, 1.0]]}, r"Q\[0, 0\] must be a real number, got True"),
    "complex": ({"A": [[1j, 0.0], [0.0, 1.0]]}, r"A\[0, 0\] must be a real number, got 1j"),
    "complex array": ({"A": np.eye(2) * 1j}, "complex"),
    "text array": ({"A": np.array([["a", "b"], ["c", "d"]])}, "A must be a matrix of numbers"),
    "NaN": ({"A": [[1.0, 0.0], [NAN, 1.0]]}, r"A\[1, 0\] is nan"),
    "infinite": ({"W": [[np.inf, 0.0], [0.0, 1.0]]}, r"W\[0, 0\] is inf"),
    "too large": ({"A": [[10**400, 0], [0, 1]]}, r"A\[0, 0\] must be a number below 1e308"),
    "A not square": ({"A": [[1.0, 0.0]]}, r"A must be square, got shape \[1, 2\]"),
    "B": ({"B": [[1.0]]}, r"B must have shape \[2, 1\], got shape \[1, 1\]"),
    "Q": ({"Q": [[1.0]]}, r"Q must have shape \[2, 2\], got shape \[1, 1\]"),
    "R": ({"R": EYE}, r"R must have shape \[1, 1\], got shape \[2, 2\]"),
    "initial_gain": ({"initial_gain": [[1.0], [1.0]]}, r"initial_gain must have shape \[1, 2\]"),
    "initial_gain NaN": ({"initial_gain": [[1.0, NAN]]}, r"initial_gain\[0, 1\] is nan"),
    "asymmetric Q": (
        {"Q": [[1.0, 0.1], [0.2, 1.0]]},
        r"symmetric, but Q\[0, 1\] = 0\.1 and Q\[1, 0\] = 0\.2",
    ),
    "asymmetric W": ({"W": [[1.0, 0.1], [0.1 + 1e-8, 1.0]]}, "W must be symmetric"),
    "asymmetric in small units": ({"Q": [[1e12, 0.0], [0.1, 1.0]]}, "Q must be symmetric"),
    "asymmetric X0": (
        {"initial_covariance": [[1.0, 0.5], [0.0, 1.0]]},
        "initial_covariance must be symmetric",
    ),
    "asymmetric end": (
        {"horizon": 3, "terminal_cost": [[1.0, 0.5], [0.0, 1.0]]},
        "terminal_cost must be symm",
    ),
    "indefinite Q": ({"Q": [[1.0, 0.0], [0.0, -0.5]]}, "Q must be positive semidefinite.* eigenvalue -0.5"),
    "indefinite small Q": ({"Q": [[1e10, 0.0], [0.0, -1e-3]]}, "Q must be positive semidefinite.* -0.001"),
    "indefinite W": ({"W": [[1.0, 2.0], [2.0, 1.0]]}, "W must be positive semidefinite.* eigenvalue -1"),
    "indefinite X0": ({"initial_covariance": -np.eye(2)}, "initial_covariance must be positive semidefinite"),
    "indefinite end": ({"horizon": 3, "terminal_cost": -np.eye(2)}, "terminal_cost must be positive semidef"),
    "R zero": ({"R": [[0.0]]}, "R must be positive definite, but it has the eigenvalue 0"),
    "R negative": ({"R": [[-1.0]]}, "R must be positive definite, but it has the eigenvalue -1"),
    "R singular": ({"B": EYE, "R": [[1.0, 1.0], [1.0, 1.0]]}, "R must be positive definite"),
    "discount 1": ({"discount": 1}, "discount must be a number strictly between 0 and 1, got 1"),
    "discount 0": ({"discount": 0.0}, "discount must be"),
    "discount NaN": ({"discount": NAN}, "discount must be"),
    "discount text": ({"discount": "0.9"}, "discount must be"),
    "horizon 0": ({"horizon": 0}, "horizon must be a whole number"),
    "horizon real": ({"horizon": 10.0}, "horizon must be a whole number"),
    "horizon boolean": ({"horizon": True}, "horizon must be a whole number"),
    "horizon huge": ({"horizon": 10**12}, "horizon must be a whole number from 1 to 1000000"),
    "both": ({"horizon": 3, "discount": 0.9}, "exclude each other"),
    "end without horizon": ({"terminal_cost": EYE}, "terminal_cost needs a horizon"),
    "name": ({"name": 3}, "name must be a string"),
    "two-line name": ({"name": "a\nb"}, "name must be one line"),
    "source": ({"source": 3}, "source must be a string"),
}


@pytest.mark.parametrize("case", BAD)
def test_no_invalid_system_exists(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        LinearQuadratic(**{**GOOD, **changes})
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match=message):
        dataclasses.replace(LinearQuadratic(**GOOD), **changes)


def test_defaults_and_properties() -> None:
    system = LinearQuadratic(**GOOD)
    np.testing.assert_array_equal(system.W, np.eye(2))
    np.testing.assert_array_equal(system.initial_covariance, np.eye(2))
    assert (system.state_dim, system.action_dim, system.objective) == (2, 1, "average")
    assert dataclasses.replace(system, discount=np.float64(0.9)).objective == "discount"
    assert dataclasses.replace(system, horizon=np.int64(4)).objective == "horizon"
    assert dataclasses.replace(system, discount=0.5, name="other").name == "other"


def test_arrays_are_copies_of_doubles_and_read_only() -> None:
    given = np.eye(2, dtype=np.float32)
    system = LinearQuadratic(given, np.ones((2, 1), dtype=int), EYE, ((2,),))
    given[0, 0] = 7
    assert system.A[0, 0] == 1
    for name in ("A", "B", "Q", "R", "W", "initial_covariance"):
        array = getattr(system, name)
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 3


def test_round_off_is_forgiven() -> None:
    root = np.random.default_rng(0).normal(size=(4, 2)) * [[1.0], [1e3], [1e-3], [1.0]]
    singular = root @ root.T
    rough = singular * (1 + 1e-12 * np.triu(np.ones((4, 4)), 1))
    system = LinearQuadratic(np.eye(4), np.ones((4, 1)), rough, [[1.0]], singular)
    np.testing.assert_array_equal(system.Q, system.Q.T)
    np.testing.assert_allclose(system.Q, singular, rtol=1e-11)


@given(st.data())
def test_toml_keeps_every_bit(data: st.DataObject) -> None:
    entry = st.floats(-1e6, 1e6, allow_subnormal=True)
    A = data.draw(st.lists(st.lists(entry, min_size=2, max_size=2), min_size=2, max_size=2))
    name = data.draw(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1))
    source = data.draw(st.text(st.characters(blacklist_categories=["Cs"])))
    if not name.strip() or len(name.splitlines()) != 1:
        name = "system"
    objective = data.draw(
        st.sampled_from(
            [{}, {"discount": 1 / 3}, {"horizon": 7, "terminal_cost": EYE}, {"initial_gain": [[0.1, 1e-300]]}]
        )
    )
    system = LinearQuadratic(**{**GOOD, **objective, "A": A}, name=name, source=source)
    back = load_text(system.to_toml())
    for field in dataclasses.fields(system):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(system, field.name))


def load_text(text: str) -> LinearQuadratic:
    import tomllib

    from mbpo.lqr.toml_file import from_table

    return from_table(tomllib.loads(text), "text", "text")


def misspellings(key: str) -> list[str]:
    if len(key) == 1:
        return [key.lower() + key]
    middle = len(key) // 2
    swapped = key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]
    return [key[:middle] + key[middle + 1 :], swapped, key + "s", key.replace("_", "")]


@pytest.mark.parametrize("key", LinearQuadratic.__dataclass_fields__)
def test_a_misspelt_key_names_the_right_one(key: str, tmp_path: Path) -> None:
    for wrong in misspellings(key):
        if wrong == key:
            continue
        path = tmp_path / "mine.toml"
        path.write_text(LinearQuadratic(**GOOD).to_toml() + f"{wrong} = 1\n", encoding="utf-8")
        with pytest.raises(InputError, match=rf"mine\.toml: unknown key '{wrong}', did you mean '{key}'\?$"):
            load_toml(path)


def test_name_defaults_to_the_stem(tmp_path: Path) -> None:
    path = tmp_path / "my system.toml"
    path.write_text("A = [[1]]\nB = [[1]]\nQ = [[1]]\nR = [[2]]\n", encoding="utf-8")
    assert load_toml(path).name == "my system"
    assert load_toml(path).R[0, 0] == 2


def test_missing_keys_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("A = [[1]]\nQ = [[1]]\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.toml: missing B, R "):
        load_toml(path)
