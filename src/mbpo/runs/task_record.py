"""A run on a control task in memory, finished or not: plain numbers, read without JAX."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbpo.errors import InputError
from mbpo.presets import family, preset
from mbpo.runs.checkpoint import VISIBLE
from mbpo.runs.metrics import read_metrics
from mbpo.runs.plain import plain
from mbpo.runs.task_folder import KIND, read_config, read_result

FROM_CONFIG = ("command", "versions", "platform", "devices")
FROM_REQUEST = ("environment", "options", "termination", "preset", "settings", "steps", "seed")


@dataclass(frozen=True, eq=False)
class TaskRecord:
    """One run: its request and provenance from `config.json`, one record for each evaluation from `metrics.jsonl`, and
    by the real step of each the seconds spent in every stage since the one before, from `timings.jsonl`.

    `resumed`: each step after which the run went on with other versions, platform, devices or threads, and those.
    `done`: real steps that a record or a checkpoint holds; `action_size`: m, where the run tells.
    """

    folder: Path
    request: dict[str, Any]
    command: list[str]
    versions: dict[str, str]
    platform: str
    devices: list[str]
    resumed: list[dict[str, Any]]
    records: list[dict[str, Any]]
    seconds: dict[int, dict[str, float]]
    done: int
    complete: bool
    action_size: int | None

    @property
    def family(self) -> str:
        """`Hopper` of `Hopper-v5`."""
        return family(self.request["environment"])

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting, changes to the preset included."""
        return self.request["settings"]

    @property
    def target_entropy(self) -> float | None:
        """What the temperature aims at: as set, else in proportion to the action size, None where that is not known."""
        asked = self.settings.get("target_entropy")
        if asked is not None:
            return float(asked)
        each = float(self.settings.get("entropy_per_action", -1.0))
        return None if self.action_size is None else each * self.action_size

    def changes(self) -> dict[str, Any] | None:
        """The settings that differ from those of the preset; None when this version knows no such preset."""
        try:
            named = preset(self.request["preset"], self.request["environment"])
        except InputError:
            return None
        usual = plain(dataclasses.asdict(named))
        return {key: value for key, value in self.settings.items() if usual.get(key, value) != value}


def is_task_run(folder: Path) -> bool:
    """Whether the run in `folder` is one on a control task; raises InputError when there is no run of any kind."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except OSError:
        raise InputError(f"{folder} is not a run: it has no config.json") from None
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'} cannot be read: {error}") from None
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind != KIND and not (isinstance(config, dict) and kind is None and "settings" in config):
        raise InputError(f"{folder / 'config.json'} is not the config of a run")
    return kind == KIND


def read_task_run(folder: Path) -> TaskRecord:
    """The run in `folder` as far as it got; raises InputError when there is none or a file of it is damaged."""
    config = read_config(folder)
    request = config.get("request")
    absent = [key for key in FROM_CONFIG if key not in config]
    absent += [key for key in FROM_REQUEST if not isinstance(request, dict) or key not in request]
    if absent or not isinstance(request, dict):
        raise InputError(f"{folder / 'config.json'} is not the config of a run: it has no {absent[0]!r}")
    records = _lines(folder / "metrics.jsonl", ("env_steps", "updates", "mean_return", "returns", "agent"))
    timings = _lines(folder / "timings.jsonl", ("env_steps", "seconds"))
    last = records[-1]["env_steps"] if records else 0
    return TaskRecord(
        folder=folder,
        request=request,
        resumed=config.get("resumed", []),
        records=records,
        seconds={each["env_steps"]: each["seconds"] for each in timings},
        done=max([last, *_checkpoints(folder)]),
        complete=read_result(folder) is not None,
        action_size=(config.get("sizes") or {}).get("action"),
        **{key: config[key] for key in FROM_CONFIG},
    )


def _lines(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every record of `path`, none where there is no file yet."""
    if not path.exists():
        return []
    found = read_metrics(path)
    for number, record in enumerate(found, start=1):
        absent = [key for key in keys if key not in record]
        if absent:
            raise InputError(f"{path}, line {number}, has no {absent[0]!r}")
    return found


def _checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints by step, the newest first."""
    inside = folder / "checkpoints"
    names = [(VISIBLE.fullmatch(each.name), each) for each in inside.iterdir()] if inside.is_dir() else []
    return dict(sorted(((int(match[1]), path) for match, path in names if match), reverse=True))
