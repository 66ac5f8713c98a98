"""Folders of runs on control tasks with made-up numbers, without training anything."""

import dataclasses
import json

import numpy as np

from mbpo.presets import preset

EPISODES = 3


def mean_return(step, seed):
    """What the run of `seed` returns at `step`, rounded as a reader may check it."""
    return round(3000 * (1 - np.exp(-step / 30_000)) + 100 * seed, 1)


def write_task_run(
    folder,
    environment="Hopper-v5",
    name="paper",
    seed=0,
    steps=20_000,
    until=None,
    options=None,
    changes=None,
    exact=False,
    diagnose=True,
    timings=True,
):
    """A run of `steps` real steps, unfinished where it only got to `until`; evaluated every `evaluate_every`."""
    settings = dataclasses.replace(preset(name, environment), **(changes or {}))
    request = {
        "environment": environment, "options": options or {}, "termination": None, "preset": name,
        "settings": dataclasses.asdict(settings), "steps": steps, "seed": seed,
    }  # fmt: skip
    config = {
        "kind": "task", "request": request, "command": ["mbpo", "train", environment, "--seed", str(seed)],
        "versions": {"python": "3.11.7", "mbpo": "0.1.0"}, "platform": "a machine", "devices": ["cpu:0"],
    }  # fmt: skip
    last = steps if until is None else until
    first, every = settings.warmup_steps + settings.evaluate_every, settings.evaluate_every
    at = list(range(first, last + 1, every))
    records = [record(step, seed, settings, exact, diagnose) for step in at]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_lines(folder / "metrics.jsonl", records)
    if timings:
        write_lines(
            folder / "timings.jsonl", [{"env_steps": step, "seconds": seconds(settings)} for step in at]
        )
    if until is None:
        (folder / "result.json").write_text("{}")
    return folder


def seconds(settings):
    """Four seconds of improving for each evaluation, and what a model takes."""
    model = {"fit": 3.0, "imagine": 1.0} if settings.model != "none" else {}
    return {"act": 0.5, **model, "improve": 4.0, "evaluate": 0.5}


def write_lines(path, records):
    path.write_text("".join(json.dumps(each) + "\n" for each in records))


def record(step, seed, settings, exact, diagnose):
    """One evaluation; numbers are smooth functions of step and seed."""
    middle, updates = mean_return(step, seed), (step - settings.warmup_steps) * settings.updates_per_step
    found = {
        "env_steps": step,
        "updates": updates,
        "mean_return": middle,
        "returns": [middle - 200, middle, middle + 200],
        "lengths": [1000] * EPISODES,
        "training_returns": [middle],
        "episodes": step // 500,
        "realised_ratio": 0.05,
        "agent": {
            "critic_loss": 40 * np.exp(-step / 9000) + 3 + seed,
            "actor_loss": -middle / 30,
            "temperature": 0.05 + np.exp(-step / 5000),
            "entropy": -1.0 + 2 * np.exp(-step / 6000),
            "mean_value": middle / 12,
        },
    }
    if settings.model != "none":
        found["rollout_length"], found["imagined"] = 1 + step // 10_000, 100_000
    if settings.model == "ensemble":
        errors = [round(0.3 * np.exp(-step / 20_000) + 0.01 * k + 0.02, 6) for k in range(7)]
        found["model"] = {
            "holdout_error": errors,
            "elites": [0, 1, 2, 3, 4],
            "epochs": 30 + 4_000_000 // step,
        }
    if exact:
        found["exact"] = {
            "excess_cost": round(400 / step * (1 + seed / 10), 6), "standard_error": 20 / step,
            "optimal_cost": 4.9, "one_step_error": 1 + 60 / step,
        }  # fmt: skip
    if diagnose:
        found["diagnostics"] = diagnostics(step, seed, settings)
    return found


def diagnostics(step, seed, settings):
    """As `mbpo.deep.diagnostics.diagnose` gives them."""
    depth = np.arange(1, 21)
    error = 0.05 * depth ** (0.5 + 20_000 / (step + 20_000))
    found = {
        "real_steps": 5000,
        "critic_real": {
            "bias": -8 + step / 5000 + seed,
            "standard_error": 2.0,
            "normalised_bias": -0.1,
            "rows": 900,
        },
        **dict.fromkeys(("model_error", "calibration", "exploitation", "critic_imagined")),
    }
    if settings.model == "none":
        return found
    curves = {
        "mean": error,
        "sampled": 1.2 * error,
        "reward_mean": 0.5 * error,
        "reward_sampled": 0.6 * error,
    }
    found["model_error"] = {
        "depths": depth.tolist(), "starts": [96] * 20, **{k: v.tolist() for k, v in curves.items()},
    }  # fmt: skip
    found["calibration"] = {
        "coverage_50": 0.5 - 2000 / step, "coverage_90": 0.9 - 3000 / step, "reward_coverage_50": 0.5,
        "reward_coverage_90": 0.9, "negative_log_likelihood": -1.0, "variance_ratio": 0.6,
    }  # fmt: skip
    found["exploitation"] = {
        "gap": 20 * np.sin(step / 3000) + 10, "standard_error": 6.0, "imagined": 210.0, "real": 200.0, "horizon": 100.0,
        "starts": 32, "lost": 0.0,
    }  # fmt: skip
    found["critic_imagined"] = {"bias": 5 + step / 9000, "standard_error": 1.5, "normalised_bias": 0.05, "rows": 64,
                                "lost": 0.0}  # fmt: skip
    return found
