"""A linear-quadratic system as a pure environment: x' = A x + B u + w, reward = -(x'Qx + u'Ru)."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mbpo.core.parts import Environment, Step
from mbpo.core.types import Transition
from mbpo.lqr.system import LinearQuadratic


class LinearQuadraticState(NamedTuple):
    """Where the system is, and how many steps its episode has lasted."""

    x: Float[Array, "n"]
    time: Int[Array, ""]


class LinearQuadraticEnvironment(Environment):
    """The real world of `mbpo.lqr`.

    The average-cost objective runs one endless trajectory (`episode_length` None); the others run episodes from
    x_0 ~ N(0, X_0), truncated after `episode_length` steps. A step that takes the state beyond `state_limit` in any
    coordinate is not valid: the transition is replaced by zeros.
    """

    A: Float[Array, "n n"]
    B: Float[Array, "n m"]
    Q: Float[Array, "n n"]
    R: Float[Array, "m m"]
    noise_factor: Float[Array, "n n"]
    start_factor: Float[Array, "n n"]
    state_limit: Float[Array, ""]
    episode_length: int | None = eqx.field(static=True)

    @classmethod
    def of(
        cls, system: LinearQuadratic, state_limit: float, episode_length: int | None
    ) -> LinearQuadraticEnvironment:
        """The environment of `system`."""
        return cls(
            A=jnp.asarray(system.A),
            B=jnp.asarray(system.B),
            Q=jnp.asarray(system.Q),
            R=jnp.asarray(system.R),
            noise_factor=jnp.asarray(covariance_factor(system.W)),
            start_factor=jnp.asarray(covariance_factor(system.initial_covariance)),
            state_limit=jnp.asarray(state_limit),
            episode_length=episode_length,
        )

    def reset(self, key: PRNGKeyArray) -> LinearQuadraticState:
        x = self.start_factor @ jax.random.normal(key, (self.A.shape[0],), self.A.dtype)
        return LinearQuadraticState(x, jnp.int32(0))

    def observe(self, state: LinearQuadraticState) -> Float[Array, "n"]:
        return state.x

    def step(self, state: LinearQuadraticState, action: Float[Array, "m"], key: PRNGKeyArray) -> Step:
        noise = self.noise_factor @ jax.random.normal(key, (self.A.shape[0],), self.A.dtype)
        transition, valid = linear_step(
            self.A, self.B, self.Q, self.R, state.x, action, noise, self.state_limit
        )
        time = state.time + 1
        ended = jnp.bool_(False) if self.episode_length is None else time >= self.episode_length
        transition = transition._replace(truncated=ended)
        return Step(LinearQuadraticState(transition.next_observation, time), transition, valid)


def linear_step(
    A: Float[Array, "n n"],
    B: Float[Array, "n m"],
    Q: Float[Array, "n n"],
    R: Float[Array, "m m"],
    x: Float[Array, "n"],
    u: Float[Array, "m"],
    noise: Float[Array, "n"],
    state_limit: Float[Array, ""],
) -> tuple[Transition, Array]:
    """The transition x' = A x + B u + noise with reward -(x'Qx + u'Ru), and whether it stayed within the limit;
    when it did not, every number of the transition is zero."""
    following = A @ x + B @ u + noise
    reward = -(x @ Q @ x + u @ R @ u)
    valid = jnp.all(jnp.abs(following) <= state_limit) & jnp.all(jnp.isfinite(u)) & jnp.isfinite(reward)
    keep = [jnp.where(valid, value, jnp.zeros_like(value)) for value in (x, u, reward, following)]
    false = jnp.bool_(False)
    return Transition(keep[0], keep[1], keep[2], keep[3], false, false), valid


def covariance_factor(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive-semidefinite matrix, singular ones included."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
