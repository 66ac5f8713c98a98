"""A run as a folder: what was asked for, what happened, and every array, complete or not there at all.

- `config.json`: settings, system (as TOML text), command, versions, platform, devices
- `metrics.jsonl`: one JSON object for each recorded round
- `result.json`: what `mbpo train --json` prints
- `arrays.safetensors`: gains, costs and rollouts, bit for bit
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mbpo.errors import InputError
from mbpo.runs.plain import plain
from mbpo.runs.record import REQUIRED_ARRAYS, RunRecord, record_from_arrays

if TYPE_CHECKING:
    from mbpo.lqr.system import LinearQuadratic
    from mbpo.lqr.train import Settings, Training

FILES = ("config.json", "metrics.jsonl", "result.json", "arrays.safetensors")
PACKAGES = ("mbpo", "jax", "jaxlib", "numpy", "scipy", "equinox", "optax", "gymnasium", "mujoco")


def write_run(
    directory: str | os.PathLike[str],
    training: Training,
    command: Sequence[str],
    replace: bool = False,
) -> RunRecord:
    """Write `training` to `directory` and return it as it reads back.

    The files are written to a hidden sibling, which is then renamed. A run already there is replaced when it
    has the same settings and system, or when `replace` is set.
    Raises `InputError` when the directory cannot be written, or holds another run or anything else.
    """
    target = Path(directory)
    config = _config(training, command)
    if _holds_run(target) and not replace:
        _check_same(target, _read_json(target, "config.json"), config)
    with io_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = _sibling(target, "partial")
        hidden.mkdir()
        try:
            _write_files(hidden, training, config)
            _rename(hidden, target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return read_run(target)


def read_run(directory: str | os.PathLike[str]) -> RunRecord:
    """The run in `directory`; raises `InputError` when there is none or a file of it cannot be read."""
    folder = Path(directory)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} is not a complete run: it has no {missing[0]}")
    config, result = _read_json(folder, "config.json"), _read_json(folder, "result.json")
    try:
        arrays = load_file(folder / "arrays.safetensors")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{folder / 'arrays.safetensors'} cannot be read: {error}") from None
    absent = [name for name in REQUIRED_ARRAYS if name not in arrays]
    if absent:
        raise InputError(f"{folder / 'arrays.safetensors'} has no array {absent[0]!r}")
    try:
        return record_from_arrays(folder, config, result, arrays)
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} is not the config of a run: {error}") from None


def existing_run(
    directory: str | os.PathLike[str], settings: Settings, system: LinearQuadratic
) -> RunRecord | None:
    """The complete run of `settings` on `system` that `directory` already holds; `None` when it is free.

    Raises `InputError` when the directory holds a run with another config, or anything but a run, or when a
    run could not be written there.
    """
    target = Path(directory)
    if _holds_run(target):
        _check_same(target, _read_json(target, "config.json"), _asked(settings, system))
        return read_run(target)
    check_writable(target)
    return None


def check_writable(directory: str | os.PathLike[str]) -> None:
    """Raise `InputError` when a file in `directory` could not be written, before any work is done."""
    target = Path(directory)
    parent = next(each for each in (target, *target.absolute().parents) if each.exists())
    if not parent.is_dir():
        raise InputError(f"{parent} is a file, expected a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{target} cannot be written: {parent} is not writable")


def _holds_run(target: Path) -> bool:
    """Whether `target` holds a complete run; `InputError` when it holds anything else."""
    with io_errors(target):
        if not target.exists():
            return False
        if not target.is_dir():
            raise InputError(f"{target} is a file, expected a directory for the run")
        if all((target / name).is_file() for name in FILES):
            return True
        if any(target.iterdir()):
            raise InputError(f"{target} is not empty and not a run, expected a new or empty directory")
    return False


def _check_same(target: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    if found.get("system") != asked["system"]:
        raise InputError(f"{target} holds a run on another system, expected a new or empty directory")
    before, now = found.get("settings") or {}, asked["settings"]
    for name in now:
        if before.get(name) != now[name]:
            raise InputError(
                f"{target} holds a run with {name} {before.get(name)!r}, not {now[name]!r}, expected a new "
                "or empty directory"
            )


def _asked(settings: Settings, system: LinearQuadratic) -> dict[str, Any]:
    return {"settings": plain(dataclasses.asdict(settings)), "system": system.to_toml()}


def _config(training: Training, command: Sequence[str]) -> dict[str, Any]:
    return {**_asked(training.settings, training.system), **provenance(command)}


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """What a result came from: the command, versions, platform and devices."""
    import jax

    return {
        "command": list(command),
        "versions": package_versions(),
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.devices()],
    }


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _write_files(folder: Path, training: Training, config: Mapping[str, Any]) -> None:
    _write(folder / "config.json", json.dumps(config, indent=2, allow_nan=False) + "\n")
    rounds = (json.dumps(plain(each), allow_nan=False) + "\n" for each in _rounds(training))
    _write(folder / "metrics.jsonl", "".join(rounds))
    _write(folder / "result.json", json.dumps(plain(training.to_json()), indent=2, allow_nan=False) + "\n")
    _write(folder / "arrays.safetensors", save(_arrays(training)))


def _rounds(training: Training) -> Iterator[dict[str, Any]]:
    for r, used in enumerate(training.transitions):
        error = training.model_error
        yield {
            "transitions": int(used),
            "excess_cost": training.excess_cost[:, r],
            "model_error": None if error is None else error[:, r],
            "realised_ratio": training.realised_ratio[:, r],
            "cuts": training.cuts[:, r],
            "imagined": training.imagined[:, r],
        }


def _arrays(training: Training) -> dict[str, np.ndarray]:
    named = {
        "transitions": training.transitions,
        "gains": training.gains,
        "excess_cost": training.excess_cost,
        "model_error": training.model_error,
        "realised_ratio": training.realised_ratio,
        "cuts": training.cuts,
        "imagined": training.imagined,
        "limit": training.limit,
        "limit_curve": training.limit_curve,
        "initial_gain": training.initial_gain,
        "exploration": training.exploration,
        "optimal_gain": training.optimum.gain,
        "optimal_value": training.optimum.value,
        "optimal_cost": training.optimum.cost,
        "real_rollout": training.real_rollout,
        "imagined_rollout": training.imagined_rollout,
    }
    # np.array(order="C") copies: safetensors writes the memory as it lies
    return {name: np.array(each, order="C") for name, each in named.items() if each is not None}


def _rename(hidden: Path, target: Path) -> None:
    """Put `hidden` in the place of `target`; a run that was there goes only once the new one is complete."""
    if not (target.is_dir() and any(target.iterdir())):
        os.replace(hidden, target)
        return
    aside = _sibling(target, "replaced")
    os.replace(target, aside)
    os.replace(hidden, target)
    shutil.rmtree(aside, ignore_errors=True)


def _sibling(target: Path, purpose: str) -> Path:
    place = target.absolute().parent / f".{target.absolute().name}.{os.getpid()}.{purpose}"
    shutil.rmtree(place, ignore_errors=True)
    return place


def _write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / name} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{folder / name} must be a JSON object")
    return found


@contextmanager
def io_errors(target: Path) -> Iterator[None]:
    """Turn an `OSError` inside the block into one sentence about `target`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}") from None
