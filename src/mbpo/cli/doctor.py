"""`mbpo doctor`: versions, devices and a self-check of a few seconds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from mbpo.cli.output import console, print_facts, print_json
from mbpo.cli.parser import Verbs, add_json, add_verb

SYSTEM = "laplacian3"
THREADS = ("PJRT_NPROC", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "XLA_FLAGS", "JAX_PLATFORMS")


def add_doctor(verbs: Verbs) -> None:
    """Declare the verb."""
    add_json(add_verb(verbs, "doctor", "Versions, devices, and a self-check of a few seconds.", run_doctor))


def run_doctor(args: argparse.Namespace) -> None:
    """Print the state of the installation and leave with status 1 when a check fails."""
    from mbpo.core.threads import size_thread_pools

    size_thread_pools()
    import jax

    from mbpo.runs.folder import package_versions

    devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
    threads = {name: os.environ.get(name) for name in THREADS}
    checks = [_check(name, check) for name, check in CHECKS]
    if args.json:
        print_json(
            {
                "versions": package_versions(),
                "devices": devices,
                "threads": threads,
                "cpus": os.cpu_count(),
                "checks": checks,
            }
        )
    else:
        _print_tables(package_versions(), devices, threads, checks)
    if not all(check["ok"] for check in checks):
        sys.stdout.flush()
        sys.exit(1)


def _check(name: str, check: Callable[[], tuple[bool, str]]) -> dict[str, Any]:
    """The outcome of one check; whatever it raises is a failure of the installation, not of this program."""
    try:
        ok, detail = check()
    except Exception as error:
        ok, detail = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
    return {"name": name, "ok": bool(ok), "detail": detail}


def riccati_check() -> tuple[bool, str]:
    """The certified optimum against SciPy's own Riccati solution."""
    import numpy as np
    import scipy.linalg

    from mbpo.lqr import catalogue, optimum

    system = catalogue.get(SYSTEM)
    ours = optimum.solve(system).value
    theirs = scipy.linalg.solve_discrete_are(system.A, system.B, system.Q, system.R)
    error = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    return error < 1e-8, f"relative difference {error:.1e}"


def gradient_check() -> tuple[bool, str]:
    """The exact gradient against central differences of the exact cost."""
    import numpy as np

    from mbpo.lqr import catalogue, exact, optimum

    system = catalogue.get(SYSTEM)
    gain, step = 0.9 * np.asarray(optimum.solve(system).gain), 1e-5
    differences = np.empty_like(gain)
    for at in np.ndindex(*gain.shape):
        shift = np.zeros_like(gain)
        shift[at] = step
        above, below = (float(exact.cost(system, gain + sign * shift)) for sign in (1, -1))
        differences[at] = (above - below) / (2 * step)
    gradient = np.asarray(exact.gradient(system, gain))
    error = float(np.linalg.norm(gradient - differences) / np.linalg.norm(differences))
    return error < 1e-5, f"relative difference {error:.1e}"


def learning_check() -> tuple[bool, str]:
    """A short MBPO run must end nearer to the optimum than it began."""
    from mbpo.core.quantiles import median
    from mbpo.lqr import catalogue, exact
    from mbpo.lqr.train import Settings, train

    system = catalogue.get(SYSTEM)
    training = train(system, Settings("mbpo", 500, seeds=2))
    before = float(exact.excess_cost(system, training.initial_gain, training.optimum.cost))
    after = float(median(training.excess_cost[:, -1]))
    return after < before, f"excess cost {100 * before:.3g} % before, {100 * after:.3g} % after"


CHECKS = (
    ("Riccati solution agrees with SciPy", riccati_check),
    ("gradient agrees with finite differences", gradient_check),
    ("a short MBPO run improves its policy", learning_check),
)


def _print_tables(
    versions: dict[str, str], devices: list[str], threads: dict[str, str | None], checks: list[dict[str, Any]]
) -> None:
    out = console()
    print_facts(out, "Versions", list(versions.items()))
    print_facts(out, "Devices", [(str(i), device) for i, device in enumerate(devices)])
    settings = [(name, "not set" if value is None else value) for name, value in threads.items()]
    print_facts(out, "Threads", [("cpus", str(os.cpu_count())), *settings])
    outcomes = [("ok" if each["ok"] else "failed", f"{each['name']}: {each['detail']}") for each in checks]
    print_facts(out, "Self-check", outcomes)
