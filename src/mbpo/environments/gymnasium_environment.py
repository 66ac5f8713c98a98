"""Any Gymnasium task with a vector to see and a bounded vector to choose, as a world of the loop."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from mbpo.core.parts import HostEnvironment, HostStep
from mbpo.environments import termination as rules
from mbpo.environments.contract import FIVE, checked_reset, checked_step
from mbpo.environments.faults import EnvironmentFault, Place, reason
from mbpo.environments.making import made
from mbpo.environments.spaces import action_box, observation_box
from mbpo.errors import InputError


class GymnasiumEnvironment(HostEnvironment):
    """A Gymnasium environment whose every answer is checked; actions in [-1, 1]^m are rescaled to its box.

    id, options: what it was made from. termination: the name of the termination rule asked for, or None.
    max_episode_steps: its time limit, which truncates; None without one. terminates: False where it is known that
    no episode ever terminates. gym: the environment itself.
    Raises `EnvironmentFault`, one sentence with episode and step, whenever the environment breaks its contract.
    """

    def __init__(
        self,
        gym: gymnasium.Env,
        environment_id: str,
        options: Mapping[str, Any],
        termination: str | None = None,
    ) -> None:
        self.gym = gym
        self.id = environment_id
        self.options = dict(options)
        self.termination = termination
        self._observation_box = observation_box(environment_id, getattr(gym, "observation_space", None))
        self._action_box = action_box(environment_id, getattr(gym, "action_space", None))
        self.observation_size = int(np.prod(self._observation_box.shape))
        self.action_size = len(self._action_box.low)
        self.max_episode_steps = _time_limit(gym)
        self.terminates = rules.may_terminate(gym)
        self._episode, self._step = -1, 0
        self._running = False

    def reset(self, seed: int) -> np.ndarray:
        """The first observation `[n]` of the episode that `seed`, a whole number of at least 0, names."""
        try:
            whole = operator.index(seed)
        except TypeError:
            whole = -1
        if whole < 0:
            raise InputError(f"{self.id}: the seed must be a whole number of at least 0, got {seed!r}")
        self._episode, self._step, self._running = self._episode + 1, 0, False
        answer = self._called(lambda: self.gym.reset(seed=whole))
        observation = checked_reset(self._place, answer, self._observation_box)
        self._running = True
        return observation

    def step(self, action: np.ndarray) -> HostStep:
        """Apply `action` `[m]` in [-1, 1]^m; a truncated step is terminal only if the environment says so too."""
        if not self._running:
            raise InputError(f"{self.id}: no episode is running, expected a reset before this step")
        self._step, self._running = self._step + 1, False
        action = self._checked_action(action)
        rescaled = self._action_box.rescaled(action)
        answer = self._called(lambda: self.gym.step(rescaled))
        observation, reward, terminal, truncated = checked_step(self._place, answer, self._observation_box)
        self._running = not (terminal or truncated)
        return HostStep(observation, reward, terminal, truncated)

    def rescaled(self, action: np.ndarray) -> np.ndarray:
        """Actions `[..., m]` in [-1, 1] in the units of the task's own box."""
        return self._action_box.rescaled(np.asarray(action))

    def rule(self) -> rules.Rule | rules.Learned:
        """The termination rule in force (see `termination.resolve`); raises `InputError` when there is none."""
        return rules.resolve(self, self.termination)

    def render(self) -> np.ndarray:
        """The present frame, `[height, width, 3]` of uint8; needs `render_mode="rgb_array"`."""
        if self.gym.render_mode != "rgb_array":
            raise InputError(f"{self.id} was made without pictures, expected render_mode='rgb_array'")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of GLFW, ahead of the exception that says the same
                frame = self.gym.render()
        except Exception as error:
            raise EnvironmentFault(
                f"{self.id} cannot draw a frame ({reason(error)}), on a machine without a screen set the environment "
                "variable MUJOCO_GL=egl or MUJOCO_GL=osmesa"
            ) from None
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape[2:] != (3,):
            raise EnvironmentFault(f"{self.id} drew no frame, expected an array [height, width, 3] of uint8")
        return frame

    def close(self) -> None:
        """Free what the environment holds."""
        self._running = False
        try:
            self.gym.close()
        except Exception as error:
            raise EnvironmentFault(f"{self.id} cannot be closed: {reason(error)}") from None

    @property
    def _place(self) -> Place:
        return Place(self.id, self._episode, self._step)

    def _checked_action(self, action: Any) -> np.ndarray:
        action = np.asarray(action)
        shaped = action.shape == (self.action_size,)
        if not shaped or not np.isfinite(action).all():
            found = action.tolist() if shaped else f"of shape {list(action.shape)}"
            raise InputError(
                f"{self._place} was given the action {found}, expected [{self.action_size}] finite numbers"
            )
        return action

    def _called(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:
            misread = "values to unpack" in str(error) and self._step > 0  # by Gymnasium's own wrappers
            cure = f", expected it to return {FIVE}" if misread else ""
            raise EnvironmentFault(f"{self._place} raised {reason(error)}{cure}") from None


def make(
    environment_id: str,
    options: Mapping[str, Any] | None = None,
    termination: str | None = None,
    render_mode: str | None = None,
) -> GymnasiumEnvironment:
    """The environment that `environment_id` names, made with `options` (keyword arguments of its constructor).

    `module:Name-v0` imports the module first. `termination` names the rule by which a model ends its rollouts (see
    `termination.resolve`); a rule that cannot be used is refused here already.
    Raises `InputError`, one sentence, when the environment cannot be made or cannot be learned in.
    """
    options = {} if options is None else options
    gym = made(environment_id, options, render_mode)
    try:
        environment = GymnasiumEnvironment(gym, environment_id, options, termination)
        if termination is not None:
            environment.rule()
    except InputError:
        gym.close()
        raise
    return environment


def _time_limit(gym: gymnasium.Env) -> int | None:
    spec = gym.spec
    limits = [
        None if spec is None else spec.max_episode_steps,
        getattr(gym.unwrapped, "episode_length", None),
    ]
    return min((each for each in limits if isinstance(each, int)), default=None)
