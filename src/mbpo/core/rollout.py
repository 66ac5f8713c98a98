"""Rolling a policy through the real world and through a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mbpo.core.parts import Agent, Environment, FittedModel
from mbpo.core.types import Transition


class RealSteps(NamedTuple):
    """Consecutive real steps: transitions `[T]`, which of them may be kept, and how often the world was cut."""

    transitions: Transition
    valid: Bool[Array, "T"]
    cuts: Int[Array, ""]


def act(
    environment: Environment, world: Any, agent: Agent, policy: Any, steps: int, key: PRNGKeyArray
) -> tuple[Any, RealSteps]:
    """`steps` real steps with a fixed exploring policy; the world restarts where an episode ends or is cut."""

    def advance(world: Any, key: PRNGKeyArray) -> tuple[Any, tuple[Transition, Bool[Array, ""]]]:
        action_key, step_key, reset_key = jax.random.split(key, 3)
        action = agent.act(policy, environment.observe(world), action_key)
        step = environment.step(world, action, step_key)
        restart = step.transition.terminal | step.transition.truncated | ~step.valid
        fresh = environment.reset(reset_key)
        world = jax.tree.map(lambda new, old: jnp.where(restart, new, old), fresh, step.state)
        return world, (step.transition, step.valid)

    world, (transitions, valid) = jax.lax.scan(advance, world, jax.random.split(key, steps))
    return world, RealSteps(transitions, valid, jnp.sum(~valid, dtype=jnp.int32))


def imagine(
    model: FittedModel,
    agent: Agent,
    policy: Any,
    start: Float[Array, "B n"],
    steps: int,
    length: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Transition, Bool[Array, "B T"]]:
    """Branches of up to `steps` imagined steps from `start`, `[B, T]`; a branch stops after `length` steps, at a
    terminal state, or at its first invalid step. Steps after that are padding, marked not valid."""

    def advance(carry, inputs):
        observation, alive = carry
        key, step = inputs
        action_keys, step_keys = jax.random.split(key, (2, observation.shape[0]))
        action = jax.vmap(agent.act_imagined, (None, 0, 0))(policy, observation, action_keys)
        transition, valid = jax.vmap(model.step)(observation, action, step_keys)
        keep = alive & valid & (step < length)
        following = jnp.where(keep[:, None], transition.next_observation, observation)
        return (following, keep & ~transition.terminal), (transition, keep)

    keys = jax.random.split(key, steps)
    alive = jnp.ones(start.shape[0], bool)
    counter = jnp.arange(steps, dtype=jnp.int32)
    _, (transitions, valid) = jax.lax.scan(advance, (start, alive), (keys, counter))
    by_branch = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), transitions)
    return by_branch, jnp.swapaxes(valid, 0, 1)
