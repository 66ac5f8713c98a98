"""The three interfaces of the loop: a world, a model of it, and an agent that learns in both.

A part is a frozen module of settings. Whatever changes is a pytree state that its functions take and return, so any
part runs under `jit`, `scan` and `vmap`. Every function that takes `key` consumes it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mbpo.core.buffer import Ring
from mbpo.core.types import Experience, Transition


class Step(NamedTuple):
    """One step of a world: its new state, the transition, and whether the transition may be kept.

    `valid` is False when the step left the region in which numbers mean anything (overflow, a cut-off); the
    transition is then finite padding and the loop restarts the world.
    """

    state: Any
    transition: Transition
    valid: Bool[Array, ""]


class Environment(eqx.Module):
    """A world that costs real data: start it, look at it, step it."""

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray) -> Any:
        """A state drawn from the start distribution."""

    @abc.abstractmethod
    def observe(self, state: Any) -> Float[Array, "n"]:
        """What an agent sees of `state`."""

    @abc.abstractmethod
    def step(self, state: Any, action: Float[Array, "m"], key: PRNGKeyArray) -> Step:
        """Apply `action` in `state`."""


class HostStep(NamedTuple):
    """What the host's world answered: `terminal` (nothing follows) and `truncated` (a time limit) apart."""

    observation: np.ndarray
    reward: float
    terminal: bool
    truncated: bool


class HostEnvironment(abc.ABC):
    """A world outside JAX, such as a simulator. Actions lie in [-1, 1]^m; numbers are float32.

    The seed given to `reset` decides the whole episode together with the actions, so an episode can be replayed.
    """

    observation_size: int
    action_size: int

    @abc.abstractmethod
    def reset(self, seed: int) -> np.ndarray:
        """The first observation `[n]` of the episode that `seed` names."""

    @abc.abstractmethod
    def step(self, action: np.ndarray) -> HostStep:
        """Apply `action` `[m]`."""


class Followed(NamedTuple):
    """One differentiable imagined step: next observations, expected rewards, and which rows ended (a constant)."""

    observation: Float[Array, "B n"]
    reward: Float[Array, "B"]
    terminal: Bool[Array, "B"]


class Model(eqx.Module):
    """A world learned from real data, in which steps are free."""

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> Any:
        """The state of the model before any data."""

    @abc.abstractmethod
    def fit(self, state: Any, real: Ring, key: PRNGKeyArray) -> Any:
        """The model fitted to the real transitions in `real`."""

    @abc.abstractmethod
    def step(
        self, state: Any, observation: Float[Array, "B n"], action: Float[Array, "B m"], keys: PRNGKeyArray
    ) -> tuple[Transition, Bool[Array, "B"]]:
        """Imagined transitions, one for each of the `keys` `[B]`, and which of them may be kept."""

    def follow(
        self, state: Any, observation: Float[Array, "B n"], action: Float[Array, "B m"], key: PRNGKeyArray
    ) -> Followed:
        """One imagined step that can be differentiated with respect to observation and action, its noise
        reparametrised; optional, a model without it raises TypeError."""
        raise TypeError(
            f"{type(self).__name__} cannot be differentiated, expected a model with a method `follow`"
        )

    @property
    def differentiable(self) -> bool:
        """Whether the model has a `follow` of its own."""
        return type(self).follow is not Model.follow


class FittedModel(NamedTuple):
    """A model part with its state: what an agent that learns through the model is handed."""

    part: Model
    state: Any

    def step(
        self, observation: Float[Array, "B n"], action: Float[Array, "B m"], keys: PRNGKeyArray
    ) -> tuple[Transition, Bool[Array, "B"]]:
        """Imagined transitions, one for each of the `keys` `[B]`, and which of them may be kept."""
        return self.part.step(self.state, observation, action, keys)

    def follow(
        self, observation: Float[Array, "B n"], action: Float[Array, "B m"], key: PRNGKeyArray
    ) -> Followed:
        """One imagined step that can be differentiated; see `Model.follow`."""
        return self.part.follow(self.state, observation, action, key)


class Estimand(NamedTuple):
    """What an agent's values estimate: sum_t discount^t (reward_scale r_t + bonus_t), bonus from `Agent.sample`."""

    discount: float
    reward_scale: float = 1.0


HostPolicy = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""(observation `[n]`, standard normal noise `[m]`, or None for the mean action) -> action `[m]`, in NumPy"""


class Agent(eqx.Module):
    """A policy and the way it improves.

    `init`, `acting`, `act`, `act_imagined`, `update` and `retreat` are what the loop needs; `policy` and `mean_action`
    let a run save, load and evaluate what was learned. The rest is optional: `value` and `sample` with `estimand` are
    what diagnostics compare with real returns, `refresh` looks at the data of a new fit, `on_host` acts without JAX.
    """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> Any:
        """The state of the agent before any data."""

    @abc.abstractmethod
    def acting(self, state: Any, count: int, key: PRNGKeyArray) -> Any:
        """What acts in each of `count` trajectories: a pytree with leading axis `count`, or 1 where all share it."""

    @abc.abstractmethod
    def act(self, acting: Any, observation: Float[Array, "n"], key: PRNGKeyArray) -> Float[Array, "m"]:
        """An action of the exploring policy in the real world; `acting` without its leading axis."""

    @abc.abstractmethod
    def act_imagined(
        self, acting: Any, observation: Float[Array, "n"], key: PRNGKeyArray
    ) -> Float[Array, "m"]:
        """An action inside the model, where exploring costs nothing; the published algorithm acts as in the world."""

    @abc.abstractmethod
    def update(self, state: Any, experience: Experience, key: PRNGKeyArray) -> tuple[Any, Any]:
        """The agent after one improvement, and what is worth logging about it."""

    @abc.abstractmethod
    def retreat(self, state: Any) -> Any:
        """The agent after the real world had to be cut off under its policy: back to a policy that held."""

    @abc.abstractmethod
    def policy(self, state: Any) -> Any:
        """What of `state` is saved as the policy, a pytree of arrays shaped like one element of `acting`, so that `act`
        explores with it too."""

    @abc.abstractmethod
    def mean_action(self, policy: Any, observation: Float[Array, "B n"]) -> Float[Array, "B m"]:
        """Actions without exploration: how a policy is evaluated and used."""

    def value(
        self, state: Any, observation: Float[Array, "B n"], action: Float[Array, "B m"]
    ) -> Float[Array, "B"] | None:
        """What the agent expects of `action` in `observation`, in the sense of `estimand`; None where it does not
        estimate values."""
        del state, observation, action
        return None

    def sample(
        self, state: Any, observation: Float[Array, "B n"], key: PRNGKeyArray
    ) -> tuple[Float[Array, "B m"], Float[Array, "B"]]:
        """Exploring actions, and what `value` counts for each beside its reward, such as -temperature log pi."""
        count = observation.shape[0]
        one = jax.tree.map(lambda leaf: leaf[0], self.acting(state, 1, jax.random.fold_in(key, 0)))
        keys = jax.random.split(jax.random.fold_in(key, 1), count)
        action = jax.vmap(self.act, (None, 0, 0))(one, observation, keys)
        return action, jnp.zeros(count, action.dtype)

    def estimand(self) -> Estimand:
        """What `value` estimates."""
        return Estimand(0.99)

    def refresh(self, state: Any, real: Ring) -> Any:
        """The agent when the model has just been fitted to `real`."""
        del real
        return state

    def on_host(self, policy: Any) -> HostPolicy | None:
        """The exploring policy as a NumPy function, for worlds outside JAX; None: it is acted by `act`."""
        del policy
        return None
