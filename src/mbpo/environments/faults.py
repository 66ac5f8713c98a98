"""What went wrong in a world outside JAX, and where."""

from __future__ import annotations

from typing import NamedTuple

from mbpo.errors import InputError

LONGEST_REASON = 200


class EnvironmentFault(InputError):
    """An environment broke the contract of a Gymnasium task: one sentence saying what, where and what was expected."""


class Place(NamedTuple):
    """Where in the life of an environment something happened: episodes count from 0, step 0 is the reset."""

    environment: str
    episode: int
    step: int

    def __str__(self) -> str:
        moment = "the reset" if self.step == 0 else f"step {self.step}"
        return f"{self.environment}: {moment} of episode {self.episode}"


def reason(error: BaseException) -> str:
    """What an exception says, on one line and without a full stop: `ValueError: ...`."""
    text = " ".join(str(error).split()).rstrip(". ")
    text = text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
