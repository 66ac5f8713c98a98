"""The family of gradient estimators by name, with what each needs and when it is unbiased."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float

from mbpo.lqr.gradients.exact_advantage import exact_advantage
from mbpo.lqr.gradients.expected import expected
from mbpo.lqr.gradients.gpomdp import gpomdp
from mbpo.lqr.gradients.importance_sampling import importance_sampling, trajectory_weights
from mbpo.lqr.gradients.known import known
from mbpo.lqr.gradients.marginalised import marginalised, state_action_weights
from mbpo.lqr.gradients.multiple_importance_sampling import balance_weights, multiple_importance_sampling
from mbpo.lqr.gradients.off_policy_actor_critic import off_policy_actor_critic, step_weights
from mbpo.lqr.gradients.pathwise import pathwise
from mbpo.lqr.gradients.per_decision import per_decision
from mbpo.lqr.gradients.reinforce import reinforce
from mbpo.lqr.gradients.self_normalised import normalised_weights, self_normalised
from mbpo.lqr.gradients.time_baseline import time_baseline
from mbpo.lqr.gradients.trajectories import Trajectories, prefix_ratio
from mbpo.lqr.gradients.truncated import truncated, truncated_weights
from mbpo.lqr.gradients.value_baseline import value_baseline
from mbpo.lqr.gradients.zeroth_order import one_point, two_point
from mbpo.lqr.policy import LinearGaussian
from mbpo.lqr.values import PolicyValues, World

TrajectoryFunction = Callable[
    [LinearGaussian, Trajectories, PolicyValues | None, World | None], Float[Array, "N m n"]
]
PREFIX = "the second moment of its ratios is finite"


@dataclass(frozen=True)
class Estimator:
    """One estimator of dJ/dK from trajectories, as a mean over them.

    data: whose trajectories it takes: `current` the policy's own; `past` those of one other policy at a time;
    `pool` a mixture of past policies and the current one; `perturbed`, `pairs` rollouts at K + U, or at K + U and K - U
    in turn; `twins` pairs with the same noise. values: needs none, `fitted` (LSTD-Q) or `exact` ones. world: needs the
    parameters, `known` or `fitted`. visits: whose states its mean is taken over. weights: its importance weights.
    unbiased: whether its mean is the gradient; condition: when, or why not.
    """

    function: TrajectoryFunction
    summary: str
    unbiased: bool
    condition: str
    data: Literal["current", "past", "pool", "perturbed", "pairs", "twins"] = "current"
    values: Literal["none", "fitted", "exact"] = "none"
    world: Literal["none", "known", "fitted"] = "none"
    visits: Literal["target", "behaviour"] = "target"
    weights: Callable[[LinearGaussian, Trajectories], Array] | None = None

    @property
    def perturbs(self) -> bool:
        """Whether it acts with gains other than the policy's."""
        return self.data in ("perturbed", "pairs", "twins")

    @property
    def replays(self) -> bool:
        """Whether it learns from trajectories of earlier policies."""
        return self.data in ("past", "pool")

    @property
    def needs_parameters(self) -> bool:
        """Whether it must be told the parameters of the system."""
        return self.world == "known" or self.values == "exact"


OWN = "on trajectories of the current policy"
ESTIMATORS: dict[str, Estimator] = {
    "reinforce": Estimator(reinforce, "likelihood ratio, whole cost", True, OWN),
    "gpomdp": Estimator(gpomdp, "likelihood ratio, cost to go", True, OWN),
    "time-baseline": Estimator(time_baseline, "cost to go minus its mean at each step", True, OWN),
    "value-baseline": Estimator(
        value_baseline, "cost to go minus a fitted quadratic value", True,
        OWN + ", the value being fitted on the other half of them", values="fitted",
    ),
    "exact-advantage": Estimator(
        exact_advantage, "likelihood ratio, exact advantage", True, OWN, values="exact"
    ),
    "expected": Estimator(
        expected, "deterministic policy gradient, exact critic", True, OWN, values="exact"
    ),
    "dpg": Estimator(
        expected, "deterministic policy gradient, LSTD-Q critic, replay", False,
        "consistent: the critic is a ratio of averages, with a bias of order 1/N, and the states are the behaviour's",
        data="past", values="fitted", visits="behaviour",
    ),
    "off-pac": Estimator(
        off_policy_actor_critic, "off-policy actor-critic, exact advantage", False,
        "the states are the behaviour's: its mean is the sum of 2 E_t Sigma_t of the behaviour",
        data="past", values="exact", visits="behaviour", weights=step_weights,
    ),
    "importance-sampling": Estimator(
        importance_sampling, "whole-trajectory ratio times whole cost", True, "while " + PREFIX,
        data="past", weights=trajectory_weights,
    ),
    "per-decision": Estimator(
        per_decision, "prefix ratios, cost to go", True, "while " + PREFIX, data="past", weights=prefix_ratio,
    ),
    "self-normalised": Estimator(
        self_normalised, "prefix ratios divided by their mean", False,
        "a ratio of averages has a bias of order 1/N; the mean of such a ratio has no closed form",
        data="past", weights=normalised_weights,
    ),
    "truncated": Estimator(
        truncated, "prefix ratios cut off at one", False,
        "cut weights lose cost; a quadratic form over the region where the ratio is below one has no closed form",
        data="past", weights=truncated_weights,
    ),
    "mis": Estimator(
        multiple_importance_sampling, "balance heuristic over past policies, value baseline", True,
        "when the shares of the pool are those of the data", data="pool", values="fitted", weights=balance_weights,
    ),
    "marginalised": Estimator(
        marginalised, "exact state densities times one action ratio, exact advantage", True, "while " + PREFIX,
        data="past", values="exact", world="known", weights=state_action_weights,
    ),
    "pathwise-true": Estimator(
        pathwise, "through the true dynamics", True, OWN, world="known", values="exact"
    ),
    "pathwise": Estimator(
        pathwise, "through the fitted dynamics", False,
        "the model's error: its mean solves a Lyapunov equation with the model's loop on one side",
        world="fitted", values="fitted",
    ),
    "zeroth-order-1": Estimator(
        one_point, "cost at one perturbed gain", False,
        "its mean is the gradient of the cost smoothed over the perturbation, O(r^2) away", data="perturbed",
    ),
    "zeroth-order-2": Estimator(
        two_point, "cost at two opposite gains, independent noise", False,
        "its mean is the gradient of the cost smoothed over the perturbation, O(r^2) away", data="pairs",
    ),
    "zeroth-order-2-common": Estimator(
        two_point, "cost at two opposite gains, the same noise", False,
        "its mean is the gradient of the cost smoothed over the perturbation, O(r^2) away; needs a simulator that "
        "can repeat its noise", data="twins",
    ),
    "known": Estimator(
        known, "known parameters, nothing sampled", True, "always", values="exact", world="known"
    ),
}  # fmt: skip
