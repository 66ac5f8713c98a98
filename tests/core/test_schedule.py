"""Schedules against numpy.interp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbpo.core.schedule import Linear, constant

numbers = st.integers(-1000, 1000)


@settings(max_examples=100, deadline=None)
@given(
    first=numbers, last=numbers, start=st.integers(0, 500), span=st.integers(1, 500), at=st.integers(0, 1500)
)
def test_linear_is_interpolation(first, last, start, span, at):
    schedule = Linear(*(jnp.asarray(float(value)) for value in (first, last, start, start + span)))
    expected = np.interp(at, [start, start + span], [first, last])
    np.testing.assert_allclose(schedule(jnp.int32(at)), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("at", [0, 1, 10_000_000])
def test_constant_never_moves(at):
    assert float(constant(3.5)(jnp.int32(at))) == 3.5


def test_a_step_without_a_span_jumps():
    schedule = Linear(*(jnp.asarray(value) for value in (1.0, 5.0, 20.0, 20.0)))
    assert [float(schedule(jnp.int32(at))) for at in (0, 20, 21, 99)] == [1.0, 1.0, 5.0, 5.0]


def test_width_follows_the_switch():
    assert constant(1.0)(jnp.int32(3)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert constant(1.0)(jnp.int32(3)).dtype == jnp.float64
