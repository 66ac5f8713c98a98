"""How long one MBPO program takes to compile and to run, with JAX's own choices and with ours: each in its own process.

    taskset -c 0 .venv/bin/python benchmarks/compile_time.py > benchmarks/compile_time.json

The program is `mbpo` on the pendulum with 10,000 transitions and 8 seeds. `loops`: Threefry as nested loops, JAX's own
choice on a CPU; `straight`: as straight code, which importing mbpo.core chooses; `emitters`: also XLA's older way of
emitting fused loops, which commands on linear-quadratic systems choose.
"""

import json
import os
import statistics
import subprocess
import sys
import time

CHOICES, REPEATS = ("loops", "straight", "emitters"), 3


def measure(choice: str) -> dict:
    """Seconds of one compilation and one run, in this process."""
    from mbpo.core import threads

    if choice == "emitters":
        threads.compile_sooner()
    import jax
    import numpy as np

    if choice == "loops":
        from jax._src.interpreters import mlir
        from jax._src.random import threefry2x32

        rolled = threefry2x32._threefry2x32_cpu_lowering_rule
        mlir.register_lowering(threefry2x32.threefry2x32_p, rolled, platform="cpu")
    from mbpo.lqr import catalogue
    from mbpo.lqr.train import Settings, train

    system, settings = catalogue.get("pendulum"), Settings("mbpo", 10_000, 8)
    jax.block_until_ready(jax.numpy.zeros(3) + 1)
    took = []
    for _ in range(2):
        began = time.perf_counter()
        found = train(system, settings)
        took.append(time.perf_counter() - began)
    excess = float(np.median(found.excess_cost[:, -1]))
    return {"compile": took[0] - took[1], "run": took[1], "excess": excess}


def main() -> None:
    """Print one JSON object, or measure one choice when one is named."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    found = {choice: [] for choice in CHOICES}
    for _ in range(REPEATS):
        for choice in CHOICES:
            words = [sys.executable, __file__, choice]
            done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ)
            found[choice].append(json.loads(done.stdout))
            print(choice, found[choice][-1], file=sys.stderr)
    middle = {
        choice: {
            name: round(statistics.median(each[name] for each in rows), 4)
            for name in ("compile", "run", "excess")
        }
        for choice, rows in found.items()
    }
    ratios = {
        choice: round(middle[choice]["compile"] / middle["loops"]["compile"], 3) for choice in CHOICES[1:]
    }
    print(json.dumps({"seconds": middle, "compile_over_loops": ratios}, indent=1))


if __name__ == "__main__":
    main()
