"""From settings and a task to the parts and the plan of the loop."""

from __future__ import annotations

import os
from typing import Any

import jax.numpy as jnp

from mbpo.core.loop import Parts
from mbpo.core.mixing import RealRatio
from mbpo.core.parts import Model
from mbpo.core.plan import Branches, Plan, Replay
from mbpo.core.schedule import Linear
from mbpo.deep.ensemble import Ensemble
from mbpo.deep.sac import SoftActorCritic
from mbpo.environments.gymnasium_environment import GymnasiumEnvironment
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.environments.termination import LEARNED
from mbpo.environments.true_model import TrueModel
from mbpo.errors import InputError
from mbpo.presets import TaskSettings

PUBLISHED_DECAYS = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)


def assemble(settings: TaskSettings, environment: GymnasiumEnvironment, steps: int) -> tuple[Parts, Plan]:
    """The parts and the plan of a run of `steps` real steps; raises InputError where they cannot be built."""
    if steps <= settings.warmup_steps:
        raise InputError(
            f"steps: expected more than the {settings.warmup_steps} of the warm-up (warmup_steps), got {steps}"
        )
    if environment.max_episode_steps is None:
        raise InputError(
            f"{environment.id} has no time limit, so an evaluation might never end: register it with max_episode_steps "
            "or give --env-option max_episode_steps=1000"
        )
    _check_memory(settings, environment, steps)
    agent = SoftActorCritic(
        environment.observation_size,
        environment.action_size,
        _target_entropy(settings, environment),
        settings.agent_hidden,
        settings.discount,
        settings.agent_learning_rate,
        settings.target_rate,
        _reward_scale(settings, environment),
    )
    model = _model(settings, environment)
    plan = Plan(
        Replay(
            RealRatio.of(jnp.float32(settings.real_ratio)),
            settings.batch_size,
            None if model is None else _branches(settings),
        ),
        warmup_steps=settings.warmup_steps,
        rounds=steps - settings.warmup_steps,
        steps_per_round=1,
        updates_per_round=settings.updates_per_step,
        refit_every=settings.refit_every,
    )
    return Parts(None, model, agent), plan


def _check_memory(settings: TaskSettings, environment: GymnasiumEnvironment, steps: int) -> None:
    """Transitions are set aside once: refuse what this machine could not hold."""
    longest = max(settings.length_first, settings.length_last)
    rows = steps + (0 if settings.model == "none" else settings.branches * longest * settings.retain)
    needed = rows * (4 * (2 * environment.observation_size + environment.action_size + 1) + 2)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise InputError(
            f"branches x length x retain and the real steps need {needed / 2**30:.1f} GiB, this machine has "
            f"{there / 2**30:.1f}: lower branches, length_last or retain"
        )


def _target_entropy(settings: TaskSettings, environment: GymnasiumEnvironment) -> float:
    return -float(environment.action_size) if settings.target_entropy is None else settings.target_entropy


def _reward_scale(settings: TaskSettings, environment: GymnasiumEnvironment) -> float:
    task = environment.gym.unwrapped
    if settings.reward_scale is not None or not isinstance(task, LinearQuadraticTask):
        return 1.0 if settings.reward_scale is None else settings.reward_scale
    return 1.0 / task.optimum.cost if task.optimum.cost > 0 else 1.0


def _branches(settings: TaskSettings) -> Branches:
    first, last, start, end = (
        jnp.float32(each)
        for each in (settings.length_first, settings.length_last, settings.length_start, settings.length_end)
    )
    longest = max(settings.length_first, settings.length_last)
    varies = settings.length_first != settings.length_last
    return Branches(Linear(first, last, start, end), settings.branches, longest, settings.retain, varies)


def _model(settings: TaskSettings, environment: GymnasiumEnvironment) -> Model | None:
    if settings.model == "none":
        return None
    if settings.model == "true":
        task = environment.gym.unwrapped
        if not isinstance(task, LinearQuadraticTask):
            raise InputError(f"model true needs a linear-quadratic task, {environment.id} is not one")
        return TrueModel.of(task)
    rule: Any = environment.rule()
    return Ensemble(
        environment.observation_size,
        environment.action_size,
        None if rule == LEARNED else rule,
        networks=settings.networks,
        elites=settings.elites,
        hidden=settings.model_hidden,
        decays=_decays(settings),
        learning_rate=settings.model_learning_rate,
        patience=settings.model_patience,
        most_epochs=settings.model_epochs,
        normalise_targets=settings.normalise_targets,
        predict_change=settings.predict_change,
    )


def _decays(settings: TaskSettings) -> tuple[float, ...]:
    """The published decays, the middle one repeated or dropped where there are more or fewer layers."""
    first, second, middle, _, last = PUBLISHED_DECAYS
    count = len(settings.model_hidden) + 1
    inner = (first, second, *[middle] * max(count - 3, 0))[: count - 1]
    return tuple(settings.model_decay * each for each in (*inner, last))
