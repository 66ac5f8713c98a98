"""Real transitions to 10 % and 1 % excess cost of each learner on 20 random systems with 1 to 6 states.

    python benchmarks/random_systems.py

writes random_systems.json after every learner on every shape, and goes on from there when it is started again. Plain
REINFORCE and GPOMDP are tried with `STEPS`, and the best one of each system is kept, which favours them.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

from mbpo.core.threads import compile_sooner, use_all_cores

use_all_cores()
compile_sooner()

import jax  # noqa: E402

from mbpo.core.quantiles import median  # noqa: E402
from mbpo.lqr.needed import LEVELS, needed  # noqa: E402
from mbpo.lqr.system import LinearQuadratic  # noqa: E402
from mbpo.lqr.train import Settings, Training, train  # noqa: E402

RECORD = Path(__file__).parent / "random_systems.json"
SHAPES = ((1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2), (5, 2), (6, 2), (6, 3))
EACH = 2  # systems of a shape
STEPS = (0.005, 0.02, 0.08)
LEARNERS = {  # real transitions
    "mbpo": 12_000,
    "certainty-equivalence": 12_000,
    "dpg": 12_000,
    "value-baseline": 120_000,
    "mis": 120_000,
    "plain-gpomdp": 120_000,
    "plain-reinforce": 120_000,
}


def random_system(states: int, inputs: int, number: int) -> LinearQuadratic:
    """A seeded system with spectral radius 0.8 to 1.05, dense weights and dense noise."""
    rng = np.random.default_rng([states, inputs, number])
    A = rng.standard_normal((states, states))
    A *= rng.uniform(0.8, 1.05) / np.max(np.abs(np.linalg.eigvals(A)))
    W, Q, R = (
        10.0 ** rng.uniform(-1, 1) * (half @ half.T / size + 0.1 * np.eye(size))
        for size in (states, states, inputs)
        for half in (rng.standard_normal((size, size)),)
    )
    name = f"random-{states}-{inputs}-{number}"
    return LinearQuadratic(A, rng.standard_normal((states, inputs)), Q, R, W, name=name)


def learned(name: str, system: LinearQuadratic, seeds: int) -> tuple[Training, float | None]:
    """A training, and the step of a plain gradient that ended with the least median excess."""
    if not name.startswith("plain"):
        return train(system, Settings(name, LEARNERS[name], seeds)), None
    tried = [(train(system, Settings(name, LEARNERS[name], seeds, step=step)), step) for step in STEPS]
    return min(tried, key=lambda each: float(median(each[0].excess_cost[:, -1])))


def row_of(name: str, system: LinearQuadratic, seeds: int) -> dict:
    """What one learner did on one system."""
    training, step = learned(name, system, seeds)
    last = float(median(training.excess_cost[:, -1]))
    row = {
        "system": system.name, "states": system.state_dim, "inputs": system.action_dim, "learner": name,
        "transitions": LEARNERS[name], "seeds": seeds, "step": step,
        "excess": last if math.isfinite(last) else None, "limit": training.limit,
        "cuts": int(training.cuts.sum()), "stood_still": training.stood_still,
    }  # fmt: skip
    for level, share in LEVELS.items():
        found = needed(training.transitions, training.excess_cost, share)
        ends = {"": found.middle, "_low": found.low, "_high": found.high, "_at_most": found.at_most}
        row |= {f"to_{level}{end}": value for end, value in ends.items()}
    return row


def summary(rows: list[dict]) -> list[dict]:
    """For each learner and level: on how many systems the median got there, and the median of these over systems, with
    a system that was not reached as infinite."""
    found = []
    for name in LEARNERS:
        own = [row for row in rows if row["learner"] == name]
        for level in ("10", "1"):
            counts = [math.inf if row[f"to_{level}"] is None else row[f"to_{level}"] for row in own]
            if counts:
                middle = float(median(counts))
                found.append(
                    {
                        "learner": name, "level": level, "systems": len(own),
                        "reached": sum(map(math.isfinite, counts)),
                        "median": middle if math.isfinite(middle) else None,
                    }
                )  # fmt: skip
    return found


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    args = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"rows": [], "seconds": 0.0}
    there = {(row["system"], row["learner"], row["seeds"]) for row in record["rows"]}
    for name in LEARNERS:
        for states, inputs in SHAPES:
            began = time.perf_counter()
            systems = [random_system(states, inputs, number) for number in range(EACH)]
            missing = [each for each in systems if (each.name, name, args.seeds) not in there]
            if not missing:
                continue
            record["rows"] += [row_of(name, each, args.seeds) for each in missing]
            record["seconds"] += time.perf_counter() - began
            record |= {"summary": summary(record["rows"]), "jax": jax.__version__, "cores": os.cpu_count()}
            record["platform"] = platform.platform()
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
            print(name, states, inputs, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
