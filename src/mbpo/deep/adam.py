"""Adam (Kingma and Ba 2015) with optax's defaults: moments 0.9 and 0.999, epsilon 1e-8."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import jax
import optax

Parameters = TypeVar("Parameters")


def init(parameters: Any) -> Any:
    """The optimiser's state before the first step."""
    return optax.adam(0.0).init(parameters)


def step(
    gradient: Parameters, optimiser: Any, parameters: Parameters, learning_rate: float
) -> tuple[Parameters, Any]:
    """The parameters and the optimiser's state after one step down `gradient`."""
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        change, optimiser = optax.adam(learning_rate).update(cast(Any, gradient), optimiser)
        return cast(Parameters, optax.apply_updates(cast(Any, parameters), change)), optimiser
