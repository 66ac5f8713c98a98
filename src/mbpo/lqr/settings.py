"""What to train: the options of a training, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbpo.errors import InputError, did_you_mean
from mbpo.lqr.algorithms import ALGORITHMS, Algorithm, Choices
from mbpo.lqr.gradients import ESTIMATORS

MOST_SEEDS = 100_000
MOST_TRANSITIONS = 100_000_000


@dataclass(frozen=True)
class Settings:
    """What to train, on how much real data, how often; None means the algorithm's own default.

    The real ratio goes from `real_ratio` to `real_ratio_last` in step with the real transitions; with `learn_cost` the
    model learns Q and R from observed rewards instead of being told; imagined_exploration: standard deviation of
    exploration inside the model relative to the world's; step: of plain gradients, in units of 1 / the largest
    curvature.
    """

    algorithm: str
    transitions: int
    seeds: int = 16
    seed: int = 0
    real_ratio: float | None = None
    real_ratio_last: float | None = None
    rollout_length: int | None = None
    improve: str | None = None
    learn_cost: bool = False
    imagined_exploration: float | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise InputError(
                f"there is no algorithm {self.algorithm!r}; {did_you_mean(self.algorithm, ALGORITHMS)}"
            )
        _whole("transitions", self.transitions, 1, MOST_TRANSITIONS)
        _whole("seeds", self.seeds, 1, MOST_SEEDS)
        _whole("seed", self.seed, 0, 2**63 - 1)
        known = ALGORITHMS[self.algorithm]
        for name in ("real_ratio", "real_ratio_last"):
            value = getattr(self, name)
            if value is not None:
                self._needs_branches(known, name)
                _number(name, value, 0.0, 1.0)
        if self.imagined_exploration is not None:
            self._needs_imagination(known)
            _number("imagined_exploration", self.imagined_exploration, 0.0, 1e6)
        if self.step is not None:
            if not known.plain:
                raise InputError(f"step has no meaning for {self.algorithm}, which sets its own")
            _number("step", self.step, 0.0, 1e6)
        if self.rollout_length is not None:
            self._needs_branches(known, "rollout_length")
            _whole("rollout_length", self.rollout_length, 1, 1000)
        if self.improve is not None:
            self._check_improve(known, self.improve)
        if self.learn_cost and not known.uses_model:
            raise InputError(f"learn_cost has no meaning for {self.algorithm}, which has no model")

    @property
    def choices(self) -> Choices:
        """With the algorithm's own defaults in the place of None."""
        known = ALGORITHMS[self.algorithm]
        given = {"real_ratio_last": self.real_ratio_last, "learn_cost": self.learn_cost}
        for name in ("imagined_exploration", "step"):
            value = getattr(self, name)
            given |= {} if value is None else {name: value}
        ratio = known.real_ratio if self.real_ratio is None else self.real_ratio
        length = known.rollout_length if self.rollout_length is None else self.rollout_length
        improve = self.improve or known.improve
        return Choices(improve=improve, real_ratio=ratio, rollout_length=length, **given)

    def _needs_branches(self, known: Algorithm, option: str) -> None:
        if known.rollout_length is None:
            able = ", ".join(name for name, each in ALGORITHMS.items() if each.rollout_length is not None)
            raise InputError(
                f"{option} has no meaning for {self.algorithm}, which does not mix real with imagined "
                f"batches; it belongs to {able}"
            )

    def _needs_imagination(self, known: Algorithm) -> None:
        if not known.imagines:
            able = ", ".join(name for name, each in ALGORITHMS.items() if each.imagines)
            raise InputError(
                f"imagined_exploration has no meaning for {self.algorithm}, which imagines nothing; "
                f"it belongs to {able}"
            )

    def _check_improve(self, known: Algorithm, improve: str) -> None:
        if known.improve is None:
            raise InputError(
                f"improve has no meaning for {self.algorithm}, which solves the fitted model outright"
            )
        if improve not in ESTIMATORS:
            raise InputError(
                f"there is no gradient estimator {improve!r}; {did_you_mean(improve, ESTIMATORS)}"
            )
        if improve not in known.choices:
            raise InputError(
                f"{self.algorithm} improves along {' or '.join(known.choices)}, not {improve}; on real data "
                f"alone every estimator is an algorithm of its own: use algorithm {improve}"
            )
        mixes = self.real_ratio is not None or self.real_ratio_last is not None
        if mixes and improve != "dpg":
            raise InputError(
                f"real_ratio has no meaning for {self.algorithm} with improve {improve}, which learns from imagined "
                "trajectories of the current policy alone; only dpg mixes them with real rows"
            )


def _number(name: str, value: Any, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise InputError(f"{name} must be a number from {least:g} to {most:g}, got {value}")


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} must be a whole number from {least} to {most}, got {value}")
