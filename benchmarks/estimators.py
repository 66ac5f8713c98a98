"""Every estimator as a learner: on real data alone, inside MBPO, and the four that matter with much data.

    .venv/bin/python benchmarks/estimators.py > benchmarks/estimators.json

For every case: median and worst relative excess over the seeds, unstable seeds, real rollouts cut off.
"""

import argparse
import json
import sys

import numpy as np

from mbpo.core.threads import use_all_cores

use_all_cores()

import jax  # noqa: E402

from mbpo.lqr import catalogue  # noqa: E402
from mbpo.lqr.gradients import ESTIMATORS  # noqa: E402
from mbpo.lqr.train import Settings, train  # noqa: E402

MUCH = ("dpg", "mis", "policy-gradient", "importance-sampling")
SYSTEMS = ("double_integrator", "laplacian3", "pendulum")


def cases() -> list[tuple[str, str, str | None, int]]:
    """System, algorithm, improve and transitions of each run."""
    much = [(system, name, None, 240_000) for system in SYSTEMS for name in MUCH]
    real = [("double_integrator", name, None, 48_000) for name in ESTIMATORS]
    inside = [("laplacian3", "mbpo", name, 3_000) for name in ESTIMATORS]
    return much + real + inside


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    for system, algorithm, improve, transitions in cases():
        run = train(
            catalogue.get(system), Settings(algorithm, transitions, args.seeds, args.seed, improve=improve)
        )
        last = run.excess_cost[:, -1]
        finite = bool(np.isfinite(last).all())
        row = {
            "system": system,
            "algorithm": algorithm,
            "improve": improve,
            "transitions": transitions,
            "median_excess": run.to_json()["median_excess_cost"],
            "worst_excess": float(last.max()) if finite else None,
            "unstable": int(np.sum(~np.isfinite(last))),
            "cuts": int(run.cuts.sum()),
            "limit": run.limit,
        }
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    versions = {"jax": jax.__version__, "numpy": np.__version__}
    print(json.dumps({"seeds": args.seeds, "seed": args.seed, "versions": versions, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
