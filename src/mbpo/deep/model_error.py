"""How far a model's predictions are from fresh real episodes: open-loop error by depth, and calibration."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import logsumexp, ndtr

from mbpo.core.parts import FittedModel
from mbpo.deep.ensemble import Ensemble, EnsembleState
from mbpo.deep.recorded import Recorded, plain, spread, windows

VARIES = 1e-6  # a coordinate that varies less, relative to its size, counts as constant and is left out


COVERAGES = ("coverage_50", "coverage_90", "reward_coverage_50", "reward_coverage_90")


class Scale(NamedTuple):
    """Standard deviations of reward and observation over real episodes `[1 + n]`, and which of them vary at all."""

    deviation: np.ndarray
    varies: np.ndarray


def errors_by_depth(
    model: FittedModel, recorded: Recorded, depth: int, starts: int, key: PRNGKeyArray
) -> dict[str, Any]:
    """Open-loop error of the same actions in the model, h = 1 .. depth steps from states along the episodes:

        error_h = sqrt(mean over starts and coordinates of ((s_hat_h - s_h) / std s)^2)

    where the episode still lasted; the same for reward h. `mean` feeds the elites' mean back (an `Ensemble` only),
    `sampled` each imagined step (TS-1, Chua et al. 2018); `starts` counts the episodes that lasted. A replay is left
    out from where the model breaks down; `lost_*` is the share of predictions that are missing for it.
    """
    real = windows(recorded, spread(recorded.inside, starts), depth)
    start, action = real.transitions.observation[:, 0], np.swapaxes(real.transitions.action, 0, 1)
    truth = _joined(real.transitions.reward, real.transitions.next_observation)
    scale = _scale(recorded)
    found: dict[str, Any] = {"depths": list(range(1, depth + 1))}
    found["starts"] = [int(each) for each in np.sum(real.inside, axis=0)]
    predicted = {"mean": None, "sampled": _replay_sampled(model, start, action, key)}
    if isinstance(model.part, Ensemble):
        predicted["mean"] = _replay_mean(model.part, model.state, start, action)
    for name, replay in predicted.items():
        errors = (None,) * 3 if replay is None else _relative(replay, truth, real.inside, scale)
        found[name], found[f"reward_{name}"], found[f"lost_{name}"] = errors
    return found


@jax.jit
def _replay_mean(
    part: Ensemble, state: EnsembleState, start: Float[Array, "N n"], actions: Float[Array, "H N m"]
) -> tuple[Float[Array, "H N"], Float[Array, "H N n"]]:
    def step(observation: Array, action: Array) -> tuple[Array, tuple[Array, Array]]:
        reward, following = part.mean_prediction(state, observation, action)
        return following, (reward, following)

    return jax.lax.scan(step, start, actions)[1]


@jax.jit
def _replay_sampled(
    model: FittedModel, start: Float[Array, "N n"], actions: Float[Array, "H N m"], key: PRNGKeyArray
) -> tuple[Float[Array, "H N"], Float[Array, "H N n"]]:
    def step(observation: Array, inputs: tuple[Array, PRNGKeyArray]) -> tuple[Array, tuple[Array, Array]]:
        action, key = inputs
        rows, valid = model.step(observation, action, jax.random.split(key, observation.shape[0]))
        following = jnp.where(valid[:, None], rows.next_observation, jnp.nan)
        return following, (jnp.where(valid, rows.reward, jnp.nan), following)

    return jax.lax.scan(step, start, (actions, jax.random.split(key, actions.shape[0])))[1]


def _relative(
    replay: tuple[Array, Array], truth: np.ndarray, inside: np.ndarray, scale: Scale
) -> tuple[Any, Any, Any]:
    """Errors of the observation and of the reward by depth, and the share of predictions that are not finite."""
    reward, following = (np.swapaxes(np.asarray(each), 0, 1) for each in replay)
    predicted = _joined(reward, following)
    good = inside & np.all(np.isfinite(predicted), axis=2)
    weight = np.where(scale.varies, 1.0 / np.where(scale.varies, scale.deviation, 1.0), 0.0)
    difference = np.where(good[:, :, None], predicted, truth) - truth
    total = np.sum((difference * weight) ** 2, axis=0)
    count = np.sum(good, axis=0)[:, None] * scale.varies
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(np.sum(total[:, 1:], axis=1) / np.sum(count[:, 1:], axis=1))
        return plain(error), plain(np.sqrt(total[:, 0] / count[:, 0])), 1.0 - float(good.sum() / inside.sum())


def calibration(
    part: Ensemble, state: EnsembleState, recorded: Recorded, rows: int
) -> dict[str, float | None]:
    """One-step predictions, by K elites, of y = [reward, change of the observation] in up to `rows` real transitions:

    `coverage_50`, `coverage_90`: share of the central 50 % and 90 % of u = mean_k Phi((y - mu_k) / sigma_k), over all
    targets that vary; `negative_log_likelihood`: mean of -log mean_k prod_targets N(y; mu_k, sigma_k^2), in nats per
    target and the task's own units; `variance_ratio`: predicted variance (of the mixture) over squared error (of its
    mean), each averaged over rows, geometric mean over targets; `reward_*`, the coverage of the reward alone.
    """
    taken = spread(recorded.inside, rows)
    row = jax.tree.map(lambda leaf: leaf[taken.episode, taken.time], recorded.transitions)
    mean, log_variance = (
        np.asarray(each, np.float64)[:, taken.used]
        for each in _one_step(part, state, row.observation, row.action)
    )
    before = row.observation if part.predict_change else np.zeros_like(row.observation)
    y = _joined(row.reward, np.asarray(row.next_observation, np.float64) - before)[taken.used]
    varies = _scale(recorded).varies
    return _calibrated(y[:, varies], mean[..., varies], np.exp(0.5 * log_variance[..., varies]), varies[0])


def _calibrated(
    y: np.ndarray, mean: np.ndarray, deviation: np.ndarray, reward: bool
) -> dict[str, float | None]:
    """y `[B, d]`; mean, deviation `[K, B, d]`; whether the first target is the reward."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        z = (y - mean) / deviation
        u = np.abs(np.mean(ndtr(z), axis=0) - 0.5)
        covered = [
            [np.mean(u[:, which] <= half) if u[:, which].size else np.nan for half in (0.25, 0.45)]
            for which in (slice(None), slice(0, int(reward)))
        ]
        log_density = np.sum(-0.5 * z**2 - np.log(deviation) - 0.5 * np.log(2 * np.pi), axis=2)
        likelihood = np.mean(logsumexp(log_density, axis=0) - np.log(len(mean))) / max(y.shape[1], 1)
        variance = np.mean(np.mean(deviation**2, axis=0) + np.var(mean, axis=0), axis=0)
        square = np.mean((y - np.mean(mean, axis=0)) ** 2, axis=0)
        ratio = np.exp(np.mean(np.log(variance / square))) if y.size else np.nan
    found = dict(zip(COVERAGES, map(plain, (*covered[0], *covered[1])), strict=True))
    return {**found, "negative_log_likelihood": plain(-likelihood), "variance_ratio": plain(ratio)}


@jax.jit
def _one_step(
    part: Ensemble, state: EnsembleState, observation: Float[Array, "B n"], action: Float[Array, "B m"]
) -> tuple[Float[Array, "K B d"], Float[Array, "K B d"]]:
    """Mean and log variance of the targets in the task's own units, from each elite."""
    x = part.standardised(state, observation, action)
    mean, log_variance, _ = part.predict(
        part.chosen(state), jnp.broadcast_to(x[None], (part.elites, *x.shape))
    )
    mean = mean * state.targets.scale[None, None] + state.targets.mean[None, None]
    return mean, log_variance + 2.0 * jnp.log(state.targets.scale)[None, None]


def _joined(reward: Any, observation: Any) -> np.ndarray:
    """`[..., 1 + n]` in float64."""
    return np.concatenate([np.asarray(reward)[..., None], np.asarray(observation)], axis=-1, dtype=np.float64)


def _scale(recorded: Recorded) -> Scale:
    rows = _joined(recorded.transitions.reward, recorded.transitions.next_observation)[recorded.inside]
    deviation = np.std(rows, axis=0)
    return Scale(deviation, deviation > VARIES * np.max(np.abs(rows), axis=0))
