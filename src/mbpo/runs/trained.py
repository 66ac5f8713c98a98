"""A trained policy read back from the folder of its run."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mbpo.core.parts import Agent
from mbpo.environments import GymnasiumEnvironment, make
from mbpo.errors import InputError
from mbpo.presets import settings_from
from mbpo.runs.checkpoint import flatten, read_checkpoint, restore
from mbpo.runs.evaluation import Policy
from mbpo.runs.task_agents import make_agent
from mbpo.runs.task_folder import read_config

IN_CHECKPOINT = ".policy"  # the agent's state in a run's


class TrainedPolicy:
    """A policy as it stood at `step`: `predict` takes and gives what the task's own spaces hold.

    folder: the run; environment, options, termination: the task it learned on; agent: what learned, learned: its
    policy, the pytree that acts.
    """

    def __init__(
        self,
        folder: Path,
        request: dict[str, Any],
        step: int,
        agent: Agent,
        sizes: tuple[int, int],
        policy: Any,
    ) -> None:
        self.folder, self.step = folder, step
        self.agent, self.learned = agent, policy
        self.observation_size, self.action_size = sizes
        self.environment, self.options = request["environment"], request["options"]
        self.termination, self.seed = request["termination"], request["seed"]
        self._task: GymnasiumEnvironment | None = None
        self._mean = jax.jit(agent.mean_action)
        self._draw = jax.jit(jax.vmap(agent.act, (None, 0, 0)))

    def predict(self, observation: Any, deterministic: bool = True, seed: int = 0) -> np.ndarray:
        """The action `[m]` for an observation `[n]`, or `[B, m]` for `[B, n]`, in the task's own units.

        The mean policy, or a draw that `seed` decides. Raises InputError for an observation of another size or one
        that is not finite.
        """
        return self._in_task().rescaled(self.act(observation, deterministic, seed))

    def act(self, observation: Any, deterministic: bool = True, seed: int = 0) -> np.ndarray:
        """The same in [-1, 1]^m."""
        rows = np.asarray(observation, np.float32)
        size = self.observation_size
        if rows.ndim not in (1, 2) or rows.shape[-1] != size:
            raise InputError(
                f"observation: expected [{size}] or [B, {size}] numbers, got shape {list(rows.shape)}"
            )
        if not np.isfinite(rows).all():
            raise InputError("observation: expected finite numbers, got NaN or an infinity")
        batch = np.atleast_2d(rows)
        if deterministic:
            action = np.asarray(self._mean(self.learned, batch))
        else:
            keys = jax.random.split(jax.random.key(seed), len(batch))
            action = np.asarray(self._draw(self.learned, batch, keys))
        return action if rows.ndim == 2 else action[0]

    def policy(self, deterministic: bool, seed: int) -> Policy:
        """observation -> action in [-1, 1]^m: the mean, or draws that follow from `seed` and the calls so far."""
        calls = itertools.count()
        words = np.random.SeedSequence(seed).generate_state(1)[0] >> 1
        on_host = self.agent.on_host(self.learned)
        if on_host is None:
            return lambda observation: self.act(observation, deterministic, int(words) + next(calls))
        if deterministic:
            return lambda observation: on_host(observation, None)
        random = np.random.default_rng(int(words))
        size = self.action_size
        return lambda observation: on_host(observation, random.standard_normal(size, np.float32))

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
    config = read_config(folder)
    request = config["request"]
    whole = folder / "policy.safetensors"
    if whole.exists():
        try:
            arrays, step, prefix = load_file(whole), request["steps"], ""
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{whole} cannot be read: {error}") from None
    else:
        checkpoint = read_checkpoint(folder)
        if checkpoint is None:
            raise InputError(
                f"{folder} has no checkpoint yet, expected a run that has trained for some seconds"
            )
        step, prefix = checkpoint.step, IN_CHECKPOINT
        arrays = {
            name.removeprefix(prefix): array
            for name, array in checkpoint.arrays.items()
            if name.startswith(prefix)
        }
    sizes = _sizes(config)
    agent = make_agent(settings_from(request["settings"]), *sizes)
    source = f"the newest checkpoint of {folder}" if prefix else str(whole)
    return TrainedPolicy(folder, request, step, agent, sizes, _policy(source, agent, arrays, bool(prefix)))


def _sizes(config: dict[str, Any]) -> tuple[int, int]:
    """Observation and action size, asked of the task where an older run does not tell."""
    sizes = config.get("sizes")
    if isinstance(sizes, dict) and all(
        isinstance(sizes.get(name), int) for name in ("observation", "action")
    ):
        return sizes["observation"], sizes["action"]
    request = config["request"]
    task = make(request["environment"], request["options"], request["termination"])
    found = task.observation_size, task.action_size
    task.close()
    return found


def _policy(source: str, agent: Agent, arrays: dict[str, np.ndarray], whole: bool) -> Any:
    """The agent's policy from the `arrays` of `source`, or from those of its `whole` state; raises InputError unless
    they fit it and are finite."""
    state = jax.eval_shape(agent.init, jax.random.key(0))
    found = restore(state if whole else jax.eval_shape(agent.policy, state), arrays, source)
    policy = agent.policy(found) if whole else found
    for name, array in flatten(policy).items():
        if not np.isfinite(array).all():
            raise InputError(
                f"{source}'s {name} holds NaN or an infinity, expected a policy of finite numbers"
            )
    return policy
