"""The pathwise gradient through the fitted model (stochastic value gradients, Heess et al. 2015).

From the batch's states the policy is rolled `STEPS` steps through the model with fixed noise; the cost of the rollout
plus a quadratic value at its end, itself fitted to the rollout, is differentiated with respect to K. Unbiased for the
model's gradient up to the value's sampling error; biased for the world's by the model's error.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from mbpo.core.parts import FittedModel
from mbpo.core.types import Experience
from mbpo.lqr.critic import backward_values, lstd, moments
from mbpo.lqr.gradients.deterministic import flat_rows
from mbpo.lqr.gradients.estimate import Estimate
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian, linear_action

STEPS = 10


def pathwise(
    policy: LinearGaussian, experience: Experience, objective: Objective, key: PRNGKeyArray
) -> Estimate:
    """E from jax.grad of the rollout, M = R + B'PB with the model's B and R and the fitted value P."""
    model: FittedModel = experience.model
    rows, valid = flat_rows(experience)
    batch = rows.observation.shape[0]
    keys = jax.random.split(key, (STEPS, batch))

    def roll(gain: Float[Array, "m n"]):
        def step(x, keys):
            steps, kept = jax.vmap(model.step)(x, linear_action(gain, x), keys)
            return steps.next_observation, (steps.observation, -steps.reward, steps.next_observation, kept)

        return jax.lax.scan(step, rows.observation, keys)[1]

    xs, costs, nexts, kept = roll(policy.gain)
    whole = valid & jnp.all(kept, axis=0)
    flat = jnp.tile(whole, STEPS)
    n = xs.shape[-1]
    P, average = _value(xs.reshape(-1, n), costs.reshape(-1), nexts.reshape(-1, n), flat, objective)
    weight = whole.astype(xs.dtype)
    count = jnp.maximum(jnp.sum(weight), 1.0)
    g = objective.discount ** jnp.arange(STEPS, dtype=xs.dtype)

    def total(gain: Float[Array, "m n"]) -> Array:
        _, costs, nexts, _ = roll(gain)
        end = jnp.sum((nexts[-1] @ P) * nexts[-1], axis=1)
        return jnp.sum((g @ costs + objective.discount**STEPS * end) * weight) / count

    gradient = jax.grad(total)(policy.gain)
    moment = jnp.einsum("t,tbi,tbj,b->ij", g, xs, xs, weight) / count
    safe = moment + 1e-12 * jnp.trace(moment) * jnp.eye(n, dtype=xs.dtype)
    error = jnp.linalg.solve(safe, gradient.T).T / 2
    B, R = model.state.B, model.state.R
    curvature = R + objective.discount * B.T @ P @ B
    usable = jnp.all(jnp.isfinite(error)) & jnp.all(jnp.isfinite(curvature)) & (jnp.sum(weight) > 0)
    return Estimate(error, curvature, moment / jnp.sum(g), average, usable)


def _value(x, cost, x_next, valid, objective: Objective) -> tuple[Array, Array]:
    """P of the policy in the model, and its mean cost per step."""
    weight = valid.astype(x.dtype)
    mean = jnp.sum(cost * weight) / jnp.maximum(jnp.sum(weight), 1.0)
    if objective.kind != "horizon":
        return lstd(moments(x, cost, x_next, valid), objective).matrix, mean
    matrices, _ = backward_values(x, cost, x_next, x_next, valid, objective)
    return jnp.mean(matrices, axis=0), mean
