"""What the tests of the ensemble share: rings, networks drawn by NumPy, the networks in NumPy float64, and a fit that
tells which rows it used."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbpo.core.buffer import Ring
from mbpo.core.types import Transition
from mbpo.deep import adam, ensemble_fit
from mbpo.deep.ensemble import Affine, EnsembleState, Heads
from mbpo.deep.networks import Dense


def ring_of(observation, action, reward, following, terminal=False, capacity=None):
    """A ring whose first slots hold the rows; what is beyond them would poison whoever reads it."""
    count = len(reward)
    capacity = count if capacity is None else capacity

    def padded(rows):
        full = np.full((capacity, *rows.shape[1:]), 1e6 if rows.dtype != bool else True, rows.dtype)
        full[:count] = rows
        return jnp.asarray(full)

    rows = (observation, action, reward, following)
    flags = np.broadcast_to(terminal, count), np.zeros(count, bool)
    data = Transition(*(padded(np.float32(each)) for each in rows), *map(padded, flags))
    return Ring(data, jnp.int32(count), jnp.int32(count % capacity))


def random_layers(part, seed, scale=0.5):
    """Layers of all networks, drawn by NumPy (cheaper than compiling `init`)."""
    draw = np.random.default_rng(seed)
    outputs = 2 * part.target_size + int(part.learns_termination)
    sizes = (part.observation_size + part.action_size, *part.hidden, outputs)
    return tuple(
        Dense(
            jnp.asarray(scale * draw.normal(size=(part.networks, i, o)) / i**0.5, jnp.float32),
            jnp.asarray(0.1 * draw.normal(size=(part.networks, o)), jnp.float32),
        )
        for i, o in itertools.pairwise(sizes)
    )


def start_of(part, seed=0):
    """A state like that of `part.init`."""
    d, inputs = part.target_size, part.observation_size + part.action_size
    bounds = jnp.full(d, 0.5, jnp.float32), jnp.full(d, -10.0, jnp.float32)
    heads = Heads(random_layers(part, seed), *bounds)
    plain = [Affine(jnp.zeros(k, jnp.float32), jnp.ones(k, jnp.float32)) for k in (inputs, d)]
    elites = jnp.arange(part.elites, dtype=jnp.int32)
    errors = jnp.full(part.networks, jnp.inf, jnp.float32)
    return EnsembleState(heads, *plain, adam.init(heads), elites, errors, jnp.int32(0))


def softplus(x):
    return np.logaddexp(0.0, x)


def outputs(part, heads, x):
    """Mean, log variance and logit `[E, B, ...]` of every network at its standardised inputs `[E, B, p]`."""
    x = np.float64(x)
    for i, layer in enumerate(heads.layers):
        x = x @ np.float64(layer.weight) + np.float64(layer.bias)[:, None]
        x = x / (1 + np.exp(-x)) if i < len(heads.layers) - 1 else x
    d, most, least = part.target_size, *(np.float64(each) for each in heads[1:3])
    log_variance = most - softplus(most - x[..., d : 2 * d])
    return x[..., :d], least + softplus(log_variance - least), x[..., 2 * d :]


class RecordedFit:
    """`part.fit`, compiled once, with the ids of the rows of every mini-batch and the hold-out errors of every epoch.

    A row's id is its reward times `ID`, which stays exact where targets are not standardised.
    """

    ID = 64

    def __init__(self, part):
        self.part = part
        self.compiled = jax.jit(part.fit)
        self.batches, self.errors = [], []

    def __call__(self, state, ring, key):
        self.batches, self.errors = [], []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ensemble_fit, "loss", self._loss(ensemble_fit.loss))
            patch.setattr(ensemble_fit, "holdout_error", self._error(ensemble_fit.holdout_error))
            state = jax.block_until_ready(self.compiled(state, ring, key))
        jax.effects_barrier()
        return state

    def epochs(self):
        """For every epoch the ids `[E, training]` in the order of their use."""
        per_epoch = len(self.batches) // len(self.errors)
        assert per_epoch * len(self.errors) == len(self.batches)
        groups = [self.batches[i : i + per_epoch] for i in range(0, len(self.batches), per_epoch)]
        return [np.concatenate([ids[:, weight > 0] for ids, weight in group], axis=1) for group in groups]

    def _loss(self, loss):
        def recording(part, heads, rows, weight):
            jax.debug.callback(self._note_batch, rows.targets[..., 0], weight, ordered=True)
            return loss(part, heads, rows, weight)

        return recording

    def _error(self, holdout_error):
        def recording(*args):
            error = holdout_error(*args)
            jax.debug.callback(lambda each: self.errors.append(np.array(each)), error, ordered=True)
            return error

        return recording

    def _note_batch(self, rewards, weight):
        self.batches.append((np.rint(np.asarray(rewards) * self.ID).astype(int), np.array(weight)))
