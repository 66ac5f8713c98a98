"""The one place that decides on floating-point width.

The linear-quadratic world computes in float64 and the deep world in float32, whichever way JAX's process-wide 64-bit
switch stands. An entry point of `mbpo.lqr` is decorated with `double_precision`; everything it calls is traced and run
with 64-bit types, and what it returns is float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def double_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run `function` with JAX's 64-bit types switched on, whatever the process-wide switch says."""

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapped


def product(a: Float[Array, "*rows k"], b: Float[Array, "k *columns"]) -> Float[Array, "*rows *columns"]:
    """a @ b in the width of its numbers, which accelerators round by default (to TF32 or bfloat16) to multiply them."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
