"""Runs of preset `fast` with tiny networks: rounds, checkpoints inside them, and going on to the same bytes."""

import json

import numpy as np
import pytest

import mbpo
from mbpo.errors import InputError
from mbpo.presets import FAST, GROUPS, PRESETS, override, preset, settings_from
from mbpo.runs import task_run
from mbpo.runs.checkpoint import read_checkpoint
from mbpo.runs.metrics import read_metrics
from mbpo.runs.task_parts import assemble
from mbpo.runs.task_request import TaskRequest
from mbpo.runs.task_run import train_task

pytestmark = pytest.mark.usefixtures("_compile_without_optimising")

SMALL = [
    "warmup_steps=20", "steps_per_round=10", "refit_every=10", "first_updates=30", "first_model_steps=15",
    "model_steps=5", "refresh_every=5", "branches=8", "length_first=4", "length_last=4", "retain=2", "batch_size=16",
    "agent_hidden=8,8", "model_hidden=8,8", "model_layer_norms=1,0.1", "model_dropout=0.1,0.1", "networks=3",
    "elites=2", "horizon=2", "evaluate_every=20", "evaluation_episodes=2", "diagnose=false",
]  # fmt: skip


def request(*changes, steps=60, environment="mbpo/LinearQuadratic-v0", options=None, seed=0):
    options = {"system": "scalar", "episode_length": 15} if options is None else options
    settings = override(preset("fast", environment), [*SMALL, *changes])
    return TaskRequest(environment, options, None, "fast", settings, steps, seed)


class Interrupted(Exception):
    """Stands for a kill inside a test."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and how often its watcher was told something."""
    folder, told = tmp_path_factory.mktemp("runs") / "whole", []
    result = train_task(request(), folder, told.append, ["mbpo"])
    return folder, result, told


def test_a_run_in_rounds_leaves_what_it_promises(whole):
    folder, result, _ = whole
    records = read_metrics(folder / "metrics.jsonl")
    assert [each["env_steps"] for each in records] == [40, 60]
    assert [each["updates"] for each in records] == [40, 60]
    assert result["updates"] == 60
    assert {"actor_gradient", "temperature", "entropy", "value_low", "value_high"} <= set(
        records[-1]["agent"]
    )
    assert records[-1]["model"]["epochs"] == 5
    assert np.isfinite(records[-1]["model"]["holdout_loss"]).all()
    assert records[-1]["realised_ratio"] == 0.0
    finished = [value for each in records for value in each["training_returns"]]
    assert len(finished) == records[-1]["episodes"] >= 60 // 15
    trained = mbpo.load(folder)
    rows = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    act = trained.policy(True, 0)
    np.testing.assert_allclose([act(row) for row in rows], trained.act(rows), atol=1e-6)


def test_it_goes_on_to_the_same_bytes_after_any_piece(whole, tmp_path, monkeypatch):
    """Interrupted each time the watcher is told something new, the first round's fits and updates included."""
    folder, _, told = whole
    monkeypatch.setattr(task_run, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(task_run, "SHARE", 1e9)
    inside = 0
    for stop in (5, 22, 4, 4, 5, 4):
        count = 0

        def watch(progress, stop=stop):
            nonlocal count
            count += 1
            if count == stop:
                raise Interrupted

        with pytest.raises(Interrupted):
            train_task(request(), tmp_path / "run", watch, ["mbpo"])
        kept = read_checkpoint(tmp_path / "run")
        if kept is not None and kept.step == 30 and int(kept.arrays[".clock.updates"]) < 30:
            inside += 1
    assert len(told) > 40
    assert inside > 0, "a checkpoint lies inside the first round"
    train_task(request(), tmp_path / "run", lambda progress: None, ["mbpo"])
    for name in ("metrics.jsonl", "policy.safetensors", "result.json"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_watcher_hears_of_compiling_and_of_updates_done(whole):
    _, _, told = whole
    assert [each.doing for each in told].count("compiling") >= 3
    assert told[-1].updates == told[-1].all_updates == 60
    assert told[-1].record is not None
    assert [each.updates for each in told] == sorted(each.updates for each in told)


def test_steps_that_do_not_fill_a_round_lengthen_the_warm_up(tmp_path):
    result = train_task(request(steps=47), tmp_path / "run", lambda progress: None, ["mbpo"])
    assert result["steps"] == 47
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert records[-1]["env_steps"] == 47
    assert records[-1]["updates"] == 30 + 10
    with pytest.raises(InputError, match="expected a round of 10 beside the 20 of the warm-up"):
        train_task(request(steps=29), tmp_path / "other", lambda progress: None, ["mbpo"])


def test_the_real_ratio_decides_where_training_rollouts_start(tmp_path):
    result = train_task(request("real_ratio=1"), tmp_path / "run", lambda progress: None, ["mbpo"])
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert records[-1]["realised_ratio"] == 1.0
    assert result["updates"] == 60


# ---------------------------------------------------------------- the preset


@pytest.mark.parametrize(
    ("task", "warmup", "updates", "fits", "every"),
    [
        ("Hopper-v5", 5000, 5000, 3000, 1000),
        ("Humanoid-v5", 5000, 5000, 3000, 1000),
        ("Pendulum-v1", 1000, 1250, 750, 250),
        ("InvertedPendulum-v5", 500, 1250, 750, 250),
        ("mbpo/LinearQuadratic-v0", 1000, 1250, 750, 250),
        ("Reacher-v5", 500, 1250, 750, 250),
        ("somebody/Unknown-v0", 5000, 5000, 3000, 1000),
    ],
)
def test_fast_is_one_setting_whose_warm_up_follows_the_episode(task, warmup, updates, fits, every):
    settings = preset("fast", task)
    found = (
        settings.warmup_steps,
        settings.first_updates,
        settings.first_model_steps,
        settings.evaluate_every,
    )
    assert found == (warmup, updates, fits, every)
    assert all(getattr(settings, name) == value for name, value in FAST.items())
    assert override(settings, []) == settings, "it passes its own checks"


def test_every_preset_passes_its_checks():
    for name in PRESETS:
        assert override(preset(name, "Hopper-v5"), []) == preset(name, "Hopper-v5")


def test_a_group_sets_several_at_once():
    settings = override(preset("fast", "Hopper-v5"), ["published=true", "networks=4", "elites=4"])
    assert settings.critics == GROUPS["published"]["critics"]
    assert settings.networks == 4, "what comes later wins"
    assert override(preset("fast", "Hopper-v5"), ["published=false"]) == preset("fast", "Hopper-v5")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("refit_every=15", "refit_every: expected a multiple of steps_per_round"),
        ("refresh_every=3", "refresh_every: expected a divisor of the 10 updates of a round"),
        ("first_updates=25", "first_updates: expected a multiple of the 10 updates"),
        ("first_model_steps=7", "first_model_steps: expected a multiple of model_steps"),
        ("model_dropout=0.1", "model_dropout: expected none, or a number from 0 for each of 2 hidden layers"),
        ("model_noise=loud", "model_noise: unknown 'loud'"),
        ("first_temperature=0", "first_temperature: expected a positive number"),
        ("horizon=-1", "horizon: expected at least 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change, said):
    with pytest.raises(InputError, match=said):
        request(change)


def test_settings_are_read_back_from_their_record(whole):
    record = json.loads((whole[0] / "config.json").read_text())["request"]["settings"]
    assert settings_from(record) == request().settings
    assert settings_from({"networks": 2}).networks == 2


def test_the_plan_of_fast_is_what_is_promised():
    from mbpo.environments import make

    environment = make("InvertedPendulum-v5")
    _, plan = assemble(preset("fast", "InvertedPendulum-v5"), environment, 3000)
    assert (plan.warmup_steps, plan.rounds, plan.steps_per_round, plan.updates_per_round) == (
        500,
        10,
        250,
        250,
    )
    assert (plan.first_fits, plan.first_improves, plan.refit_every, plan.refresh_every) == (3, 5, 1, 25)
    assert plan.total_env_steps == 3000
    environment.close()
