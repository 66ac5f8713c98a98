"""Strictness for every test: no silent promotion of types or ranks. Programs compiled once serve every process."""

import os
import tempfile

import jax
import pytest

from mbpo.core.threads import compile_sooner, size_thread_pools

CACHE = "MBPO_TEST_COMPILED"

size_thread_pools()
compile_sooner()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """The first process makes a directory for compiled programs, which the others inherit."""
    if CACHE not in os.environ:
        directory = tempfile.TemporaryDirectory(prefix="mbpo-compiled-")
        config.add_cleanup(directory.cleanup)
        os.environ[CACHE] = directory.name
    jax.config.update("jax_compilation_cache_dir", os.environ[CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Each program on the CPU holds memory maps, of which a process may have 65,530: beyond, compiling crashes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def _compile_without_optimising():
    """For modules whose programs take longer to compile than to run, and which compare no bits across programs."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
