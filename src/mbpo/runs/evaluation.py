"""Episodes of a policy that is not learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mbpo.core.parts import HostEnvironment
from mbpo.errors import InputError

Policy = Callable[[np.ndarray], np.ndarray]
"""observation `[n]` -> action `[m]` in [-1, 1]"""

LONGEST = 100_000  # steps of an episode that cannot be meant to end
STREAM = 77_003  # keeps the seeds of evaluation apart from those of training


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths of whole episodes."""

    returns: list[float]
    lengths: list[int]

    @property
    def mean_return(self) -> float:
        """The mean over the episodes."""
        return float(np.mean(self.returns))

    def to_json(self) -> dict[str, Any]:
        """`mean_return`, `returns`, `lengths`."""
        return {"mean_return": self.mean_return, "returns": self.returns, "lengths": self.lengths}


def evaluate(
    environment: HostEnvironment,
    policy: Policy,
    episodes: int,
    seed: int,
    ended: Callable[[float], None] = lambda total: None,
) -> Evaluation:
    """Run `episodes` episodes to their end, each from a start that `seed` and its number decide; `ended` is told the
    return of each."""
    returns, lengths = [], []
    for number in range(episodes):
        observation, total, length = environment.reset(episode_seed(seed, number)), 0.0, 0
        while True:
            step = environment.step(policy(observation))
            observation, total, length = step.observation, total + step.reward, length + 1
            if step.terminal or step.truncated:
                break
            if length == LONGEST:
                raise InputError(f"an episode has not ended after {LONGEST} steps, expected a time limit")
        returns.append(total)
        lengths.append(length)
        ended(total)
    return Evaluation(returns, lengths)


def episode_seed(seed: int, number: int) -> int:
    """The environment seed of evaluation episode `number`."""
    return int(np.random.SeedSequence([STREAM, seed, number]).generate_state(1)[0] >> 1)
