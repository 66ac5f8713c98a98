"""The true linear-quadratic system in the place of a learned model: what a perfect model would give the loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mbpo.core.buffer import Ring
from mbpo.core.parts import Followed, Model
from mbpo.core.precision import product
from mbpo.core.types import Transition
from mbpo.environments.linear_quadratic import LinearQuadraticTask
from mbpo.environments.optimal_spread import root_of
from mbpo.lqr.system import LinearQuadratic


class NoiseFloor(NamedTuple):
    """The error that the best one-step prediction still makes: E (x' - A x - B u)(x' - A x - B u)' = W `[n, n]`, and
    its trace, the least mean squared error."""

    covariance: np.ndarray
    trace: float


def noise_floor(system: LinearQuadratic) -> NoiseFloor:
    """The one-step error of the true model of `system`."""
    return NoiseFloor(system.W, float(np.trace(system.W)))


class TrueModel(Model):
    """x' = A x + B L a + w with reward -(x'Qx + (L a)'R (L a)), for actions a in [-1, 1]^m and limits L = diag(l).

    Float32, to the last digits on every device. Nothing is terminal; a step beyond `state_limit` is not to be kept.
    """

    A: Float[Array, "n n"]
    B: Float[Array, "n m"]
    Q: Float[Array, "n n"]
    R: Float[Array, "m m"]
    noise_root: Float[Array, "n n"]
    action_limit: Float[Array, "m"]
    state_limit: Float[Array, "n"]

    @classmethod
    def of(cls, task: LinearQuadraticTask) -> TrueModel:
        """The model of `task` (an environment's `gym.unwrapped`)."""
        system = task.system
        parts = (
            system.A,
            system.B,
            system.Q,
            system.R,
            root_of(system.W),
            task.action_limit,
            task.state_limit,
        )
        return cls(*(jnp.asarray(part, jnp.float32) for part in parts))

    def init(self, key: PRNGKeyArray) -> None:
        del key

    def fit(self, state: Any, real: Ring, key: PRNGKeyArray) -> None:
        del state, real, key

    def step(
        self, state: Any, observation: Float[Array, "B n"], action: Float[Array, "B m"], keys: PRNGKeyArray
    ) -> tuple[Transition, Bool[Array, "B"]]:
        del state
        x, a = observation.astype(jnp.float32), action.astype(jnp.float32)
        draws = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], jnp.float32))(keys)
        following, reward = self._after(x, a, draws)
        valid = jnp.all(jnp.abs(following) <= self.state_limit[None, :], axis=1) & jnp.isfinite(reward)
        following = jnp.where(valid[:, None], following, 0.0)
        never = jnp.zeros(len(x), bool)
        return Transition(x, a, jnp.where(valid, reward, 0.0), following, never, never), valid

    def follow(
        self, state: Any, observation: Float[Array, "B n"], action: Float[Array, "B m"], key: PRNGKeyArray
    ) -> Followed:
        """One step without the limits of the state, which would cut the derivative off."""
        del state
        draws = jax.random.normal(key, observation.shape, jnp.float32)
        following, reward = self._after(observation, action, draws)
        return Followed(following, reward, jnp.zeros(len(observation), bool))

    def _after(
        self, x: Float[Array, "B n"], a: Float[Array, "B m"], draws: Float[Array, "B n"]
    ) -> tuple[Float[Array, "B n"], Float[Array, "B"]]:
        u = jnp.clip(a, -1.0, 1.0) * self.action_limit[None, :]
        following = _times(x, self.A) + _times(u, self.B) + _times(draws, self.noise_root)
        reward = -(jnp.sum(_times(x, self.Q) * x, axis=1) + jnp.sum(_times(u, self.R) * u, axis=1))
        return following, reward


def _times(rows: Float[Array, "B p"], matrix: Float[Array, "q p"]) -> Float[Array, "B q"]:
    """matrix @ row for every row."""
    return product(rows, matrix.T)
