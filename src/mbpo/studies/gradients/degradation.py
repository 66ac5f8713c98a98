"""How every estimator degrades: with the length of the trajectories, with less exploration, with the distance between
the policy that acted and the one that is improved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbpo.core.precision import double_precision
from mbpo.errors import InputError
from mbpo.lqr import exact
from mbpo.lqr.gradients import ESTIMATORS
from mbpo.lqr.optimum import default_gain, solve
from mbpo.lqr.ratio_radii import RatioPath, path
from mbpo.studies.gradients.bench import bench
from mbpo.studies.gradients.measured import Bench, Measured
from mbpo.studies.gradients.setting import BenchSetting

EPISODES = 4000
LENGTHS = (5, 10, 20, 40)
EXPLORATIONS = (0.1, 0.3, 1.0, 3.0)  # standard deviation, relative to the setting's
DISTANCES = (0.25, 0.5, 1.0, 2.0, 4.0)  # |K - K_b|, relative to the setting's
POINTS = 40
NAMES = tuple(name for name in ESTIMATORS if name != "known")


@dataclass(frozen=True, eq=False)
class Sweep:
    """One axis: its values, and for each estimator what was measured at each of them (None where the behaviour does not
    stabilise the system)."""

    axis: str
    values: list[float]
    measured: dict[str, list[Measured | None]]

    def to_json(self) -> dict[str, Any]:
        """Numbers only."""
        fields = (
            "relative_std",
            "relative_error",
            "relative_bias",
            "effective_sample_fraction",
            "exact_fraction",
        )
        return {
            "values": self.values,
            "estimators": {
                name: {field: [_number(each, field) for each in row] for field in fields}
                for name, row in self.measured.items()
            },
        }


def _number(measured: Measured | None, field: str) -> float | None:
    if measured is None:
        return None
    if field == "effective_sample_fraction":
        return measured.effective_fraction
    return measured.relative_bias if field == "relative_bias" else getattr(measured, field)


@double_precision
def degradation(
    setting: BenchSetting, seed: int, progress: Callable[[str], None] = lambda what: None
) -> list[Sweep]:
    """The three sweeps, on `EPISODES` trajectories each; `progress` is told each point as it is done."""
    return [
        _sweep("horizon", _lengths(setting), seed, progress),
        _sweep("exploration", _explorations(setting), seed, progress),
        _sweep("distance", _distances(setting), seed, progress),
    ]


def points() -> int:
    """How many points there are in all."""
    return len(LENGTHS) + len(EXPLORATIONS) + len(DISTANCES)


def _sweep(
    axis: str, settings: list[tuple[float, BenchSetting | None]], seed: int, progress: Callable[[str], None]
) -> Sweep:
    rows: dict[str, list[Measured | None]] = {name: [] for name in NAMES}
    for value, setting in settings:
        done: Bench | None = None if setting is None else bench(setting, EPISODES, seed, NAMES)
        for at, name in enumerate(NAMES):
            rows[name].append(None if done is None else done.estimators[at])
        progress(f"{axis} {value:.3g}")
    return Sweep(axis, [value for value, _ in settings], rows)


def _lengths(setting: BenchSetting) -> list[tuple[float, BenchSetting | None]]:
    def at(steps: int) -> BenchSetting:
        system = setting.system
        if system.horizon is not None:
            system = dataclasses.replace(system, horizon=steps)
        return dataclasses.replace(setting, system=system, steps=steps)

    return [(float(steps), at(steps)) for steps in LENGTHS]


def _explorations(setting: BenchSetting) -> list[tuple[float, BenchSetting | None]]:
    sigma = float(np.sqrt(np.trace(setting.exploration) / len(setting.exploration)))
    return [
        (factor * sigma, dataclasses.replace(setting, exploration=factor**2 * setting.exploration))
        for factor in EXPLORATIONS
    ]


def _distances(setting: BenchSetting) -> list[tuple[float, BenchSetting | None]]:
    away = setting.behaviour_gain - setting.gain
    size = float(np.linalg.norm(away))

    def at(factor: float) -> BenchSetting | None:
        behaviour = setting.gain + factor * away
        stable = bool(exact.is_stabilising(setting.system, behaviour))
        return dataclasses.replace(setting, behaviour_gain=behaviour) if stable else None

    return [(factor * size, at(factor)) for factor in DISTANCES]


@double_precision
def ratio_path(setting: BenchSetting) -> RatioPath | None:
    """How far a target may be from the policy that acted, on the way from the first gain to the optimal one; None where
    the two coincide. About one stretch of T steps: the restarts of a discount are left out.
    """
    system = setting.system
    try:
        first, best = default_gain(system), solve(system).gain
    except InputError:
        return None
    if np.allclose(first, best, rtol=1e-9, atol=1e-12):
        return None
    start = "initial" if system.horizon is not None else "stationary"
    return path(system, first, best, setting.exploration, setting.steps, POINTS, start)
