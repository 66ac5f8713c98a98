"""A stretch of random actions in an environment, kept for checking."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from mbpo.environments.gymnasium_environment import GymnasiumEnvironment
from mbpo.errors import InputError


class Trial(NamedTuple):
    """N transitions in order: observations and next_observations `[N, n]`, actions `[N, m]`, the rest `[N]`.

    starts: the indices at which episodes begin. fault: the sentence that ended the trial early, or None. messages:
    what was warned of meanwhile.
    """

    observations: np.ndarray
    actions: np.ndarray
    next_observations: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    truncated: np.ndarray
    starts: list[int]
    fault: str | None
    messages: list[str]

    def lengths(self) -> np.ndarray:
        """The lengths of the episodes that ended."""
        ends = np.flatnonzero(self.terminals | self.truncated)
        return ends + 1 - np.array(self.starts[: len(ends)], int)


def run_trial(environment: GymnasiumEnvironment, steps: int, seed: int) -> Trial:
    """`steps` uniformly random actions; episode i is reset with `seed + i`, so the same call repeats the trial."""
    rng = np.random.default_rng(seed)
    rows: list[tuple] = []
    starts: list[int] = []
    fault, observation = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            while len(rows) < steps:
                if observation is None:
                    starts.append(len(rows))
                    observation = environment.reset(seed + len(starts) - 1)
                action = rng.uniform(-1, 1, environment.action_size).astype(np.float32)
                step = environment.step(action)
                rows.append(
                    (observation, action, step.reward, step.observation, step.terminal, step.truncated)
                )
                observation = None if step.terminal or step.truncated else step.observation
        except InputError as error:
            fault = str(error)
    messages = sorted({" ".join(str(each.message).split()) for each in caught})
    n, m = environment.observation_size, environment.action_size
    seen, chosen, rewards, following, terminal, truncated = _columns(rows)
    return Trial(
        np.array(seen, np.float32).reshape(len(rows), n),
        np.array(chosen, np.float32).reshape(len(rows), m),
        np.array(following, np.float32).reshape(len(rows), n),
        np.array(rewards, np.float64),
        np.array(terminal, bool),
        np.array(truncated, bool),
        starts,
        fault,
        messages,
    )


def _columns(rows: list[tuple]) -> list[list]:
    return [[row[i] for row in rows] for i in range(6)]


def same_bits(one: Trial, other: Trial, steps: int) -> int | None:
    """The first of `steps` steps in which two trials differ in any bit, or None."""
    if len(other.rewards) < steps:
        return len(other.rewards)
    differ = np.zeros(steps, bool)
    for a, b in zip(one[:6], other[:6], strict=True):
        differ |= (np.asarray(a)[:steps] != np.asarray(b)[:steps]).reshape(steps, -1).any(axis=1)
    return int(np.argmax(differ)) if differ.any() else None
