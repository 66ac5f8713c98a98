"""Systems as TOML files."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mbpo.errors import InputError, did_you_mean
from mbpo.lqr.system import LinearQuadratic

REQUIRED = ("A", "B", "Q", "R")
System = TypeVar("System")


def load_toml(path: str | PathLike[str]) -> LinearQuadratic:
    """Read a system from a TOML file; its name defaults to the file's stem.

    Required keys: `A B Q R`; optional: `W initial_covariance discount horizon terminal_cost initial_gain name
    source`. A 1x1 matrix is written `[[1.0]]`.
    Raises `InputError` when the file cannot be read, a key is unknown or missing, or the system is not valid.
    """
    path = Path(path)
    return from_table(parsed(read(path), str(path)), str(path), path.stem)


def from_table(table: dict[str, Any], place: str, name: str) -> LinearQuadratic:
    """A system from parsed TOML; `place` begins every error, `name` is used where the table gives none."""
    return built(LinearQuadratic, table, REQUIRED, place, name, "a system")


def read(path: Path) -> str:
    """The text of a file; raises `InputError` when there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory, expected a TOML file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}), expected a TOML file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read: {reason}") from None


def parsed(text: str, place: str) -> dict[str, Any]:
    """The table that the text is; raises `InputError` for what is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{place} is not TOML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{place} is not a system: its values are nested too deeply") from None


def built(
    kind: type[System], table: dict[str, Any], required: tuple[str, ...], place: str, name: str, noun: str
) -> System:
    """An object of the dataclass `kind` with the values of the table; raises `InputError`, which `place` begins, for an
    unknown or a missing key, or values that `kind` refuses."""
    keys = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]
    for key in table:
        if key not in keys:
            raise InputError(f"{place}: unknown key {key!r}, {did_you_mean(key, keys)}")
    missing = [key for key in required if key not in table]
    if missing:
        raise InputError(f"{place}: missing {', '.join(missing)} ({noun} needs {', '.join(required)})")
    try:
        return kind(**{"name": name, **table})
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def dump_toml(system: Any) -> str:
    """A system of any kind as TOML text, every number written so that it reads back exactly."""
    lines, keys = [], [field.name for field in fields(system)]
    for key in ("name", "source", *(key for key in keys if key not in ("name", "source"))):
        value = getattr(system, key)
        if isinstance(value, str):
            value = value and json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        elif isinstance(value, np.ndarray):
            value = _rows(value)
        elif value is not None:
            value = repr(value)
        if value:
            lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n"


def _rows(array: np.ndarray) -> str:
    rows = ["[" + ", ".join(repr(float(entry)) for entry in row) + "]" for row in array]
    return f"[{rows[0]}]" if len(rows) == 1 else "[\n  " + ",\n  ".join(rows) + ",\n]"
