"""The files of a run on a control task.

- `config.json`: the request, the command, versions, platform and devices, and where the run went on under others
- `metrics.jsonl`: one JSON object for each evaluation, the same bytes however often the run was interrupted
- `timings.jsonl`: seconds spent in each stage up to each evaluation, and seconds that all cores worked
- `events/`: the same for TensorBoard
- `checkpoints/`: everything needed to go on
- `policy.safetensors`, `result.json`: once the run is complete
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from mbpo.errors import InputError
from mbpo.runs.folder import check_writable, io_errors, provenance
from mbpo.runs.metrics import read_metrics
from mbpo.runs.plain import plain

if TYPE_CHECKING:
    from mbpo.runs.task_request import TaskRequest

KIND = "task"
REQUEST = ("environment", "options", "termination", "preset", "steps", "seed")
OURS = re.compile(r"\.lock|\.config\.json\.\d+")  # what a run killed before its first file leaves behind


def check_free(folder: Path, request: TaskRequest) -> None:
    """Raise InputError when `folder` holds another run than `request`, or anything else, or cannot be written."""
    with io_errors(folder):
        if (folder / "config.json").exists():
            _check_same(folder, read_config(folder)["request"], plain(dataclasses.asdict(request)))
        elif folder.is_dir() and not all(OURS.fullmatch(each.name) for each in folder.iterdir()):
            raise InputError(f"{folder} is not empty and not a run, expected a new or empty directory")
        check_writable(folder)


def open_folder(
    folder: Path, request: TaskRequest, command: list[str], sizes: dict[str, int] | None = None
) -> None:
    """Make `folder` the place of `request`, unless it is already; `sizes`: of observation and action, where known."""
    check_free(folder, request)
    if not (folder / "config.json").exists():
        asked = plain(dataclasses.asdict(request))
        facts = {"sizes": sizes, "threads": _threads(), **provenance(command)}
        _write_config(folder, {"kind": KIND, "request": asked, **facts})


def note_resumption(folder: Path, step: int) -> None:
    """Say in `config.json` what the run goes on with after `step`, where that is not what it stopped with.

    Other versions, devices or threads give other last bits, and so another course from there.
    """
    config = read_config(folder)
    now = {"threads": _threads(), **provenance([])}
    del now["command"]
    noted = config.get("resumed", [])
    changes = [each for each in noted if each["step"] < step]  # what came later is done again
    before = (changes or [config])[-1]
    if any(before.get(name) != now[name] for name in now):
        changes.append({"step": step, **now})
    if changes != noted:
        _write_config(folder, {**config, "resumed": changes})


def kept_threads(folder: Path) -> str | None:
    """How many threads the run in `folder` began with, on which the last bits of sums depend; None without a run."""
    with io_errors(folder):
        return read_config(folder).get("threads") if (folder / "config.json").exists() else None


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json`; raises InputError when `folder` holds no run on a control task."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except OSError:
        raise InputError(f"{folder} is not a run: it has no config.json") from None
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'} cannot be read: {error}") from None
    if not isinstance(config, dict) or config.get("kind") != KIND:
        raise InputError(f"{folder} is not a run on a control task")
    request = config.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("settings"), dict):
        raise InputError(f"{folder / 'config.json'} is damaged: it holds no request")
    missing = [name for name in REQUEST if name not in request]
    if missing:
        raise InputError(f"{folder / 'config.json'} is damaged: its request has no {missing[0]}")
    return config


def read_result(folder: Path) -> dict[str, Any] | None:
    """`result.json` of a complete run, else None."""
    try:
        return json.loads((folder / "result.json").read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'result.json'} cannot be read: {error}") from None


def write_result(folder: Path, request: TaskRequest) -> dict[str, Any]:
    """Write what `mbpo train --json` prints, from the metrics; returns it."""
    records = read_metrics(folder / "metrics.jsonl")
    last = records[-1]
    result = {
        "environment": request.environment,
        "preset": request.preset,
        "seed": request.seed,
        "steps": request.steps,
        "updates": last["updates"],
        "mean_return": last["mean_return"],
        "returns": last["returns"],
        "lengths": last["lengths"],
        "curve": {
            "env_steps": [each["env_steps"] for each in records],
            "mean_return": [each["mean_return"] for each in records],
        },
    }
    if "exact" in last:
        result["exact"] = last["exact"]
    write_whole(folder / "result.json", (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
    return result


def write_policy(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """The policy alone, for whoever uses it."""
    write_whole(folder / "policy.safetensors", save({name: np.array(a) for name, a in arrays.items()}))


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    write_whole(folder / "config.json", (json.dumps(config, indent=2, allow_nan=False) + "\n").encode())


def _threads() -> str | None:
    from mbpo.core.threads import THREADS

    return os.environ.get(THREADS)


def write_whole(path: Path, content: bytes) -> None:
    """Write `path` so that it is complete or as it was."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(hidden, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(hidden, path)
    except OSError as error:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def _check_same(folder: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    flat = [{**each, **each["settings"]} for each in (found, asked)]
    for name in flat[1]:
        if name != "settings" and flat[0].get(name) != flat[1][name]:
            raise InputError(
                f"{folder} holds a run with {name} {flat[0].get(name)!r}, not {flat[1][name]!r}, expected a new or "
                "empty directory"
            )
