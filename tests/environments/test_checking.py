"""What `check_environment` finds in environments whose defects are known."""

import broken
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from mbpo.environments.checking import Finding, Report, check_environment
from mbpo.errors import InputError

MUJOCO = ["Hopper-v5", "InvertedPendulum-v5", "Swimmer-v5", "Reacher-v5"]


def said(report: Report, severity: str) -> str:
    return " | ".join(finding.what for finding in report.findings if finding.severity == severity)


@pytest.mark.parametrize("name", [*MUJOCO, "Pendulum-v1"])
def test_sound_tasks_have_no_errors(name):
    report = check_environment(name, steps=300)
    assert report.usable, report
    assert said(report, "error") == ""
    assert "bit for bit" in said(report, "ok")
    assert "the termination rule agrees with the environment on 300 steps" in said(report, "ok")
    assert all(finding.advice for finding in report.findings if finding.severity == "warning")


def test_the_linear_quadratic_task_is_sound():
    assert check_environment("mbpo/LinearQuadratic-v0", {"system": "double_integrator"}, steps=200).usable


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("nothing/Here-v0", {}, "no environment 'nothing/Here-v0'"),
        ("CartPole-v1", {}, "action space is a Discrete"),
        ("broken/FailsToStart-v0", {}, "cannot be made"),
        ("limited/Sound-v0", {"reward": np.inf}, "step 3 of episode 0 returned the reward inf"),
        ("broken/RaisesAtReset-v0", {}, "the reset of episode 0 raised RuntimeError"),
        ("limited/Unseeded-v0", {}, "the same seed and actions give another episode in the same instance"),
        (
            "limited/Stale-v0",
            {},
            "the same seed and actions give another episode in the same instance, from step 1",
        ),
        ("limited/Ends-v0", {"after": 1}, "every episode ended at its first step"),
        (
            "limited/Ends-v0",
            {"after": 4},
            "contradicts the environment on 10 of 40 steps: at step 4 it goes on where",
        ),
    ],
)
def test_errors(name, options, sentence):
    report = check_environment(name, options, "never", steps=40)
    assert not report.usable
    assert sentence in said(report, "error")


def test_a_difference_between_instances():
    drawn = iter(range(100))

    class PerInstance(broken.Sound):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.offset = float(next(drawn))

        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, reward + self.offset, *rest

    gymnasium.register("test/PerInstance-v0", lambda: PerInstance(), max_episode_steps=9)
    report = check_environment("test/PerInstance-v0", termination="never", steps=30)
    assert "another episode in a new instance, from step 1 on" in said(report, "error")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("broken/Sound-v0", {}, "there is no time limit"),
        ("broken/WideSeen-v0", {}, "observations 0, 1 (2 of them) left the declared observation space"),
        ("limited/Grid-v0", {}, "observations 0, 1, 2, 3, 4, ... (6 of them) never changed"),
        ("limited/Grid-v0", {}, "every reward was 1"),
        ("limited/Ends-v0", {"after": 5}, "every termination came after exactly 5 steps"),
        ("Humanoid-v5", {}, "reached"),
        ("Ant-v5", {}, "(54 of them) never changed"),
    ],
)
def test_warnings(name, options, sentence):
    report = check_environment(name, options, "learned", steps=300)
    assert sentence in said(report, "warning")
    assert report.usable


@pytest.mark.parametrize(
    ("scale", "sentence"),
    [(1e5, "rewards reached"), (1e-7, "no reward exceeded"), (1.0, "rewards vary within")],
)
def test_the_scale_of_rewards(scale, sentence):
    class Scaled(broken.Sound):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, scale * float(np.tanh(observation[0])), *rest

    gymnasium.register("test/Scaled-v0", lambda: Scaled(), max_episode_steps=9)
    report = check_environment("test/Scaled-v0", termination="never", steps=30)
    assert sentence in said(report, "ok" if scale == 1 else "warning")
    del gymnasium.registry["test/Scaled-v0"]


def test_some_episodes_that_end_at_once():
    class Often(broken.Sound):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, reward, bool(observation[0] > 0), *rest[1:]

    gymnasium.register("test/Often-v0", lambda: Often(), max_episode_steps=9)
    report = check_environment("test/Often-v0", termination="broken:works", steps=60)
    assert "episodes ended at their first step" in said(report, "warning")
    assert "contradicts" in said(report, "error")


def test_a_missing_rule_and_an_untested_one():
    assert "training needs to know when" in said(check_environment("limited/Sound-v0", steps=20), "error")
    untested = check_environment("limited/Sound-v0", termination="broken:works", steps=20)
    assert "tested on one side only" in said(untested, "warning")
    learned = check_environment("limited/Sound-v0", termination="learned", steps=20)
    assert "left to the model" in said(learned, "ok")


def test_warnings_of_the_environment_are_reported():
    class Warns(broken.Sound):
        def step(self, action):
            np.float32(1e30) * np.float32(1e30)
            return super().step(action)

    gymnasium.register("test/Warns-v0", lambda: Warns(), max_episode_steps=9)
    report = check_environment("test/Warns-v0", termination="never", steps=20)
    assert "while stepping, overflow encountered" in said(report, "warning")


def test_flattened_observations_are_compared_with_their_bounds():
    class Flat(broken.Sound):
        observation_space = spaces.Box(-1e6, 1e6, (1, 2), np.float32)

        def reset(self, *, seed=None, options=None):
            x, info = super().reset(seed=seed)
            return x[None], info

        def step(self, action):
            x, *rest = super().step(action)
            return x[None], *rest

    gymnasium.register("test/Flat-v0", lambda: Flat(), max_episode_steps=9)
    report = check_environment("test/Flat-v0", termination="never", steps=20)
    assert report.usable
    assert said(report, "warning") == ""


@pytest.mark.parametrize("wrong", [-1, 2.5, True])
def test_steps_and_seed_are_checked(wrong):
    with pytest.raises(InputError, match="steps must be a whole number"):
        check_environment("Pendulum-v1", steps=wrong)
    with pytest.raises(InputError, match="seed must be a whole number"):
        check_environment("Pendulum-v1", seed=wrong)


def test_a_report_is_usable_unless_something_is_an_error():
    assert Report("a", (Finding("ok", "x"), Finding("warning", "y", "z"))).usable
    assert not Report("a", (Finding("error", "x"),)).usable
