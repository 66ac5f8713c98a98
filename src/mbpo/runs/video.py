"""One episode of a trained policy as a film."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    import imageio.v2 as imageio

    if target.suffix not in KINDS:
        raise InputError(f"{target}: expected a file ending in {' or '.join(KINDS)}")
    check_writable(target.parent)
    environment = trained.make("rgb_array")
    observation, frames, total = environment.reset(episode_seed(seed, 0)), [environment.render()], 0.0
    for _ in range(most):
        step = environment.step(trained.act(observation))
        frames.append(environment.render())
        observation, total = step.observation, total + step.reward
        advance()
        if step.terminal or step.truncated:
            break
    rate = int(environment.gym.metadata.get("render_fps") or DEFAULT_RATE)
    environment.close()
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{os.getpid()}{target.name}")
    try:
        with warnings.catch_warnings():  # the encoder is a process of its own, which never touches JAX
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            imageio.mimwrite(hidden, list[Any](frames), fps=rate)
        os.replace(hidden, target)
    finally:
        hidden.unlink(missing_ok=True)
    return len(frames) - 1, total
