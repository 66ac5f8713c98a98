"""The agents that a run on a control task can name, and how one of a user's own is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from mbpo.core.parts import Agent
from mbpo.deep.sac import SoftActorCritic
from mbpo.deep.value_gradient import ValueGradient
from mbpo.environments.making import imported
from mbpo.errors import InputError, did_you_mean
from mbpo.presets import TaskSettings

Maker = Callable[[TaskSettings, int, int], Agent]
"""(settings, observation size n, action size m) -> the agent"""


def _sac(settings: TaskSettings, observation_size: int, action_size: int) -> Agent:
    return SoftActorCritic(
        observation_size,
        action_size,
        _target_entropy(settings, action_size),
        settings.agent_hidden,
        settings.discount,
        settings.agent_learning_rate,
        settings.target_rate,
        settings.reward_scale or 1.0,
        settings.first_temperature,
    )


def _value_gradient(settings: TaskSettings, observation_size: int, action_size: int) -> Agent:
    return ValueGradient(
        observation_size,
        action_size,
        _target_entropy(settings, action_size),
        horizon=settings.horizon,
        hidden=settings.agent_hidden,
        critics=settings.critics,
        discount=settings.discount,
        learning_rate=settings.agent_learning_rate,
        target_rate=settings.target_rate,
        first_temperature=settings.first_temperature,
        reward_scale=settings.reward_scale or 1.0,
    )


AGENTS: dict[str, Maker] = {"sac": _sac, "value-gradient": _value_gradient}


def make_agent(
    settings: TaskSettings, observation_size: int, action_size: int, optimal_cost: float | None = None
) -> Agent:
    """The agent that `settings.agent` names: one of `AGENTS`, or `module:function`, a function like those in it.

    optimal_cost: J*, in units of which rewards are learned unless `reward_scale` says otherwise. Raises InputError,
    one sentence, where there is no such agent.
    """
    if settings.reward_scale is None and optimal_cost is not None and optimal_cost > 0:
        settings = dataclasses.replace(settings, reward_scale=1.0 / optimal_cost)
    name = settings.agent
    if name in AGENTS:
        return AGENTS[name](settings, observation_size, action_size)
    module, colon, function = name.partition(":")
    if not colon or not module or not function.isidentifier():
        tail = f"{did_you_mean(name, AGENTS)} (one of your own is named 'module:function')"
        raise InputError(f"agent: unknown {name!r}, {tail}")
    maker = getattr(imported(module, f"the agent {name!r}"), function, None)
    if maker is None:
        raise InputError(f"agent {name}: the module {module!r} has no {function!r}")
    try:
        made = maker(settings, observation_size, action_size)
    except TypeError as error:
        raise InputError(
            f"agent {name}: expected a function of (settings, observation size, action size) that makes a complete "
            f"Agent: {error}"
        ) from None
    if not isinstance(made, Agent):
        raise InputError(f"agent {name}: expected an mbpo.core.parts.Agent, got a {type(made).__name__}")
    return made


def _target_entropy(settings: TaskSettings, action_size: int) -> float:
    asked = settings.target_entropy
    return settings.entropy_per_action * action_size if asked is None else asked
