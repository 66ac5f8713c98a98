"""Fitting the ensemble: bootstrap, mini-batches, early stopping on a shared hold-out, and the choice of elites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mbpo.core.buffer import Ring, held
from mbpo.deep import adam
from mbpo.deep.standardise import Affine, moments

if TYPE_CHECKING:
    from mbpo.deep.ensemble import Ensemble, EnsembleState, Heads

IMPROVEMENT = 0.01  # relative fall of the hold-out error that replaces a network's best snapshot
CHUNK = 512  # hold-out rows evaluated at once
SMALLEST_SCALE = 1e-12  # a coordinate that varies less is not scaled


class Table(NamedTuple):
    """Every real row, standardised: inputs `[C, p]`, targets `[C, d]`, and which are terminal `[C]`."""

    inputs: Float[Array, "C p"]
    targets: Float[Array, "C d"]
    terminal: Float[Array, "C"]


class Split(NamedTuple):
    """Rows in random order, the first `holdout` of them held out; `training` follow; each network's bootstrap draws
    `[E, C]` from the latter."""

    order: Int[Array, "C"]
    holdout: Int[Array, ""]
    training: Int[Array, ""]
    bootstrap: Int[Array, "E C"]


class Fit(NamedTuple):
    """Progress of a fit: networks, optimiser, each network's best layers and their error, epochs, and epochs since
    any network improved."""

    heads: Any
    optimiser: Any
    best: Any
    best_error: Float[Array, "E"]
    epochs: Int[Array, ""]
    waiting: Int[Array, ""]


def fit(part: Ensemble, state: EnsembleState, real: Ring, key: PRNGKeyArray) -> EnsembleState:
    """The ensemble after fitting to all real data, warm-started from `state`, Adam's moments included.

    Epochs go on until no network's hold-out error has fallen by 1 % for more than `patience` of them; each network
    then returns to its own best layers, and the `elites` with the smallest hold-out errors are chosen. A fit that ends
    in numbers that are not finite changes nothing, and leaves hold-out errors of infinity.
    """
    before = state
    split_key, train_key = jax.random.split(key)
    split = _split(part, real, split_key)
    state = _standardise(part, state, real, split)
    table = _table(part, state, real)
    start = Fit(
        state.heads,
        state.optimiser,
        state.heads.layers,
        jnp.full(part.networks, jnp.inf, jnp.float32),
        jnp.int32(0),
        jnp.int32(0),
    )

    def goes_on(done: Fit) -> Bool[Array, ""]:
        within = jnp.bool_(True) if part.most_epochs is None else done.epochs < part.most_epochs
        return within & (done.waiting <= part.patience)

    def epoch(done: Fit) -> Fit:
        return _epoch(part, table, split, done, jax.random.fold_in(train_key, done.epochs))

    done = jax.lax.while_loop(goes_on, epoch, start)
    elites = jnp.argsort(done.best_error)[: part.elites].astype(jnp.int32)
    heads = done.heads._replace(layers=done.best)
    fitted = state._replace(heads=heads, optimiser=done.optimiser, elites=elites)
    learned = (heads, done.optimiser, state.inputs, state.targets)
    sound = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(learned)]))
    kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), fitted, before)
    error = jnp.where(sound, done.best_error, jnp.inf)
    return kept._replace(holdout_error=error, epochs=done.epochs)


def _split(part: Ensemble, real: Ring, key: PRNGKeyArray) -> Split:
    order_key, bootstrap_key = jax.random.split(key)
    share = jnp.floor(part.holdout_share * real.size.astype(jnp.float32)).astype(jnp.int32)
    holdout = jnp.minimum(share, part.holdout_most)
    training = real.size - holdout
    draws = jax.random.randint(bootstrap_key, (part.networks, real.capacity), 0, jnp.maximum(training, 1))
    return Split(_shuffled(real.capacity, real.size, order_key), holdout, training, draws)


def _shuffled(capacity: int, size: Int[Array, ""], key: PRNGKeyArray) -> Int[Array, "C"]:
    """A random order of 0 .. size - 1, followed by the rest."""
    weight = jax.random.uniform(key, (capacity,), jnp.float32)
    return jnp.argsort(weight + 2.0 * (jnp.arange(capacity) >= size).astype(jnp.float32)).astype(jnp.int32)


def raw(part: Ensemble, real: Ring) -> tuple[Array, Array]:
    """Inputs [observation, action] and targets [reward, (change of the) observation] of every place of the ring."""
    rows = real.data
    following = rows.next_observation - rows.observation if part.predict_change else rows.next_observation
    inputs = jnp.concatenate([rows.observation, rows.action], axis=1)
    return inputs, jnp.concatenate([rows.reward[:, None], following], axis=1)


def _standardise(part: Ensemble, state: EnsembleState, real: Ring, split: Split) -> EnsembleState:
    """Mean and standard deviation of the training rows."""
    rank = jnp.zeros(real.capacity, jnp.int32).at[split.order].set(jnp.arange(real.capacity, dtype=jnp.int32))
    chosen = (held(real) & (rank >= split.holdout)).astype(jnp.float32)
    inputs, targets = (_affine(each, chosen) for each in raw(part, real))
    changed = state._replace(inputs=inputs)
    return changed._replace(targets=targets) if part.normalise_targets else changed


def _affine(rows: Float[Array, "C d"], weight: Float[Array, "C"]) -> Affine:
    mean, scale = moments(rows, weight)
    return Affine(mean, jnp.where(scale < SMALLEST_SCALE, 1.0, scale))


def _table(part: Ensemble, state: EnsembleState, real: Ring) -> Table:
    inputs, targets = raw(part, real)
    return Table(
        (inputs - state.inputs.mean[None]) / state.inputs.scale[None],
        (targets - state.targets.mean[None]) / state.targets.scale[None],
        real.data.terminal.astype(jnp.float32),
    )


def _epoch(part: Ensemble, table: Table, split: Split, done: Fit, key: PRNGKeyArray) -> Fit:
    """Every bootstrap row once, in a new order; then the hold-out decides which networks improved."""
    order = _shuffled(table.inputs.shape[0], split.training, key)
    batches = (split.training + part.batch_size - 1) // part.batch_size

    def descend(batch: Int[Array, ""], carry: tuple[Heads, Any]) -> tuple[Heads, Any]:
        heads, optimiser = carry
        slot = batch * part.batch_size + jnp.arange(part.batch_size, dtype=jnp.int32)
        inside = (slot < split.training).astype(jnp.float32)
        place = order[jnp.minimum(slot, split.training - 1)]
        rows = split.order[split.holdout + split.bootstrap[:, place]]
        taken = jax.tree.map(lambda leaf: leaf[rows], table)
        gradient = jax.grad(loss, argnums=1)(part, heads, taken, inside)
        return adam.step(gradient, optimiser, heads, part.learning_rate)

    heads, optimiser = jax.lax.fori_loop(0, batches, descend, (done.heads, done.optimiser))
    error = holdout_error(part, heads, table, split)
    better = (done.best_error - error) > IMPROVEMENT * done.best_error
    better = jnp.where(jnp.isinf(done.best_error), jnp.isfinite(error), better)
    best = jax.tree.map(
        lambda new, old: jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old),
        heads.layers,
        done.best,
    )
    waiting = jnp.where(jnp.any(better), 0, done.waiting + 1)
    best_error = jnp.where(better, error, done.best_error)
    return Fit(heads, optimiser, best, best_error, done.epochs + 1, waiting)


def loss(part: Ensemble, heads: Heads, rows: Table, weight: Float[Array, "B"]) -> Float[Array, ""]:
    """sum over networks of mean_{rows, targets} [(mu - y)^2 exp(-v) + v], v the log variance, plus 0.01 of the sum of
    the bounds' distances, plus half the squared weights of layer l times its decay; with a termination output, plus
    its cross-entropy. rows: leaves `[E, B, ...]`; weight: 0 for padding."""
    mean, log_variance, logit = part.predict(heads, rows.inputs)
    share = (weight / jnp.maximum(jnp.sum(weight), 1.0))[None, :, None]
    fit = ((mean - rows.targets) ** 2 * jnp.exp(-log_variance) + log_variance) * share
    total = jnp.sum(fit) / part.target_size
    total = total + loss_of_bounds(heads)
    for decay, layer in zip(part.decays, heads.layers, strict=True):
        total += 0.5 * decay * jnp.sum(layer.weight**2)
    if part.learns_termination:
        total += jnp.sum(loss_of_termination(logit, rows.terminal) * share[..., 0])
    return total


def loss_of_bounds(heads: Heads) -> Float[Array, ""]:
    """0.01 of the sum of the distances between the learned bounds, 0 where there are none."""
    if heads.max_log_variance is None or heads.min_log_variance is None:
        return jnp.float32(0)
    return 0.01 * jnp.sum(heads.max_log_variance - heads.min_log_variance)


def loss_of_termination(logit: Float[Array, "E B 1"], terminal: Float[Array, "E B"]) -> Float[Array, "E B"]:
    """Cross-entropy of the learned probability that nothing follows."""
    return optax.sigmoid_binary_cross_entropy(logit[..., 0], terminal)


def holdout_error(part: Ensemble, heads: Heads, table: Table, split: Split) -> Float[Array, "E"]:
    """Mean squared error of each network's mean over the hold-out rows and targets."""
    chunks = (split.holdout + CHUNK - 1) // CHUNK

    def add(chunk: Int[Array, ""], total: Float[Array, "E"]) -> Float[Array, "E"]:
        slot = chunk * CHUNK + jnp.arange(CHUNK, dtype=jnp.int32)
        inside = (slot < split.holdout).astype(jnp.float32)
        rows = split.order[jnp.minimum(slot, split.order.shape[0] - 1)]
        inputs = jnp.broadcast_to(table.inputs[rows][None], (part.networks, CHUNK, table.inputs.shape[1]))
        mean, _, _ = part.predict(heads, inputs)
        return total + jnp.sum((mean - table.targets[rows][None]) ** 2 * inside[None, :, None], axis=(1, 2))

    total = jax.lax.fori_loop(0, chunks, add, jnp.zeros(part.networks, jnp.float32))
    return total / (jnp.maximum(split.holdout, 1).astype(jnp.float32) * part.target_size)
