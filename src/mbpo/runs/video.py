"""One episode of a trained policy as a film."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mbpo.errors import InputError
from mbpo.runs.evaluation import episode_seed
from mbpo.runs.folder import check_writable
from mbpo.runs.trained import TrainedPolicy

KINDS = (".mp4", ".gif")
DEFAULT_RATE = 30


def film(
    trained: TrainedPolicy, target: Path, seed: int, most: int, advance: Callable[[], None]
) -> tuple[int, float]:
    """Write up to `most` steps of an episode of the mean policy to `target`; returns its length and return.

    Raises InputError for another kind of file, or a task that cannot draw itself.
    """
    if target.suffix not in KINDS:
        raise InputError(f"{target}: expected a file ending in {' or '.join(KINDS)}")
    check_writable(target.parent)
    environment = trained.make("rgb_array")
    observation, length, total = environment.reset(episode_seed(seed, 0)), 0, 0.0
    first = environment.render()
    rate = int(environment.gym.metadata.get("render_fps") or DEFAULT_RATE)
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{os.getpid()}{target.name}")
    try:
        with _frames_into(hidden, rate) as write:
            write(first)
            for _ in range(most):
                step = environment.step(trained.act(observation))
                write(environment.render())
                observation, length, total = step.observation, length + 1, total + step.reward
                advance()
                if step.terminal or step.truncated:
                    break
        os.replace(hidden, target)
    finally:
        environment.close()
        hidden.unlink(missing_ok=True)
    return length, total


@contextmanager
def _frames_into(path: Path, rate: int) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends one frame to the film at `path`, so that no film is held in memory."""
    import imageio.v2 as imageio

    with warnings.catch_warnings():  # the encoder is a process of its own, which never touches JAX
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        speed: dict[str, Any] = {"duration": 1000 / rate} if path.suffix == ".gif" else {"fps": rate}
        writer: Any = imageio.get_writer(path, **speed)
        with writer:
            yield writer.append_data
