"""What a Gymnasium task looks like from inside the loop: float32, [-1, 1]^m, terminal and truncated apart."""

import subprocess
import sys

import broken
import gymnasium
import numpy as np
import pytest

from mbpo.core.parts import HostEnvironment
from mbpo.environments import GymnasiumEnvironment, make
from mbpo.environments.termination import resolve
from mbpo.errors import InputError

NEVER = {"HalfCheetah-v5", "Pendulum-v1", "Reacher-v5", "Swimmer-v5", "Pusher-v5"}
SIZES = {
    "Hopper-v5": (11, 3, 1000),
    "HalfCheetah-v5": (17, 6, 1000),
    "Ant-v4": (27, 8, 1000),
    "Reacher-v5": (10, 2, 50),
    "Pendulum-v1": (3, 1, 200),
    "broken/Sound-v0": (2, 1, None),
}


@pytest.mark.parametrize("name", list(SIZES))
def test_attributes(name):
    environment = make(name)
    assert isinstance(environment, GymnasiumEnvironment)
    assert isinstance(environment, HostEnvironment)
    assert (environment.observation_size, environment.action_size, environment.max_episode_steps) == SIZES[
        name
    ]
    assert environment.id == name
    assert environment.options == {}
    assert environment.terminates is (name not in NEVER)
    observation = environment.reset(0)
    step = environment.step(np.zeros(environment.action_size, np.float32))
    for each in (observation, step.observation):
        assert each.dtype == np.float32
        assert each.shape == (environment.observation_size,)
    assert type(step.reward) is float
    assert type(step.terminal) is bool
    assert type(step.truncated) is bool
    environment.close()


@pytest.mark.parametrize(
    ("given", "received"), [(-1, -2), (1, 6), (0, 2), (0.5, 4), (-0.25, 1), (7, 6), (-1.5, -2)]
)
def test_actions_are_rescaled_to_the_box_and_clipped(given, received):
    environment = make("broken/Sound-v0")
    environment.reset(0)
    task, taken = environment.gym.unwrapped, []
    step = task.step
    task.step = lambda action: (taken.append(action), step(action))[1]
    environment.step(np.full(1, given, np.float32))
    assert taken[0].dtype == np.float32
    assert taken[0].tolist() == [received]
    assert environment.gym.action_space.contains(taken[0])


def test_asymmetric_and_tiny_boxes_meet_their_ends_exactly():
    low, high = np.array([-0.4, 1e-7, -3e5], np.float32), np.array([0.3, 2e-7, 1e-3], np.float32)
    gymnasium.register(
        "test/Box-v0", lambda: broken.with_spaces(chosen=gymnasium.spaces.Box(low, high, dtype=np.float32))()
    )
    environment = make("test/Box-v0")
    for end, bound in ((-1.0, low), (1.0, high)):
        np.testing.assert_array_equal(environment._action_box.rescaled(np.full(3, end)), bound)


def test_a_time_limit_truncates_and_does_not_terminate():
    environment = make("HalfCheetah-v5", {"max_episode_steps": 5})
    assert environment.max_episode_steps == 5
    environment.reset(0)
    steps = [environment.step(np.zeros(6)) for _ in range(5)]
    assert [step.truncated for step in steps] == [False] * 4 + [True]
    assert not any(step.terminal for step in steps)


def test_a_fall_at_the_time_limit_is_both():
    environment = make("broken/Sound-v0", {"max_episode_steps": broken.AT, "terminated": True})
    environment.reset(0)
    last = [environment.step(np.zeros(1)) for _ in range(broken.AT)][-1]
    assert last.terminal
    assert last.truncated


def test_no_time_limit():
    assert make("Hopper-v5", {"max_episode_steps": -1}).max_episode_steps is None


@pytest.mark.parametrize("name", ["Ant-v5", "Humanoid-v5", "Pendulum-v1", "InvertedDoublePendulum-v5"])
def test_an_episode_is_replayed_bit_for_bit(name):
    """Seed and actions decide an episode, whatever came before, in this instance and in another."""
    first, other = make(name), make(name)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, first.action_size)).astype(np.float32)

    def episode(environment, seed):
        rows = [environment.reset(seed)]
        for action in actions:
            step = environment.step(action)
            rows.append(np.append(step.observation, [step.reward, step.terminal, step.truncated]))
            if step.terminal or step.truncated:
                break
        return b"".join(row.tobytes() for row in rows)

    once = episode(first, 7)
    assert episode(first, 8) != once
    assert episode(first, 7) == once
    assert episode(other, 7) == once


def test_arrays_are_flattened():
    environment = make("broken/Grid-v0")
    assert environment.observation_size == 6
    np.testing.assert_array_equal(environment.reset(0), np.arange(6, dtype=np.float32))
    assert environment.step(np.zeros(1)).observation.dtype == np.float32


def test_observations_are_copies():
    environment = make("broken/Sound-v0")
    observation = environment.reset(0)
    environment.gym.unwrapped.x[:] = 9.0
    assert not (observation == 9.0).any()


def test_ids_may_import_their_module():
    run = "from mbpo.environments import make; e = make('broken:broken/Sound-v0'); print(e.id, e.reset(0).shape)"
    folder = broken.__file__.rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", run], capture_output=True, text=True, timeout=60, cwd=folder, check=False
    )
    assert done.stdout.strip() == "broken:broken/Sound-v0 (2,)", done.stderr


def test_importing_registers_the_linear_quadratic_task():
    run = "import gymnasium; print(gymnasium.make('mbpo.environments:mbpo/LinearQuadratic-v0', system='scalar'))"
    done = subprocess.run(
        [sys.executable, "-c", run], capture_output=True, text=True, timeout=60, check=False
    )
    assert "LinearQuadraticTask" in done.stdout, done.stderr


def test_wrappers_and_subclasses_lose_the_built_in_rule():
    """An id registered on top of a task may see or end differently: no rule is assumed for it."""
    hopper = gymnasium.make("Hopper-v5").unwrapped.__class__
    gymnasium.register("test/OwnHopper-v0", type("OwnHopper", (hopper,), {}))
    gymnasium.register("test/Hopper-v0", "gymnasium.envs.mujoco.hopper_v5:HopperEnv", max_episode_steps=7)
    gymnasium.register(
        "test/Cheetah-v0",
        "gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv",
        additional_wrappers=(gymnasium.wrappers.TransformReward.wrapper_spec(func=abs),),
    )
    assert resolve(make("test/Hopper-v0"), None) == resolve(make("Hopper-v5"), None)
    for name in ("test/OwnHopper-v0", "test/Cheetah-v0"):
        environment = make(name)
        assert environment.terminates
        with pytest.raises(InputError, match="training needs to know when"):
            resolve(environment, None)


def test_an_unstable_simulation_warns_and_leaves_no_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = make("HalfCheetah-v5")
    environment.reset(0)
    environment.gym.unwrapped.data.qvel[:] = 1e12
    with pytest.warns(RuntimeWarning, match="MuJoCo: .*The simulation is unstable"):
        environment.step(np.zeros(6))
    assert list(tmp_path.iterdir()) == []
