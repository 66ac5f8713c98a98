from typing import Any, NamedTuple

import equinox as eqx
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbpo.errors import InputError
from mbpo.runs.checkpoint import flatten, read_checkpoint, restore, write_checkpoint
from mbpo.runs.tensors import CODES


class State(NamedTuple):
    clock: Any
    extra: Any


def numpy_arrays(dtypes):
    def of(shape, dtype, seed):
        size = int(np.prod(shape)) * dtype.itemsize
        raw = np.random.default_rng(seed).integers(0, 2 if dtype.kind == "b" else 256, size, np.uint8)
        return raw.view(dtype).reshape(shape)

    return st.builds(
        of, hnp.array_shapes(min_dims=0, min_side=0), st.sampled_from(dtypes), st.integers(0, 99)
    )


def on_device(array):
    with jax.enable_x64(True):
        return jnp.array(array)


HOST = numpy_arrays(list(CODES))
LEAVES = st.one_of(
    HOST,
    numpy_arrays([each for each in CODES if each != np.complex64]).map(on_device),
    st.builds(lambda array: array.reshape(-1)[0] if array.size else np.float32(1), HOST),
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(),
    st.builds(
        lambda seed, impl: jax.random.key(seed, impl=impl),
        st.integers(0, 9),
        st.sampled_from(["threefry2x32", "rbg", "unsafe_rbg"]),
    ),
    st.sampled_from([jnp.asarray(1.5), jnp.asarray(2), jnp.broadcast_to(jnp.asarray(-0.0), (2,))]),  # weak
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=3)
        | st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.builds(State, inner, inner)
    ),
    max_leaves=8,
)


def bits(leaf):
    """Everything that tells one leaf from another."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
    array = np.asarray(leaf)
    return type(leaf), array.dtype, array.shape, array.tobytes(), getattr(leaf, "weak_type", None)


def blank(leaf):
    """A leaf of the same kind with other content."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(123, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, (np.ndarray, np.generic)):
        return np.zeros_like(leaf)[()] if isinstance(leaf, np.generic) else np.zeros_like(leaf)
    if isinstance(leaf, jax.Array):
        with jax.enable_x64(True):
            return jax.lax.full_like(leaf, 0)
    return type(leaf)(0)


@settings(max_examples=120, deadline=None)
@given(TREES)
def test_a_tree_comes_back_bit_for_bit_into_one_with_other_content(tree):
    back = restore(jax.tree.map(blank, tree), flatten(tree))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert [bits(a) for a in jax.tree.leaves(back)] == [bits(b) for b in jax.tree.leaves(tree)]


@settings(max_examples=25, deadline=None)
@given(TREES)
def test_a_tree_comes_back_bit_for_bit_from_the_disk(tmp_path_factory, tree):
    run, arrays = tmp_path_factory.mktemp("run"), flatten(tree)
    write_checkpoint(run, 3, arrays, {}, allow_nonfinite=arrays)
    found = read_checkpoint(run)
    assert found is not None
    back = restore(jax.tree.map(blank, tree), found.arrays)
    assert [bits(a) for a in jax.tree.leaves(back)] == [bits(b) for b in jax.tree.leaves(tree)]


def test_an_equinox_module_comes_back_with_the_example_s_activation():
    made = eqx.nn.MLP(3, 2, 4, 2, activation=jnp.tanh, key=jax.random.key(0))
    example = eqx.nn.MLP(3, 2, 4, 2, activation=jnp.tanh, key=jax.random.key(1))
    arrays = flatten(made)
    assert set(arrays) == {f".layers[{i}].{name}" for i in range(3) for name in ("weight", "bias")}
    back = restore(example, arrays)
    assert eqx.tree_equal(back, made)
    assert not eqx.tree_equal(back, example)


def test_shapes_alone_are_example_enough():
    def make():
        return {"key": jax.random.key(7), "weak": jnp.asarray(2.5), "x": jnp.arange(3.0)}

    back = restore(jax.eval_shape(make), flatten(make()))
    assert [bits(a) for a in jax.tree.leaves(back)] == [bits(b) for b in jax.tree.leaves(make())]


def test_a_restored_tree_shares_no_memory_with_the_arrays():
    memory = np.zeros((1 << 18) + 32, np.float32)
    aligned = -memory.ctypes.data % 64 // 4  # JAX borrows memory that starts at a multiple of 64
    for start in (aligned, aligned + 1):
        memory[:] = 0
        shared = memory[start : start + (1 << 18)]
        back = restore(
            {"a": jnp.ones(1 << 18), "b": np.ones(1 << 18, np.float32)}, {"['a']": shared, "['b']": shared}
        )
        memory[:] = 5
        assert float(back["a"].max()) == 0.0
        assert back["b"].max() == 0.0


def test_a_resumed_program_does_not_compile_again():
    traces = []

    @jax.jit
    def step(state):
        traces.append(1)
        return jax.tree.map(lambda leaf: leaf * 2, state)

    state = {"weak": jnp.asarray(1.0), "strong": jnp.ones(2, jnp.float32)}
    step(state)
    step(restore(state, flatten(state)))
    assert len(traces) == 1


EXAMPLE = State({"w": jnp.zeros((3, 2))}, jax.random.key(0))


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        (
            State({"w": jnp.zeros((3, 4))}, jax.random.key(0)),
            "the checkpoint's .clock['w'] is float32 [3, 4], expected float32 [3, 2]",
        ),
        (
            State({"w": jnp.zeros((3, 2), jnp.int32)}, jax.random.key(0)),
            "the checkpoint's .clock['w'] is int32 [3, 2], expected float32 [3, 2]",
        ),
        (
            State({"v": jnp.zeros((3, 2))}, jax.random.key(0)),
            "the checkpoint has no array \".clock['w']\", which this run needs",
        ),
        (
            State({"w": jnp.zeros((3, 2))}, jax.random.key(0, impl="rbg")),
            "the checkpoint has no array '.extra#threefry2x32', which this run needs",
        ),
        (
            State({"v": jnp.zeros(1), "w": jnp.zeros((3, 2))}, jax.random.key(0)),
            "the checkpoint has an array \".clock['v']\", which this run has no place for",
        ),
        (
            State({"w": jnp.zeros((3, 2))}, jax.random.split(jax.random.key(0))),
            "the checkpoint's .extra#threefry2x32 is uint32 [2, 2], expected uint32 [2]",
        ),
    ],
)
def test_the_first_difference_is_one_sentence(tree, sentence):
    with pytest.raises(InputError) as caught:
        restore(EXAMPLE, flatten(tree))
    assert str(caught.value) == sentence


@pytest.mark.parametrize("leaf", ["text", np.array(["a"]), object(), 2**70, {1, 2}])
def test_a_leaf_that_is_no_number_is_refused(leaf):
    with pytest.raises(TypeError, match=r"\['a'\] is a .*, expected an array or a number"):
        flatten({"a": leaf})
