"""What a run does, in numbers: how much real data when, and what each update learns from.

Algorithm 2 of Janner et al. 2019 is `Replay` with branches from real states; Algorithm 1, without its penalty
C(eps_m, eps_pi), is `OnPolicy` with imagined rollouts from the start distribution. One-step branches are Dyna; `Replay`
without branches, or `OnPolicy` without imagination, is model-free learning.
"""

from __future__ import annotations

import equinox as eqx
from jaxtyping import Array, Bool, Int

from mbpo.core.mixing import RealRatio
from mbpo.core.schedule import Linear


class Branches(eqx.Module):
    """Imagined k-step branches from real states: `count` of them after each model fit, each `length` steps long
    (rounded down, at most `longest`). As many transitions are kept as `retain` fits imagine, at the present length if
    it `varies`, else at the longest.

    `refresh_every`: instead of after a fit, anew before every so many updates, under the policy as it then is.
    `restart`: a branch that ends goes on from another real state, so that all of them stay `length` steps long.
    `refill`, where true: a branch begins anew at another real state after each `length` steps, for `longest` steps
    in all, so that every length gives equally many transitions.
    """

    length: Linear
    count: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)
    retain: int = eqx.field(static=True, default=1)
    varies: bool = eqx.field(static=True, default=False)
    refresh_every: int | None = eqx.field(static=True, default=None)
    restart: bool = eqx.field(static=True, default=False)
    refill: Bool[Array, ""] | None = None

    @property
    def capacity(self) -> int:
        """Imagined transitions that are kept when branches are longest."""
        return self.count * self.longest * self.retain


class Replay(eqx.Module):
    """Off-policy batches `[B]`, drawn from everything seen and imagined and mixed by the real ratio."""

    real_ratio: RealRatio
    batch_size: int = eqx.field(static=True)
    branches: Branches | None


class OnPolicy(eqx.Module):
    """Trajectories `[episodes, length]` of the current policy: the real ones just gathered, or imagined afresh for
    every update, from the start distribution or, `branched`, from real states.

    With `restart`, real rounds begin with a new episode. With `twins`, trajectories 2j and 2j + 1 share their start
    and their noise, which only a simulator can offer.
    """

    episodes: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    imagined: bool = eqx.field(static=True)
    restart: bool = eqx.field(static=True, default=False)
    branched: bool = eqx.field(static=True, default=False)
    twins: bool = eqx.field(static=True, default=False)


class Plan(eqx.Module):
    """`warmup_steps` real steps, then `rounds` of `steps_per_round` real steps and `updates_per_round` updates; the
    model is refitted, and branches imagined, in the first round and every `refit_every` rounds from there.

    The data of the warm-up are new to model and agent, so the first round may fit and improve several times over:
    `first_fits` fits and `first_improves` times the updates. And the first rounds may have fewer steps than the others,
    `early` of them: what is learned from little data is then seen too. Only a pure environment can have such rounds.
    """

    batches: Replay | OnPolicy
    warmup_steps: int = eqx.field(static=True)
    rounds: int = eqx.field(static=True)
    steps_per_round: int = eqx.field(static=True)
    updates_per_round: int = eqx.field(static=True)
    refit_every: int = eqx.field(static=True, default=1)
    first_fits: int = eqx.field(static=True, default=1)
    first_improves: int = eqx.field(static=True, default=1)
    early: tuple[int, ...] = eqx.field(static=True, default=())

    @property
    def total_env_steps(self) -> int:
        """Real transitions of the whole run, warm-up included."""
        return self.env_steps_after(self.rounds)

    @property
    def refresh_every(self) -> int | None:
        """Updates from one refreshment of imagined transitions to the next; None where only fits refresh them."""
        batches = self.batches
        branches = batches.branches if isinstance(batches, Replay) else None
        return None if branches is None else branches.refresh_every

    def env_steps_after(self, rounds: int) -> int:
        """Real steps when so many rounds are complete."""
        shorter = self.early[:rounds]
        return self.warmup_steps + sum(shorter) + (rounds - len(shorter)) * self.steps_per_round

    @property
    def steps_of_rounds(self) -> list[int]:
        """Real steps of each round."""
        return [*self.early, *[self.steps_per_round] * (self.rounds - len(self.early))]

    def fits_after(self, rounds: int) -> int:
        """Model fits when so many rounds are complete."""
        return self.first_fits + (rounds - 1) // self.refit_every if rounds > 0 else 0

    def updates_after(self, rounds: int) -> int:
        """Agent updates when so many rounds are complete."""
        return (self.first_improves + rounds - 1) * self.updates_per_round if rounds > 0 else 0

    def refit_due(self, rounds: Int[Array, ""] | int) -> Bool[Array, ""] | bool:
        """Whether the round that makes it `rounds` rounds begins with a refit."""
        return (rounds - 1) % self.refit_every == 0

    def __check_init__(self) -> None:
        counts = (
            self.warmup_steps,
            self.rounds,
            self.steps_per_round,
            self.updates_per_round,
            self.refit_every,
            self.first_fits,
            self.first_improves,
        )
        if min(counts) < 1:
            raise ValueError(
                "a plan needs a warm-up, rounds, real steps, updates and refits: one of each or more"
            )
        if len(self.early) > self.rounds or not all(1 <= each <= self.steps_per_round for each in self.early):
            raise ValueError(
                "early rounds have 1 to steps_per_round real steps, and are no more than the rounds"
            )
        every = self.refresh_every
        if every is not None and (every < 1 or self.updates_per_round % every != 0):
            raise ValueError(
                f"the updates of a round come in groups of refresh_every: {self.updates_per_round} is not a multiple "
                f"of {every}"
            )
        batches = self.batches
        if not isinstance(batches, OnPolicy) or batches.imagined:
            return
        if batches.episodes * batches.length != self.steps_per_round or self.early:
            raise ValueError(
                "on-policy real batches use all steps of a round: episodes * length = steps_per_round"
            )
