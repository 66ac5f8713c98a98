"""Strictness for every test: no silent promotion of types or ranks."""

import jax

from mbpo.core.threads import size_thread_pools

size_thread_pools()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
