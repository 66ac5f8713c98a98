"""The state of a run as named arrays, and back: rings without their unused places, the running episode's actions."""

from __future__ import annotations

import jax
import numpy as np

from mbpo.core.buffer import Ring
from mbpo.core.host_loop import Episode
from mbpo.core.loop import RunState
from mbpo.runs.checkpoint import flatten, restore

ACTIONS, OBSERVATION = "episode_actions", "episode_observation"


def packed(state: RunState, episode: Episode) -> dict[str, np.ndarray]:
    """Every array of `state`, rings without their unused places, and the actions of the running episode."""
    arrays = flatten(state._replace(real=_filled(state.real), imagined=_filled(state.imagined)))
    size = state.real.data.action.shape[1]
    arrays[ACTIONS] = np.array(episode.actions, np.float32).reshape(-1, size)
    arrays[OBSERVATION] = np.asarray(episode.observation)
    return arrays


def _filled(ring: Ring) -> Ring:
    return ring._replace(data=jax.tree.map(lambda leaf: np.asarray(leaf)[: int(ring.size)], ring.data))


def unpacked(example: RunState, arrays: dict[str, np.ndarray], number: int) -> tuple[RunState, Episode]:
    """The state of `example`'s shapes (which may be shapes alone) that `packed` wrote, and its episode `number`."""
    episode = Episode(number, tuple(arrays.pop(ACTIONS)), arrays.pop(OBSERVATION))
    rings = {}
    for name in ("real", "imagined"):
        size = int(arrays[f".{name}.size"])
        ring: Ring = getattr(example, name)
        shapes = jax.tree.map(
            lambda leaf, size=size: jax.ShapeDtypeStruct(
                (size, *leaf.shape[1:]), leaf.dtype, weak_type=False
            ),
            ring.data,
        )
        rings[name] = ring._replace(data=shapes)
    state = restore(example._replace(**rings), arrays)
    for name in rings:
        ring, full = getattr(state, name), getattr(example, name)
        state = state._replace(**{name: ring._replace(data=jax.tree.map(_widened, full.data, ring.data))})
    return state, episode


def _widened(full: jax.ShapeDtypeStruct, part: jax.Array) -> jax.Array:
    whole = np.zeros(full.shape, full.dtype)
    whole[: part.shape[0]] = part
    return jax.numpy.asarray(whole)
