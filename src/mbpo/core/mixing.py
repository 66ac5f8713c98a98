"""How a batch is composed of real and imagined transitions, and nothing else."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mbpo.core.buffer import Ring, sample
from mbpo.core.schedule import Linear, constant
from mbpo.core.types import Transition


class RealRatio(eqx.Module):
    """The expected share in [0, 1] of real transitions in a batch; it may change with the real steps taken.

    At a share r a batch of size B holds floor(r B + U) real rows with U ~ Uniform[0, 1), so its expected share is r
    exactly, both ends included, and the batch size never changes. While one of the two rings is still empty the whole
    batch comes from the other. Nothing else in the loop reads this number.
    """

    share: Linear

    @classmethod
    def of(cls, value: float | Array) -> RealRatio:
        """The same share all the time."""
        return cls(constant(value))

    @classmethod
    def between(cls, first: float, last: float | None, steps: int, dtype: Any) -> RealRatio:
        """A share that goes linearly from `first` to `last` in so many real steps; constant if `last` is None."""
        if last is None:
            return cls.of(jnp.asarray(first, dtype))
        ends = [jnp.asarray(each, dtype) for each in (first, last, 0.0, steps)]
        return cls(Linear(*ends))

    def compose(
        self, real: Ring, imagined: Ring, batch_size: int, env_steps: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Transition, Float[Array, ""]]:
        """A batch `[B]` of transitions and its realised real share."""
        count_key, real_key, imagined_key = jax.random.split(key, 3)
        ratio = jnp.where(imagined.size == 0, 1.0, jnp.where(real.size == 0, 0.0, self.share(env_steps)))
        uniform = jax.random.uniform(count_key, (), ratio.dtype)
        whole = jnp.floor(ratio * batch_size)
        more = uniform < ratio * batch_size - whole  # floor(r B + U) without adding U, which would round up
        count = whole.astype(jnp.int32) + more.astype(jnp.int32)
        from_real = jnp.arange(batch_size, dtype=jnp.int32) < count
        batch = jax.tree.map(
            lambda r, i: jnp.where(from_real.reshape((-1,) + (1,) * (r.ndim - 1)), r, i),
            sample(real, batch_size, real_key),
            sample(imagined, batch_size, imagined_key),
        )
        return batch, count / batch_size
