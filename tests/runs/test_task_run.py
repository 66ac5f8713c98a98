"""Runs on control tasks: they survive a kill, keep what is good, and refuse what cannot be."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import mbpo
from mbpo.core.threads import THREADS
from mbpo.environments import GymnasiumEnvironment
from mbpo.errors import InputError
from mbpo.runs import task_run
from mbpo.runs.checkpoint import read_checkpoint
from mbpo.runs.metrics import read_metrics
from mbpo.runs.task_record import read_task_run
from mbpo.runs.task_run import train_task
from runs.task_cases import TINY, request


class Interrupted(Exception):
    """Stands for a kill inside a test."""


def quiet(progress):
    del progress


def stop_at(step):
    def watch(progress):
        if progress.done == step:
            raise Interrupted

    return watch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train_task(request(), folder, quiet, ["mbpo"])


def test_a_run_leaves_what_it_promises(whole):
    folder, result = whole
    names = {each.name for each in folder.iterdir()}
    assert {
        "config.json",
        "metrics.jsonl",
        "timings.jsonl",
        "events",
        "checkpoints",
        "policy.safetensors",
    } <= names
    records = read_metrics(folder / "metrics.jsonl")
    assert [each["env_steps"] for each in records] == [30, 40, 50]
    assert [each["updates"] for each in records] == [20, 40, 60]
    assert records[-1]["rollout_length"] == 3
    assert result["mean_return"] == records[-1]["mean_return"] == np.mean(records[-1]["returns"])
    assert set(records[-1]["exact"]) == {
        "excess_cost", "standard_error", "optimal_cost", "one_step_error", "critic_error",
    }  # fmt: skip
    assert records[-1]["exact"]["one_step_error"] > 1
    assert json.loads((folder / "result.json").read_text()) == result
    finished = [value for each in records for value in each["training_returns"]]
    assert len(finished) == records[-1]["episodes"] >= 3


def test_an_interrupted_run_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(task_run, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(task_run, "SHARE", 1e9)
    for step in (7, 21, 30, 44):
        with pytest.raises(Interrupted):
            train_task(request(), tmp_path / "run", stop_at(step), ["mbpo"])
    train_task(request(), tmp_path / "run", quiet, ["mbpo"])
    folder, _ = whole
    for name in ("metrics.jsonl", "policy.safetensors", "result.json"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes(), name
    ends = [read_checkpoint(each) for each in (folder, tmp_path / "run")]
    assert ends[0] is not None
    assert ends[1] is not None
    for name, array in ends[0].arrays.items():
        np.testing.assert_array_equal(array, ends[1].arrays[name], err_msg=name)


def test_a_run_that_goes_on_elsewhere_says_since_when(tmp_path, monkeypatch):
    monkeypatch.setattr(task_run, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(task_run, "SHARE", 1e9)
    folder = tmp_path / "run"
    for threads, stop in (("2", 5), ("2", 8), ("3", 11), ("3", 14), ("2", 17)):
        monkeypatch.setenv(THREADS, threads)
        with pytest.raises(Interrupted):
            train_task(request(), folder, stop_at(stop), ["mbpo"])
    changes = read_task_run(folder).resumed
    assert [(each["step"], each["threads"]) for each in changes] == [(7, "3"), (13, "2")]
    config = json.loads((folder / "config.json").read_text())
    assert config["threads"] == "2"
    assert all(each["versions"] == config["versions"] for each in changes)


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bytes(whole, tmp_path):
    folder, _ = whole
    options = [word for change in TINY for word in ("--set", change)]
    command = [
        sys.executable, "-m", "mbpo", "train", "scalar", "--env-option", "episode_length=15", "--preset", "default",
        "--steps", "50", "--out", str(tmp_path / "run"), *options,
    ]  # fmt: skip
    cache = tmp_path / "cache" / "mbpo" / "compiled"  # the programs of the run in this process
    cache.parent.mkdir(parents=True)
    cache.symlink_to(os.environ["MBPO_TEST_COMPILED"])
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(child, tmp_path / "run" / "checkpoints")
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "run" / "result.json").exists()
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 50
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


def wait_for(child, path):
    while child.poll() is None and not path.exists():
        time.sleep(0.05)


def test_what_a_kill_leaves_before_the_first_file_is_no_obstacle(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (".lock", ".config.json.123"):
        (folder / name).write_text("")
    with pytest.raises(Interrupted):
        train_task(request(), folder, stop_at(1), ["mbpo"])
    assert (folder / "config.json").exists()


def test_an_episode_that_does_not_repeat_itself_stops_the_resumed_run(tmp_path, monkeypatch):
    monkeypatch.setattr(task_run, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(task_run, "SHARE", 1e9)
    asked = request(environment="Pendulum-v1")
    with pytest.raises(Interrupted):
        train_task(asked, tmp_path / "run", stop_at(7), ["mbpo"])
    reset = GymnasiumEnvironment.reset
    monkeypatch.setattr(GymnasiumEnvironment, "reset", lambda self, seed: reset(self, seed + 1))
    with pytest.raises(InputError, match="did not repeat its episode 0"):
        train_task(asked, tmp_path / "run", quiet, ["mbpo"])


def test_a_complete_run_is_read_and_not_trained(whole):
    folder, result = whole
    before = (folder / "metrics.jsonl").stat().st_mtime_ns
    assert train_task(request(), folder, stop_at(1), ["mbpo"]) == result
    assert (folder / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (request(seed=1), "seed 0, not 1"),
        (request("real_ratio=0.5"), "real_ratio 0.05, not 0.5"),
        (request(steps=60), "steps 50, not 60"),
        (request(options={"system": "pendulum"}), "options"),
    ],
)
def test_a_folder_keeps_one_run(whole, changed, said):
    with pytest.raises(InputError, match=said):
        train_task(changed, whole[0], quiet, ["mbpo"])


def test_what_cannot_be_trained_leaves_no_folder(tmp_path):
    folder = tmp_path / "run"
    for wrong in (request(steps=20), request(options={"system": "nowhere"}), request(environment="Hoper-v5")):
        with pytest.raises(InputError):
            train_task(wrong, folder, quiet, ["mbpo"])
        assert not folder.exists()


def test_losses_that_are_not_finite_stop_the_run_and_keep_the_last_good_state(tmp_path, monkeypatch):
    monkeypatch.setattr(task_run, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(task_run, "SHARE", 1e9)
    with pytest.raises(InputError, match=r"is (nan|-?inf) after step \d+.*checkpoint of step \d+ is kept"):
        train_task(request("agent_learning_rate=1e30"), tmp_path / "run", quiet, ["mbpo"])
    kept = read_checkpoint(tmp_path / "run")
    assert kept is not None
    assert all(np.isfinite(a).all() for name, a in kept.arrays.items() if "holdout_error" not in name)


def test_a_loaded_policy_acts_in_the_task_s_units(whole):
    folder, _ = whole
    trained = mbpo.load(folder)
    rows = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    limit = trained.make().gym.unwrapped.action_limit
    np.testing.assert_allclose(trained.predict(rows), trained.act(rows) * limit, rtol=1e-6)
    np.testing.assert_allclose(trained.predict(rows[2]), trained.predict(rows)[2], rtol=1e-5, atol=1e-7)
    assert np.ptp([trained.predict(rows[2], deterministic=False, seed=seed)[0] for seed in range(5)]) > 0
    for wrong in (np.zeros(2), np.full(1, np.nan), np.zeros((1, 1, 1))):
        with pytest.raises(InputError, match="observation: expected"):
            trained.predict(wrong)


def test_an_unfinished_run_is_loaded_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(task_run, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(task_run, "SHARE", 1e9)
    with pytest.raises(Interrupted):
        train_task(request(), tmp_path / "run", stop_at(25), ["mbpo"])
    assert mbpo.load(tmp_path / "run").step == 24
    with pytest.raises(InputError, match="not a run"):
        mbpo.load(tmp_path)
