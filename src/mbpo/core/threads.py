"""Thread pools, devices and compiled programs of the CPU, settled before JAX's backend starts.

JAX's batched LAPACK kernels (jaxlib 0.10) wait, inside a worker of XLA's pool, for other tasks of the same pool: two
such kernels at once on a pool of two workers wait for ever. A wider pool cannot fill up with waiters. OpenBLAS gets one
thread, because many small matrices are faster apart. Variables that are set already win, and nothing changes once
JAX's backend runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jax import Array

WORKERS = 16
EMITTERS, KNOWN_JAXLIB = "xla_cpu_use_fusion_emitters", "0.10."


def size_thread_pools() -> None:
    """Set `PJRT_NPROC` and `OPENBLAS_NUM_THREADS` unless the user has."""
    os.environ.setdefault("PJRT_NPROC", str(max(WORKERS, os.cpu_count() or 1)))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def unroll_random_numbers() -> None:
    """The same random numbers from code that compiles sooner, and runs faster, on a CPU.

    JAX writes Threefry for CPUs as nested loops, for other devices as straight code, either with two outputs. XLA fuses
    the hash into each reader of each output, anew every time; a program of the loop draws at some sixty places, and
    compiling them takes most of its compile time. Here the hash is straight code, and its two outputs are one array,
    so that it is fused half as often. Where JAX does not offer the straight code under this name, its loops stay.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from functools import partial

        from jax._src.interpreters import mlir
        from jax._src.random import threefry2x32

        straight = partial(threefry2x32._threefry2x32_lowering, use_rolled_loops=False)
        lowering = mlir.lower_fun(partial(_in_one_array, straight), multiple_results=True)
        mlir.register_lowering(threefry2x32.threefry2x32_p, lowering, platform="cpu")


def _in_one_array(hashed: Callable, *words: Array) -> tuple[Array, Array]:
    """Both outputs of `hashed`, which works elementwise on two keys and two counts, from one array of both."""
    import jax.numpy as jnp
    from jax import lax

    shape = jnp.broadcast_shapes(*(each.shape for each in words))
    axes = tuple(range(1, len(shape) + 1))
    twice = [lax.broadcast_in_dim(jnp.broadcast_to(each, shape), (2, *shape), axes) for each in words]
    first, second = hashed(*twice)
    both = lax.select(lax.broadcasted_iota(jnp.uint32, (2, *shape), 0) == jnp.uint32(0), first, second)
    return lax.index_in_dim(both, 0, keepdims=False), lax.index_in_dim(both, 1, keepdims=False)


def compile_sooner() -> None:
    """Ask XLA for its older way of emitting fused loops on a CPU: small float64 programs compile in half of the time
    and run as fast. For a process that is ours and has not begun to compile; large float32 ones run slower with it.

    An XLA that does not know a flag ends the process, so only versions known to know it are asked.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if version("jaxlib").startswith(KNOWN_JAXLIB) and EMITTERS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{EMITTERS}=false".strip()


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
