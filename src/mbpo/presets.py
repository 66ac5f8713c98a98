"""Complete named configurations for control tasks, and how a word on the command line changes one of them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
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

    agent: str = _setting("sac", "what learns: sac, value-gradient, or module:function for one of your own")
    warmup_steps: int = _setting(5000, "real steps under uniformly random actions before anything is learned")
    steps_per_round: int = _setting(1, "real steps under one policy, between fits and updates")
    updates_per_step: int = _setting(20, "agent updates for each real step")
    first_updates: int | None = _setting(None, "updates of the first round; none: as many as any other")
    real_ratio: float = _setting(0.05, "expected share of real transitions in a batch, 0 to 1")
    real_ratio_last: float | None = _setting(
        None, "the same at the last step, linear from the first one on; none: constant"
    )
    batch_size: int = _setting(256, "transitions of one agent update")
    model: str = _setting("ensemble", "what imagines: ensemble, none, or true (linear-quadratic tasks only)")
    refit_every: int = _setting(250, "real steps from one model fit to the next")
    branches: int = _setting(100_000, "imagined branches after each model fit, or at each refreshment")
    length_first: int = _setting(1, "steps of a branch before length_start")
    length_last: int = _setting(1, "steps of a branch from length_end on; linear in between, rounded down")
    length_start: int = _setting(0, "real steps at which branches begin to grow")
    length_end: int = _setting(1, "real steps at which branches stop growing")
    retain: int = _setting(1, "model fits (or refreshments) whose imagined transitions are kept")
    refresh_every: int | None = _setting(
        None, "updates from one refreshment of the imagined transitions to the next; none: after fits only"
    )
    restart_branches: bool = _setting(False, "a branch that ends goes on from another real state")
    agent_hidden: tuple[int, ...] = _setting((256, 256), "hidden widths of actor and critics")
    agent_learning_rate: float = _setting(3e-4, "Adam's step for actor, critics and temperature")
    discount: float = _setting(0.99, "discount of rewards")
    target_rate: float = _setting(5e-3, "share by which the slow critics follow at each update")
    target_entropy: float | None = _setting(
        None, "entropy the temperature aims at; none: entropy_per_action times the action size"
    )
    entropy_per_action: float = _setting(-1.0, "entropy of one action that the temperature aims at")
    first_temperature: float = _setting(1.0, "temperature before the first update")
    reward_scale: float | None = _setting(
        None, "factor on every reward the agent learns from; none: 1, or 1/J* on a linear-quadratic task"
    )
    horizon: int = _setting(5, "value-gradient: model steps that each update differentiates through")
    critics: int = _setting(3, "value-gradient: critics, of which a random two make a target")
    networks: int = _setting(7, "networks of the ensemble")
    elites: int = _setting(5, "networks that imagine: those with the smallest hold-out errors")
    model_hidden: tuple[int, ...] = _setting((200, 200, 200, 200), "hidden widths of the ensemble's networks")
    model_learning_rate: float = _setting(1e-3, "Adam's step for the ensemble")
    model_decay: float = _setting(
        1.0, "factor on the published weight decays, 2.5e-5 to 1e-4, or decoupled 2.5e-4 to 1e-3"
    )
    model_batch_size: int = _setting(256, "rows of one gradient step of each network")
    model_patience: int = _setting(5, "epochs without improvement after which a fit stops")
    model_epochs: int | None = _setting(None, "most epochs of one fit; none: no limit")
    model_steps: int | None = _setting(None, "gradient steps of one fit; none: epochs, stopped early")
    first_model_steps: int | None = _setting(None, "gradient steps of the first fit; none: as any other")
    model_noise: str = _setting(
        "heteroscedastic", "noise that depends on where one is, or homoscedastic: the same everywhere"
    )
    model_noise_rate: float = _setting(10.0, "factor on the learning rate of homoscedastic noise")
    model_layer_norms: tuple[float, ...] = _setting((), "epsilon of a layer norm behind each hidden layer")
    model_dropout: tuple[float, ...] = _setting(
        (), "share of each hidden layer that a gradient step leaves out"
    )
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

FAST: dict[str, Any] = {
    "agent": "value-gradient",
    "steps_per_round": 250,
    "updates_per_step": 1,
    "real_ratio": 0.0,
    "refit_every": 250,
    "branches": 256,
    "length_first": 20,
    "length_last": 20,
    "retain": 10,
    "refresh_every": 25,
    "restart_branches": True,
    "discount": 0.995,
    "entropy_per_action": -0.5,
    "first_temperature": 0.1,
    "networks": 5,
    "elites": 4,
    "model_hidden": (256, 256, 256),
    "model_steps": 250,
    "model_noise": "homoscedastic",
    "model_layer_norms": (1.0, 0.1, 0.01),
    "model_dropout": (0.0075, 0.005, 0.0025),
    "normalise_targets": True,
}
"""One setting for all tasks; what follows the task's episode length is in `_fast`."""

FAST_WARMUP = {"InvertedPendulum": 500, "InvertedDoublePendulum": 500}
"""Warm-ups as published for the task; others follow its time limit."""

GROUPS: dict[str, dict[str, Any]] = {
    "published": {
        "networks": 8,
        "elites": 8,
        "critics": 5,
        "agent_hidden": (256, 256, 256),
        "model_batch_size": 2048,
    },
}
"""What `--set GROUP=true` sets at once: `published`, the sizes of networks and fits of Kubo, Parmas and Ishii 2025."""

PRESETS = {
    "fast": "value gradients through the model: minutes, not hours, with one setting for every task",
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
    if name == "fast":
        return _fast(environment_id)
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


def _fast(environment_id: str) -> TaskSettings:
    """`FAST`, with a warm-up of five episodes of the longest length, 500 to 5000 steps and whole rounds of them. The
    first round makes one update for each of its steps and three gradient steps of the model for every five, but at
    least five rounds' updates and three fits; evaluations come every fourth round, after a short warm-up every round.
    """
    block = int(FAST["steps_per_round"])
    limit = time_limit(environment_id)
    whole = 5000 if limit is None else min(max(5 * limit, 500), 5000)
    warmup = FAST_WARMUP.get(family(environment_id), block * math.ceil(whole / block))
    fits = max(math.ceil(0.6 * warmup / block), 3)
    return dataclasses.replace(
        TaskSettings(),
        **FAST,
        warmup_steps=warmup,
        first_updates=max(warmup, 5 * block),
        first_model_steps=fits * block,
        evaluate_every=4 * block if warmup >= 2500 else block,
    )


def time_limit(environment_id: str) -> int | None:
    """The most steps of an episode as registered; None where that is not known."""
    if family(environment_id) == "LinearQuadratic":
        return 200
    import gymnasium

    spec = gymnasium.registry.get(environment_id)
    return None if spec is None else spec.max_episode_steps


def settings_from(record: Mapping[str, Any]) -> TaskSettings:
    """The settings that were written down as `record`; what an older version did not know has its default."""
    known = get_type_hints(TaskSettings)
    found = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in record.items()
        if key in known
    }
    return dataclasses.replace(TaskSettings(), **found)


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
        if key in GROUPS:
            found |= GROUPS[key] if _parsed(key, text.strip(), bool) else {}
            continue
        if key not in types:
            raise InputError(f"--set {key}: unknown setting, {did_you_mean(key, [*types, *GROUPS])}")
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


def _shares(text: str) -> tuple[float, ...]:
    words = () if text == "none" else text.strip("()[] ").split(",")
    return tuple(_number(each) for each in words if each.strip())


_READERS: dict[Any, tuple[str, Any]] = {
    int: ("a whole number", _whole),
    float: ("a finite number", _number),
    bool: ("true or false", _flag),
    str: ("a word", str),
    int | None: ("a whole number or none", lambda text: None if text == "none" else _whole(text)),
    float | None: ("a finite number or none", lambda text: None if text == "none" else _number(text)),
    tuple[int, ...]: ("whole numbers with commas between", _widths),
    tuple[float, ...]: ("numbers with commas between, or none", _shares),
}

LARGEST = 2**31 - 1
AT_LEAST_ONE = (
    "steps_per_round", "updates_per_step", "batch_size", "refit_every", "branches", "length_first", "length_last",
    "retain", "critics", "networks", "elites", "model_batch_size", "model_patience", "evaluate_every",
    "evaluation_episodes",
)  # fmt: skip
POSITIVE = ("agent_learning_rate", "model_learning_rate", "first_temperature", "model_noise_rate")
SHARES = ("real_ratio", "discount", "target_rate")
MODELS = ("ensemble", "none", "true")
NOISES = ("heteroscedastic", "homoscedastic")
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
    last = settings.real_ratio_last
    _require(last is None or 0 <= last <= 1, settings, "real_ratio_last", "a number from 0 to 1, or none")
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
    _require(settings.horizon >= 0, settings, "horizon", "at least 0")
    for key in ("first_updates", "model_steps", "first_model_steps", "refresh_every"):
        value = getattr(settings, key)
        _require(value is None or value >= 1, settings, key, "at least 1, or none")
    _check_rounds(settings)
    for key in ("model_layer_norms", "model_dropout"):
        given, layers = getattr(settings, key), len(settings.model_hidden)
        most = 1.0 if key == "model_dropout" else math.inf
        fits = len(given) in (0, layers) and all(0 <= each < most for each in given)
        _require(fits, settings, key, f"none, or a number from 0 for each of {layers} hidden layers")
    _require(
        settings.model_steps is not None or not any(settings.model_dropout),
        settings,
        "model_dropout",
        "none where model_steps is none",
    )
    if settings.model_noise not in NOISES:
        raise InputError(
            f"model_noise: unknown {settings.model_noise!r}, {did_you_mean(settings.model_noise, NOISES)}"
        )
    if settings.model not in MODELS:
        raise InputError(f"model: unknown {settings.model!r}, {did_you_mean(settings.model, MODELS)}")
    return settings


def _check_rounds(settings: TaskSettings) -> None:
    """What is counted in rounds, or in groups of updates, must come out whole."""
    block, updates = settings.steps_per_round, settings.steps_per_round * settings.updates_per_step
    _require(
        settings.refit_every % block == 0,
        settings,
        "refit_every",
        f"a multiple of steps_per_round ({block})",
    )
    every = settings.refresh_every
    _require(
        every is None or updates % every == 0,
        settings,
        "refresh_every",
        f"a divisor of the {updates} updates of a round",
    )
    first = settings.first_updates
    _require(
        first is None or first % updates == 0,
        settings,
        "first_updates",
        f"a multiple of the {updates} updates of a round",
    )
    steps, first = settings.model_steps, settings.first_model_steps
    if first is not None:
        _require(
            steps is not None and first % steps == 0,
            settings,
            "first_model_steps",
            "none where model_steps is none" if steps is None else f"a multiple of model_steps ({steps})",
        )


def _require(holds: bool, settings: TaskSettings, key: str, expected: str) -> None:
    if not holds:
        raise InputError(f"{key}: expected {expected}, got {getattr(settings, key)}")
