"""The real ratio and the rollout length on a control task: one run for each value and seed, each in its own folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbpo.errors import InputError, did_you_mean
from mbpo.lqr.intervals import interquartile_mean_interval, quantile_interval
from mbpo.runs.plain import plain
from mbpo.runs.task_folder import check_free
from mbpo.runs.task_record import read_task_run
from mbpo.runs.task_request import TaskRequest
from mbpo.runs.task_run import Progress as TaskProgress
from mbpo.runs.task_run import train_task
from mbpo.studies.result import Progress, Request, StudyResult
from mbpo.studies.task_sweep_text import caveats, findings

DEFAULT_TASK_SEEDS, DEFAULT_TASK_TRANSITIONS = 3, 2000
RATIOS = (0.0, 0.05, 0.25, 0.5, 1.0)
LENGTHS = (1, 2, 5, 15)
NO_MODEL = "no model"
LEAST_WARMUP = 10
LARGEST_SEED = 2**31 - 1
Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Arm:
    """One value of what is asked about: as the table has it, in words, as a folder's name, and its settings."""

    value: str | int
    words: str
    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A study on a task.

    column, meaning: of the value in the table; values: their name among the settings; reference: the value against
    which each of `against` is held on the same seeds.
    """

    title: str
    question: str
    column: str
    meaning: str
    values: str
    arms: tuple[Arm, ...]
    reference: str | int
    against: tuple[str | int, ...]

    @property
    def decided(self) -> set[str]:
        """The settings that the arms decide."""
        return {key for arm in self.arms for key in arm.changes if key != "model"}


def _ratio(value: float) -> Arm:
    return Arm(f"{value:g}", f"a ratio of {value:g}", f"ratio-{value:g}", {"real_ratio": value})


def _length(value: int) -> Arm:
    changes = {"length_first": value, "length_last": value}
    return Arm(value, f"a length of {value}", f"length-{value}", changes)


SWEEPS = {
    "real-ratio": Sweep(
        "What the real ratio does",
        "Batches of MBPO mix real with imagined transitions. How does their ratio change what is learned, when it "
        "changes nothing else?",
        "ratio",
        "expected share of real transitions in a batch; no model: neither fitted nor imagined, every batch real",
        "ratios",
        (*map(_ratio, RATIOS), Arm(NO_MODEL, NO_MODEL, "no-model", {"real_ratio": 1.0, "model": "none"})),
        "0.05",
        ("1", "0"),
    ),
    "rollout-length": Sweep(
        "When to trust the model",
        "How long should imagined branches be?",
        "rollout_length",
        "imagined steps of a branch, the same from the first real step to the last",
        "rollout_lengths",
        tuple(map(_length, LENGTHS)),
        1,
        LENGTHS[1:],
    ),
}


@dataclass(frozen=True)
class Run:
    """One run of the study: what it is called, of which arm, and where it is trained."""

    words: str
    arm: Arm
    request: TaskRequest
    folder: Path


Watch = Callable[[Run, TaskProgress], None]


def shortened(warmup_steps: int, evaluate_every: int, steps: int) -> list[str]:
    """Changes to a preset, as `key=value`, that make it fit a run of `steps` real steps.

    The warm-up is at most a third of them, evaluations are at most a sixth apart and, where they can, end with the
    run; what only a simulator can tell is not measured.
    """
    sixth = max(steps // 6, 1)
    whole = next((each for each in range(sixth, sixth // 2, -1) if steps % each == 0), sixth)
    warmup = min(warmup_steps, max(steps // 3, LEAST_WARMUP))
    return [f"warmup_steps={warmup}", f"evaluate_every={min(evaluate_every, whole)}", "diagnose=false"]


def steps_task(study: str, request: Request) -> int:
    """How often `run_task` calls `progress`: once for each run."""
    return len(_sweep(study).arms) * _seeds(request)


def planned(study: str, task: TaskRequest, request: Request, folder: Path) -> list[Run]:
    """Every run of the study, in order; raises InputError where the study has no meaning."""
    sweep, seeds = _sweep(study), _seeds(request)
    if seeds < 2:
        raise InputError(f"seeds: expected at least 2, got {seeds}")
    if request.seed + seeds - 1 > LARGEST_SEED:
        raise InputError(f"seed: expected {seeds} seeds up to {LARGEST_SEED}, got {request.seed} and onwards")
    if task.settings.model == "none":
        raise InputError(f"model: the study {study} asks what a model does, expected one, got none")
    return [
        _planned(arm, task, request.seed + place, _steps(request), folder)
        for arm in sweep.arms
        for place in range(seeds)
    ]


def run_task(
    study: str,
    task: TaskRequest,
    request: Request,
    folder: Path,
    command: Sequence[str],
    progress: Progress,
    watch: Watch | None = None,
) -> StudyResult:
    """The study on a control task, its runs in `folder`: those that are complete there are read, others go on.

    task: what is trained; its steps and seed give way to those of `request`. command: what is written down in each run
    as its origin. `watch` is told of every real step. Raises InputError where a run cannot be trained.
    """
    runs = planned(study, task, request, folder)
    for run in runs:
        check_free(run.folder, run.request)
    found: dict[str | int, list[Records]] = {}
    for run in runs:
        found.setdefault(run.arm.value, []).append(_trained(run, command, watch))
        progress(run.words)
    return summary(study, task, request, found)


def summary(
    study: str, task: TaskRequest, request: Request, found: Mapping[str | int, Sequence[Records]]
) -> StudyResult:
    """The result, from the records of every run by arm, seeds in order."""
    sweep = _sweep(study)
    rows = [row for arm in sweep.arms for row in _rows(sweep, arm, task, found[arm.value])]
    last = {value: [records[-1]["mean_return"] for records in runs] for value, runs in found.items()}
    held = {
        key: value
        for key, value in plain(dataclasses.asdict(task.settings)).items()
        if key not in sweep.decided
    }
    about = {"options": plain(task.options), "termination": task.termination}
    settings = {
        "task": task.environment, **{key: value for key, value in about.items() if value}, "preset": task.preset,
        "transitions": _steps(request), "seed": request.seed, sweep.values: [arm.value for arm in sweep.arms], **held,
    }  # fmt: skip
    return StudyResult(
        study, f"{sweep.title}: {task.environment}", sweep.question, [task.environment], _seeds(request), settings,
        findings(sweep, task.environment, rows, last, request.seed), caveats(sweep, settings, last), _columns(sweep),
        rows,
    )  # fmt: skip


def _sweep(study: str) -> Sweep:
    if study not in SWEEPS:
        raise InputError(f"no study {study!r} on a control task, {did_you_mean(study, SWEEPS)}")
    return SWEEPS[study]


def _seeds(request: Request) -> int:
    return DEFAULT_TASK_SEEDS if request.seeds is None else request.seeds


def _steps(request: Request) -> int:
    return DEFAULT_TASK_TRANSITIONS if request.transitions is None else request.transitions


def _planned(arm: Arm, task: TaskRequest, seed: int, steps: int, folder: Path) -> Run:
    settings = dataclasses.replace(task.settings, **arm.changes)
    request = dataclasses.replace(task, settings=settings, steps=steps, seed=seed)
    return Run(f"{arm.words}, seed {seed}", arm, request, folder / f"{arm.name}-seed-{seed}")


def _trained(run: Run, command: Sequence[str], watch: Watch | None) -> Records:
    """The records of the run, trained as far as it is not."""

    def told(progress: TaskProgress) -> None:
        if watch is not None:
            watch(run, progress)

    try:
        train_task(run.request, run.folder, told, list(command))
        return read_task_run(run.folder).records
    except InputError as error:
        raise InputError(f"{run.words}: {error}") from None


def _rows(sweep: Sweep, arm: Arm, task: TaskRequest, runs: Sequence[Records]) -> list[dict[str, Any]]:
    """One row for each evaluation of the arm."""
    rows = []
    for alike in zip(*runs, strict=True):
        returned = interquartile_mean_interval([each["mean_return"] for each in alike])
        errors = [error for each in alike if (error := holdout(each)) is not None]
        error = quantile_interval(errors) if len(errors) == len(alike) else (None, None, None)
        values = (
            "training", task.environment, arm.value, int(alike[0]["env_steps"]), len(alike), *returned, *error,
            float(np.mean([each["realised_ratio"] for each in alike])),
        )  # fmt: skip
        rows.append(dict(zip(_columns(sweep), values, strict=True)))
    return rows


def holdout(record: Mapping[str, Any]) -> float | None:
    """The mean hold-out error of the networks that imagine, None without such networks."""
    model = record.get("model") or {}
    errors = [model["holdout_error"][place] for place in model.get("elites", ())]
    return None if not errors or None in errors else float(np.mean(errors))


def _columns(sweep: Sweep) -> dict[str, str]:
    return {
        "part": "training: an evaluation of the mean policy while it is trained",
        "system": "id of the task",
        sweep.column: sweep.meaning,
        "env_steps": "real steps so far, warm-up included",
        "seeds": "independent runs",
        "return": "undiscounted return of an evaluation: interquartile mean over seeds (a quarter of them, rounded "
        "down, cut off at each end)",
        "return_low": "lower end of its 95 % interval over seeds; empty with fewer than six",
        "return_high": "upper end of its 95 % interval over seeds; empty with fewer than six",
        "model_error": "error of the last fit on real transitions held out, mean square over targets and elites: "
        "median over seeds; empty without a model",
        "model_error_low": "lower end of its 95 % interval; empty with fewer than six seeds",
        "model_error_high": "upper end of its 95 % interval; empty with fewer than six seeds",
        "realised_ratio": "mean real share of the batches since the evaluation before, mean over seeds",
    }
