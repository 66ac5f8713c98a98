"""How close each algorithm comes to the limit of certainty equivalence, on catalogue systems and on random ones.

    .venv/bin/python benchmarks/convergence.py --algorithms mbpo > benchmarks/convergence_mbpo.json

For every case: median relative excess over the seeds, the limit, their ratio, unstable seeds, real rollouts cut off.
"""

import argparse
import json
import sys

import numpy as np

from mbpo.core.threads import use_all_cores

use_all_cores()

import jax  # noqa: E402

from mbpo.lqr import catalogue  # noqa: E402
from mbpo.lqr.system import LinearQuadratic  # noqa: E402
from mbpo.lqr.train import Settings, train  # noqa: E402

CATALOGUE = {"laplacian3": 3000, "double_integrator": 6000, "pendulum": 6000, "boeing747": 20000}
MORE = {"cartpole": 20000, "two_masses": 20000, "scalar": 3000, "laplacian3_cheap_state": 20000}


def random_system(number: int) -> LinearQuadratic:
    """A seeded random system with 2 to 4 states, 1 or 2 inputs and spectral radius from 0.8 to 1.1."""
    rng = np.random.default_rng(1000 + number)
    n, m = int(rng.integers(2, 5)), int(rng.integers(1, 3))
    A = rng.standard_normal((n, n))
    A *= rng.uniform(0.8, 1.1) / np.max(np.abs(np.linalg.eigvals(A)))
    half = rng.standard_normal((n, n))
    W = 10.0 ** rng.uniform(-2, 1) * (half @ half.T / n + 0.1 * np.eye(n))
    Q = np.diag(10.0 ** rng.uniform(-1, 1, n))
    return LinearQuadratic(
        A, rng.standard_normal((n, m)), Q, 10.0 ** rng.uniform(-1, 1) * np.eye(m), W, name=f"random{number}"
    )


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="the four named cases only")
    parser.add_argument("--algorithms", nargs="+", default=["mbpo", "mbpo-simple", "certainty-equivalence"])
    args = parser.parse_args()
    cases = [(catalogue.get(name), count) for name, count in CATALOGUE.items()]
    if not args.quick:
        cases += [(catalogue.get(name), count) for name, count in MORE.items()]
        cases += [(random_system(number), 6000) for number in range(8)]
    rows = []
    for algorithm in args.algorithms:
        for system, transitions in cases:
            settings = Settings(algorithm, transitions, seeds=args.seeds, seed=args.seed)
            result = train(system, settings).to_json()
            median = result["median_excess_cost"]
            row = {
                "algorithm": algorithm,
                "system": system.name,
                "states": system.state_dim,
                "inputs": system.action_dim,
                "transitions": result["transitions"],
                "median_excess": median,
                "limit": result["limit"],
                "ratio": None if median is None else round(median / result["limit"], 3),
                "unstable": result["unstable"],
                "cuts": result["cuts"],
            }
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    print(
        json.dumps({"seeds": args.seeds, "seed": args.seed, "jax": jax.__version__, "cases": rows}, indent=1)
    )


if __name__ == "__main__":
    main()
