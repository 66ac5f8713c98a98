"""Complete named configurations for control tasks, and how a word on the command line changes one of them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from mbpo.errors import InputError, did_you_mean


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TaskSettings:
    """Every number that a run on a control task depends on, beside the task, the steps and the seed.

    The defaults are those that all tasks of Janner et al. 2019 share; steps are real steps, warm-up included.
    """

    warmup_steps: int = _setting(5000, "real steps under uniformly random actions before anything is learned")
    updates_per_step: int = _setting(20, "agent updates after each real step")
    real_ratio: float = _setting(0.05, "expected share of real transitions in a batch, 0 to 1")
    batch_size: int = _setting(256, "transitions of one agent update")
    model: str = _setting("ensemble", "what imagines: ensemble, none, or true (linear-quadratic tasks only)")
    refit_every: int = _setting(250, "real steps from one model fit to the next")
    branches: int = _setting(100_000, "imagined branches after each model fit")
    length_first: int = _setting(1, "steps of a branch before length_start")
    length_last: int = _setting(1, "steps of a branch from length_end on; linear in between, rounded down")
    length_start: int = _setting(0, "real steps at which branches begin to grow")
    length_end: int = _setting(1, "real steps at which branches stop growing")
    retain: int = _setting(1, "model fits whose imagined transitions are kept")
    agent_hidden: tuple[int, ...] = _setting((256, 256), "hidden widths of actor and critics")
    agent_learning_rate: float = _setting(3e-4, "Adam's step for actor, critics and temperature")
    discount: float = _setting(0.99, "discount of rewards")
    target_rate: float = _setting(5e-3, "share by which the slow critics follow at each update")
    target_entropy: float | None = _setting(
        None, "entropy the temperature aims at; none: minus the action size"
    )
    reward_scale: float | None = _setting(
        None, "factor on every reward the agent learns from; none: 1, or 1/J* on a linear-quadratic task"
    )
    networks: int = _setting(7, "networks of the ensemble")
    elites: int = _setting(5, "networks that imagine: those with the smallest hold-out errors")
    model_hidden: tuple[int, ...] = _setting((200, 200, 200, 200), "hidden widths of the ensemble's networks")
    model_learning_rate: float = _setting(1e-3, "Adam's step for the ensemble")
    model_decay: float = _setting(
        1.0, "factor on the published weight decays 2.5e-5, 5e-5, 7.5e-5, ..., 1e-4"
    )
    model_patience: int = _setting(5, "epochs without improvement after which a fit stops")
    model_epochs: int | None = _setting(None, "most epochs of one fit; none: no limit")
    normalise_targets: bool = _setting(False, "repair: standardise each model target by itself")
    predict_change: bool = _setting(
        True, "predict the change of the observation; false, a repair: the next one"
    )
    evaluate_every: int = _setting(1000, "real steps from one evaluation to the next")
    evaluation_episodes: int = _setting(5, "episodes of the mean policy at each evaluation")
    diagnose: bool = _setting(True, "measure model error, calibration and critic bias at each evaluation")


PAPER: dict[str, dict[str, Any]] = {
    "Hopper": {
        "target_entropy": -1.0,
        "length_last": 15,
        "length_start": 25_000,
        "length_end": 155_000,
        "retain": 4,
    },
    "Walker2d": {"target_entropy": -3.0, "retain": 4},
    "HalfCheetah": {"target_entropy": -3.0, "updates_per_step": 40, "retain": 4},
    "Ant": {
        "target_entropy": -4.0,
        "length_last": 25,
        "length_start": 25_000,
        "length_end": 105_000,
        "retain": 4,
    },
    "Humanoid": {
        "target_entropy": -2.0,
        "length_last": 25,
        "length_start": 25_000,
        "length_end": 305_000,
        "refit_every": 1000,
        "retain": 5,
        "model_hidden": (400, 400, 400, 400),
    },
    "InvertedPendulum": {
        "target_entropy": -0.05,
        "updates_per_step": 10,
        "warmup_steps": 500,
        "evaluate_every": 250,
    },
    "InvertedDoublePendulum": {"target_entropy": -0.5, "warmup_steps": 500, "evaluate_every": 250},
}
"""What the published configurations change, by task; real steps include the warm-up that their epochs leave out, and
`retain` counts fits where they count epochs: of four fits, or of one with Humanoid and the pendula."""

LINEAR_QUADRATIC: dict[str, Any] = {
    "warmup_steps": 1000,
    "updates_per_step": 10,
    "normalise_targets": True,
    "evaluate_every": 500,
}

PRESETS = {
    "paper": "as published for the task (Janner et al. 2019 and its code); only for the paper's tasks",
    "default": "MBPO for any other task: the settings published tasks share; its own for linear-quadratic ones",
    "repaired": "the task's paper or default settings with both model repairs of arXiv 2510.01457",
    "sac": "the model-free agent alone in the same loop: no model, real ratio 1, as many updates per step",
}


def preset(name: str, environment_id: str) -> TaskSettings:
    """The settings that preset `name` gives `environment_id`; raises InputError where it has none."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}, {did_you_mean(name, PRESETS)}")
    task = family(environment_id)
    if name == "paper" and task not in PAPER:
        raise InputError(
            f"preset paper has no settings for {environment_id}, only for {', '.join(PAPER)}; use --preset default"
        )
    changes = LINEAR_QUADRATIC if task == "LinearQuadratic" else PAPER.get(task, {})
    if name == "default" and task in PAPER:
        changes = {}
    settings = TaskSettings(**changes)
    if name == "repaired":
        return dataclasses.replace(settings, normalise_targets=True, predict_change=False)
    return dataclasses.replace(settings, model="none", real_ratio=1.0) if name == "sac" else settings


def preferred(environment_id: str) -> str:
    """The preset used when none is named."""
    return "paper" if family(environment_id) in PAPER else "default"


def family(environment_id: str) -> str:
    """`Hopper` of `Hopper-v5`, `LinearQuadratic` of `mbpo/LinearQuadratic-v0`."""
    return re.sub(r"-v\d+$", "", re.split(r"[:/]", environment_id)[-1])


def override(settings: TaskSettings, changes: Sequence[str]) -> TaskSettings:
    """`settings` with each `key=value` put in; raises InputError for an unknown key or a value that does not fit."""
    types = get_type_hints(TaskSettings)
    found: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals:
            raise InputError(f"--set {change}: expected key=value")
        if key not in types:
            raise InputError(f"--set {key}: unknown setting, {did_you_mean(key, types)}")
        found[key] = _parsed(key, text.strip(), types[key])
    return checked(dataclasses.replace(settings, **found))


def _parsed(key: str, text: str, kind: Any) -> Any:
    expected, value = _READERS[kind]
    try:
        return value(text)
    except ValueError:
        raise InputError(f"--set {key}: expected {expected}, got {text!r}") from None


def _whole(text: str) -> int:
    value = _number(text)
    if value != int(value):
        raise ValueError
    return int(value)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _switch(text: str) -> bool:
    return {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}[text.lower()]


def _flag(text: str) -> bool:
    try:
        return _switch(text)
    except KeyError:
        raise ValueError from None


def _widths(text: str) -> tuple[int, ...]:
    return tuple(_whole(each) for each in text.strip("()[] ").split(",") if each.strip())


_READERS: dict[Any, tuple[str, Any]] = {
    int: ("a whole number", _whole),
    float: ("a finite number", _number),
    bool: ("true or false", _flag),
    str: ("a word", str),
    int | None: ("a whole number or none", lambda text: None if text == "none" else _whole(text)),
    float | None: ("a finite number or none", lambda text: None if text == "none" else _number(text)),
    tuple[int, ...]: ("whole numbers with commas between", _widths),
}

LARGEST = 2**31 - 1
AT_LEAST_ONE = (
    "updates_per_step", "batch_size", "refit_every", "branches", "length_first", "length_last", "retain", "networks",
    "elites", "model_patience", "evaluate_every", "evaluation_episodes",
)  # fmt: skip
POSITIVE = ("agent_learning_rate", "model_learning_rate")
SHARES = ("real_ratio", "discount", "target_rate")
MODELS = ("ensemble", "none", "true")
FEWEST_WARMUP = 10  # real rows: below this the hold-out of the first fit would be empty


def checked(settings: TaskSettings) -> TaskSettings:
    """`settings`; raises InputError, one sentence, where they contradict each other or cannot work."""
    for key in AT_LEAST_ONE:
        _require(getattr(settings, key) >= 1, settings, key, "at least 1")
    for key, kind in get_type_hints(TaskSettings).items():
        value = getattr(settings, key)
        if kind in (int, int | None) and value is not None:
            _require(value <= LARGEST, settings, key, f"at most {LARGEST}")
    for key in POSITIVE:
        _require(getattr(settings, key) > 0, settings, key, "a positive number")
    for key in SHARES:
        _require(0 <= getattr(settings, key) <= 1, settings, key, "a number from 0 to 1")
    for key in ("agent_hidden", "model_hidden"):
        widths = getattr(settings, key)
        _require(len(widths) > 0 and min(widths) >= 1, settings, key, "one or more widths of at least 1")
    _require(settings.warmup_steps >= FEWEST_WARMUP, settings, "warmup_steps", f"at least {FEWEST_WARMUP}")
    _require(settings.discount < 1, settings, "discount", "a number below 1")
    _require(
        settings.reward_scale is None or settings.reward_scale > 0,
        settings,
        "reward_scale",
        "a positive number",
    )
    _require(settings.target_rate > 0, settings, "target_rate", "a positive number")
    _require(settings.model_decay >= 0, settings, "model_decay", "a number of at least 0")
    _require(
        settings.elites <= settings.networks, settings, "elites", f"at most networks ({settings.networks})"
    )
    _require(
        settings.model_epochs is None or settings.model_epochs >= 1, settings, "model_epochs", "at least 1"
    )
    _require(settings.length_start >= 0, settings, "length_start", "at least 0")
    _require(settings.length_end > settings.length_start, settings, "length_end", "a step after length_start")
    if settings.model not in MODELS:
        raise InputError(f"model: unknown {settings.model!r}, {did_you_mean(settings.model, MODELS)}")
    return settings


def _require(holds: bool, settings: TaskSettings, key: str, expected: str) -> None:
    if not holds:
        raise InputError(f"{key}: expected {expected}, got {getattr(settings, key)}")
