"""An agent written in this file alone: trained, killed, resumed, evaluated, reported and loaded with no other edit.

As a module it is named `test_own_agent:make` by `--set agent=...`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mbpo
from mbpo.core.parts import Agent
from mbpo.errors import InputError
from mbpo.runs.task_run import train_task
from runs.task_cases import TINY, request


class Memory(NamedTuple):
    """A gain, and how often it was updated."""

    gain: jax.Array
    updates: jax.Array


class Info(NamedTuple):
    """What an update says."""

    largest_gain: jax.Array


class RandomSearch(Agent):
    """u = tanh(K x) with a gain that drifts at random; no networks, no values, no model."""

    sizes: tuple[int, int] = eqx.field(static=True)

    def init(self, key):
        m, n = self.sizes[1], self.sizes[0]
        return Memory(0.1 * jax.random.normal(key, (m, n), jnp.float32), jnp.int32(0))

    def acting(self, state, count, key):
        del count, key
        return {"K": state.gain[None]}

    def act(self, acting, observation, key):
        noise = 0.1 * jax.random.normal(key, (self.sizes[1],), jnp.float32)
        return jnp.tanh(acting["K"] @ observation + noise)

    def act_imagined(self, acting, observation, key):
        return self.act(acting, observation, key)

    def update(self, state, experience, key):
        step = jnp.mean(experience.transitions.reward) * 1e-3
        gain = state.gain + step * jax.random.normal(key, state.gain.shape, jnp.float32)
        return Memory(gain, state.updates + 1), Info(jnp.max(jnp.abs(gain)))

    def retreat(self, state):
        return state

    def policy(self, state):
        return {"K": state.gain}

    def mean_action(self, policy, observation):
        return jnp.tanh(observation @ policy["K"].T)


class Judging(RandomSearch):
    """The same with a value: zero everywhere."""

    def value(self, state, observation, action):
        del state, action
        return jnp.zeros(len(observation), jnp.float32)


def make(settings, observation_size, action_size):
    del settings
    return RandomSearch((observation_size, action_size))


def make_judging(settings, observation_size, action_size):
    del settings
    return Judging((observation_size, action_size))


def wrong(settings, observation_size, action_size):
    return "no agent"


def incomplete(settings, observation_size, action_size):
    class Half(Agent):
        def init(self, key):
            return None

    return Half()


HERE = str(Path(__file__).parent)
ASKED = [*TINY, "agent=test_own_agent:make", "diagnose=true", "evaluate_every=25"]


def command(folder, *words):
    options = [word for change in ASKED for word in ("--set", change)]
    return [
        sys.executable, "-m", "mbpo", "train", "scalar", "--env-option", "episode_length=15", "--preset", "default",
        "--steps", "50", "--out", str(folder), *options, *words,
    ]  # fmt: skip


def environment():
    paths = [HERE, str(Path(HERE).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def verb(*words):
    done = subprocess.run(
        [sys.executable, "-m", "mbpo", *map(str, words), "--json"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_killed_run_of_an_own_agent_goes_on_and_is_evaluated_reported_and_loaded(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    child = subprocess.Popen(
        command(folder), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while child.poll() is None and not (folder / "checkpoints").exists():
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (folder / "result.json").exists()
    done = subprocess.run(command(folder, "--json"), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["updates"] == 60
    assert (folder / "report.html").exists(), "the page is written unasked"

    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["agent"].keys() == {"largest_gain"}
    found = records[-1]["diagnostics"]
    assert found["critic_real"] is None
    assert found["critic_imagined"] is None
    assert found["exploitation"]["gap"] is not None
    assert records[-1]["exact"]["critic_error"] is None
    assert records[-1]["exact"]["excess_cost"] > 0

    assert verb("evaluate", folder, "--episodes", "2")["exact"]["excess_cost"] > 0
    assert len(verb("evaluate", folder, "--episodes", "2", "--stochastic")["returns"]) == 2
    page = tmp_path / "page.html"
    verb("report", folder, "--out", page)
    assert "largest gain" in page.read_text()

    monkeypatch.syspath_prepend(HERE)
    trained = mbpo.load(folder)
    gain = np.asarray(trained.learned["K"])
    rows = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    np.testing.assert_allclose(trained.act(rows), np.tanh(rows @ gain.T), rtol=1e-5)
    drawn = {float(trained.act(rows[1], deterministic=False, seed=seed)[0]) for seed in range(4)}
    assert len(drawn) == 4


def test_values_of_an_own_agent_are_compared_with_real_returns(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    asked = request("agent=test_own_agent:make_judging", "diagnose=true", "evaluate_every=50")
    train_task(asked, tmp_path / "run", lambda progress: None, ["mbpo"])
    (record,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert record["diagnostics"]["critic_real"]["value"] in (0.0, None)
    assert record["exact"]["critic_error"] == 1.0, "a constant tells nothing"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sak", "unknown 'sak', did you mean 'sac'"),
        ("test_own_agent:nothing", "has no 'nothing'"),
        ("no_such_module:make", "which is not installed nor in this folder"),
        ("test_own_agent:wrong", "got a str"),
        ("test_own_agent:incomplete", "complete Agent"),
    ],
)
def test_what_is_no_agent_is_refused(tmp_path, monkeypatch, name, said):
    monkeypatch.syspath_prepend(HERE)
    with pytest.raises(InputError, match=said):
        train_task(request(f"agent={name}"), tmp_path / "run", lambda progress: None, ["mbpo"])
    assert not (tmp_path / "run").exists()


def test_the_value_gradient_needs_a_model_it_can_differentiate(tmp_path):
    with pytest.raises(InputError, match="differentiates through its model, which model none does not offer"):
        train_task(
            request("agent=value-gradient", "model=none"), tmp_path / "run", lambda progress: None, ["mbpo"]
        )
