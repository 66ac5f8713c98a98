"""MuJoCo's messages as Python warnings; by itself it appends them to MUJOCO_LOG.TXT in the current folder."""

from __future__ import annotations

import sys
import warnings

PASSED_OVER = "deprecated"  # remarks on the XML files that come with Gymnasium


def as_warnings() -> None:
    """From now on, if MuJoCo is loaded and nobody else listens, warn of what it says about a simulation.

    After an unstable step MuJoCo restarts the simulation by itself in the middle of the episode.
    """
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)


def _warn(message: str) -> None:
    if PASSED_OVER not in message:
        text = message.partition(" Time =")[0]
        warnings.warn(f"MuJoCo: {text}", RuntimeWarning, stacklevel=2)
