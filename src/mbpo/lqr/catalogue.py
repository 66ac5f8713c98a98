"""Named linear-quadratic systems, one TOML file each in `systems/`, every one with its source."""

from __future__ import annotations

import os
from importlib import resources
from os import PathLike
from pathlib import Path

from mbpo.errors import InputError, did_you_mean
from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.toml_file import from_table, load_toml, parsed


def names() -> tuple[str, ...]:
    """The names in the catalogue, in alphabetical order."""
    files = resources.files("mbpo.lqr").joinpath("systems").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def get(name: str) -> LinearQuadratic:
    """The system of that name; raises `InputError` with the nearest name when there is none."""
    if name not in names():
        raise InputError(f"there is no system {name!r} in the catalogue, {did_you_mean(name, names())}")
    file = resources.files("mbpo.lqr").joinpath("systems", f"{name}.toml")
    return from_table(parsed(file.read_text(encoding="utf-8"), f"{name}.toml"), f"{name}.toml", name)


def resolve(name_or_path: str | PathLike[str]) -> LinearQuadratic:
    """The system that a user means: a name in the catalogue, or the path of a TOML file.

    A path ends in `.toml`, contains a separator, or names an existing file; a name in the catalogue wins over
    a file of that name. Raises `InputError` when neither is found or the file is not a valid system.
    """
    text = os.fspath(name_or_path)
    if text in names():
        return get(text)
    separated = os.sep in text or (os.altsep is not None and os.altsep in text)
    if separated or text.endswith(".toml") or isinstance(name_or_path, Path) or (text and _is_file(text)):
        return load_toml(text)
    raise InputError(
        f"there is no system {text!r} in the catalogue and no such file, {did_you_mean(text, names())}"
    )


def _is_file(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
