"""A study as a folder: config.json, result.json, figures and report.html, complete or not there at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbpo.errors import InputError
from mbpo.runs.folder import check_writable

ASKED = ("system", "settings")
COMPLETE = ("config.json", "result.json", "report.html")


def existing_study(
    directory: str | os.PathLike[str], asked: Mapping[str, Any], also: Sequence[str] = ()
) -> dict[str, Any] | None:
    """The result of the study with the system and settings of `asked` that `directory` holds; `None` when it is free.

    also: files without which it is not complete, beside those that every study has.
    Raises `InputError` when it holds anything else, or could not be written.
    """
    target = Path(directory)
    try:
        if target.exists() and not target.is_dir():
            raise InputError(f"{target} is a file, expected a directory for the study")
        if not target.is_dir() or not any(target.iterdir()):
            check_writable(target)
            check_writable(target.resolve().parent)  # where the hidden sibling goes
            return None
        found = [_read(target / name) for name in ("config.json", "result.json")]
    except OSError as error:
        raise InputError(f"{target} cannot be used: {error.strerror or error}") from None
    complete = all((target / name).is_file() for name in (*COMPLETE, *also)) and all(found)
    if not complete or any(found[0].get(name) != asked[name] for name in ASKED):
        raise InputError(f"{target} is not empty and holds something else, expected a new or empty directory")
    return found[1]


def write_study(directory: str | os.PathLike[str], files: Mapping[str, str]) -> None:
    """Write `files`, by path in `directory`, to a hidden sibling that then takes the directory's place.

    Raises `InputError` when that cannot be done; `directory` is new or empty.
    """
    target = Path(directory).resolve()
    hidden = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        for name, text in files.items():
            (hidden / name).parent.mkdir(parents=True, exist_ok=True)
            (hidden / name).write_bytes(text.encode())
        os.replace(hidden, target)
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty when there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
