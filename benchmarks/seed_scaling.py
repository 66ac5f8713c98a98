"""What more seeds cost: the time of one compiled MBPO program at 8 and at 64 seeds, compilation left out.

    .venv/bin/python benchmarks/seed_scaling.py > benchmarks/seed_scaling.json

Pairs are timed in turn, so the ratio holds when the machine's speed drifts.
"""

import json
import os
import statistics
import time

from mbpo.core.threads import use_all_cores

use_all_cores()

import jax  # noqa: E402

from mbpo.lqr import catalogue  # noqa: E402
from mbpo.lqr.train import Settings, train  # noqa: E402

PAIRS = 3


def seconds(seeds: int) -> float:
    """Wall-clock seconds of one training whose program is compiled already."""
    start = time.perf_counter()
    train(catalogue.get("laplacian3"), Settings("mbpo", 3000, seeds=seeds))
    return time.perf_counter() - start


def main() -> None:
    """Print one JSON object."""
    seconds(8), seconds(64)
    pairs = [(seconds(8), seconds(64)) for _ in range(PAIRS)]
    ratios = [many / few for few, many in pairs]
    few, many = (statistics.median(column) for column in zip(*pairs, strict=True))
    result = {"seconds_8": few, "seconds_64": many, "ratio": statistics.median(ratios), "ratios": ratios}
    print(json.dumps({**result, "cores": os.cpu_count(), "jax": jax.__version__}, indent=1))


if __name__ == "__main__":
    main()
