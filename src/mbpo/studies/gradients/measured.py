"""What a bench finds: numbers, and their JSON form."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbpo.studies.gradients.setting import BenchSetting


@dataclass(frozen=True, eq=False)
class Measured:
    """What one estimator did. Arrays [m, n]; numbers that do not exist are None.

    unbiased: None where its mean is the gradient but the variance of its weights is too large for N trajectories to
    show it; note: when it is unbiased, or why not; expected: its mean in closed form, None where there is none; max_z:
    of the mean against the exact gradient, max_z_expected against `expected`; relative_bias: |expected - gradient| over
    |gradient|, where `expected` is unknown what of relative_error noise does not explain; relative_std: of one
    trajectory, over |gradient|;
    effective_fraction: the least over the steps of (sum w)^2 / (N sum w^2); exact_fraction: its limit for many
    trajectories, the least over the steps of 1 / E w_t^2, restarts included; natural_error,
    gauss_newton_error: of the natural gradient and the Gauss-Newton step made from the mean.
    """

    name: str
    summary: str
    data: str
    unbiased: bool | None
    note: str
    mean: np.ndarray
    standard_error: np.ndarray
    expected: np.ndarray | None
    relative_error: float | None
    max_z: float
    max_z_expected: float | None
    relative_bias: float | None
    relative_std: float | None
    cosine: float | None
    effective_fraction: float
    exact_fraction: float | None
    transitions_to_10_percent: float | None
    natural_error: float | None
    gauss_newton_error: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        fields = dataclasses.asdict(self)
        fields["effective_sample_fraction"] = fields.pop("effective_fraction")
        fields["closed_form_mean"] = fields.pop("expected")
        fields["max_z_closed_form"] = fields.pop("max_z_expected")
        return fields


@dataclass(frozen=True, eq=False)
class Bench:
    """All estimators in one setting; `threshold`: the |z| that unbiased estimators stay below together with probability
    1 - ALPHA; radius: |U| of the perturbed gains."""

    setting: BenchSetting
    episodes: int
    seed: int
    exact_gradient: np.ndarray
    cost: float
    threshold: float
    radius: float
    log_weight_moment: float
    estimators: list[Measured]

    def to_json(self) -> dict[str, Any]:
        """The contract of `mbpo gradients --json`; numbers that are not finite become null when printed."""
        setting = self.setting
        return {
            "system": setting.system.name,
            "objective": setting.system.objective,
            "horizon": setting.system.horizon,
            "discount": setting.system.discount,
            "steps": setting.steps,
            "episodes": self.episodes,
            "seed": self.seed,
            "gain": setting.gain,
            "behaviour_gain": setting.behaviour_gain,
            "exploration": setting.exploration,
            "cost": self.cost,
            "exact_gradient": self.exact_gradient,
            "z_threshold": self.threshold,
            "perturbation_radius": self.radius,
            "weight_second_moment": math.exp(self.log_weight_moment)
            if self.log_weight_moment < 700
            else math.inf,
            "estimators": [each.to_json() for each in self.estimators],
        }
