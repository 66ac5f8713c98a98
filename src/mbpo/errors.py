"""The one error a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something given by the user cannot be used: one sentence saying what, where, and what was expected.

    The command line prints the sentence and exits with status 2; a program may catch it as a `ValueError`.
    """


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The tail of a sentence about an unknown name: the nearest valid one, else all of them."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"the valid names are {', '.join(valid)}"
