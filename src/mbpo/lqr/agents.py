"""Agents with linear policies: one steps along any gradient estimate, one solves the fitted model outright."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from mbpo.core.parts import Agent
from mbpo.core.types import Experience
from mbpo.lqr.gradients.estimate import Estimate, GradientSource
from mbpo.lqr.model import LinearModel, contracts, decay, plausible_models
from mbpo.lqr.objective import Objective
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.riccati import riccati

PLAUSIBLE = 32  # models drawn from the confidence set against which a new gain is tried
HARMLESS = (
    0.05  # relative change of the cost by a step along noise alone, below which averaging takes care of it
)
KEPT = 0.25  # least share of a loop's decay rate that a step must leave it under each of them
SHRINK = (1.0, 0.5, 0.25, 0.0)  # shares of a step that are tried; the largest safe one is taken


class PolicyState(NamedTuple):
    """A gain being improved.

    gain: what acts and is differentiated; average: weighted average of the gains that acted, the answer; curvature:
    running average of M; progress: full steps taken so far, it sets the step size; trust: largest relative change of
    the cost that a step may predict; updates: how many were made; memory: what the source of estimates remembers.
    """

    gain: Float[Array, "m n"]
    average: Float[Array, "m n"]
    curvature: Float[Array, "m m"]
    progress: Float[Array, ""]
    trust: Float[Array, ""]
    updates: Float[Array, ""]
    memory: Any = None


class UpdateInfo(NamedTuple):
    """What one update is logged by: share of the full Gauss-Newton step taken, predicted relative change of the cost
    by the quadratic term, and whether the estimate was usable."""

    step: Float[Array, ""]
    change: Float[Array, ""]
    usable: Array


class LinearAgent(Agent):
    """What every agent with a gain shares: it acts by u = K x + e, e ~ N(0, L L'), and answers with the `average` gain.

    start: the first gain, known to stabilise; factor: L.
    """

    start: Float[Array, "m n"]
    factor: Float[Array, "m m"]

    def init(self, key: PRNGKeyArray) -> PolicyState:
        del key
        zero, m = jnp.zeros((), self.start.dtype), self.factor.shape[0]
        return PolicyState(self.start, self.start, jnp.zeros((m, m), self.start.dtype), zero, zero, zero)

    def acting(self, state: PolicyState, count: int, key: PRNGKeyArray) -> Float[Array, "c m n"]:
        del count, key
        return state.gain[None]

    def act(
        self, acting: Float[Array, "m n"], observation: Float[Array, "n"], key: PRNGKeyArray
    ) -> Float[Array, "m"]:
        return LinearGaussian(acting, self.factor).sample(observation, key)

    def act_imagined(
        self, acting: Float[Array, "m n"], observation: Float[Array, "n"], key: PRNGKeyArray
    ) -> Float[Array, "m"]:
        return self.act(acting, observation, key)

    def policy(self, state: PolicyState) -> Float[Array, "m n"]:
        return state.average

    def mean_action(
        self, policy: Float[Array, "m n"], observation: Float[Array, "B n"]
    ) -> Float[Array, "B m"]:
        """K x."""
        return observation @ policy.T

    def retreat(self, state: PolicyState) -> PolicyState:
        return state._replace(gain=self.start, average=self.start)


class GradientAgent(LinearAgent):
    """Steps K <- K - a M^-1 E along an estimator's natural gradient E, preconditioned by its curvature M.

    The step size needs no tuning: a = c / (c + t) in units of the Gauss-Newton step, where t counts the full steps
    taken (`memory` c), times 1 - noise / |E|^2 in the metric in which a step pays, as far as the noise could do harm
    (`HARMLESS`); a step is shortened until its quadratic term tr(Sigma D'M D) is at most `trust` of the cost, and, when
    the loop has a model, until the loop closed by the new gain contracts under the fitted model and under draws from
    its confidence set. The answer is the polynomial-decay average of the gains (Shamir & Zhang 2013), with weight
    (1 + w) / (t + 1 + w) on the newest.

    imagined_factor: L inside the model. Experience of an on-policy plan with `imagines` was imagined.
    """

    imagined_factor: Float[Array, "m m"]
    objective: Objective
    source: GradientSource
    memory: float = 5.0
    trust: float = 0.25
    newest: float = 8.0
    imagines: bool = eqx.field(static=True, default=True)

    def init(self, key: PRNGKeyArray) -> PolicyState:
        state = super().init(key)
        return state._replace(trust=state.trust + self.trust, memory=self.source.init(self.start))

    def acting(self, state: PolicyState, count: int, key: PRNGKeyArray) -> Float[Array, "c m n"]:
        return self.source.acting(state.gain, count, key)

    def act_imagined(
        self, acting: Float[Array, "m n"], observation: Float[Array, "n"], key: PRNGKeyArray
    ) -> Float[Array, "m"]:
        return LinearGaussian(acting, self.imagined_factor).sample(observation, key)

    def retreat(self, state: PolicyState) -> PolicyState:
        fresh = self.init(jax.random.key(0))
        return fresh._replace(curvature=state.curvature, trust=state.trust / 2, updates=state.updates)

    def update(
        self, state: PolicyState, experience: Experience, key: PRNGKeyArray
    ) -> tuple[PolicyState, UpdateInfo]:
        estimate_key, guard_key = jax.random.split(key)
        imagined = experience.model is not None and self.imagines
        policy = LinearGaussian(state.gain, self.imagined_factor if imagined else self.factor)
        remembered, estimate = self.source.estimate(
            state.memory, policy, experience, self.objective, estimate_key
        )
        curvature = self._remember(state, estimate)
        direction = -jnp.linalg.solve(curvature, estimate.error)
        gain_of_step = jnp.trace(estimate.moment @ direction.T @ curvature @ direction)
        change = gain_of_step / jnp.abs(estimate.cost)
        usable = estimate.usable & jnp.all(jnp.isfinite(direction)) & jnp.isfinite(change)
        share_of_noise = jnp.minimum(estimate.noise / jnp.maximum(gain_of_step, 1e-300), 1.0)
        harm = jnp.minimum(estimate.noise / (HARMLESS * jnp.abs(estimate.cost)), 1.0)
        signal = 1.0 - share_of_noise * harm
        size = jnp.where(usable, signal, 0.0) * self.memory / (self.memory + state.progress)
        share = jnp.minimum(1.0, jnp.sqrt(state.trust / jnp.maximum(size**2 * change, 1e-300)))
        direction = jnp.where(usable, direction, jnp.zeros_like(direction))
        share = jnp.where(usable, share, 0.0)
        if experience.model is not None:
            share = share * self._safe_share(
                state.gain, share * size * direction, experience.model.state, guard_key
            )
        gain = state.gain + share * size * direction
        weight = (1 + self.newest) / (state.progress + 1 + self.newest)
        moved = PolicyState(
            gain=gain,
            average=state.average + weight * (state.gain - state.average),
            curvature=curvature,
            progress=state.progress + share,
            trust=state.trust,
            updates=state.updates + 1,
        )
        still = state._replace(memory=None)
        state = jax.tree.map(lambda new, old: jnp.where(usable, new, old), moved, still)
        info = UpdateInfo(share * size, jnp.where(usable, change, 0.0), usable)
        return state._replace(memory=remembered), info

    def _remember(self, state: PolicyState, estimate: Estimate) -> Float[Array, "m m"]:
        """The running average of M; each estimate of it is noisy, and M changes slowly with K."""
        weight = jnp.maximum(1 / (state.updates + 1), 1 / (self.memory + state.progress))
        return state.curvature + weight * (estimate.curvature - state.curvature)

    def _safe_share(
        self, gain: Array, step: Array, model: LinearModel, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """The largest of `SHRINK` at which the closed loop, under every plausible model, contracts, and keeps `KEPT` of
        the rate at which it forgets now: a loop at the edge of stability costs more than any model could tell."""
        shares = jnp.asarray(SHRINK, gain.dtype)
        gains = gain[None] + shares[:, None, None] * step[None]
        A, B = plausible_models(model, PLAUSIBLE, key)
        loops = jnp.sqrt(self.objective.discount) * (A[None] + jnp.einsum("cnm,smk->scnk", B, gains))
        here = decay(jnp.sqrt(self.objective.discount) * (A + B @ gain[None]))
        safe = jnp.all((decay(loops) > KEPT * here[None]) | ~(here[None] > 0), axis=1)
        return jnp.max(jnp.where(safe, shares, 0.0))


class PlainGradient(LinearAgent):
    """K <- K - a g, g an estimate of dJ/dK and a a constant: no curvature, no averaging, no test of any kind.

    What is called vanilla policy gradient when the estimate is REINFORCE's or GPOMDP's. The answer is the last gain.

    step: a; source: of the estimates.
    """

    step: Float[Array, ""]
    objective: Objective
    source: GradientSource

    def init(self, key: PRNGKeyArray) -> PolicyState:
        return super().init(key)._replace(memory=self.source.init(self.start))

    def acting(self, state: PolicyState, count: int, key: PRNGKeyArray) -> Float[Array, "c m n"]:
        return self.source.acting(state.gain, count, key)

    def update(
        self, state: PolicyState, experience: Experience, key: PRNGKeyArray
    ) -> tuple[PolicyState, UpdateInfo]:
        policy = LinearGaussian(state.gain, self.factor)
        memory, estimate = self.source.estimate(state.memory, policy, experience, self.objective, key)
        move = jnp.where(estimate.usable, self.step, 0.0) * estimate.gradient
        gain = jnp.where(estimate.usable, state.gain - move, state.gain)
        state = state._replace(gain=gain, average=gain, updates=state.updates + 1, memory=memory)
        return state, UpdateInfo(self.step, jnp.zeros_like(self.step), estimate.usable)


class CertaintyEquivalence(LinearAgent):
    """K = the optimal gain of the fitted model (Mania, Tu, Recht 2019), the yardstick: asymptotically no learner does
    better with the same data. A gain is adopted when the Riccati equation has a solution and the loop contracts
    under draws from the model's confidence set; else the last one stays."""

    objective: Objective

    def update(
        self, state: PolicyState, experience: Experience, key: PRNGKeyArray
    ) -> tuple[PolicyState, UpdateInfo]:
        model: LinearModel = experience.model.state
        g = jnp.sqrt(self.objective.discount)
        _, gain, solved = riccati(g * model.A, g * model.B, model.Q, model.R)
        A, B = plausible_models(model, PLAUSIBLE, key)
        safe = solved & jnp.all(contracts(g * (A + B @ gain)))
        gain = jnp.where(safe, gain, state.gain)
        share = safe.astype(gain.dtype)
        state = state._replace(
            gain=gain, average=gain, progress=state.progress + share, updates=state.updates + 1
        )
        return state, UpdateInfo(share, jnp.zeros_like(share), safe)
