"""Random sampled stiff plants in random units: how many sound ones `solve` refuses, how many broken ones it accepts.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/stiff_plants.py > benchmarks/stiff_plants.json

Plants are those of tests/lqr/stiff_plants.py. The oracle is structured doubling with 60 digits in mpmath, on the
numbers as they are written, with its own check that the closed loop is stable. It shares no code with the solver.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from pathlib import Path

import mpmath
import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "lqr"))

from mbpo.errors import InputError
from mbpo.lqr.optimum import solve
from stiff_plants import SENTENCES, exact_cost, stiff_plant


def main() -> None:
    """Print one JSON object; leave with status 1 where a plant is judged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plants", type=int, default=2000, help="sound ones, and as many of each fault")
    args = parser.parse_args()
    counts, wrong, errors, seconds = Counter(), [], [], 0.0
    for seed in range(args.plants):
        for fault, sentence in SENTENCES.items():
            system = stiff_plant(seed, fault).written
            began = time.perf_counter()
            try:
                cost, refusal = solve(system).cost, ""
            except InputError as error:
                cost, refusal = None, str(error)
            seconds += time.perf_counter() - began
            right = cost is not None if fault == "none" else sentence in refusal
            counts[f"{fault}: {'right' if right else 'wrong'}"] += 1
            if right and fault == "none":
                errors.append(abs(cost / exact_cost(system) - 1))
                right = errors[-1] < 1e-6
            if not right:
                wrong.append({"seed": seed, "fault": fault, "cost": cost, "refusal": refusal})
    result = {
        "plants": args.plants,
        "counts": dict(sorted(counts.items())),
        "wrong": wrong,
        "relative_error_of_the_cost": {
            "median": float(np.median(errors)),
            "largest": float(np.max(errors)),
        },
        "milliseconds_each": round(1000 * seconds / (3 * args.plants), 1),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__, "mpmath": mpmath.__version__},
    }
    print(json.dumps(result, indent=1))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
