"""Verbs on control tasks: one sentence for whatever is broken, presets, checks, and what a trained run gives."""

import json

import gymnasium
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import environments.broken as broken
from mbpo.cli import execute
from mbpo.presets import PAPER, PRESETS, TaskSettings, override, preset
from mbpo.runs.evaluation import episode_seed
from mbpo.runs.task_run import train_task
from mbpo.runs.trained import load
from runs.task_cases import TINY, request

SPOILT = {
    "NaNReward": {"reward": float("nan")},
    "EndlessReward": {"reward": float("inf")},
    "NaNSeen": {"observation": np.array([np.nan, 0.0], np.float32)},
}
for name, settings in SPOILT.items():
    gymnasium.register(f"limited/{name}-v0", broken.Sound, max_episode_steps=20, kwargs=settings)

BROKEN = [
    ("limited/DictSeen-v0", []), ("limited/TupleSeen-v0", []), ("limited/DiscreteSeen-v0", []),
    ("limited/ImageSeen-v0", []), ("limited/EmptySeen-v0", []), ("limited/NoSpaces-v0", []),
    ("limited/DiscreteChosen-v0", []), ("limited/MultiDiscreteChosen-v0", []), ("limited/UnboundedChosen-v0", []),
    ("limited/MatrixChosen-v0", []), ("limited/IntegerChosen-v0", []), ("limited/FrozenChosen-v0", []),
    ("limited/WideChosen-v0", []), ("limited/Raises-v0", []), ("limited/RaisesAtReset-v0", []),
    ("limited/FourValues-v0", []), ("limited/RefusesSeed-v0", []), ("limited/FailsToStart-v0", []),
    ("limited/NaNReward-v0", []), ("limited/EndlessReward-v0", []), ("limited/NaNSeen-v0", []),
    ("limited/Sound-v0", ["--env-option", "observation=null"]),
    ("limited/Sound-v0", ["--env-option", "terminated=2"]), ("limited/Sound-v0", ["--env-option", "reward=word"]),
]  # fmt: skip
OPTIONS = [
    ["--preset", "papper"], ["--preset", "paper"], ["--set", "real_ration=1"], ["--set", "real_ratio=1.5"],
    ["--set", "real_ratio"], ["--set", "networks=2.5"], ["--set", "elites=9"], ["--set", "discount=1"],
    ["--set", "batch_size=0"], ["--set", "branches=inf"], ["--set", "model=perfect"], ["--set", "model=true"],
    ["--set", "agent_hidden=0"], ["--set", "length_end=0"], ["--set", "target_entropy=nan"],
    ["--set", "branches=100000000000"], ["--seed", "-1"], ["--seed", "18446744073709551616"],
    ["--set", "refit_every=1e10"],
    ["--env-option", "x=[0.8, Infinity]"], ["--termination", "nowhere:rule"],
    ["--env-option", "speed=3"], ["--variant", "truncated"], ["--transitions", "5"], ["--algorithm", "mbpo"],
]  # fmt: skip
LONG = ["--steps", "50", *[word for change in TINY for word in ("--set", change)]]


def refused(capsys, words):
    """The one sentence with which `mbpo` answers."""
    assert execute(words) == 2, words
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert len(lines) == 1, said.err
    assert "Traceback" not in said.err
    return lines[0]


@pytest.mark.parametrize(("environment", "more"), BROKEN)
def test_a_broken_environment_gets_one_sentence(environment, more, tmp_path, capsys):
    out = tmp_path / "run"
    said = refused(
        capsys, ["train", environment, "--termination", "never", *LONG, *more, "--out", str(out), "--json"]
    )
    assert environment in said
    assert len(said) < 400


@pytest.mark.parametrize("more", OPTIONS)
def test_a_wrong_option_gets_one_sentence_and_leaves_nothing(more, tmp_path, capsys):
    out = tmp_path / "run"
    refused(capsys, ["train", "Pendulum-v1", *LONG, *more, "--out", str(out), "--json"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "limited/Ends-v0", "--env-option", "after=5", *LONG], "needs to know when"),
        (["train", "Hoper-v5", "--steps", "9000"], "did you mean 'Hopper-v5'"),
        (["train", "hopper", "--steps", "9000"], "did you mean the task 'Hopper-v5'"),
        (["train", "nothing", "--preset", "paper"], "there is no system 'nothing'"),
        (["train", "Hopper-v5", "--steps", "9000", "--real-ratio", "0.1"], "use --set real_ratio=SHARE"),
        (["train", "Hopper-v5", "--steps", "9000", "--out", 300 * "a"], "File name too long"),
        (["train", "Hopper-v5"], "--steps is required"),
        (["train", "broken/Sound-v0", "--termination", "never", *LONG], "no time limit"),
        (["train", "scalar", "--env-option", "system=pendulum", *LONG], "the system is scalar already"),
        (["train", "Hopper-v5", "--steps", "5000"], "more than the 5000 of the warm-up"),
        (["train", "scalar"], "--transitions is required"),
        (["train", "scalar", "--set", "discount=0.9", "--transitions", "500"], "--set does not apply"),
        (["evaluate", "nowhere"], "is not a run"),
        (["video", "nowhere"], "is not a run"),
        (["presets", "--json", "extra", "more"], "unexpected argument"),
    ],
)
def test_refusals_say_what_was_expected(words, said, capsys):
    assert said in refused(capsys, words)


def test_a_wrong_termination_rule_is_caught_after_the_warm_up(capsys, tmp_path):
    words = ["train", "limited/Ends-v0", "--env-option", "after=5", "--termination", "never", *LONG]
    assert "at odds" in refused(capsys, [*words, "--out", str(tmp_path / "run"), "--json"])


def test_presets_print_every_setting(capsys):
    assert execute(["presets", "Hopper-v5", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["presets"]) == set(PRESETS)
    assert shown["values"]["paper"]["length_last"] == 15
    assert set(shown["settings"]) == set(shown["values"]["sac"]) == {*TaskSettings.__dataclass_fields__}
    assert execute(["presets"]) == 0
    assert "updates_per" in capsys.readouterr().out


@pytest.mark.parametrize("task", PAPER)
def test_presets_are_those_of_the_paper(task):
    paper, sac = preset("paper", f"{task}-v5"), preset("sac", f"{task}-v5")
    assert (paper.real_ratio, paper.model, sac.real_ratio, sac.model) == (0.05, "ensemble", 1.0, "none")
    assert (
        paper.updates_per_step
        == sac.updates_per_step
        == {"HalfCheetah": 40, "InvertedPendulum": 10}.get(task, 20)
    )
    entropy = {"Hopper": -1, "Walker2d": -3, "HalfCheetah": -3, "Ant": -4, "Humanoid": -2}
    assert paper.target_entropy == entropy.get(task, {"InvertedPendulum": -0.05}.get(task, -0.5))
    assert paper.warmup_steps == (500 if "Pendulum" in task else 5000)
    assert (paper.refit_every, paper.retain) == (
        (1000, 5) if task == "Humanoid" else (250, 1 if "Pendulum" in task else 4)
    )
    held = paper.branches * paper.length_last * paper.retain  # the published pools
    millions = {"Hopper": 6.0, "Walker2d": 0.4, "HalfCheetah": 0.4, "Ant": 10.0, "Humanoid": 12.5}
    assert held == 1e6 * millions.get(task, 0.1)
    repaired = preset("repaired", f"{task}-v5")
    assert (repaired.normalise_targets, repaired.predict_change) == (True, False)


def test_settings_are_read_in_their_own_types():
    changed = override(
        TaskSettings(),
        ["networks=3", "elites=2", "agent_hidden=8,4", "target_entropy=none", "diagnose=no", "discount=0.9"],
    )
    assert (changed.networks, changed.agent_hidden, changed.target_entropy) == (3, (8, 4), None)
    assert changed.diagnose is False


def episode(trained, seed):
    """Length and return of an episode of the mean policy."""
    environment, length, total, ended = trained.make(), 0, 0.0, False
    observation = environment.reset(seed)
    while not ended:
        step = environment.step(trained.act(observation))
        observation, length, total = step.observation, length + 1, total + step.reward
        ended = step.terminal or step.truncated
    return length, total


def test_a_trained_run_is_evaluated_and_filmed(tmp_path, capsys):
    folder = tmp_path / "run"
    case = request("diagnose=true")  # whose other programs runs/test_task_run.py compiles as well
    train_task(case, folder, lambda progress: None, ["mbpo"])
    record = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    measured = {"model_error", "calibration", "exploitation", "critic_real", "critic_imagined"}
    assert all(record["diagnostics"][name] for name in measured)
    assert execute(["evaluate", str(folder), "--episodes", "3", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert set(first) >= {"mean_return", "returns", "lengths"}
    assert first["mean_return"] == np.mean(first["returns"])
    for number in range(3):
        length, total = episode(load(folder), episode_seed(1_000_000, number))
        assert first["lengths"][number] == length
        assert first["returns"][number] == pytest.approx(total, rel=1e-6)
    for more, same in ((["--seed", "1000000"], True), (["--seed", "1"], False), (["--stochastic"], False)):
        assert execute(["evaluate", str(folder), "--episodes", "3", "--json", *more]) == 0
        assert (json.loads(capsys.readouterr().out)["returns"] == first["returns"]) is same
    assert "a file ending in" in refused(capsys, ["video", str(folder), "--out", str(tmp_path / "film.avi")])
    whole = folder / "policy.safetensors"
    arrays = load_file(whole)
    cut = {**arrays, "[1].weight": arrays["[1].weight"][:-1]}
    wild = {**arrays, "[0].bias": np.full_like(arrays["[0].bias"], np.nan)}
    for damaged, said in (({}, "no array"), (cut, "[1].weight is float32"), (wild, "[0].bias holds NaN")):
        save_file(damaged, whole)
        assert said in refused(capsys, ["evaluate", str(folder)])


def test_check_env_says_what_is_wrong(capsys):
    assert execute(["check-env", "Pendulum-v1", "--steps", "50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["usable"]
    with pytest.raises(SystemExit) as left:
        execute(["check-env", "limited/DiscreteChosen-v0", "--json"])
    assert left.value.code == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["usable"]
    (error,) = (each for each in found["findings"] if each["severity"] == "error")
    assert "Discrete" in error["what"]
