"""The figures of docs/fast.md from the records beside this script.

    .venv/bin/python benchmarks/draw_fast.py

Each seed of preset `fast` as a thin line, their mean, and published means (`src/mbpo/report/published_curves.csv`).
Prints the numbers that docs/fast.md quotes, as one JSON object.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mbpo.report.drawing import new_figure, style, to_svg
from mbpo.report.published import published

HERE = Path(__file__).parent
FIGURES = HERE.parent / "docs" / "figures"
METHODS = {"MBPO": "#5b6770", "DHMBPO": "#b05a00"}
DRAWN = ("hopper", "walker2d")
OURS = "#0072b2"
STILL = 1100.0  # Hopper standing still for a whole episode earns 1000
FALLEN = 2000.0  # a policy that falls half-way through an episode


def main() -> None:
    """Draw every record that is there."""
    found = {}
    families = {"hopper": "Hopper", "hopper_full_entropy": "Hopper", "walker2d": "Walker2d"}
    for task, family in families.items():
        record = HERE / f"tasks_fast_{task}.json"
        if record.exists():
            runs = json.loads(record.read_text())["runs"]
            if task in DRAWN:
                _draw(runs, family, FIGURES / f"fast_{task}.svg")
            found[task] = _numbers(runs)
    print(json.dumps(found, indent=1))


def _draw(runs: list[dict], family: str, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with style():
        figure, (axes,) = new_figure(3.7, right=0.8)
        figure.patch.set_alpha(1.0)
        figure.patch.set_facecolor("white")
        limit = max(run["env_steps"][-1] for run in runs)
        for series in published(family):
            if series.method in METHODS:
                steps, mean = series.until(limit)
                axes.plot(steps, mean, color=METHODS[series.method], ls="--", lw=1.3)
                if len(steps):
                    axes.annotate(f" {series.method}", (steps[-1], mean[-1]), color=METHODS[series.method])
        for run in runs:
            axes.plot(run["env_steps"], run["mean_return"], color=OURS, lw=0.7, alpha=0.5)
        steps, mean = _mean(runs)
        axes.plot(steps, mean, color=OURS, lw=2.0)
        axes.annotate(f" fast, mean of {len(runs)}", (steps[-1], mean[-1]), color=OURS)
        axes.set_xlabel("real steps, warm-up included")
        axes.set_ylabel("mean return of five episodes")
        axes.grid(True)
        target.write_text(to_svg(figure))


def _mean(runs: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the runs at the steps that all of them have."""
    steps = sorted(set.intersection(*(set(run["env_steps"]) for run in runs)))
    each = [[run["mean_return"][run["env_steps"].index(step)] for step in steps] for run in runs]
    return np.array(steps), np.mean(each, axis=0)


def _numbers(runs: list[dict]) -> dict:
    steps, mean = _mean(runs)
    at = {int(step): round(float(value), 1) for step, value in zip(steps, mean, strict=True)}
    seeds = {}
    for run in runs:
        returns = dict(zip(run["env_steps"], run["mean_return"], strict=True))
        window = [value for step, value in returns.items() if 10_000 <= step <= 25_000]
        seeds[run["seed"]] = {
            "at": {
                step: round(returns[step], 1) for step in (25_000, 40_000, 50_000, 60_000) if step in returns
            },
            "mean_10k_to_25k": round(float(np.mean(window)), 1),
            "evaluations_from_25k": len(late := [v for step, v in returns.items() if step >= 25_000]),
            "of_them_fallen": sum(value < FALLEN for value in late),
            "last_ten_mean": round(float(np.mean(run["mean_return"][-10:])), 1),
            "stands_still": bool(max(run["mean_return"][-10:]) < STILL),
        }
    return {
        "seeds": seeds,
        "mean_at": {
            step: at[step]
            for step in (10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 60_000)
            if step in at
        },
        "mean_10k_to_25k": round(float(np.mean([each["mean_10k_to_25k"] for each in seeds.values()])), 1),
        "standing_still": sum(each["stands_still"] for each in seeds.values()),
    }


if __name__ == "__main__":
    main()
