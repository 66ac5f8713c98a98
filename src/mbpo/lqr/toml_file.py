"""Linear-quadratic systems as TOML files."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mbpo.errors import InputError, did_you_mean
from mbpo.lqr.system import LinearQuadratic

KEYS = tuple(field.name for field in fields(LinearQuadratic))
REQUIRED = ("A", "B", "Q", "R")


def load_toml(path: str | PathLike[str]) -> LinearQuadratic:
    """Read a system from a TOML file; its name defaults to the file's stem.

    Required keys: `A B Q R`; optional: `W initial_covariance discount horizon terminal_cost initial_gain name
    source`. A 1x1 matrix is written `[[1.0]]`.
    Raises `InputError` when the file cannot be read, a key is unknown or missing, or the system is not valid.
    """
    path = Path(path)
    try:
        table = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{path} is not a system: its values are nested too deeply") from None
    return from_table(table, str(path), path.stem)


def from_table(table: dict[str, Any], place: str, name: str) -> LinearQuadratic:
    """A system from parsed TOML; `place` begins every error, `name` is used where the table gives none."""
    for key in table:
        if key not in KEYS:
            raise InputError(f"{place}: unknown key {key!r}, {did_you_mean(key, KEYS)}")
    missing = [key for key in REQUIRED if key not in table]
    if missing:
        raise InputError(f"{place}: missing {', '.join(missing)} (a system needs {', '.join(REQUIRED)})")
    try:
        return LinearQuadratic(**{"name": name, **table})
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def dump_toml(system: LinearQuadratic) -> str:
    """The system as TOML text, every number written so that it reads back exactly."""
    lines = []
    for key in ("name", "source", *(key for key in KEYS if key not in ("name", "source"))):
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


def _read(path: Path) -> str:
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
