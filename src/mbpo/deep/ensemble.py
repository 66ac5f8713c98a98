"""The probabilistic ensemble of MBPO (Janner et al. 2019; networks of PETS, Chua et al. 2018) as a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mbpo.core.buffer import Ring
from mbpo.core.parts import Followed, Model
from mbpo.core.types import Transition
from mbpo.deep import adam, ensemble_fit, ensemble_steps
from mbpo.deep.networks import Layers, forward, init_layers, lecun, truncated
from mbpo.deep.standardise import Affine

Rule = Callable[[Array, Array, Array], Array]
"""A termination rule: (observation `[n]`, action `[m]`, next observation `[n]`) -> bool."""


FIRST_DEVIATION = -1.0  # log of a standardised target's noise before any data
LEAST_DEVIATION = 1e-3  # added to it


class Heads(NamedTuple):
    """The networks, and either the learned bounds of their log variances, shared by all of them, or, homoscedastic, a
    learned log standard deviation of each network and target."""

    layers: Layers
    max_log_variance: Float[Array, "d"] | None = None
    min_log_variance: Float[Array, "d"] | None = None
    log_deviation: Float[Array, "E d"] | None = None


class EnsembleState(NamedTuple):
    """What changes: E networks, standardisation of inputs and targets, the optimiser, the K elites (best first), the
    hold-out mean squared error of each network, the epochs of the last fit, and what a fit in steps has beside."""

    heads: Heads
    inputs: Affine
    targets: Affine
    optimiser: Any
    elites: Int[Array, "K"]
    holdout_error: Float[Array, "E"]
    epochs: Int[Array, ""]
    steps: ensemble_steps.StepsState | None = None


class Ensemble(Model):
    """E Gaussian networks for [reward, change of the observation] given [observation, action], K of them elites.

    Inputs are standardised with the data of each fit. Two repairs of what was published (arXiv 2510.01457) are off by
    default: `normalise_targets` standardises every target by itself, `predict_change` False predicts the next
    observation itself. With `termination` None a further output learns the probability that nothing follows.

    `homoscedastic` noise does not depend on where one is. `layer_norms` and `dropout`, one number for each hidden layer
    or none: the epsilon of a layer norm behind it, and the share of its outputs that a gradient step leaves out.
    A `fit` stops early, as published, or takes `fit_steps` gradient steps (`ensemble_steps`), where each network sees
    its own Bayesian bootstrap and weight decay is decoupled.
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
    homoscedastic: bool = eqx.field(static=True, default=False)
    layer_norms: tuple[float, ...] = eqx.field(static=True, default=())
    dropout: tuple[float, ...] = eqx.field(static=True, default=())
    fit_steps: int | None = eqx.field(static=True, default=None)
    deviation_rate: float = eqx.field(static=True, default=10.0)

    def __check_init__(self) -> None:
        if not 1 <= self.elites <= self.networks:
            raise ValueError(f"elites must lie between 1 and the {self.networks} networks, got {self.elites}")
        if len(self.decays) != len(self.hidden) + 1:
            raise ValueError(
                f"decays: one for each of the {len(self.hidden) + 1} layers, got {len(self.decays)}"
            )
        for name in ("layer_norms", "dropout"):
            given = getattr(self, name)
            if given and len(given) != len(self.hidden):
                raise ValueError(f"{name}: one for each of the {len(self.hidden)} hidden layers, got {given}")
        if self.dropout and self.fit_steps is None:
            raise ValueError("dropout: only a fit in steps leaves outputs out, expected fit_steps")

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
        outputs = d if self.homoscedastic else 2 * d
        sizes = (inputs, *self.hidden, outputs + int(self.learns_termination))
        initial, steps = truncated, None
        if self.fit_steps is not None:
            key, own_key = jax.random.split(key)
            initial, steps = lecun, ensemble_steps.begin(self.networks, own_key)
        layers = jax.vmap(lambda key: init_layers(key, sizes, initial))(jax.random.split(key, self.networks))
        if self.homoscedastic:
            heads = Heads(layers, log_deviation=jnp.full((self.networks, d), FIRST_DEVIATION, jnp.float32))
        else:
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
            steps,
        )

    def fit(self, state: EnsembleState, real: Ring, key: PRNGKeyArray) -> EnsembleState:
        fit = ensemble_fit.fit if self.fit_steps is None else ensemble_steps.fit
        return fit(self, state, real, key)

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

    def follow(
        self,
        state: EnsembleState,
        observation: Float[Array, "B n"],
        action: Float[Array, "B m"],
        key: PRNGKeyArray,
    ) -> Followed:
        """As `step`, but rows are dealt in blocks of neighbours, drawn afresh for each call which elite takes which;
        the reward is the elite's mean."""
        count = observation.shape[0]
        group = -(-count // self.elites)
        shift_key, noise_key, end_key = jax.random.split(key, 3)
        shift = jax.random.randint(shift_key, (), 0, self.elites)
        place = jnp.arange(self.elites, dtype=jnp.int32)
        x = self.standardised(state, observation, action)
        x = jnp.pad(x, ((0, self.elites * group - count), (0, 0)), mode="wrap")
        x = x.reshape(self.elites, group, -1)[(place + shift) % self.elites]
        predicted = self.predict(self.chosen(state), x)
        back = (place - shift) % self.elites
        mean, log_variance, logit = (
            leaf[back].reshape(self.elites * group, leaf.shape[-1])[:count] for leaf in predicted
        )
        noise = jax.random.normal(noise_key, observation.shape, jnp.float32)
        drawn = mean[:, 1:] + jnp.exp(0.5 * log_variance[:, 1:]) * noise
        target = drawn * state.targets.scale[None, 1:] + state.targets.mean[None, 1:]
        following = target + observation if self.predict_change else target
        reward = mean[:, 0] * state.targets.scale[0] + state.targets.mean[0]
        keys = jax.random.split(end_key, count) if self.learns_termination else None
        told = [jax.lax.stop_gradient(each) for each in (observation, action, following, logit)]
        terminal = self._terminal(told[0], told[1], told[2], told[3], keys)
        return Followed(following, reward, terminal)

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
        heads = state.heads
        own = (heads.layers, heads.log_deviation)  # the bounds are shared by all
        layers, log_deviation = jax.tree.map(lambda leaf: leaf[state.elites], own)
        return heads._replace(layers=layers, log_deviation=log_deviation)

    def standardised(
        self, state: EnsembleState, observation: Float[Array, "B n"], action: Float[Array, "B m"]
    ) -> Float[Array, "B p"]:
        """The networks' inputs."""
        x = jnp.concatenate([observation, action], axis=-1)
        return (x - state.inputs.mean[None]) / state.inputs.scale[None]

    def predict(
        self, heads: Heads, x: Float[Array, "E B p"], masks: Sequence[Float[Array, "E B h"]] = ()
    ) -> tuple[Float[Array, "E B d"], Float[Array, "E B d"], Float[Array, "E B t"]]:
        """Mean and log variance of the (standardised) targets, and logits of termination (t = 1 or 0), from each
        network on its own rows; log variances are bent softly into their learned bounds, or the same everywhere."""
        d = self.target_size
        output = forward(heads.layers, x, jax.nn.silu, self.layer_norms, masks)
        if heads.log_deviation is not None:
            deviation = jnp.exp(heads.log_deviation) + LEAST_DEVIATION
            log_variance = jnp.broadcast_to(2.0 * jnp.log(deviation)[:, None], (*output.shape[:-1], d))
            return output[..., :d], log_variance, output[..., d:]
        assert heads.max_log_variance is not None
        assert heads.min_log_variance is not None
        most, least = heads.max_log_variance[None, None], heads.min_log_variance[None, None]
        log_variance = most - jax.nn.softplus(most - output[..., d : 2 * d])
        log_variance = least + jax.nn.softplus(log_variance - least)
        return output[..., :d], log_variance, output[..., 2 * d :]

    def _terminal(
        self, observation: Array, action: Array, following: Array, logit: Array, keys: PRNGKeyArray | None
    ) -> Bool[Array, "B"]:
        if self.termination is not None:
            return jax.vmap(self.termination)(observation, action, following)
        uniform = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 2), (), jnp.float32))(keys)
        return uniform < jax.nn.sigmoid(logit[:, 0])
