"""A finished run in memory: plain NumPy, read without JAX."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbpo.lqr.system import LinearQuadratic
from mbpo.lqr.toml_file import from_table

OPTIONAL_ARRAYS = ("model_error", "real_rollout", "imagined_rollout")
REQUIRED_ARRAYS = (
    "transitions",
    "gains",
    "excess_cost",
    "realised_ratio",
    "cuts",
    "imagined",
    "limit",
    "limit_curve",
    "initial_gain",
    "exploration",
    "optimal_gain",
    "optimal_value",
    "optimal_cost",
)


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One algorithm trained on one system with S seeds, recorded after r rounds.

    Shapes: `transitions`, `limit_curve` `[r]`; `gains` `[S, r, m, n]`; `excess_cost`, `model_error`,
    `realised_ratio`, `cuts`, `imagined` `[S, r]`; `initial_gain`, `optimal_gain` `[m, n]`; `exploration`
    `[m, m]`; `optimal_value` `[n, n]`; `real_rollout`, `imagined_rollout` `[T, n]`. `excess_cost` is
    relative, J / J* - 1, and +inf where the gain does not stabilise.
    """

    directory: Path
    system: LinearQuadratic
    settings: dict[str, Any]
    command: list[str]
    versions: dict[str, str]
    platform: str
    devices: list[str]
    result: dict[str, Any]
    transitions: np.ndarray
    gains: np.ndarray
    excess_cost: np.ndarray
    realised_ratio: np.ndarray
    cuts: np.ndarray
    imagined: np.ndarray
    limit: float
    limit_curve: np.ndarray
    initial_gain: np.ndarray
    exploration: np.ndarray
    optimal_gain: np.ndarray
    optimal_value: np.ndarray
    optimal_cost: float
    model_error: np.ndarray | None
    real_rollout: np.ndarray | None
    imagined_rollout: np.ndarray | None

    @property
    def algorithm(self) -> str:
        """The algorithm's name."""
        return self.settings["algorithm"]

    @property
    def name(self) -> str:
        """The algorithm, and after a colon the gradient estimator where another than its own was asked for."""
        improve = self.settings.get("improve")
        return f"{self.algorithm}:{improve}" if improve else self.algorithm

    @property
    def seeds(self) -> int:
        """The number S of seeds."""
        return self.excess_cost.shape[0]

    @property
    def unstable(self) -> int:
        """How many seeds end with a gain that does not stabilise."""
        return int((~np.isfinite(self.excess_cost[:, -1])).sum())


def record_from_arrays(
    directory: Path, config: Mapping[str, Any], result: dict[str, Any], arrays: Mapping[str, np.ndarray]
) -> RunRecord:
    """The record of a config, a result and the arrays of one run; raises `KeyError` for a missing part."""
    scalars = {name: float(arrays[name]) for name in ("limit", "optimal_cost")}
    named: dict[str, Any] = {name: arrays[name] for name in REQUIRED_ARRAYS} | scalars
    named |= {name: arrays.get(name) for name in OPTIONAL_ARRAYS}
    return RunRecord(
        directory=directory,
        system=from_table(tomllib.loads(config["system"]), str(directory / "config.json"), "system"),
        settings=config["settings"],
        command=config["command"],
        versions=config["versions"],
        platform=config["platform"],
        devices=config["devices"],
        result=result,
        **named,
    )
