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
from mbpo.environments.gymnasium_environment import GymnasiumEnvironment
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.environments.termination import LEARNED
from mbpo.environments.true_model import TrueModel
from mbpo.errors import InputError
from mbpo.presets import TaskSettings
from mbpo.runs.task_agents import make_agent

PUBLISHED_DECAYS = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
DECOUPLED_DECAY = 1e-3  # of the last layer


def assemble(settings: TaskSettings, environment: GymnasiumEnvironment, steps: int) -> tuple[Parts, Plan]:
    """The parts and the plan of a run of `steps` real steps; raises InputError where they cannot be built."""
    if steps < settings.warmup_steps + settings.steps_per_round:
        rest = (
            "more than" if settings.steps_per_round == 1 else f"a round of {settings.steps_per_round} beside"
        )
        raise InputError(
            f"steps: expected {rest} the {settings.warmup_steps} of the warm-up (warmup_steps), got {steps}"
        )
    if environment.max_episode_steps is None:
        raise InputError(
            f"{environment.id} has no time limit, so an evaluation might never end: register it with max_episode_steps "
            "or give --env-option max_episode_steps=1000"
        )
    _check_memory(settings, environment, steps)
    agent = make_agent(settings, environment.observation_size, environment.action_size, _cost(environment))
    model = _model(settings, environment)
    if settings.agent == "value-gradient" and (model is None or not model.differentiable):
        raise InputError(
            f"agent value-gradient differentiates through its model, which model {settings.model} does not offer: "
            "expected ensemble or true"
        )
    block, updates = settings.steps_per_round, settings.steps_per_round * settings.updates_per_step
    plan = Plan(
        Replay(
            RealRatio.between(settings.real_ratio, settings.real_ratio_last, steps, jnp.float32),
            settings.batch_size,
            None if model is None else _branches(settings),
        ),
        warmup_steps=warmup_of(settings, steps),
        rounds=(steps - settings.warmup_steps) // block,
        steps_per_round=block,
        updates_per_round=updates,
        refit_every=settings.refit_every // block,
        first_fits=_times(settings.first_model_steps, settings.model_steps),
        first_improves=_times(settings.first_updates, updates),
    )
    return Parts(None, model, agent), plan


def warmup_of(settings: TaskSettings, steps: int) -> int:
    """Real steps of the warm-up: those asked for, and what does not fill a round of the rest."""
    return settings.warmup_steps + (steps - settings.warmup_steps) % settings.steps_per_round


def _times(first: int | None, each: int | None) -> int:
    return 1 if first is None or each is None else first // each


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


def _cost(environment: GymnasiumEnvironment) -> float | None:
    """The optimal cost where it is known, in units of which a linear-quadratic task is learned."""
    task = environment.gym.unwrapped
    return task.optimum.cost if isinstance(task, LinearQuadraticTask) else None


def _branches(settings: TaskSettings) -> Branches:
    first, last, start, end = (
        jnp.float32(each)
        for each in (settings.length_first, settings.length_last, settings.length_start, settings.length_end)
    )
    longest = max(settings.length_first, settings.length_last)
    return Branches(
        Linear(first, last, start, end),
        settings.branches,
        longest,
        settings.retain,
        settings.length_first != settings.length_last,
        settings.refresh_every,
        settings.restart_branches,
    )


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
        batch_size=settings.model_batch_size,
        patience=settings.model_patience,
        most_epochs=settings.model_epochs,
        normalise_targets=settings.normalise_targets,
        predict_change=settings.predict_change,
        homoscedastic=settings.model_noise == "homoscedastic",
        layer_norms=settings.model_layer_norms,
        dropout=settings.model_dropout,
        fit_steps=settings.model_steps,
        deviation_rate=settings.model_noise_rate,
    )


def _decays(settings: TaskSettings) -> tuple[float, ...]:
    """The published decays, the middle one repeated or dropped where there are more or fewer layers; decoupled ones
    grow by equal steps."""
    first, second, middle, _, last = PUBLISHED_DECAYS
    count = len(settings.model_hidden) + 1
    if settings.model_steps is not None:
        return tuple(settings.model_decay * DECOUPLED_DECAY * (i + 1) / count for i in range(count))
    inner = (first, second, *[middle] * max(count - 3, 0))[: count - 1]
    return tuple(settings.model_decay * each for each in (*inner, last))
