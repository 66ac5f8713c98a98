"""Rolling a policy through the real world and through a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mbpo.core.parts import Agent, Environment, FittedModel
from mbpo.core.types import Transition


class RealSteps(NamedTuple):
    """Consecutive real steps: transitions `[T]`, which of them may be kept, how often the world was cut, and what
    acted, one for each trajectory (or one for all)."""

    transitions: Transition
    valid: Bool[Array, "T"]
    cuts: Int[Array, ""]
    acting: Any


class Beginnings(NamedTuple):
    """Where branches begin anew after each of T steps, whether all of them do, and whether those do that it ended."""

    state: Float[Array, "T B n"]
    due: Bool[Array, "T"]
    ended: Bool[Array, "T"]


def act(
    environment: Environment,
    world: Any,
    agent: Agent,
    acting: Any,
    steps: int,
    key: PRNGKeyArray,
    taken: Int[Array, ""] | None = None,
) -> tuple[Any, RealSteps]:
    """`steps` real steps under `acting` (leading axis 1); the world restarts where an episode ends or is cut. Of these
    only the first `taken` are (default: all); the others are padding, marked not valid."""
    one = jax.tree.map(lambda leaf: leaf[0], acting)

    def advance(world: Any, key: PRNGKeyArray) -> tuple[Any, tuple[Transition, Bool[Array, ""]]]:
        action_key, step_key, reset_key = jax.random.split(key, 3)
        action = agent.act(one, environment.observe(world), action_key)
        step = environment.step(world, action, step_key)
        restart = step.transition.terminal | step.transition.truncated | ~step.valid
        fresh = environment.reset(reset_key)
        world = jax.tree.map(lambda new, old: jnp.where(restart, new, old), fresh, step.state)
        return world, (step.transition, step.valid)

    def advance_if_due(world: Any, inputs: tuple[Array, PRNGKeyArray]):
        number, key = inputs
        assert taken is not None
        shapes = jax.eval_shape(advance, world, key)[1]
        padding = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.cond(number < taken, advance, lambda world, _: (world, padding), world, key)

    keys = jax.random.split(key, steps)
    if taken is None:
        world, (transitions, valid) = jax.lax.scan(advance, world, keys)
        return world, RealSteps(transitions, valid, jnp.sum(~valid, dtype=jnp.int32), acting)
    numbers = jnp.arange(steps, dtype=jnp.int32)
    world, (transitions, valid) = jax.lax.scan(advance_if_due, world, (numbers, keys))
    cuts = jnp.sum(~valid & (numbers < taken), dtype=jnp.int32)
    return world, RealSteps(transitions, valid, cuts, acting)


def act_in_turn(
    environment: Environment,
    world: Any,
    agent: Agent,
    acting: Any,
    steps: int,
    twins: bool,
    key: PRNGKeyArray,
) -> tuple[Any, RealSteps]:
    """Trajectories of `steps` real steps one after the other, each under its own element of `acting`; `twins` are
    pairs that share start and noise."""
    count = jax.tree.leaves(acting)[0].shape[0]
    group = 2 if twins else 1
    grouped = jax.tree.map(lambda leaf: leaf.reshape(count // group, group, 1, *leaf.shape[1:]), acting)

    def trajectory(world: Any, inputs: tuple[Any, PRNGKeyArray]):
        members, key = inputs
        ends, taken = zip(
            *(
                act(environment, world, agent, jax.tree.map(lambda leaf, i=i: leaf[i], members), steps, key)
                for i in range(group)
            ),
            strict=True,
        )
        return ends[-1], jax.tree.map(lambda *leaves: jnp.stack(leaves), *taken)

    world, taken = jax.lax.scan(trajectory, world, (grouped, jax.random.split(key, count // group)))
    transitions, valid = jax.tree.map(
        lambda leaf: leaf.reshape(count * steps, *leaf.shape[3:]), (taken.transitions, taken.valid)
    )
    return world, RealSteps(transitions, valid, jnp.sum(~valid, dtype=jnp.int32), acting)


def imagine(
    model: FittedModel,
    agent: Agent,
    acting: Any,
    start: Float[Array, "B n"],
    steps: int,
    length: Int[Array, ""] | None,
    key: PRNGKeyArray,
    twins: bool = False,
    beginnings: Beginnings | None = None,
) -> tuple[Transition, Bool[Array, "B T"]]:
    """Branches of up to `steps` imagined steps from `start`, `[B, T]`; a branch stops after `length` steps
    (default: all), at a terminal state, or at its first invalid step, unless `beginnings` let it go on. What follows is
    padding, marked not valid.

    acting: leading axis B, or 1 where all branches share it; `twins`: branches 2j and 2j + 1 share their noise.
    """
    count = start.shape[0]
    shared = jax.tree.leaves(acting)[0].shape[0] == 1
    acting = jax.tree.map(lambda leaf: leaf[0], acting) if shared else acting
    choose = jax.vmap(agent.act_imagined, (None if shared else 0, 0, 0))

    def advance(carry, inputs):
        observation, alive = carry
        key, again = inputs
        keys = jax.random.split(key, (2, count // 2 if twins else count))
        action_keys, step_keys = jnp.repeat(keys, 2, axis=1) if twins else keys
        action = choose(acting, observation, action_keys)
        transition, valid = model.step(observation, action, step_keys)
        keep = alive & valid
        following = jnp.where(keep[:, None], transition.next_observation, observation)
        goes_on = keep & ~transition.terminal
        if again is None:
            return (following, goes_on), (transition, keep)
        anew = again.due | (again.ended & ~goes_on)
        return (jnp.where(anew[:, None], again.state, following), goes_on | anew), (transition, keep)

    def advance_if_due(carry, inputs):
        step, *given = inputs
        if length is None:
            return advance(carry, given)
        padding = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(advance, carry, given)[1]
        )
        return jax.lax.cond(step < length, advance, lambda carry, given: (carry, padding), carry, given)

    keys = jax.random.split(key, steps)
    alive = jnp.ones(count, bool)
    counter = jnp.arange(steps, dtype=jnp.int32)
    _, (transitions, valid) = jax.lax.scan(advance_if_due, (start, alive), (counter, keys, beginnings))
    by_branch = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), transitions)
    return by_branch, jnp.swapaxes(valid, 0, 1)
