"""Whether an environment is fit for learning, found out by a thousand random steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from mbpo.environments.gymnasium_environment import GymnasiumEnvironment, make
from mbpo.environments.task_rules import Never
from mbpo.environments.termination import LEARNED, agreement
from mbpo.environments.trial import Trial, run_trial, same_bits
from mbpo.errors import InputError

Severity = Literal["error", "warning", "ok"]

REPEATED = 200
WIDE = 1e3
LARGE_REWARD, SMALL_REWARD = 1e3, 1e-3
ALIKE = 3


class Finding(NamedTuple):
    """One thing looked at: how bad it is, what was found, and what to do about it ("" when nothing)."""

    severity: Severity
    what: str
    advice: str = ""


class Report(NamedTuple):
    """What was found about one environment, in the order in which it was looked at."""

    environment: str
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)


def check_environment(
    environment_id: str,
    options: Mapping[str, Any] | None = None,
    termination: str | None = None,
    steps: int = 1000,
    seed: int = 0,
) -> Report:
    """Make the environment, take `steps` uniformly random actions in it, and report on everything learning relies on.

    What is wrong with the environment is reported, never raised; raises `InputError` for a wrong `steps` or `seed`.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps must be a whole number of at least 1, got {steps!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"the seed must be a whole number of at least 0, got {seed!r}")
    try:
        environment = make(environment_id, options)
    except InputError as error:
        return Report(str(environment_id), (Finding("error", str(error)),))
    try:
        trial = run_trial(environment, steps, seed)
        found = [_spaces(environment)]
        found += [Finding("error", trial.fault)] if trial.fault else []
        found += _repeatable(environment, options, trial, seed)
        if len(trial.rewards):
            found += [*_observations(environment, trial), *_rewards(trial), *_ends(environment, trial)]
        found += [*_time_limit(environment), *_termination(environment, termination, trial)]
        found += [Finding("warning", f"while stepping, {each}") for each in trial.messages]
    finally:
        environment.close()
    return Report(environment_id, tuple(found))


def _spaces(environment: GymnasiumEnvironment) -> Finding:
    box: Any = environment.gym.action_space
    seen, chosen = environment.observation_size, environment.action_size
    return Finding(
        "ok", f"{seen} numbers to see, {chosen} to choose within [{box.low.min():g}, {box.high.max():g}]"
    )


def _repeatable(
    environment: GymnasiumEnvironment, options: Mapping[str, Any] | None, trial: Trial, seed: int
) -> Iterator[Finding]:
    """The same seed and actions again, in this instance and in a new one: every bit must be the same."""
    steps = min(len(trial.rewards), REPEATED)
    if steps == 0:
        return
    fresh = make(environment.id, options)
    try:
        for other, where in ((environment, "the same instance"), (fresh, "a new instance")):
            again = run_trial(other, steps, seed)
            differs = same_bits(trial, again, steps)
            if differs is not None:
                yield Finding(
                    "error",
                    f"the same seed and actions give another episode in {where}, from step {differs + 1} on",
                    "draw every random number from self.np_random and reset all state in reset(seed=...); a run can "
                    "be neither repeated nor resumed otherwise",
                )
                return
    finally:
        fresh.close()
    yield Finding("ok", f"the same seed and actions give the same {steps} steps, bit for bit")


def _observations(environment: GymnasiumEnvironment, trial: Trial) -> Iterator[Finding]:
    seen = np.concatenate([trial.observations[:1], trial.next_observations])
    constant = np.flatnonzero(np.ptp(seen, axis=0) == 0)
    if len(constant):
        yield Finding(
            "warning",
            f"{_entries(constant)} never changed",
            "leave it out if it is always so: a model learns nothing from it",
        )
    wide = np.flatnonzero(np.abs(seen).max(axis=0) > WIDE)
    if len(wide):
        yield Finding(
            "warning",
            f"{_entries(wide)} reached {np.abs(seen).max():.3g}",
            "use units in which observations are of the order of 1 to 100",
        )
    box: Any = environment.gym.observation_space
    low, high = box.low.reshape(-1), box.high.reshape(-1)
    outside = np.flatnonzero(((seen < low) | (seen > high)).any(axis=0) & (np.ptp(seen, axis=0) > 0))
    if len(outside):
        yield Finding(
            "warning", f"{_entries(outside)} left the declared observation space", "correct its bounds"
        )
    if not len(constant) and not len(wide) and not len(outside):
        yield Finding("ok", f"observations vary within [{seen.min():.3g}, {seen.max():.3g}]")


def _rewards(trial: Trial) -> Iterator[Finding]:
    low, high = trial.rewards.min(), trial.rewards.max()
    size = max(abs(low), abs(high))
    if low == high:
        yield Finding(
            "warning", f"every reward was {low:g}", "check that random actions can meet the reward at all"
        )
    elif size > LARGE_REWARD:
        yield Finding("warning", f"rewards reached {size:.3g}", "scale them to the order of 1")
    elif size < SMALL_REWARD:
        yield Finding("warning", f"no reward exceeded {size:.3g} in size", "scale them to the order of 1")
    else:
        yield Finding("ok", f"rewards vary within [{low:.3g}, {high:.3g}]")


def _ends(environment: GymnasiumEnvironment, trial: Trial) -> Iterator[Finding]:
    lengths = trial.lengths()
    terminated, truncated = int(trial.terminals.sum()), int((trial.truncated & ~trial.terminals).sum())
    terminal = lengths[trial.terminals[trial.terminals | trial.truncated]]
    if len(lengths) and (lengths == 1).all():
        yield Finding(
            "error", "every episode ended at its first step", "check the start and the termination condition"
        )
    elif len(lengths) and np.mean(lengths == 1) > 0.1:
        yield Finding(
            "warning", f"{int((lengths == 1).sum())} of {len(lengths)} episodes ended at their first step"
        )
    elif len(terminal) >= ALIKE and np.ptp(terminal) == 0:
        yield Finding(
            "warning",
            f"every termination came after exactly {terminal[0]} steps",
            "a time limit must be reported as truncated, not terminated: what follows it still has value",
        )
    else:
        mean = f", {lengths.mean():.3g} steps on average" if len(lengths) else ""
        yield Finding(
            "ok",
            f"{terminated} episodes terminated and {truncated} were truncated in {len(trial.rewards)} steps{mean}",
        )


def _time_limit(environment: GymnasiumEnvironment) -> Iterator[Finding]:
    if environment.max_episode_steps is None:
        yield Finding(
            "warning",
            "there is no time limit that Gymnasium knows of",
            "give the option max_episode_steps, else one episode may fill the whole run",
        )
    else:
        yield Finding("ok", f"episodes are truncated after {environment.max_episode_steps} steps")


def _termination(environment: GymnasiumEnvironment, name: str | None, trial: Trial) -> Iterator[Finding]:
    environment.termination = name
    try:
        rule = environment.rule()
    except InputError as error:
        yield Finding("error", str(error))
        return
    seen = int(trial.terminals.sum())
    if rule is LEARNED or isinstance(rule, str):
        yield Finding(
            "ok", f"termination is left to the model to learn ({seen} seen in {len(trial.rewards)} steps)"
        )
        return
    batch = (trial.observations, trial.actions, trial.next_observations, trial.terminals)
    wrong, first = agreement(rule, *batch) if len(trial.rewards) else (0, -1)
    if wrong:
        says, was = ("goes on", "terminated") if trial.terminals[first] else ("terminates", "went on")
        yield Finding(
            "error",
            f"the termination rule contradicts the environment on {wrong} of {len(trial.rewards)} steps: at step "
            f"{first + 1} it {says} where the environment {was}",
            "correct the rule: a model that ends its rollouts wrongly teaches the wrong values",
        )
    elif seen or isinstance(rule, Never):
        yield Finding("ok", f"the termination rule agrees with the environment on {len(trial.rewards)} steps")
    else:
        yield Finding(
            "warning",
            "no episode terminated, so the rule was tested on one side only",
            "check it on more steps",
        )


def _entries(indices: np.ndarray) -> str:
    listed = ", ".join(str(i) for i in indices[:5]) + (", ..." if len(indices) > 5 else "")
    return f"observation {listed}" if len(indices) == 1 else f"observations {listed} ({len(indices)} of them)"
