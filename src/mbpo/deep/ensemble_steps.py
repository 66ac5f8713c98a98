"""Fitting the ensemble by a fixed number of gradient steps, so that a fit costs the same however much data there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from mbpo.core.buffer import Ring, held
from mbpo.deep.ensemble_fit import loss_of_bounds, loss_of_termination, raw
from mbpo.deep.standardise import Affine, moments

if TYPE_CHECKING:
    from mbpo.deep.ensemble import Ensemble, EnsembleState, Heads

HOLDOUT_SHARE, HOLDOUT_MOST = 0.1, 4096
LEAST_SPREAD = 1e-4  # added to the standard deviation of an input or target
REWARD_JITTER = (
    1e-3  # noise on the standardised reward: a constant one would drive its deviation to the floor
)
DEVIATION_DECAY = 1e-2
POOL = 1 << 21  # random bits that dropout masks are cut out of: drawing them costs more than the products


class StepsState(NamedTuple):
    """Seed of each row's own random numbers, and each network's hold-out loss -log N(y; mu, sigma^2), in nats without
    constants, before and after the last fit."""

    seed: UInt32[Array, "2"]
    before: Float[Array, "E"]
    after: Float[Array, "E"]


class Rows(NamedTuple):
    """Every real row, standardised: inputs `[C, p]`, targets `[C, d]`, terminal `[C]`; the weight of each row for each
    network `[C, E]`; rows held out in the first `held_out` places of `order`, followed by `training` others."""

    inputs: Float[Array, "C p"]
    targets: Float[Array, "C d"]
    terminal: Float[Array, "C"]
    weight: Float[Array, "C E"]
    order: Int[Array, "C"]
    held_out: Int[Array, ""]
    training: Int[Array, ""]


def begin(networks: int, key: PRNGKeyArray) -> StepsState:
    """Before any data."""
    unknown = jnp.full(networks, jnp.inf, jnp.float32)
    return StepsState(jax.random.key_data(key), unknown, unknown)


def fit(part: Ensemble, state: EnsembleState, real: Ring, key: PRNGKeyArray) -> EnsembleState:
    """The ensemble after `fit_steps` gradient steps on batches of all real data, warm-started, Adam's moments included.

    Each step minimises, for each network, mean_rows w [ (mu - y)^2 / (2 sigma^2) + log sigma ] summed over targets,
    with weights w ~ Exp(1) drawn once for each row and network (Bayesian bootstrap, Rubin 1981), by Adam with decoupled
    weight decay (Loshchilov and Hutter 2019); a homoscedastic log sigma moves at `deviation_rate` times the rate. A
    tenth of the rows, at most 4096, are held out for good; the `elites` are the networks with the smallest loss there.
    A fit that ends in numbers that are not finite changes nothing, and leaves hold-out errors of infinity.
    """
    assert part.fit_steps is not None
    assert state.steps is not None
    before, own = state, state.steps
    state, rows = _prepared(part, state, real)
    pool_key, step_key = jax.random.split(key)
    pool = jax.random.bits(pool_key, (POOL,), jnp.uint16) if part.dropout else None
    first, _ = holdout(part, state.heads, rows)

    def step(carry: tuple[Heads, Any], key: PRNGKeyArray) -> tuple[tuple[Heads, Any], None]:
        heads, optimiser = carry
        row_key, jitter_key, mask_key = jax.random.split(key, 3)
        place = jax.random.randint(
            row_key, (part.networks, part.batch_size), 0, jnp.maximum(rows.training, 1)
        )
        index = rows.order[rows.held_out + place]
        jitter = REWARD_JITTER * jax.random.normal(jitter_key, index.shape, jnp.float32)
        taken = Rows(
            rows.inputs[index],
            rows.targets[index].at[..., 0].add(jitter),
            rows.terminal[index],
            rows.weight[index, jnp.arange(part.networks)[:, None]],
            *rows[4:],
        )
        masks = () if pool is None else _masks(part, pool, mask_key)
        gradient = jax.grad(loss, argnums=1)(part, heads, taken, masks)
        return _descended(part, gradient, optimiser, heads), None

    (heads, optimiser), _ = jax.lax.scan(
        step, (state.heads, state.optimiser), jax.random.split(step_key, part.fit_steps)
    )
    last, error = holdout(part, heads, rows)
    fitted = state._replace(
        heads=heads,
        optimiser=optimiser,
        elites=jnp.argsort(last)[: part.elites].astype(jnp.int32),
        steps=own._replace(before=first, after=last),
    )
    learned = (heads, optimiser, state.inputs, state.targets, last)
    sound = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(learned)]))
    kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), fitted, before)
    return kept._replace(holdout_error=jnp.where(sound, error, jnp.inf), epochs=jnp.int32(part.fit_steps))


def loss(
    part: Ensemble, heads: Heads, rows: Rows, masks: tuple[Float[Array, "E B h"], ...]
) -> Float[Array, ""]:
    """What a gradient step descends: the weighted negative log likelihood, summed over networks and targets."""
    mean, log_variance, logit = part.predict(heads, rows.inputs, masks)
    each = jnp.sum(_likelihood(mean, log_variance, rows.targets), axis=-1)
    if part.learns_termination:
        each = each + loss_of_termination(logit, rows.terminal)
    total = jnp.sum(jnp.mean(rows.weight * each, axis=1))
    return total + loss_of_bounds(heads)


def holdout(part: Ensemble, heads: Heads, rows: Rows) -> tuple[Float[Array, "E"], Float[Array, "E"]]:
    """Each network's mean loss, and the mean squared error of its mean, over the rows held out."""
    most = min(HOLDOUT_MOST, rows.order.shape[0])
    index = rows.order[:most]
    inside = (jnp.arange(most) < rows.held_out).astype(jnp.float32)
    x = jnp.broadcast_to(rows.inputs[index][None], (part.networks, most, rows.inputs.shape[1]))
    mean, log_variance, _ = part.predict(heads, x)
    y = rows.targets[index][None]
    count = jnp.maximum(rows.held_out, 1).astype(jnp.float32)
    likelihood = jnp.sum(_likelihood(mean, log_variance, y) * inside[None, :, None], axis=(1, 2)) / count
    square = jnp.sum((mean - y) ** 2 * inside[None, :, None], axis=(1, 2)) / (count * part.target_size)
    return likelihood, square


def _likelihood(mean: Array, log_variance: Array, y: Array) -> Array:
    return 0.5 * ((y - mean) ** 2 * jnp.exp(-log_variance) + log_variance)


def _prepared(part: Ensemble, state: EnsembleState, real: Ring) -> tuple[EnsembleState, Rows]:
    """Rows with their weights and places, standardised by all real data."""
    assert state.steps is not None
    own = jax.random.wrap_key_data(state.steps.seed)
    share_key, weight_key = jax.random.split(own)
    capacity, inside = real.capacity, held(real)
    drawn = inside & (jax.random.uniform(share_key, (capacity,), jnp.float32) < HOLDOUT_SHARE)
    out = drawn & (jnp.cumsum(drawn, dtype=jnp.int32) <= HOLDOUT_MOST)
    order = jnp.argsort(jnp.where(out, 0, jnp.where(inside, 1, 2)), stable=True).astype(jnp.int32)
    held_out = jnp.sum(out, dtype=jnp.int32)
    weight = jax.random.exponential(weight_key, (capacity, part.networks), jnp.float32)
    inputs, targets = raw(part, real)
    chosen = inside.astype(jnp.float32)
    state = state._replace(inputs=_affine(inputs, chosen))
    if part.normalise_targets:
        state = state._replace(targets=_affine(targets, chosen))
    rows = Rows(
        (inputs - state.inputs.mean[None]) / state.inputs.scale[None],
        (targets - state.targets.mean[None]) / state.targets.scale[None],
        real.data.terminal.astype(jnp.float32),
        weight,
        order,
        held_out,
        real.size - held_out,
    )
    return state, rows


def _affine(rows: Float[Array, "C d"], weight: Float[Array, "C"]) -> Affine:
    mean, scale = moments(rows, weight)
    return Affine(mean, scale + LEAST_SPREAD)


def _masks(part: Ensemble, pool: Array, key: PRNGKeyArray) -> tuple[Float[Array, "E B h"], ...]:
    """Dropout's factors of each hidden layer: 0 with its probability, else what keeps the mean."""
    masks = []
    keys = jax.random.split(key, len(part.hidden))
    for own, width, share in zip(keys, part.hidden, part.dropout, strict=True):
        shape = (part.networks, part.batch_size, width)
        size = int(np.prod(shape))
        if size <= pool.shape[0]:
            start = jax.random.randint(own, (), 0, pool.shape[0] - size + 1)
            bits = jax.lax.dynamic_slice(pool, (start,), (size,)).reshape(shape)
        else:
            bits = jax.random.bits(own, shape, jnp.uint16)
        kept = bits >= np.uint16(share * 65536)
        masks.append(jnp.where(kept, jnp.float32(1.0 / (1.0 - share)), jnp.float32(0.0)))
    return tuple(masks)


def _descended(part: Ensemble, gradient: Heads, optimiser: Any, heads: Heads) -> tuple[Heads, Any]:
    """One step of Adam with decoupled decay; the rate of a homoscedastic deviation is its own."""
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        change, optimiser = optax.adam(-1.0).update(cast(Any, gradient), optimiser)
    assert isinstance(change, type(heads))
    rate = part.learning_rate
    layers = tuple(
        type(old)(old.weight - rate * (new.weight + decay * old.weight), old.bias - rate * new.bias)
        for old, new, decay in zip(heads.layers, change.layers, part.decays, strict=True)
    )
    if heads.log_deviation is None:
        bounds = (heads.max_log_variance, heads.min_log_variance)
        moved = (change.max_log_variance, change.min_log_variance)
        most, least = (
            None if old is None or new is None else old - rate * new
            for old, new in zip(bounds, moved, strict=True)
        )
        return type(heads)(layers, most, least), optimiser
    assert change.log_deviation is not None
    moved = part.deviation_rate * change.log_deviation + DEVIATION_DECAY * heads.log_deviation
    return type(heads)(layers, log_deviation=heads.log_deviation - rate * moved), optimiser
