"""The loop of Model-Based Policy Optimisation (Janner et al. 2019): act, fit, imagine, improve.

    while clock.env_steps < plan.total_env_steps:
        real     <- act in the environment
        model    <- fit to real data
        imagined <- branch short rollouts from real states
        agent    <- updates on batches mixed by the real ratio

What it runs on is chosen by the parts; which published algorithm it is, by the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mbpo.core.buffer import Ring, add, empty, sample
from mbpo.core.parts import Agent, Environment, FittedModel, Model
from mbpo.core.plan import Branches, OnPolicy, Plan, Replay
from mbpo.core.rollout import Beginnings, RealSteps, act, act_in_turn, imagine
from mbpo.core.types import Clock, Experience, Transition

# each stage folds its own key: leaving one out moves no other's numbers
ACT, FIT, IMAGINE, IMPROVE, WARM_UP = range(5)

Watch = Callable[["RunState", RealSteps], Any]


class Parts(eqx.Module):
    """What the loop runs on; without a model it is a model-free loop, without an environment the world is outside
    JAX and `mbpo.core.host_loop` acts in it."""

    environment: Environment | None
    model: Model | None
    agent: Agent


class RunState(NamedTuple):
    """Everything that changes in a run."""

    clock: Clock
    world: Any
    real: Ring
    model: Any
    imagined: Ring
    policy: Any


class RoundInfo(NamedTuple):
    """What one round is logged by: clock after the round, real steps cut off, mean realised real share of the
    (last) batches, imagined transitions held, the agent's own info of the last update, and what `watch` saw."""

    clock: Clock
    cuts: Int[Array, ""]
    realised_ratio: Float[Array, ""]
    imagined_size: Int[Array, ""]
    update: Any
    watched: Any


def begin(parts: Parts, plan: Plan, key: PRNGKeyArray) -> RunState:
    """The state before any real step of a pure environment."""
    assert parts.environment is not None, "a world outside JAX begins with start_from"
    world_key = _first_keys(key)[0]
    world = parts.environment.reset(world_key)
    return start_from(parts, plan, world, _example(parts, parts.environment, world), key)


def start_from(parts: Parts, plan: Plan, world: Any, example: Transition, key: PRNGKeyArray) -> RunState:
    """The state before any real step, with rings for transitions like `example`."""
    _, model_key, agent_key = _first_keys(key)
    batches = plan.batches
    branches = batches.branches if isinstance(batches, Replay) else None
    remembers = parts.model is not None or isinstance(batches, Replay)
    return RunState(
        clock=Clock(jnp.int32(0), jnp.int32(0), jnp.int32(0), jnp.int32(0)),
        world=world,
        real=empty(example, plan.total_env_steps if remembers else 1),
        model=None if parts.model is None else parts.model.init(model_key),
        imagined=empty(example, branches.capacity if branches else 1),
        policy=parts.agent.init(agent_key),
    )


def _first_keys(key: PRNGKeyArray) -> PRNGKeyArray:
    """Keys of the world, the model and the agent before the first round."""
    return jax.random.split(jax.random.fold_in(key, 0), 3)


def _example(parts: Parts, environment: Environment, world: Any) -> Transition:
    """A transition of the right shapes and types, from an abstract step."""

    def step(key: PRNGKeyArray) -> Transition:
        acting = parts.agent.acting(parts.agent.init(key), 1, key)
        action = parts.agent.act(jax.tree.map(lambda leaf: leaf[0], acting), environment.observe(world), key)
        return environment.step(world, action, key).transition

    shapes = jax.eval_shape(step, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def gather(
    parts: Parts,
    plan: Plan,
    state: RunState,
    steps: int,
    key: PRNGKeyArray,
    only: Int[Array, ""] | None = None,
) -> tuple[RunState, RealSteps]:
    """Real <- act in the environment, `steps` steps or `only` the first of them. Where the world had to be cut, the
    agent retreats."""
    environment = parts.environment
    assert environment is not None, "a world outside JAX is acted in by mbpo.core.host_loop"
    reset_key, act_key = jax.random.split(key)
    batches = plan.batches
    fresh = isinstance(batches, OnPolicy) and batches.restart
    world = environment.reset(reset_key) if fresh else state.world
    by_trajectory = isinstance(batches, OnPolicy) and not batches.imagined and steps == plan.steps_per_round
    count = batches.episodes if isinstance(batches, OnPolicy) and by_trajectory else 1
    acting = parts.agent.acting(state.policy, count, jax.random.fold_in(act_key, 0))
    if jax.tree.leaves(acting)[0].shape[0] == 1:
        world, taken = act(environment, world, parts.agent, acting, steps, act_key, only)
    else:
        assert isinstance(batches, OnPolicy)
        world, taken = act_in_turn(
            environment, world, parts.agent, acting, batches.length, batches.twins, act_key
        )
    retreated = parts.agent.retreat(state.policy)
    policy = jax.tree.map(lambda r, p: jnp.where(taken.cuts > 0, r, p), retreated, state.policy)
    real = add(state.real, taken.transitions, taken.valid) if state.real.capacity > 1 else state.real
    clock = state.clock._replace(env_steps=state.clock.env_steps + (steps if only is None else only))
    return state._replace(clock=clock, world=world, real=real, policy=policy), taken


def refit(parts: Parts, state: RunState, key: PRNGKeyArray) -> RunState:
    """Model <- fit to real data."""
    return (
        state if parts.model is None else state._replace(model=parts.model.fit(state.model, state.real, key))
    )


def fitted(parts: Parts, state: RunState) -> FittedModel | None:
    """The model with its state, or None without one."""
    return None if parts.model is None else FittedModel(parts.model, state.model)


def branch(parts: Parts, branches: Branches, state: RunState, key: PRNGKeyArray) -> RunState:
    """Imagined <- branches of the current length from real states."""
    start_key, rollout_key = jax.random.split(key)
    goes_on = branches.restart or branches.refill is not None
    drawn = sample(state.real, (1 + goes_on * branches.longest) * branches.count, start_key).observation
    start, beginnings = drawn[: branches.count], None
    length = steps = jnp.clip(branches.length(state.clock.env_steps).astype(jnp.int32), 1, branches.longest)
    if goes_on:
        refill = jnp.bool_(False) if branches.refill is None else branches.refill
        due = refill & (jnp.arange(1, branches.longest + 1, dtype=jnp.int32) % length == 0)
        fresh = drawn[branches.count :].reshape(branches.longest, branches.count, -1)
        beginnings = Beginnings(fresh, due, jnp.broadcast_to(branches.restart | refill, due.shape))
        steps = jnp.where(refill, branches.longest, length)
    model = fitted(parts, state)
    assert model is not None, "a plan with branches needs a model"
    acting = parts.agent.acting(state.policy, branches.count, jax.random.fold_in(rollout_key, 0))
    taken, valid = imagine(
        model, parts.agent, acting, start, branches.longest, steps, rollout_key, beginnings=beginnings
    )
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), taken)
    kept = branches.count * steps * branches.retain if branches.varies else None
    return state._replace(imagined=add(state.imagined, rows, valid.reshape(-1), kept))


def improve(
    parts: Parts, plan: Plan, state: RunState, taken: RealSteps | None, key: PRNGKeyArray
) -> tuple[RunState, Float[Array, ""], Any]:
    """Agent <- updates on batches of the plan's kind; also the mean realised real share and the last info.

    taken: the round's real steps, which on-policy batches are made of.
    """
    model = fitted(parts, state)

    def update(state: RunState, key: PRNGKeyArray) -> tuple[RunState, tuple[Float[Array, ""], Any]]:
        batch_key, update_key = jax.random.split(key)
        transitions, valid, acting, share = _batch(parts, plan.batches, state, taken, batch_key)
        experience = Experience(transitions, valid, model, acting)
        policy, info = parts.agent.update(state.policy, experience, update_key)
        return state._replace(policy=policy), (share, info)

    def updates(state: RunState, count: int, key: PRNGKeyArray) -> tuple[RunState, Any]:
        return _scanned(update, state, ("policy",), jax.random.split(key, count))

    def refreshed(state: RunState, key: PRNGKeyArray) -> tuple[RunState, Any]:
        assert isinstance(plan.batches, Replay)
        assert plan.batches.branches is not None
        branch_key, update_key = jax.random.split(key)
        state = branch(parts, plan.batches.branches, state, branch_key)
        return updates(state, plan.batches.branches.refresh_every or 1, update_key)

    if plan.refresh_every is None:
        state, (shares, infos) = updates(state, plan.updates_per_round, key)
        last = jax.tree.map(lambda leaf: leaf[-1], infos)
    else:
        keys = jax.random.split(key, plan.updates_per_round // plan.refresh_every)
        state, (shares, infos) = _scanned(refreshed, state, ("policy", "imagined"), keys)
        last = jax.tree.map(lambda leaf: leaf[-1, -1], infos)
    clock = state.clock._replace(updates=state.clock.updates + plan.updates_per_round)
    return state._replace(clock=clock), jnp.mean(shares), last


def _scanned(
    step: Callable[[RunState, PRNGKeyArray], tuple[RunState, Any]],
    state: RunState,
    changing: tuple[str, ...],
    keys: PRNGKeyArray,
) -> tuple[RunState, Any]:
    """`step` after `step`, where only the fields `changing` of the state change: a loop copies what it carries."""

    def carried(values: tuple[Any, ...], key: PRNGKeyArray) -> tuple[tuple[Any, ...], Any]:
        after, found = step(state._replace(**dict(zip(changing, values, strict=True))), key)
        return tuple(getattr(after, name) for name in changing), found

    values, found = jax.lax.scan(carried, tuple(getattr(state, name) for name in changing), keys)
    return state._replace(**dict(zip(changing, values, strict=True))), found


def _batch(
    parts: Parts, batches: Replay | OnPolicy, state: RunState, taken: RealSteps | None, key: PRNGKeyArray
):
    """The transitions of one update, which rows are valid, what acted, and their real share."""
    if isinstance(batches, Replay):
        steps = state.clock.env_steps
        rows, share = batches.real_ratio.compose(state.real, state.imagined, batches.batch_size, steps, key)
        return rows, jnp.ones(batches.batch_size, bool), None, share
    if batches.imagined:
        return *_imagined_trajectories(parts, batches, state, key), jnp.zeros(())
    assert taken is not None, "on-policy batches are made of the round's real steps"
    shape = (batches.episodes, batches.length)
    rows = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), taken.transitions)
    whole = jnp.all(taken.valid.reshape(shape), axis=1) & (taken.cuts == 0)
    return rows, whole, taken.acting, jnp.ones(())


def _imagined_trajectories(
    parts: Parts, batches: OnPolicy, state: RunState, key: PRNGKeyArray
) -> tuple[Transition, Bool[Array, "B"], Any]:
    """Trajectories of the current policy in the model, which are whole, and what acted in each."""
    start_key, rollout_key = jax.random.split(key)
    model = fitted(parts, state)
    assert model is not None, "imagined trajectories need a model"
    count = batches.episodes // 2 if batches.twins else batches.episodes
    if batches.branched:
        start = sample(state.real, count, start_key).observation
    else:
        environment = parts.environment
        assert environment is not None, "rollouts from the start distribution need a pure environment"
        reset = jax.vmap(lambda key: environment.observe(environment.reset(key)))
        start = reset(jax.random.split(start_key, count))
    start = jnp.repeat(start, 2, axis=0) if batches.twins else start
    acting = parts.agent.acting(state.policy, batches.episodes, jax.random.fold_in(rollout_key, 0))
    rows, valid = imagine(model, parts.agent, acting, start, batches.length, None, rollout_key, batches.twins)
    return rows, jnp.all(valid, axis=1), acting


def round_keys(key: PRNGKeyArray, number: Int[Array, ""]) -> PRNGKeyArray:
    """The keys `[4]` of the stages of round `number`, counted from 1: ACT, FIT, IMAGINE and IMPROVE."""
    own = jax.random.fold_in(key, number)
    return jax.vmap(lambda stage: jax.random.fold_in(own, stage))(jnp.arange(WARM_UP))


def piece_keys(key: PRNGKeyArray, count: int) -> list[PRNGKeyArray]:
    """Keys of a stage that is done `count` times over in a round."""
    return [key] if count == 1 else list(jax.random.split(key, count))


def refresh(parts: Parts, plan: Plan, state: RunState, fits: int, stage: PRNGKeyArray) -> RunState:
    """Model <- `fits` fits; the agent looks at the data; imagined <- branches, unless updates refresh them."""
    for fit_key in piece_keys(stage[FIT], fits):
        state = refit(parts, state, fit_key)
    clock = state.clock._replace(fits=state.clock.fits + fits)
    state = state._replace(clock=clock, policy=parts.agent.refresh(state.policy, state.real))
    batches = plan.batches
    if isinstance(batches, Replay) and batches.branches is not None and plan.refresh_every is None:
        state = branch(parts, batches.branches, state, stage[IMAGINE])
    return state


def one_round(
    parts: Parts,
    plan: Plan,
    state: RunState,
    key: PRNGKeyArray,
    watch: Watch,
    first: bool = False,
    steps: Int[Array, ""] | None = None,
) -> tuple[RunState, RoundInfo]:
    """Act, fit, imagine, improve, once; the `first` round fits and improves as often as the plan says.

    steps: real steps of the round where rounds differ.
    """
    state = state._replace(clock=state.clock._replace(rounds=state.clock.rounds + 1))
    stage = round_keys(key, state.clock.rounds)
    state, taken = gather(parts, plan, state, plan.steps_per_round, stage[ACT], steps)
    if plan.refit_every == 1 or first:
        state = refresh(parts, plan, state, plan.first_fits if first else 1, stage)
    else:
        due = plan.refit_due(state.clock.rounds)
        state = jax.lax.cond(due, lambda s: refresh(parts, plan, s, 1, stage), lambda s: s, state)
    *early, last = piece_keys(stage[IMPROVE], plan.first_improves if first else 1)
    for improve_key in early:
        state, _, _ = improve(parts, plan, state, taken, improve_key)
    state, share, update = improve(parts, plan, state, taken, last)
    return state, RoundInfo(state.clock, taken.cuts, share, state.imagined.size, update, watch(state, taken))


def mbpo(parts: Parts, plan: Plan, key: PRNGKeyArray, watch: Watch) -> tuple[RunState, Any, RoundInfo]:
    """A whole run of a pure environment as one traceable program, ready for `jit` and `vmap` over keys or settings.

    Returns the final state, what `watch` saw after the warm-up, and the `RoundInfo` of every round (leaves
    `[rounds, ...]`); `watch` says what of the state and of the real steps just taken is worth keeping.
    """
    state = begin(parts, plan, key)
    warmup_key = jax.random.fold_in(jax.random.fold_in(key, state.clock.rounds), WARM_UP)
    state, taken = gather(parts, plan, state, plan.warmup_steps, warmup_key)
    start = watch(state, taken)
    steps = jnp.asarray(plan.steps_of_rounds, jnp.int32) if plan.early else None
    first = None
    if max(plan.first_fits, plan.first_improves) > 1:
        state, first = one_round(
            parts, plan, state, key, watch, first=True, steps=None if steps is None else steps[0]
        )
        steps = None if steps is None else steps[1:]
    state, infos = jax.lax.scan(
        lambda state, steps: one_round(parts, plan, state, key, watch, steps=steps),
        state,
        steps,
        length=plan.rounds - (first is not None),
    )
    if first is not None:
        infos = jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), first, infos)
    return state, start, infos
