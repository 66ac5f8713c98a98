"""Thread pools of the CPU, sized before they are made.

JAX's batched LAPACK kernels (jaxlib 0.10) wait, inside a worker of XLA's pool, for other tasks of the same pool: two
such kernels at once on a pool of two workers wait for ever. A wider pool cannot fill up with waiters. OpenBLAS gets one
thread, because many small matrices are faster apart. Variables that are set already win, and nothing changes once
JAX's backend runs.
"""

from __future__ import annotations

import os

WORKERS = 16


def size_thread_pools() -> None:
    """Set `PJRT_NPROC` and `OPENBLAS_NUM_THREADS` unless the user has."""
    os.environ.setdefault("PJRT_NPROC", str(max(WORKERS, os.cpu_count() or 1)))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
