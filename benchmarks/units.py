"""Random plants in random units: how far the excess costs of one learner differ between a plant and its rescaled twin.

    python benchmarks/units.py > benchmarks/units.json

States, inputs and costs are measured in units that differ by up to a million times. The numbers of a system are
arguments of one compiled program for each shape, so 200 plants take little longer than two.
"""

import argparse
import json
import platform

import numpy as np

from mbpo.core.threads import compile_sooner, use_all_cores

use_all_cores()
compile_sooner()

import jax  # noqa: E402

from mbpo.lqr.coordinates import Coordinates  # noqa: E402
from mbpo.lqr.system import LinearQuadratic  # noqa: E402
from mbpo.lqr.train import Settings, train  # noqa: E402
from random_systems import SHAPES, random_system  # noqa: E402

DECADES = 6
SEEDS = 4


def in_other_units(system: LinearQuadratic, number: int) -> LinearQuadratic:
    """The same plant with every state, every input and the cost in a unit of its own."""
    rng = np.random.default_rng([7, number])
    states, inputs = (
        10.0 ** rng.uniform(-DECADES, DECADES, size) for size in (system.state_dim, system.action_dim)
    )
    scaled = Coordinates(np.diag(states), np.diag(inputs)).system(system)
    cost = 10.0 ** rng.uniform(-DECADES, DECADES)
    return LinearQuadratic(
        scaled.A,
        scaled.B,
        cost * scaled.Q,
        cost * scaled.R,
        scaled.W,
        scaled.initial_covariance,
        name=system.name,
    )


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plants", type=int, default=200)
    parser.add_argument("--algorithm", default="certainty-equivalence")
    parser.add_argument("--transitions", type=int, default=1000)
    args = parser.parse_args()
    settings = Settings(args.algorithm, args.transitions, SEEDS)
    differences, worst = [], {}
    for number in range(args.plants):
        states, inputs = SHAPES[number % len(SHAPES)]
        system = random_system(states, inputs, number)
        here, there = (train(each, settings).excess_cost for each in (system, in_other_units(system, number)))
        both_infinite = np.isinf(here) & np.isinf(there)
        with np.errstate(invalid="ignore"):
            apart = np.abs(there - here) / np.maximum(np.abs(here), 1e-9)
        differences.append(float(np.max(np.where(both_infinite, 0.0, apart))))
        if differences[-1] == max(differences):
            worst = {"plant": system.name, "number": number, "difference": differences[-1]}
    result = {
        "algorithm": args.algorithm, "plants": args.plants, "seeds": SEEDS, "transitions": args.transitions,
        "decades": DECADES, "largest_relative_difference": {
            "median": float(np.median(differences)), "p95": float(np.quantile(differences, 0.95)), "worst": worst,
        }, "jax": jax.__version__, "platform": platform.platform(),
    }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
