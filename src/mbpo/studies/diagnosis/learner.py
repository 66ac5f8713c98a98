"""The learner that failed, rebuilt, with a switch for each defect.

A round acts for some trajectories, stores them and then updates K <- K - eta g several times with

    g = mean over stored trajectories of  rho  S^-1 sum_t weight_t (u_t - K x_t) x_t'

where rho = prod_t N(u_t; K x_t, S) / N(u_t; K_b x_t, S) is the ratio of the whole trajectory and weight_t the cost that
the score of step t is multiplied with. Both are quadratic in K, so a trajectory is kept as a few small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from mbpo.lqr.system import LinearQuadratic
from mbpo.studies.diagnosis.world import Rows, quadratic, rollouts, to_go

KICK = 0.1  # standard deviation of the noise added to the first gradients, which would else be exactly zero

OVERFLOWING = 1e12  # the mean squared state from which a run is counted as overflowed

Credit = Literal["total", "to-go", "advantage"]


@dataclass(frozen=True)
class Habits:
    """What a learner does; the defaults are those of the set-up that failed.

    sampled: acts by u ~ N(Kx, S), else by u = Kx exactly; replays: uses every stored trajectory, weighted by the ratio
    of the whole trajectory, else only those of the current gain; credit: the score of a step is multiplied with the
    cost of the whole trajectory, with the cost from that step on, or with that minus a fitted quadratic value.
    """

    sampled: bool = False
    replays: bool = True
    credit: Credit = "total"

    def __post_init__(self) -> None:
        if self.replays and self.credit == "advantage":
            raise ValueError(
                "an advantage belongs to the current gain: it cannot be kept with a replayed row"
            )


@dataclass(frozen=True)
class Course:
    """How long a learner learns; `continues`: a trajectory starts where the last one ended, else anew."""

    rounds: int
    trajectories: int
    length: int
    updates: int = 1
    continues: bool = False

    @property
    def transitions(self) -> int:
        """Real transitions in all."""
        return self.rounds * self.trajectories * self.length


class Stored(NamedTuple):
    """B trajectories as sums over their steps, matrices flattened along rows.

    weighted_ux, weighted_xx: sum of weight u x' and weight x x'; ux, xx: the same without weights; base: half of
    sum |u - K_b x|^2 - |u|^2 in units of S, what the ratio needs of the gain K_b that acted.
    """

    weighted_ux: Float[Array, "*runs B mn"]
    weighted_xx: Float[Array, "*runs B nn"]
    ux: Float[Array, "*runs B mn"]
    xx: Float[Array, "*runs B nn"]
    base: Float[Array, "*runs B"]


def learn(
    system: LinearQuadratic,
    habits: Habits,
    course: Course,
    first_gain: Float[Array, "*runs m n"],
    covariance: Float[Array, "m m"],
    starts: Float[Array, "rounds *runs B n"],
    step: Float[Array, "*runs"],
    rng: np.random.Generator,
) -> Float[Array, "rounds updates *runs m n"]:
    """The gains of many runs after every update, with `covariance` S of the score and constant step sizes.

    A run that overflows stays not finite. Runs share draws along the axes of `runs` that `starts` has with length 1.
    """
    S_inverse = np.linalg.inv(covariance)
    factor = np.linalg.cholesky(covariance) if habits.sampled else np.zeros_like(covariance)
    gain, eta, rows = first_gain, step[..., None, None], None
    store: list[Stored] = []
    gains = np.empty((course.rounds, course.updates, *first_gain.shape))
    with np.errstate(all="ignore"):  # a run that overflows is a finding
        for index in range(course.rounds):
            begin = starts[index] if rows is None or not course.continues else rows.x_next[..., -1, :]
            rows = rollouts(system, gain, factor, begin, course.length, rng)
            fresh = summarise(rows, weights(system, rows, habits.credit), gain, S_inverse)
            store = [*store, fresh] if habits.replays else [fresh]
            data = _joined(store)
            for update in range(course.updates):
                g = gradient(data, gain, S_inverse, habits.replays)
                if index == 0 and not habits.sampled:
                    g = g + KICK * rng.standard_normal(g.shape)
                gain = gain - eta * g
                gains[index, update] = gain
    return gains


def _joined(store: list[Stored]) -> Stored:
    """The trajectories of all rounds, one after the other."""
    return Stored(
        *(np.concatenate([each[i] for each in store], axis=-2) for i in range(4)),
        base=np.concatenate([each.base for each in store], axis=-1),
    )


def weights(system: LinearQuadratic, rows: Rows, credit: Credit) -> Float[Array, "*runs B T"]:
    """What the score of every step is multiplied with; costs are c_t = x_{t+1}'Q x_{t+1} + u_t'R u_t, those that the
    set-up charged: over a trajectory they are the finite-horizon cost with Q_T = Q."""
    effort = quadratic(system.R, rows.u)
    if credit == "advantage":
        return to_go(one_step_errors(rows, quadratic(system.Q, rows.x) + effort))
    following = to_go(quadratic(system.Q, rows.x_next) + effort)
    return following if credit == "to-go" else np.broadcast_to(following[..., :1], following.shape)


def one_step_errors(rows: Rows, cost: Float[Array, "*runs B T"]) -> Float[Array, "*runs B T"]:
    """c_t - average + V(x_{t+1}) - V(x_t), V quadratic and fitted on the other half of the trajectories: no bias."""
    i, j = np.triu_indices(rows.x.shape[-1])
    here, there = (each[..., i] * each[..., j] for each in (rows.x, rows.x_next))
    errors = np.empty(cost.shape)
    for mine in (0, 1):
        other = slice(1 - mine, None, 2)
        value, average = _differential_value(
            here[..., other, :, :], there[..., other, :, :], cost[..., other, :]
        )
        change = (there - here)[..., mine::2, :, :] @ value[..., None, :, None]
        errors[..., mine::2, :] = cost[..., mine::2, :] - average[..., None, None] + change[..., 0]
    return errors


def _differential_value(
    here: Float[Array, "*runs B T d"], there: Float[Array, "*runs B T d"], cost: Float[Array, "*runs B T"]
) -> tuple[Float[Array, "*runs d"], Float[Array, "*runs"]]:
    """theta and the average with theta'phi(x) = c - average + theta'phi(x'), by least-squares temporal differences."""
    runs, d = cost.shape[:-2], here.shape[-1]
    size = np.sqrt(np.mean(here**2, axis=(-3, -2)))[
        ..., None, :
    ]  # features of unit size, whatever the units of x
    lost = ~(np.max(size, axis=-1, keepdims=True) < OVERFLOWING)  # also where it is not a number
    size = np.where(lost, 1.0, size)
    one = np.ones((*runs, cost.shape[-2] * cost.shape[-1], 1))
    phi = np.concatenate([here.reshape(*runs, -1, d) / size, one], axis=-1)
    drift = np.concatenate([(here - there).reshape(*runs, -1, d) / size, one], axis=-1)
    back = np.swapaxes(phi, -1, -2)
    moment = np.where(lost, 0.0, back @ drift) + 1e-9 * np.eye(d + 1)  # LAPACK refuses what is not finite
    theta = np.linalg.solve(moment, np.where(lost, np.nan, back @ cost.reshape(*runs, -1, 1)))[..., 0]
    return theta[..., :-1] / size[..., 0, :], theta[..., -1]


def summarise(
    rows: Rows,
    weight: Float[Array, "*runs B T"],
    behaviour: Float[Array, "*runs m n"],
    S_inverse: Float[Array, "m m"],
) -> Stored:
    """The sums that are kept of trajectories."""

    def over_steps(weighted: Array, other: Array) -> Array:
        product = np.swapaxes(weighted, -1, -2) @ other
        return product.reshape(*product.shape[:-2], -1)

    acted = rows.x @ np.swapaxes(behaviour, -1, -2)[..., None, :, :]
    deviation = quadratic(S_inverse, rows.u - acted) - quadratic(S_inverse, rows.u)
    return Stored(
        over_steps(weight[..., None] * rows.u, rows.x),
        over_steps(weight[..., None] * rows.x, rows.x),
        over_steps(rows.u, rows.x),
        over_steps(rows.x, rows.x),
        np.sum(deviation, axis=-1) / 2,
    )


def gradient(
    store: Stored, gain: Float[Array, "*runs m n"], S_inverse: Float[Array, "m m"], replays: bool
) -> Float[Array, "*runs m n"]:
    """g of the trajectories in `store`."""
    m, n = gain.shape[-2:]
    ratio = np.exp(log_ratio(store, gain, S_inverse)) if replays else np.ones_like(store.base)
    share = (ratio / ratio.shape[-1])[..., None, :]
    ux, xx = (share @ store.weighted_ux)[..., 0, :], (share @ store.weighted_xx)[..., 0, :]
    return S_inverse @ (ux.reshape(*ux.shape[:-1], m, n) - gain @ xx.reshape(*xx.shape[:-1], n, n))


def log_ratio(
    store: Stored, gain: Float[Array, "*runs m n"], S_inverse: Float[Array, "m m"]
) -> Float[Array, "*runs B"]:
    """log rho = sum_t (|u_t - K_b x_t|^2 - |u_t - K x_t|^2) / 2 in units of S, of every trajectory."""
    scaled = S_inverse @ gain
    curved = np.swapaxes(gain, -1, -2) @ scaled
    runs = gain.shape[:-2]
    linear = store.ux @ scaled.reshape(*runs, -1, 1)
    return store.base + (linear - store.xx @ curved.reshape(*runs, -1, 1) / 2)[..., 0]
