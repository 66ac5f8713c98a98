"""What a deep run is worth looking at for: its model against fresh real episodes, its critics against real returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from mbpo.core.buffer import Ring
from mbpo.core.parts import Agent, FittedModel, HostEnvironment
from mbpo.deep.ensemble import Ensemble
from mbpo.deep.model_error import calibration, errors_by_depth
from mbpo.deep.recorded import STREAM, Recorded, gather
from mbpo.deep.value_error import critic_bias_in_imagination, critic_bias_in_reality, exploitation


class Extent(NamedTuple):
    """How much is looked at; another extent compiles anew, another episode length does not.

    episodes, mean_episodes: of the exploring and of the mean policy, of at most `longest` steps; depth: open-loop
    steps, from depth_starts states; calibration_rows: real transitions; horizon: steps of the exploitation gap, from
    gap_starts states; imagined_rows: of the imagined ring, each followed by as many steps as bring discount^n below
    tail, but not at all when those are more than most_steps.
    """

    episodes: int = 3
    mean_episodes: int = 2
    longest: int = 1000
    depth: int = 20
    depth_starts: int = 64
    calibration_rows: int = 1024
    horizon: int = 100
    gap_starts: int = 32
    imagined_rows: int = 64
    tail: float = 0.05
    most_steps: int = 600


EXTENT = Extent()


def diagnose(
    environment: HostEnvironment,
    model: FittedModel | None,
    agent: Agent,
    policy: Any,
    imagined: Ring | None,
    seed: int,
    extent: Extent = EXTENT,
) -> dict[str, Any]:
    """Plain numbers about `model` and `policy` from episodes in `environment`, which must be nobody else's.

    The same arguments give the same numbers, and no stream of a run is drawn from. See `examine` for what is in it.
    """
    exploring = gather(environment, agent, policy, extent.episodes, extent.longest, seed)
    steady = gather(environment, agent, policy, extent.mean_episodes, extent.longest, seed, noise=False)
    return examine(exploring, steady, model, agent, policy, imagined, seed, extent)


def examine(
    exploring: Recorded,
    steady: Recorded,
    model: FittedModel | None,
    agent: Agent,
    policy: Any,
    imagined: Ring | None,
    seed: int,
    extent: Extent = EXTENT,
) -> dict[str, Any]:
    """The same from episodes of the exploring and of the mean policy that are there already.

    `real_steps`; `critic_real` (`critic_bias_in_reality`); and, None without a model, `model_error`
    (`errors_by_depth`), `calibration` (of an `Ensemble`), `exploitation` and `critic_imagined`
    (`critic_bias_in_imagination`). Any number that cannot be told is None.
    """
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), STREAM), 4)
    found: dict[str, Any] = {
        "real_steps": int(exploring.lengths.sum() + steady.lengths.sum()),
        "critic_real": critic_bias_in_reality(agent, policy, exploring, extent.tail, keys[0]),
        **dict.fromkeys(("model_error", "calibration", "exploitation", "critic_imagined")),
    }
    if model is None:
        return found
    found["model_error"] = errors_by_depth(model, exploring, extent.depth, extent.depth_starts, keys[1])
    if isinstance(model.part, Ensemble):
        found["calibration"] = calibration(model.part, model.state, exploring, extent.calibration_rows)
    found["exploitation"] = exploitation(
        model, agent, policy, steady, extent.horizon, extent.gap_starts, keys[2]
    )
    if imagined is not None:
        rows, tail, most = extent.imagined_rows, extent.tail, extent.most_steps
        found["critic_imagined"] = critic_bias_in_imagination(
            model, agent, policy, imagined, rows, tail, most, keys[3]
        )
    return found
