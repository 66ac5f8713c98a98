"""Every estimator of the registry against the exact gradient, on trajectories drawn for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import jax
import numpy as np

from mbpo.core.precision import double_precision
from mbpo.errors import InputError
from mbpo.lqr import exact
from mbpo.lqr.gradients import ESTIMATORS, Estimator, Trajectories
from mbpo.studies.gradients import closed_forms
from mbpo.studies.gradients.applied import GROUPS, crossed, fitted_curvature, plainly, replayed
from mbpo.studies.gradients.draws import Draws
from mbpo.studies.gradients.measured import Bench, Measured
from mbpo.studies.gradients.setting import BenchSetting

ALPHA = 1e-3  # chance that any |z| of an unbiased estimator passes the threshold
SHOWABLE = 3.0  # largest E w^2 at which N trajectories are asked to show a mean
FEWEST, MOST_STEPS = 2 * GROUPS, 20_000_000
ROUNDING = 1e-9  # of the gradient; what is smaller is not an error


@double_precision
def bench(
    setting: BenchSetting,
    episodes: int,
    seed: int,
    names: tuple[str, ...] = tuple(ESTIMATORS),
    progress: Callable[[str], None] = lambda name: None,
) -> Bench:
    """Measure `names` on `episodes` trajectories each; `progress` is told each name as it is done.

    The |z| threshold is Bonferroni's, over all entries of all estimators. Raises `InputError` as `check_episodes` does.
    """
    check_episodes(setting, episodes)
    draws = Draws(setting, episodes, seed)
    measured = []
    for name in names:
        measured.append(measure(draws, name))
        progress(name)
    return Bench(
        setting=setting,
        episodes=draws.episodes,
        seed=seed,
        exact_gradient=draws.gradient,
        cost=float(exact.cost(setting.system, setting.gain, setting.exploration)),
        threshold=NormalDist().inv_cdf(1 - ALPHA / (2 * len(ESTIMATORS) * draws.gradient.size)),
        radius=draws.radius,
        log_weight_moment=setting.log_weight_moment(),
        estimators=measured,
    )


def check_episodes(setting: BenchSetting, episodes: int) -> None:
    """Raise `InputError` unless there are enough trajectories, and not too many."""
    most = MOST_STEPS // setting.steps
    if not FEWEST <= episodes <= most:
        raise InputError(
            f"episodes must be a whole number from {FEWEST} to {most} (of {setting.steps} steps), got {episodes}"
        )


def measure(draws: Draws, name: str) -> Measured:
    """One estimator of the registry."""
    estimator, gradient = ESTIMATORS[name], draws.gradient
    data, norm = draws.of(estimator.data), float(np.linalg.norm(draws.gradient))
    mean, error, spread = _mean_and_spread(draws, name, estimator, data)
    expected, expected_error = _expected(draws, name)
    moment = _log_weight_moment(draws.setting, name)
    unbiased, note = _verdict(estimator, moment, draws.episodes)
    scale = _gradient_scale(draws)
    exists = norm > ROUNDING * scale
    relative_error = float(np.linalg.norm(mean - gradient)) / norm if exists else None
    relative_std = (spread / norm if spread > ROUNDING * norm else 0.0) if exists else None
    bias = _relative_bias(draws, estimator, expected, relative_error, relative_std)
    natural, newton = _other_forms(draws, estimator, data, mean) if exists else (None, None)
    return Measured(
        name=name,
        summary=estimator.summary,
        data=estimator.data,
        unbiased=unbiased,
        note=note,
        mean=mean,
        standard_error=error,
        expected=expected,
        relative_error=relative_error,
        max_z=_max_z(mean - gradient, error, scale),
        max_z_expected=None
        if expected is None
        else _max_z(mean - expected, np.hypot(error, expected_error), scale),
        relative_bias=bias,
        relative_std=relative_std,
        cosine=_cosine(mean, gradient) if exists else None,
        effective_fraction=_effective_fraction(draws, estimator, data),
        exact_fraction=None if moment is None else math.exp(-moment),
        transitions_to_10_percent=None
        if relative_std is None or bias is None or bias > 0.1
        else draws.setting.steps * math.ceil((relative_std / 0.1) ** 2),
        natural_error=natural,
        gauss_newton_error=newton,
    )


def _mean_and_spread(
    draws: Draws, name: str, estimator: Estimator, data: Trajectories
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, standard error of the mean, and standard deviation of one trajectory over all entries."""
    scale, policy = draws.setting.scale, draws.policy
    if name == "dpg":
        whole, groups = replayed(estimator.function, draws.objective, policy, data)
        error = scale * np.asarray(groups).std(axis=0, ddof=1) / math.sqrt(GROUPS)
        return scale * np.asarray(whole), error, float(np.sqrt(np.sum(error**2) * draws.episodes))
    if estimator.values == "fitted" and estimator.world == "none":
        rows = crossed(estimator.function, draws.objective, policy, data)
    else:
        values = draws.values if estimator.values == "exact" else None
        world = draws.model if estimator.world == "fitted" else draws.world
        rows = plainly(estimator.function, policy, data, values, world)
    rows = scale * np.asarray(rows)[:: 2 if estimator.data in ("pairs", "twins") else 1]
    deviation = rows.std(axis=0, ddof=1)
    if name == "self-normalised":  # the delta method: numerator and mean weight vary together
        weights = _weights(draws, estimator, data)[:, -1]
        deviation = (rows - weights[:, None, None] * rows.mean(axis=0)).std(axis=0, ddof=1)
    spread = float(np.sqrt(np.sum(deviation**2) * draws.episodes / len(rows)))
    return rows.mean(axis=0), deviation / math.sqrt(len(rows)), spread


def _expected(draws: Draws, name: str) -> tuple[np.ndarray | None, np.ndarray | float]:
    """The closed-form mean of a biased estimator, and the standard error with which it is known."""
    if name in ("off-pac", "dpg"):
        return closed_forms.on_behaviour_states(draws.setting, draws.values), 0.0
    if name == "pathwise":
        end = np.asarray(draws.values.state[-1])
        return closed_forms.through_model(draws.setting, draws.model, end), 0.0
    return draws.smoothed if name.startswith("zeroth-order") else (None, 0.0)


def _log_weight_moment(setting: BenchSetting, name: str) -> float | None:
    """log E w^2 of the estimator's largest weights, exactly; None where they are bounded or there are none."""
    if name == "importance-sampling":
        return setting.log_weight_moment()
    if name in ("per-decision", "self-normalised"):
        return setting.log_prefix_moment()
    if name == "marginalised":
        return setting.log_state_action_moment()
    return setting.log_step_moment() if name == "off-pac" else None


def _verdict(estimator: Estimator, moment: float | None, episodes: int) -> tuple[bool | None, str]:
    """Whether the mean is the gradient, as far as `episodes` trajectories can show it."""
    if moment is None or not estimator.unbiased or moment <= math.log(SHOWABLE):
        return estimator.unbiased, estimator.condition
    size = f"{math.exp(moment):.3g}" if moment < 700 else "infinite"
    return None, f"E w^2 of its weights is {size} here: {episodes} trajectories cannot show its mean"


def _relative_bias(
    draws: Draws,
    estimator: Estimator,
    expected: np.ndarray | None,
    relative_error: float | None,
    relative_std: float | None,
) -> float | None:
    if relative_error is None or relative_std is None:
        return None
    if estimator.unbiased:
        return 0.0
    if expected is not None:
        return float(np.linalg.norm(expected - draws.gradient) / np.linalg.norm(draws.gradient))
    return max(relative_error - 3 * relative_std / math.sqrt(draws.episodes), 0.0)


def _gradient_scale(draws: Draws) -> float:
    """The size of the two terms of the gradient, M K and g B'PA, that cancel at an optimum."""
    error = np.asarray(draws.values.error(draws.policy.gain))
    first = np.asarray(draws.values.curvature @ draws.policy.gain)
    terms = (np.abs(first) + np.abs(error - first)) @ np.abs(np.asarray(draws.values.visited))
    return 2 * draws.setting.scale * float(np.linalg.norm(np.mean(terms, axis=0)))


def _weights(draws: Draws, estimator: Estimator, data: Trajectories) -> np.ndarray:
    assert estimator.weights is not None
    return np.asarray(jax.jit(estimator.weights)(draws.policy, data))


def _effective_fraction(draws: Draws, estimator: Estimator, data: Trajectories) -> float:
    if estimator.weights is None:
        return 1.0
    weights = _weights(draws, estimator, data)
    total = np.sum(weights, axis=0) ** 2 / np.maximum(np.sum(weights**2, axis=0), 1e-300)
    return float(np.min(total)) / len(weights)


def _other_forms(
    draws: Draws, estimator: Estimator, data: Trajectories, mean: np.ndarray
) -> tuple[float | None, float | None]:
    """Relative errors of 2 E and of M^-1 E made from the mean, with the states' second moment and M from data."""
    setting = draws.setting
    args = setting.system, setting.gain, setting.exploration
    x = np.asarray((data if estimator.visits == "behaviour" else draws.of("current")).x)
    x = x.reshape(-1, x.shape[-1])
    natural = mean @ np.linalg.pinv(x.T @ x / len(x), hermitian=True) / setting.scale
    error = _relative(natural, np.asarray(exact.natural_gradient(*args)))
    if setting.system.horizon is not None:
        return error, None  # one gain for all stages: M is not one matrix
    M = fitted_curvature(draws.objective, draws.policy, draws.of("current"))
    newton = np.linalg.solve(np.asarray(M), natural) / 2
    return error, _relative(newton, np.asarray(exact.gauss_newton_step(*args)))


def _max_z(difference: np.ndarray, error: np.ndarray, size: float) -> float:
    """The largest |difference| / error; differences of rounding size count as none."""
    small = np.abs(difference) <= ROUNDING * size
    return float(np.max(np.where(small, 0.0, np.abs(difference) / np.maximum(error, np.finfo(float).tiny))))


def _cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.sum(a * b)) / size if size > 0 else None


def _relative(actual: np.ndarray, expected: np.ndarray) -> float | None:
    size = float(np.linalg.norm(expected))
    return float(np.linalg.norm(actual - expected)) / size if size > 1e-300 else None
