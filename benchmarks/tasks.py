"""Training on control tasks over seeds: `python benchmarks/tasks.py NAME` runs or resumes, and writes tasks_NAME.json.

Every run is an ordinary `mbpo train` into runs/benchmarks/, so an interrupted benchmark goes on where it stopped. With
`--a-core-each`, as many runs go at once as there are cores, each on one of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parent / "runs" / "benchmarks"
EPISODES = 5


@dataclass(frozen=True)
class Case:
    """One command for each seed."""

    target: str
    preset: str
    steps: int
    seeds: tuple[int, ...]
    options: tuple[str, ...] = ()
    label: str = ""

    def folder(self, seed: int) -> Path:
        """Where the run of `seed` lives."""
        return FOLDER / f"{Path(self.target).name}-{self.preset}{self.label}-{seed}"

    def command(self, seed: int) -> list[str]:
        """The arguments of `mbpo`."""
        words = [
            "train",
            self.target,
            "--preset",
            self.preset,
            "--steps",
            str(self.steps),
            "--seed",
            str(seed),
        ]
        return [*words, *self.options]


FIVE = (0, 1, 2, 3, 4)
BENCHMARKS = {
    "inverted_pendulum": [Case("InvertedPendulum-v5", each, 5000, FIVE) for each in ("paper", "sac")],
    "linear_quadratic": [Case(each, "default", 10_000, (0,)) for each in ("pendulum", "laplacian3")],
    "hopper": [Case("Hopper-v5", "paper", 125_000, (0,))],
    "fast_hopper": [Case("Hopper-v5", "fast", 40_000, FIVE)],
    "fast_hopper_full_entropy": [
        Case("Hopper-v5", "fast", 40_000, (0, 1), ("--set", "entropy_per_action=-1"), "-full-entropy")
    ],
    "fast_walker2d": [Case("Walker2d-v5", "fast", 60_000, (0,), ("--variant", "walker2d.xml"))],
    "fast_pendula": [
        Case("InvertedPendulum-v5", "fast", 3000, FIVE),
        Case("Pendulum-v1", "fast", 5000, (0, 1, 2)),
        Case("InvertedDoublePendulum-v5", "fast", 10_000, (0, 1, 2)),
    ],
    "fast_linear_quadratic": [
        Case(system, name, 5000, (0, 1, 2))
        for name in ("fast", "default")
        for system in ("pendulum", "laplacian3")
    ],
}


def main() -> None:
    """Run one benchmark and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument(
        "--collect", action="store_true", help="record what the runs have reached, without training"
    )
    parser.add_argument("--a-core-each", action="store_true", help="as many runs at once as there are cores")
    args = parser.parse_args()
    runs = [(case, seed) for case in BENCHMARKS[args.name] for seed in case.seeds]
    if not args.collect:
        _train(runs, args.a_core_each)
    target = HERE / f"tasks_{args.name}.json"
    earlier = _earlier(target)
    rows = [_row(case, seed) or earlier.get((case.target, case.preset, seed)) for case, seed in runs]
    record = {
        "command": f"python benchmarks/tasks.py {args.name}",
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "platform": platform.platform()},
        "runs": [row for row in rows if row is not None],
    }
    target.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{target}: {len(record['runs'])} runs")


def _earlier(target: Path) -> dict[tuple[str, str, int], dict]:
    """The rows of an earlier record, which stay for runs whose folders are gone."""
    found = json.loads(target.read_text())["runs"] if target.exists() else []
    return {(row["target"], row["preset"], row["seed"]): row for row in found}


def _train(runs: list[tuple[Case, int]], a_core_each: bool) -> None:
    """Every run, one after the other on all cores, or each on one of them."""
    cores: queue.Queue[int] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0)) if a_core_each else [-1]:
        cores.put(core)

    def train(run: tuple[Case, int]) -> None:
        case, seed = run
        core = cores.get()
        on = ["taskset", "-c", str(core)] if core >= 0 else []
        _mbpo(*case.command(seed), "--out", str(case.folder(seed)), "--json", before=on)
        cores.put(core)

    with ThreadPoolExecutor(cores.qsize()) as pool:
        list(pool.map(train, runs))


def _row(case: Case, seed: int) -> dict | None:
    folder = case.folder(seed)
    if not (folder / "metrics.jsonl").exists():
        return None
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    timings, worked = [each["seconds"] for each in lines], [each.get("core_seconds") for each in lines]
    stages = sorted({stage for each in timings for stage in each})
    seconds = {stage: round(sum(each.get(stage, 0.0) for each in timings), 1) for stage in stages}
    judged = json.loads(_mbpo("evaluate", str(folder), "--episodes", str(EPISODES), "--json"))
    config = json.loads((folder / "config.json").read_text())
    return {
        "target": case.target,
        "preset": case.preset,
        "seed": seed,
        "steps": judged["step"],
        "evaluation": {name: judged[name] for name in ("mean_return", "returns", "lengths")},
        "exact": judged.get("exact"),
        "one_step_error": records[-1].get("exact", {}).get("one_step_error"),
        "seconds": {**seconds, "total": round(sum(seconds.values()), 1)},
        "core_seconds": None if None in worked else round(sum(worked), 1),
        "threads": config.get("threads"),
        "env_steps": [each["env_steps"] for each in records],
        "mean_return": [each["mean_return"] for each in records],
        "seconds_each": {stage: [round(each.get(stage, 0.0), 2) for each in timings] for stage in stages},
        "realised_ratio": [each["realised_ratio"] for each in records],
        "rollout_length": [each.get("rollout_length") for each in records],
        "fit_epochs": [each.get("model", {}).get("epochs") for each in records],
        "exploitation_gap": [
            each.get("diagnostics", {}).get("exploitation", {}).get("gap") for each in records
        ],
        "excess_cost": [each["exact"]["excess_cost"] for each in records] if "exact" in records[-1] else None,
        "versions": config["versions"],
        "resumed": config.get("resumed", []),
        "command": " ".join(["mbpo", *case.command(seed)]),
    }


def _mbpo(*words: str, before: Sequence[str] = ()) -> str:
    command = [*before, sys.executable, "-m", "mbpo", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
