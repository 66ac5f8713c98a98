"""Checkpoints that survive a kill at any moment: complete, or not there at all.

`run/checkpoints/step-000005250/` holds `arrays.safetensors` and `manifest.json`: schema, step, facts, the size and
sha256 of every file, the shape and dtype of every array, and a seal over all of that.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbpo.errors import InputError
from mbpo.runs.pytree import flatten, restore
from mbpo.runs.tensors import is_finite, layout_of, read_tensors, write_tensors

__all__ = ["Checkpoint", "flatten", "read_checkpoint", "restore", "write_checkpoint"]

SCHEMA = 1
ARRAYS, MANIFEST = "arrays.safetensors", "manifest.json"
VISIBLE = re.compile(r"step-(\d{9,})")
# of a process that is writing, or died doing so; "replaced" is whole, for the instant in which a step changes hands
HIDDEN = re.compile(r"\.step-(\d{9,})\.(\d+)\.(partial|replaced)")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint read back; `skipped` has one sentence for each newer one that is damaged."""

    path: Path
    step: int
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]
    skipped: tuple[str, ...] = ()


class _DamagedError(Exception):
    """Why a checkpoint cannot be used."""


def write_checkpoint(
    run: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    facts: Mapping[str, Any],
    keep: int = 2,
    allow_nonfinite: Collection[str] = (),
) -> Path:
    """Write the checkpoint of `step`, onto the disk, and return its folder, which is then the newest.

    Older ones go once this one is complete, all but the newest `keep`, this one counted; so do those of later
    steps, which belong to a future that was abandoned. One process writes at a time (`mbpo.runs.lock`).
    Raises `ValueError`, and leaves everything as it was, when an array whose name is not in `allow_nonfinite`
    holds NaN or an infinity, an array has a dtype without a safetensors form, or `facts` are not exactly
    JSON; `InputError` when the disk refuses.
    """
    step, folder = operator.index(step), Path(run) / "checkpoints"
    if step < 0 or keep < 1:
        raise ValueError(f"step must be at least 0 and keep at least 1, not {step} and {keep}")
    values = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    manifest = {"schema": SCHEMA, "step": step, "facts": _json_facts(facts), "arrays": _layout_json(values)}
    for name, array in values.items():
        if name not in allow_nonfinite and not is_finite(array):
            raise ValueError(f"array {name!r} holds NaN or an infinity, so step {step} is not checkpointed")
    target = folder / f"step-{step:09d}"
    with _io_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
        _sync_directory(folder.parent)
        _remove_stale(folder)
        hidden = _fresh_sibling(target, "partial")
        try:
            hidden.mkdir()
            size, sha256 = write_tensors(hidden / ARRAYS, values)
            _write_manifest(hidden, {**manifest, "files": {ARRAYS: {"bytes": size, "sha256": sha256}}})
            _sync_directory(hidden)
            _reveal(hidden, target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        _prune(folder, step, keep)
    return target


def read_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint of `run` that is intact; `None` when there is none at all.

    Raises `InputError` when there are checkpoints and all of them are damaged.
    """
    folder = Path(run) / "checkpoints"
    while True:
        skipped: list[str] = []
        for step, path in _candidates(folder):
            try:
                arrays, facts = _read(path, step)
                return Checkpoint(path, step, arrays, facts, tuple(skipped))
            except _DamagedError as error:
                if not path.exists():  # its writer pruned it meanwhile: there are newer ones
                    break
                skipped.append(f"{path.name} is damaged: {error}")
        else:
            if skipped:
                raise InputError(f"{folder} holds no intact checkpoint: {'; '.join(skipped)}")
            return None


def _json_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    try:
        read_back = json.loads(json.dumps(dict(facts), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the facts of a checkpoint must be JSON: {error}") from None
    if read_back != dict(facts):
        raise ValueError("the facts of a checkpoint must be JSON: lists, no tuples, and strings as keys")
    return read_back


def _layout_json(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    layout = layout_of(arrays)
    return {name: {"shape": list(shape), "dtype": dtype.name} for name, (shape, dtype) in layout.items()}


def _write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    with open(folder / MANIFEST, "x", encoding="ascii") as file:
        json.dump({"seal": _seal(content), **content}, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        manifest = _read_manifest(path, step)
        names = {each.name for each in path.iterdir() if not each.name.startswith(".")}
        if extra := sorted(names - {MANIFEST, *manifest["files"]}):
            raise _DamagedError(f"it holds {extra[0]}, which is not in its manifest")
        expected, size = manifest["files"][ARRAYS], (path / ARRAYS).stat().st_size
        if size != expected["bytes"]:
            raise _DamagedError(f"{ARRAYS} has {size} bytes, expected {expected['bytes']}")
        layout = {
            name: (tuple(entry["shape"]), np.dtype(entry["dtype"]))
            for name, entry in manifest["arrays"].items()
        }
        arrays, sha256 = read_tensors(path / ARRAYS, layout)
    except FileNotFoundError as error:
        raise _DamagedError(f"it has no {Path(error.filename).name}") from None
    except (OSError, ValueError) as error:
        raise _DamagedError(f"it cannot be read: {error}") from None
    if sha256 != expected["sha256"]:
        raise _DamagedError(f"{ARRAYS} does not match its checksum")
    return arrays, manifest["facts"]


def _read_manifest(path: Path, step: int) -> dict[str, Any]:
    try:
        content = json.loads((path / MANIFEST).read_text(encoding="ascii"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _DamagedError(f"{MANIFEST} is not a JSON object")
    if content.pop("seal", None) != _seal(content):
        raise _DamagedError(f"{MANIFEST} does not match its seal")
    if content["schema"] != SCHEMA:
        raise _DamagedError(f"{MANIFEST} has schema {content['schema']!r}, expected {SCHEMA}")
    if content["step"] != step:
        raise _DamagedError(f"{MANIFEST} is that of step {content['step']}")
    return content


def _candidates(folder: Path) -> list[tuple[int, Path]]:
    """Every whole checkpoint with its step, newest first; one being replaced comes after its replacement."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := VISIBLE.fullmatch(path.name):
            found.append((int(match[1]), True, path))
        elif (match := HIDDEN.fullmatch(path.name)) and match[3] == "replaced":
            found.append((int(match[1]), False, path))
    return [(step, path) for step, _, path in sorted(found, reverse=True)]


def _reveal(hidden: Path, target: Path) -> None:
    """Give the complete `hidden` its name; what had that name stays readable until then."""
    if target.exists():
        os.replace(target, _fresh_sibling(target, "replaced"))
    os.replace(hidden, target)
    _sync_directory(target.parent)


def _prune(folder: Path, newest: int, keep: int) -> None:
    """Remove what the complete checkpoint `newest` makes superfluous; a failure to do so can wait."""
    kept = [path for step, path in _candidates(folder) if step <= newest and VISIBLE.fullmatch(path.name)][
        :keep
    ]
    for _, path in _candidates(folder):
        if path not in kept:
            with suppress(OSError):
                aside = path
                if VISIBLE.fullmatch(path.name):
                    aside = _fresh_sibling(path, "partial")
                    os.replace(path, aside)
                shutil.rmtree(aside)


def _remove_stale(folder: Path) -> None:
    for path in folder.iterdir():
        match = HIDDEN.fullmatch(path.name)
        if match and match[3] == "partial" and not _runs_elsewhere(int(match[2])):
            shutil.rmtree(path, ignore_errors=True)


def _runs_elsewhere(process: int) -> bool:
    """Whether another process has that number; this one writes nothing else now."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _fresh_sibling(path: Path, purpose: str) -> Path:
    sibling = path.parent / f".{path.name}.{os.getpid()}.{purpose}"
    shutil.rmtree(sibling, ignore_errors=True)
    return sibling


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _io_errors(target: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into one sentence about `target`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}") from None
