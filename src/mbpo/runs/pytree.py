"""A JAX pytree as named NumPy arrays and back, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from mbpo.errors import InputError

Tree = TypeVar("Tree")
WIDE = (np.int64, np.uint64, np.float64, np.complex128)
KEY_IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Every array and number in `tree` by its path, such as `.critic['weight'][0]`; a PRNG key as its data.

    A typed key's name ends in `#` and its implementation. Functions (an activation in a module) and None are
    structure and have no array. On the CPU the arrays share the tree's memory: write them before changing it.
    Raises `TypeError` for any other leaf.
    """
    import jax

    found: dict[str, np.ndarray] = {}
    for name, leaf in _named_leaves(tree):
        if name in found:
            raise TypeError(f"two leaves are both named {name}")
        if callable(leaf):
            continue
        array = np.asarray(jax.random.key_data(leaf) if _key_implementation(leaf) else leaf)
        if array.dtype.hasobject or array.dtype.kind in "US":
            raise TypeError(f"{name or 'the tree'} is a {type(leaf).__name__}, expected an array or a number")
        found[name] = array
    return found


def restore(example_tree: Tree, arrays: Mapping[str, np.ndarray], source: str = "the checkpoint") -> Tree:
    """The tree of `example_tree`'s structure and kinds of leaf that holds `arrays`; nothing is shared with them.

    A JAX leaf (or a `jax.ShapeDtypeStruct`) becomes a JAX array on the default device, of the same dtype
    whichever way the 64-bit switch stands, and as weakly typed as the example. Functions are the example's.
    Raises `InputError` naming `source` and the first leaf whose name, shape or dtype differs.
    """
    import jax

    leaves, used = [], set()
    for name, leaf in _named_leaves(example_tree):
        if callable(leaf):
            leaves.append(leaf)
            continue
        if name not in arrays:
            raise InputError(f"{source} has no array {name!r}, which this run needs")
        _check(name, arrays[name], leaf, source)
        leaves.append(_like(leaf, arrays[name]))
        used.add(name)
    for name in arrays:
        if name not in used:
            raise InputError(f"{source} has an array {name!r}, which this run has no place for")
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(example_tree), leaves)


def _named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    import jax

    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        implementation = _key_implementation(leaf)
        name = jax.tree_util.keystr(path)
        yield (f"{name}#{implementation}" if implementation else name), leaf


def _key_implementation(leaf: Any) -> str | None:
    """The implementation of a typed PRNG key or of its `jax.ShapeDtypeStruct`; `None` for anything else."""
    import jax

    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        return None
    for name in KEY_IMPLEMENTATIONS:
        if jax.eval_shape(lambda name=name: jax.random.key(0, impl=name)).dtype == dtype:
            return name
    raise TypeError(f"{dtype} is not one of JAX's own PRNG keys: {', '.join(KEY_IMPLEMENTATIONS)}")


def _check(name: str, array: np.ndarray, leaf: Any, source: str) -> None:
    import jax

    if _key_implementation(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    elif not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
        raise InputError(
            f"{source}'s {name or 'array'} is {array.dtype} {list(array.shape)}, "
            f"expected {leaf.dtype} {list(leaf.shape)}"
        )


def _like(leaf: Any, array: np.ndarray) -> Any:
    """`array`, copied, as the kind of value that `leaf` is."""
    import jax

    if isinstance(leaf, np.generic):
        return array[()]
    if isinstance(leaf, np.ndarray):
        return array.copy()
    if not hasattr(leaf, "dtype"):
        return type(leaf)(array.item())
    implementation = _key_implementation(leaf)
    with jax.enable_x64(implementation is None and leaf.dtype in WIDE):
        if implementation:
            made = jax.random.wrap_key_data(jax.numpy.array(array), impl=implementation)
        elif leaf.weak_type:
            made = jax.lax.full(leaf.shape, array.dtype.type(0).item()).at[...].set(array)
        else:
            made = jax.numpy.array(array)
    return made.block_until_ready()  # the copy runs on its own otherwise, and sees a later change of `array`
