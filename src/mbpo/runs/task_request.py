"""What a run on a control task is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbpo.presets import TaskSettings


@dataclass(frozen=True)
class TaskRequest:
    """What is trained where: a task with its options, a preset with its changes, how long, and the seed."""

    environment: str
    options: dict[str, Any]
    termination: str | None
    preset: str
    settings: TaskSettings
    steps: int
    seed: int
