"""Fully connected networks as plain pytrees, one network or a stack of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from mbpo.core.precision import product

Activation = Callable[[Array], Array]


class Dense(NamedTuple):
    """An affine layer x W + b: weight `[*stack, in, out]`, bias `[*stack, out]`."""

    weight: Float[Array, "*stack i o"]
    bias: Float[Array, "*stack o"]


Layers = tuple[Dense, ...]


def glorot(key: PRNGKeyArray, fan_in: int, fan_out: int) -> Float[Array, "i o"]:
    """Uniform on +-sqrt(6 / (in + out)) (Glorot and Bengio 2010)."""
    bound = (6.0 / (fan_in + fan_out)) ** 0.5
    return jax.random.uniform(key, (fan_in, fan_out), jnp.float32, -bound, bound)


def truncated(key: PRNGKeyArray, fan_in: int, fan_out: int) -> Float[Array, "i o"]:
    """Normal with standard deviation 1 / (2 sqrt(in)), cut at two of them."""
    return jax.random.truncated_normal(key, -2.0, 2.0, (fan_in, fan_out), jnp.float32) / (2 * fan_in**0.5)


def lecun(key: PRNGKeyArray, fan_in: int, fan_out: int) -> Float[Array, "i o"]:
    """Normal, cut at two of its standard deviations, with variance 1 / in after the cut (LeCun et al. 1998)."""
    return jax.nn.initializers.lecun_normal()(key, (fan_in, fan_out), jnp.float32)


def orthogonal(key: PRNGKeyArray, fan_in: int, fan_out: int) -> Float[Array, "i o"]:
    """A random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014)."""
    return jax.nn.initializers.orthogonal()(key, (fan_in, fan_out), jnp.float32)


def layer_norm(x: Float[Array, "*rows i"], epsilon: float) -> Float[Array, "*rows i"]:
    """(x - mean) / sqrt(variance + epsilon) over the last axis (Ba et al. 2016), without scale and shift; a large
    epsilon leaves small inputs as they are."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)


def init_layers(
    key: PRNGKeyArray, sizes: Sequence[int], draw: Callable[[PRNGKeyArray, int, int], Array]
) -> Layers:
    """Layers between the given sizes, weights from `draw`, biases zero."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return tuple(Dense(draw(k, i, o), jnp.zeros(o, jnp.float32)) for k, i, o in pairs)


def forward(
    layers: Layers,
    x: Float[Array, "*stack B i"],
    activation: Activation,
    norms: Sequence[float] = (),
    masks: Sequence[Float[Array, "*stack B o"]] = (),
) -> Float[Array, "*stack B o"]:
    """The output of every network of the stack on its own batch; the last layer is affine.

    norms: epsilon of a `layer_norm` after each hidden layer, or none; masks: factors on each hidden layer's output
    before it, or none. A stack is taken apart first: on a CPU separate products are faster than one batched product
    of the same work.
    """
    if layers[0].weight.ndim == 2:
        return _one(layers, x, activation, norms, masks)
    count = layers[0].weight.shape[0]
    ones = [1] * count
    apart = [[jax.lax.split(leaf, ones) for leaf in layer] for layer in layers]
    rows = jax.lax.split(x, ones)
    factors = [jax.lax.split(mask, ones) for mask in masks]
    networks = [tuple(Dense(weight[i][0], bias[i][0]) for weight, bias in apart) for i in range(count)]
    outputs = [
        _one(network, rows[i][0], activation, norms, [factor[i][0] for factor in factors])
        for i, network in enumerate(networks)
    ]
    return jnp.stack(outputs)


def _one(
    layers: Layers,
    x: Float[Array, "B i"],
    activation: Activation,
    norms: Sequence[float],
    masks: Sequence[Float[Array, "B o"]],
) -> Float[Array, "B o"]:
    for number, layer in enumerate(layers[:-1]):
        x = activation(product(x, layer.weight) + layer.bias[None])
        x = x * masks[number] if masks else x
        x = layer_norm(x, norms[number]) if norms else x
    last = layers[-1]
    return product(x, last.weight) + last.bias[None]
