"""Thread pools, devices and compiled programs of the CPU, settled before JAX's backend starts.

JAX's batched LAPACK kernels (jaxlib 0.10) wait, inside a worker of XLA's pool, for other tasks of the same pool: two
such kernels at once on a pool of two workers wait for ever. A wider pool cannot fill up with waiters. OpenBLAS gets one
thread, because many small matrices are faster apart. Variables that are set already win, and nothing changes once
JAX's backend runs.
"""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import version

THREADS = "PJRT_NPROC"
WORKERS = 16
EMITTERS, PRODUCTS, KNOWN_JAXLIB = "xla_cpu_use_fusion_emitters", "xla_cpu_multi_thread_eigen", "0.10."


_chosen: str | None = None  # what was set here, which is not the user's


def size_thread_pools() -> None:
    """Set `PJRT_NPROC` and `OPENBLAS_NUM_THREADS` unless they are set."""
    if THREADS not in os.environ:
        prefer_threads(str(max(WORKERS, os.cpu_count() or 1)))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def prefer_threads(count: str) -> None:
    """Set `PJRT_NPROC`, also where importing `mbpo.core` has set it already, unless the user has."""
    global _chosen
    if os.environ.get(THREADS) in (None, _chosen):
        os.environ[THREADS] = _chosen = count


def usable_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unroll_random_numbers() -> None:
    """The same random numbers from code that runs faster on a CPU, and compiles sooner.

    JAX writes Threefry for CPUs as nested loops, for other devices as straight code. A program of the loop draws at
    some thirty places (`benchmarks/compile_time.json` has what it gains). Where JAX does not offer the straight code
    under this name, its loops stay.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src.interpreters import mlir
        from jax._src.random import threefry2x32

        straight = threefry2x32._threefry2x32_lowering_rule
        mlir.register_lowering(threefry2x32.threefry2x32_p, straight, platform="cpu")


def compile_sooner() -> None:
    """Ask XLA for its older way of emitting fused loops on a CPU: small float64 programs compile in half of the time
    and run as fast. For a process that is ours and has not begun to compile; large float32 ones run slower with it.

    An XLA that does not know a flag ends the process, so only versions known to know it are asked.
    """
    _add_flag(EMITTERS, "false")


def products_in_parallel() -> None:
    """Run matrix products beside each other, each on one thread, instead of each on all of them; for a process that is
    ours and whose programs have many of a middling size that do not wait for each other (`benchmarks/speed.py`)."""
    _add_flag(PRODUCTS, "false")


def _add_flag(name: str, value: str) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    if version("jaxlib").startswith(KNOWN_JAXLIB) and name not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{name}={value}".strip()


def use_all_cores() -> None:
    """One JAX device a core, programs that compile soon, and kept in the user's cache directory; for a process that is
    ours and works on linear-quadratic systems."""
    compile_sooner()
    import jax

    with contextlib.suppress(RuntimeError):  # the backend runs already: its devices stay as they are
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    keep_compiled_programs()


def keep_compiled_programs() -> None:
    """Compiled programs kept in the user's cache directory, so that a later process starts at once."""
    import jax

    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "mbpo", "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
