"""What a page about runs on control tasks says in numbers: runs grouped, seeds pooled, seconds added up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbpo.runs.task_record import TaskRecord

STAGES = ("act", "fit", "imagine", "improve", "evaluate", "diagnose")
LONGEST_NAME = 26  # letters beside a line
CLOSE = 0.05  # excess cost at which a linear-quadratic task counts as solved
Record = Mapping[str, Any]
Value = Callable[[Record], float | None]


@dataclass(frozen=True, eq=False)
class Arm:
    """The runs of one request but for the seed."""

    name: str
    runs: tuple[TaskRecord, ...]

    @property
    def recorded(self) -> list[TaskRecord]:
        """The runs with at least one evaluation."""
        return [run for run in self.runs if run.records]

    @property
    def settings(self) -> dict[str, Any]:
        """What they share."""
        return self.runs[0].settings


@dataclass(frozen=True, eq=False)
class Task:
    """One task with its options, and what was run on it."""

    environment: str
    options: dict[str, Any]
    termination: str | None
    arms: tuple[Arm, ...]

    @property
    def title(self) -> str:
        """`Hopper-v5`, or the linear-quadratic system."""
        system = self.options.get("system")
        return self.environment if system is None else f"{self.environment}: {system}"

    @property
    def exact(self) -> bool:
        """Whether the optimum is known."""
        runs = [run for arm in self.arms for run in arm.recorded]
        return any("exact" in record for run in runs for record in run.records)


@dataclass(frozen=True, eq=False)
class Pooled:
    """A number over the real steps `[r]`: median, least and greatest of the `count` runs, of `runs`, that have it."""

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    runs: int

    @property
    def whole(self) -> int:
        """The number of points, from the first, that every run has."""
        partial = np.flatnonzero(self.count < self.runs)
        return int(partial[0]) if len(partial) else len(self.steps)


def grouped(runs: Sequence[TaskRecord]) -> list[Task]:
    """The runs by task and, within it, by request; in the order given."""
    tasks: dict[str, dict[str, list[TaskRecord]]] = {}
    for run in runs:
        request = {key: value for key, value in run.request.items() if key != "seed"}
        where = [request.pop(key) for key in ("environment", "options", "termination")]
        task = json.dumps(where, sort_keys=True)
        tasks.setdefault(task, {}).setdefault(json.dumps(request, sort_keys=True), []).append(run)
    found = []
    for task, by_request in tasks.items():
        environment, options, termination = json.loads(task)
        arms = list(by_request.values())
        found.append(Task(environment, options, termination, tuple(map(Arm, names(arms), map(tuple, arms)))))
    return found


def names(arms: Sequence[Sequence[TaskRecord]]) -> list[str]:
    """A short name for each: the preset, and where that is not enough what sets it apart."""
    presets = [runs[0].request["preset"] for runs in arms]
    asked = [{**runs[0].settings, "steps": runs[0].request["steps"]} for runs in arms]
    found = []
    for number, (preset, mine) in enumerate(zip(presets, asked, strict=True)):
        rivals = [each for name, each in zip(presets, asked, strict=True) if name == preset]
        apart = [key for key in mine if any(each.get(key) != mine[key] for each in rivals)]
        name = ", ".join([preset, *(f"{key}={json.dumps(mine[key])}" for key in apart)])
        place = presets[:number].count(preset) + 1
        found.append(name if len(name) <= LONGEST_NAME else f"{preset}, variant {place}")
    return found


def pooled(runs: Sequence[TaskRecord], value: Value) -> Pooled | None:
    """`value` of every record over the runs that have it anywhere; None where none has."""
    curves = [
        {record["env_steps"]: float(found) for record in run.records if (found := value(record)) is not None}
        for run in runs
    ]
    curves = [curve for curve in curves if curve]
    if not curves:
        return None
    steps = sorted(set().union(*curves))
    at_each = [[curve[step] for curve in curves if step in curve] for step in steps]
    middle, low, high = (np.array([take(found) for found in at_each]) for take in (np.median, np.min, np.max))
    return Pooled(np.array(steps), middle, low, high, np.array([len(f) for f in at_each]), len(curves))


def at(*path: str) -> Value:
    """The number under `path` in a record, None where there is none."""

    def value(record: Record) -> float | None:
        found: Any = record
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return None if found is None else float(found)

    return value


def excess(record: Record) -> float | None:
    """The excess cost of the mean policy, infinite where it has no finite cost; None where it is not known."""
    exact = record.get("exact")
    return None if exact is None else np.inf if exact["excess_cost"] is None else exact["excess_cost"]


def above_floor(record: Record) -> float | None:
    """By how much the model's one-step error is above the noise floor, relative to it."""
    error = at("exact", "one_step_error")(record)
    return None if error is None else error - 1.0


def holdout(record: Record) -> float | None:
    """The mean hold-out error of the elites."""
    model = record.get("model") or {}
    errors = [model["holdout_error"][place] for place in model.get("elites", ())]
    return None if not errors or None in errors else float(np.mean(errors))


@dataclass(frozen=True, eq=False)
class Times:
    """Where the time of a run went: the real steps `[r + 1]` between evaluations, seconds of each stage and agent
    updates `[r]` in between."""

    edges: np.ndarray
    seconds: dict[str, np.ndarray]
    updates: np.ndarray

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return float(sum(each.sum() for each in self.seconds.values()))


def times(run: TaskRecord) -> Times | None:
    """The times of the evaluations that have both a record and timings, None where there are none."""
    records = [record for record in run.records if record["env_steps"] in run.seconds]
    if not records:
        return None
    known = {stage for record in records for stage in run.seconds[record["env_steps"]]}
    stages = [*(each for each in STAGES if each in known), *sorted(known.difference(STAGES))]
    before = {int(record["env_steps"]): index for index, record in enumerate(run.records)}
    first = before[records[0]["env_steps"]]
    start = run.settings["warmup_steps"] if first == 0 else run.records[first - 1]["env_steps"]
    done = 0 if first == 0 else run.records[first - 1]["updates"]
    return Times(
        np.array([start, *(record["env_steps"] for record in records)]),
        {s: np.array([run.seconds[r["env_steps"]].get(s, 0.0) for r in records]) for s in stages},
        np.diff([done, *(record["updates"] for record in records)]),
    )


def best(run: TaskRecord) -> Record | None:
    """The record of the highest mean return, None before the first evaluation."""
    return max(run.records, key=lambda record: record["mean_return"], default=None)


def solved(curve: Pooled, level: float = CLOSE) -> int | None:
    """The real step from which a pooled excess cost stays at or below `level`; None where it does not end there."""
    above = np.flatnonzero(~(curve.middle <= level))
    if len(above) and above[-1] == len(curve.steps) - 1:
        return None
    return int(curve.steps[above[-1] + 1 if len(above) else 0])
