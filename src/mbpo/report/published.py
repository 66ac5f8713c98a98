"""Published learning curves, with what they were measured on.

`published_curves.csv`: way-points averaged out of result files that authors made public, not out of a paper's table.
Returns are comparable only between like versions of an environment.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

CAUTION = "Returns are comparable only between like versions of an environment."
HUMANOID_FLAGS = (
    "include_cinert_in_observation",
    "include_cvel_in_observation",
    "include_qfrc_actuator_in_observation",
    "include_cfrc_ext_in_observation",
)


@dataclass(frozen=True, eq=False)
class Series:
    """One method on one task, averaged over `seeds`: real steps, mean and standard deviation `[r]`, NaN where there is
    one seed."""

    family: str
    version: str
    method: str
    seeds: int
    source: str
    note: str
    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def until(self, limit: float) -> tuple[np.ndarray, np.ndarray]:
        """Steps and means up to `limit`, the last one interpolated; empty when the curve begins later."""
        if limit < self.steps[0]:
            return self.steps[:0], self.mean[:0]
        end = min(float(limit), float(self.steps[-1]))
        kept, last = self.steps < end, np.interp(end, self.steps, self.mean)
        return np.append(self.steps[kept], end), np.append(self.mean[kept], last)

    def at(self, step: float) -> float | None:
        """The mean at a real step, interpolated; None outside the curve."""
        if not self.steps[0] <= step <= self.steps[-1]:
            return None
        return float(np.interp(step, self.steps, self.mean))


def published(family: str) -> list[Series]:
    """The published curves of a task family such as `Hopper`, MBPO first; none for a task without any."""
    return [each for each in _every() if each.family == family]


def unlike(series: Series, environment: str, options: Mapping[str, Any]) -> str:
    """How the task of `series` differs from `environment` with `options`, as far as is known; "" where it does not."""
    if series.family == "Walker2d":
        own_body = environment.endswith("-v5") and not str(options.get("xml_file", "")).endswith(
            "walker2d.xml"
        )
        return (
            "there both feet have friction 0.9, here one has 1.9 (xml_file=walker2d.xml)" if own_body else ""
        )
    seen = observations(series.family, environment, options)
    if seen is None or f"({seen} observations)" in series.version:
        return ""
    if seen == 348 and "(376 observations)" in series.version:  # v5 leaves constant zeros out
        return ""
    return f"{series.version}, here {seen} observations"


def observations(family: str, environment: str, options: Mapping[str, Any]) -> int | None:
    """The number of observations of an Ant or a Humanoid, the tasks whose variants differ in it."""
    newest = environment.endswith("-v5")
    if family == "Ant":
        return 27 if not newest or options.get("include_cfrc_ext_in_observation") is False else 105
    if family == "Humanoid":
        few = all(options.get(flag) is False for flag in HUMANOID_FLAGS)
        return 45 if few else 348 if newest else 376
    return None


@cache
def _every() -> tuple[Series, ...]:
    """Every curve in the order of the file."""
    text = files("mbpo.report").joinpath("published_curves.csv").read_text(encoding="utf-8")
    rows: dict[tuple[str, ...], list[tuple[float, float, float]]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = tuple(row[name] for name in ("env", "version", "method", "seeds", "source", "note"))
        point = float(row["steps"]), float(row["mean"]), float(row["std"] or "nan")
        rows.setdefault(key, []).append(point)
    found = []
    for (env, version, method, seeds, source, note), points in rows.items():
        found.append(Series(env, version, method, int(seeds), source, note, *np.array(points).T))
    return tuple(found)
