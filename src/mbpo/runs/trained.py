"""A trained policy read back from the folder of its run."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mbpo.deep.networks import Dense, Layers
from mbpo.deep.sac import distribution, sample_action
from mbpo.environments import GymnasiumEnvironment, make
from mbpo.errors import InputError
from mbpo.runs.checkpoint import read_checkpoint
from mbpo.runs.evaluation import Policy
from mbpo.runs.task_folder import read_config

IN_CHECKPOINT = ".policy.actor"


class TrainedPolicy:
    """A policy as it stood at `step`: `predict` takes and gives what the task's own spaces hold.

    folder: the run; environment, options, termination: the task it learned on.
    """

    def __init__(self, folder: Path, request: dict[str, Any], step: int, actor: Layers) -> None:
        self.folder, self.step, self.actor = folder, step, actor
        self.environment, self.options = request["environment"], request["options"]
        self.termination, self.seed = request["termination"], request["seed"]
        self._task: GymnasiumEnvironment | None = None

    def predict(self, observation: Any, deterministic: bool = True, seed: int = 0) -> np.ndarray:
        """The action `[m]` for an observation `[n]`, or `[B, m]` for `[B, n]`, in the task's own units.

        The mean policy, or a draw that `seed` decides. Raises InputError for an observation of another size or one
        that is not finite.
        """
        return self._in_task().rescaled(self.act(observation, deterministic, seed))

    def act(self, observation: Any, deterministic: bool = True, seed: int = 0) -> np.ndarray:
        """The same in [-1, 1]^m."""
        import jax

        rows = np.asarray(observation, np.float32)
        size = self.actor[0].weight.shape[0]
        if rows.ndim not in (1, 2) or rows.shape[-1] != size:
            raise InputError(
                f"observation: expected [{size}] or [B, {size}] numbers, got shape {list(rows.shape)}"
            )
        if not np.isfinite(rows).all():
            raise InputError("observation: expected finite numbers, got NaN or an infinity")
        batch = np.atleast_2d(rows)
        if deterministic:
            action = np.tanh(np.asarray(distribution(self.actor, jax.numpy.asarray(batch))[0]))
        else:
            action = np.asarray(sample_action(self.actor, jax.numpy.asarray(batch), jax.random.key(seed))[0])
        return action if rows.ndim == 2 else action[0]

    def policy(self, deterministic: bool, seed: int) -> Policy:
        """observation -> action in [-1, 1]^m: the mean, or draws that follow from `seed` and the calls so far."""
        calls = itertools.count()
        words = np.random.SeedSequence(seed).generate_state(1)[0] >> 1
        return lambda observation: self.act(observation, deterministic, int(words) + next(calls))

    def make(self, render_mode: str | None = None) -> GymnasiumEnvironment:
        """A new environment of the task it learned on."""
        return make(self.environment, self.options, self.termination, render_mode)

    def _in_task(self) -> GymnasiumEnvironment:
        self._task = self.make() if self._task is None else self._task
        return self._task


def load(directory: str | os.PathLike[str]) -> TrainedPolicy:
    """The policy of the run in `directory`: the final one, or that of the newest checkpoint while it is unfinished.

    Raises InputError when there is no run on a control task, or nothing was kept yet.
    """
    folder = Path(directory)
    request = read_config(folder)["request"]
    whole = folder / "policy.safetensors"
    if whole.exists():
        try:
            arrays, step = load_file(whole), request["steps"]
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{whole} cannot be read: {error}") from None
    else:
        checkpoint = read_checkpoint(folder)
        if checkpoint is None:
            raise InputError(
                f"{folder} has no checkpoint yet, expected a run that has trained for some seconds"
            )
        step = checkpoint.step
        named = checkpoint.arrays.items()
        arrays = {
            name.removeprefix(IN_CHECKPOINT): array
            for name, array in named
            if name.startswith(f"{IN_CHECKPOINT}[")
        }
    return TrainedPolicy(folder, request, step, _layers(folder, arrays))


def _layers(folder: Path, arrays: dict[str, np.ndarray]) -> Layers:
    """The actor's layers; raises InputError unless each takes as many finite numbers as the one before it gives."""
    count = max(len(arrays) // 2, 1)
    try:
        layers = [(arrays[f"[{i}].weight"], arrays[f"[{i}].bias"]) for i in range(count)]
    except KeyError as error:
        raise InputError(f"{folder} holds no actor: it has no array {error}") from None
    given = None
    for i, (weight, bias) in enumerate(layers):
        fits = weight.ndim == 2 and bias.shape == weight.shape[1:] and given in (None, weight.shape[0])
        if not (fits and np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise InputError(f"{folder} holds no actor: its layer {i} does not fit or is not finite")
        given = weight.shape[1]
    return tuple(Dense(weight, bias) for weight, bias in layers)  # type: ignore[arg-type]
