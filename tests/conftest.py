"""Strictness for every test: no silent promotion of types or ranks."""

import jax
import pytest

from mbpo.core.threads import size_thread_pools

size_thread_pools()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Each program on the CPU holds memory maps, of which a process may have 65,530: beyond, compiling crashes."""
    yield
    jax.clear_caches()
