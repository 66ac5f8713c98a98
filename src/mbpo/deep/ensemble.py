"""The probabilistic ensemble of MBPO (Janner et al. 2019; networks of PETS, Chua et al. 2018) as a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mbpo.core.buffer import Ring
from mbpo.core.parts import Model
from mbpo.core.types import Transition
from mbpo.deep import adam, ensemble_fit
from mbpo.deep.networks import Layers, forward, init_layers, truncated

Rule = Callable[[Array, Array, Array], Array]
"""A termination rule: (observation `[n]`, action `[m]`, next observation `[n]`) -> bool."""


class Affine(NamedTuple):
    """x -> (x - mean) / scale, for each coordinate."""

    mean: Float[Array, "d"]
    scale: Float[Array, "d"]


class Heads(NamedTuple):
    """The networks and the learned bounds of their log variances, shared by all of them."""

    layers: Layers
    max_log_variance: Float[Array, "d"]
    min_log_variance: Float[Array, "d"]


class EnsembleState(NamedTuple):
    """What changes: E networks, standardisation of inputs and targets, the optimiser, the K elites (best first), the
    hold-out mean squared error of each network, and the epochs of the last fit."""

    heads: Heads
    inputs: Affine
    targets: Affine
    optimiser: Any
    elites: Int[Array, "K"]
    holdout_error: Float[Array, "E"]
    epochs: Int[Array, ""]


class Ensemble(Model):
    """E Gaussian networks for [reward, change of the observation] given [observation, action], K of them elites.

    Inputs are standardised with the data of each fit. Two repairs of what was published (arXiv 2510.01457) are off by
    default: `normalise_targets` standardises every target by itself, `predict_change` False predicts the next
    observation itself. With `termination` None a further output learns the probability that nothing follows.
    """

    observation_size: int = eqx.field(static=True)
    action_size: int = eqx.field(static=True)
    termination: Rule | None = eqx.field(static=True)
    networks: int = eqx.field(static=True, default=7)
    elites: int = eqx.field(static=True, default=5)
    hidden: tuple[int, ...] = eqx.field(static=True, default=(200, 200, 200, 200))
    decays: tuple[float, ...] = eqx.field(static=True, default=(2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4))
    learning_rate: float = eqx.field(static=True, default=1e-3)
    batch_size: int = eqx.field(static=True, default=256)
    holdout_share: float = eqx.field(static=True, default=0.2)
    holdout_most: int = eqx.field(static=True, default=5000)
    patience: int = eqx.field(static=True, default=5)
    most_epochs: int | None = eqx.field(static=True, default=None)
    normalise_targets: bool = eqx.field(static=True, default=False)
    predict_change: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        if not 1 <= self.elites <= self.networks:
            raise ValueError(f"elites must lie between 1 and the {self.networks} networks, got {self.elites}")
        if len(self.decays) != len(self.hidden) + 1:
            raise ValueError(
                f"decays: one for each of the {len(self.hidden) + 1} layers, got {len(self.decays)}"
            )

    @property
    def target_size(self) -> int:
        """Predicted numbers: reward and observation."""
        return 1 + self.observation_size

    @property
    def learns_termination(self) -> bool:
        """Whether termination is an output of the networks."""
        return self.termination is None

    def init(self, key: PRNGKeyArray) -> EnsembleState:
        inputs, d = self.observation_size + self.action_size, self.target_size
        sizes = (inputs, *self.hidden, 2 * d + int(self.learns_termination))
        layers = jax.vmap(lambda key: init_layers(key, sizes, truncated))(
            jax.random.split(key, self.networks)
        )
        heads = Heads(layers, jnp.full(d, 0.5, jnp.float32), jnp.full(d, -10.0, jnp.float32))
        unchanged = [Affine(jnp.zeros(k, jnp.float32), jnp.ones(k, jnp.float32)) for k in (inputs, d)]
        return EnsembleState(
            heads,
            unchanged[0],
            unchanged[1],
            adam.init(heads),
            jnp.arange(self.elites, dtype=jnp.int32),
            jnp.full(self.networks, jnp.inf, jnp.float32),
            jnp.int32(0),
        )

    def fit(self, state: EnsembleState, real: Ring, key: PRNGKeyArray) -> EnsembleState:
        return ensemble_fit.fit(self, state, real, key)

    def step(
        self,
        state: EnsembleState,
        observation: Float[Array, "B n"],
        action: Float[Array, "B m"],
        keys: PRNGKeyArray,
    ) -> tuple[Transition, Bool[Array, "B"]]:
        """Every row goes to one elite, drawn afresh for each call; all elites get equally many (up to one)."""
        count = observation.shape[0]
        group = -(-count // self.elites)
        order_key, elite_key = jax.random.split(jax.random.fold_in(keys[0], 1))
        order = jax.random.permutation(order_key, count)
        padded = jnp.pad(order, (0, self.elites * group - count), mode="wrap")
        dealt = padded.reshape(group, self.elites).T  # like cards: one to each elite in turn
        elites = jax.random.permutation(elite_key, state.elites)
        x = self.standardised(state, observation, action)[dealt]
        mean, log_variance, logit = self.predict(self.chosen(state._replace(elites=elites)), x)
        back = jnp.argsort(order)
        mean, log_variance, logit = (
            jnp.swapaxes(leaf, 0, 1).reshape(self.elites * group, -1)[:count][back]
            for leaf in (mean, log_variance, logit)
        )
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.target_size,), jnp.float32))(keys)
        drawn = mean + jnp.exp(0.5 * log_variance) * noise
        target = drawn * state.targets.scale[None] + state.targets.mean[None]
        following = target[:, 1:] + observation if self.predict_change else target[:, 1:]
        terminal = self._terminal(observation, action, following, logit, keys)
        valid = jnp.all(jnp.isfinite(following), axis=1) & jnp.isfinite(target[:, 0])
        keep = valid[:, None]
        rows = Transition(
            observation,
            action,
            jnp.where(valid, target[:, 0], 0.0),
            jnp.where(keep, following, observation),
            terminal,
            jnp.zeros(count, bool),
        )
        return rows, valid

    def mean_prediction(
        self, state: EnsembleState, observation: Float[Array, "B n"], action: Float[Array, "B m"]
    ) -> tuple[Float[Array, "B"], Float[Array, "B n"]]:
        """Reward and next observation, each the mean of the elites' means."""
        x = self.standardised(state, observation, action)
        mean, _, _ = self.predict(self.chosen(state), jnp.broadcast_to(x[None], (self.elites, *x.shape)))
        target = jnp.mean(mean, axis=0) * state.targets.scale[None] + state.targets.mean[None]
        following = target[:, 1:] + observation if self.predict_change else target[:, 1:]
        return target[:, 0], following

    def chosen(self, state: EnsembleState) -> Heads:
        """The elites' networks."""
        return state.heads._replace(layers=jax.tree.map(lambda leaf: leaf[state.elites], state.heads.layers))

    def standardised(
        self, state: EnsembleState, observation: Float[Array, "B n"], action: Float[Array, "B m"]
    ) -> Float[Array, "B p"]:
        """The networks' inputs."""
        x = jnp.concatenate([observation, action], axis=-1)
        return (x - state.inputs.mean[None]) / state.inputs.scale[None]

    def predict(
        self, heads: Heads, x: Float[Array, "E B p"]
    ) -> tuple[Float[Array, "E B d"], Float[Array, "E B d"], Float[Array, "E B t"]]:
        """Mean and log variance of the (standardised) targets, and logits of termination (t = 1 or 0), from each
        network on its own rows; log variances are bent softly into their learned bounds."""
        d = self.target_size
        output = forward(heads.layers, x, jax.nn.silu)
        most, least = heads.max_log_variance[None, None], heads.min_log_variance[None, None]
        log_variance = most - jax.nn.softplus(most - output[..., d : 2 * d])
        log_variance = least + jax.nn.softplus(log_variance - least)
        return output[..., :d], log_variance, output[..., 2 * d :]

    def _terminal(
        self, observation: Array, action: Array, following: Array, logit: Array, keys: PRNGKeyArray
    ) -> Bool[Array, "B"]:
        if self.termination is not None:
            return jax.vmap(self.termination)(observation, action, following)
        uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 2), (), jnp.float32))(keys)
        return uniform < jax.nn.sigmoid(logit[:, 0])
