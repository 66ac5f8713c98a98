"""The policy gradient with the action integrated out (expected policy gradient, Ciosek & Whiteson 2018; the
deterministic policy gradient of Silver et al. 2014 with an exact critic).

g = 1/T sum_t grad_u Q_t(x_t, u)|_{u = K x_t} x_t' = 1/T sum_t 2 E_t x_t x_t',   E = G_ux + G_uu K.
For a quadratic Q the expectation over Gaussian actions and the derivative at their mean are the same thing. Unbiased on
states of the current policy, with no action noise at all. On states of another policy its mean is 2 sum_t E_t Sigma_t^b
over T: the zero is right, the direction is preconditioned. Needs the parameters.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mbpo.lqr.gradients.trajectories import Trajectories
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World


def expected(
    policy: LinearGaussian, data: Trajectories, values: PolicyValues | None, world: World | None
) -> Float[Array, "N m n"]:
    """2 E_t x_t x_t', averaged over the steps."""
    del world
    assert values is not None, "the derivative is that of an action value"
    error = values.error(policy.gain)
    error = jnp.broadcast_to(error, (data.x.shape[1], *error.shape[1:]))
    return 2 * jnp.einsum("tij,ntj,ntk->nik", error, data.x, data.x) / data.x.shape[1]
